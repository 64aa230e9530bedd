/* options.c - values of a section, typed as an option table says, into the fields of an instance.
 *
 * One function turns text into a field, for values of a file and for the table's own defaults alike, and says what it
 * would have taken. Every value is a template first, so that ${env:NAME} and ${file:PATH} work everywhere; what an
 * environment variable or a file holds is never looked at for a second ${. */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "secret.h"
#include "template.h"
#include "words.h"

#define OPTIONS_ERRORS 20 /* of a section that are logged; the others are counted */
#define OPTIONS_TEXT   512
#define OPTIONS_SHOWN  60 /* bytes of a value, in a message */

/* ----------------------------------------------------------------------------------------------------------- memory */

struct options_block {
    struct options_block *next;
    void (*release)(void *);
    void *pointer;
};

/* A text that comes from files, so that it may be another later. The list is complete before anybody looks into it. */
struct options_source {
    struct options_source *next;
    const struct fms_option *option;
    struct environment *environment;
    char *key, *text; /* as they stand in the pipeline file */
    const char **field;
    char *now, *before;       /* what the field holds, and did */
    char fault[OPTIONS_TEXT]; /* why it cannot be read any more; "": it can */
    _Atomic bool is_renewed;  /* by the plugin */
};

struct options_memory {
    struct options_block *blocks;
    struct options_source *sources;
    struct secret_note *notes; /* what files held that values were read from, */
    bool is_then;              /* or are to be */
};

struct options_memory *options_memory_new(void)
{
    return calloc(1, sizeof(struct options_memory));
}

static void options_source_free(struct options_source *source)
{
    environment_free(source->environment);
    free(source->key);
    free(source->text);
    free(source->now);
    free(source->before);
    free(source);
}

void options_memory_free(struct options_memory *memory)
{
    if (memory == NULL)
        return;
    while (memory->sources != NULL) {
        struct options_source *source = memory->sources;

        memory->sources = source->next;
        options_source_free(source);
    }
    secret_notes_free(memory->notes);
    while (memory->blocks != NULL) {
        struct options_block *block = memory->blocks;

        memory->blocks = block->next;
        block->release(block->pointer);
        free(block);
    }
    free(memory);
}

/* Takes `pointer` in; released at once, and NULL, where there is no memory for that. */
static void *options_keep(struct options_memory *memory, void *pointer, void (*release)(void *))
{
    struct options_block *block = pointer == NULL ? NULL : malloc(sizeof *block);

    if (block == NULL) {
        if (pointer != NULL)
            release(pointer);
        return NULL;
    }
    *block = (struct options_block){memory->blocks, release, pointer};
    memory->blocks = block;
    return pointer;
}

static void options_free_template(void *text)
{
    template_free(text);
}

/* ------------------------------------------------------------------------------------------------------------ units */

struct options_unit {
    const char *name;
    int64_t size;
};

/* From large to small. */
static const struct options_unit options_durations[] = {
    {"d", 86400 * FMS_SECOND},
    {"h", 3600 * FMS_SECOND},
    {"m", 60 * FMS_SECOND},
    {"s", FMS_SECOND},
    {"ms", FMS_MS},
    {"us", FMS_US},
    {"ns", 1},
    {NULL, 0},
};

static const struct options_unit options_sizes[] = {
    {"TiB", INT64_C(1) << 40},
    {"TB", INT64_C(1000000000000)},
    {"GiB", INT64_C(1) << 30},
    {"GB", 1000000000},
    {"MiB", 1 << 20},
    {"MB", 1000000},
    {"KiB", 1 << 10},
    {"kB", 1000},
    {"B", 1},
    {"", 1},
    {NULL, 0},
};

/* Digits from *text on; false where there are none or too many. */
static bool options_digits(const char **text, int64_t *number)
{
    const char *start = *text;

    for (*number = 0; **text >= '0' && **text <= '9'; (*text)++)
        if (__builtin_mul_overflow(*number, 10, number) || __builtin_add_overflow(*number, **text - '0', number))
            return false;
    return *text > start;
}

/* "250ms", "1.5s", "64KiB": exact or not at all. */
static bool options_scaled(const char *text, const struct options_unit *units, int64_t *value)
{
    const char *point;
    int64_t fraction = 0, scale = 1;

    if (!options_digits(&text, value))
        return false;
    if (*text == '.') {
        point = ++text;
        if (!options_digits(&text, &fraction) || text - point > 18)
            return false;
        for (; point < text; point++)
            scale *= 10;
    }
    if (*text == '\0' && *value == 0 && fraction == 0)
        return true;
    while (units->name != NULL && strcmp(units->name, text) != 0)
        units++;
    while (scale > 1 && fraction % 10 == 0) {
        fraction /= 10;
        scale /= 10;
    }
    return units->name != NULL && !__builtin_mul_overflow(*value, units->size, value) &&
           !__builtin_mul_overflow(fraction, units->size, &fraction) && fraction % scale == 0 &&
           !__builtin_add_overflow(*value, fraction / scale, value);
}

static bool options_integer(const char *text, int64_t *value)
{
    bool negative = *text == '-';

    /* INT64_MIN is given up for simplicity. */
    text += negative;
    if (!options_digits(&text, value) || *text != '\0')
        return false;
    if (negative)
        *value = -*value;
    return true;
}

/* A value in the unit that reads best: 60s and not 1m, but 2m. */
static void options_show(const struct fms_option *option, int64_t value, char *text, size_t size)
{
    const struct options_unit *unit = option->type == FMS_DURATION ? options_durations : options_sizes;

    if (option->type == FMS_INTEGER || value <= 0) {
        snprintf(text, size, "%" PRId64, value);
        return;
    }
    while (value % unit->size != 0 || (value == unit->size && unit->size > FMS_SECOND && option->type == FMS_DURATION))
        unit++;
    snprintf(text, size, "%" PRId64 "%s", value / unit->size,
             unit->size == 1 && option->type == FMS_SIZE ? "" : unit->name);
}

/* What an option takes: "1 to 65535", "at least 1KiB", "realtime, throughput", or nothing to say. */
void options_accepts(const struct fms_option *option, char *text, size_t size)
{
    char min[32], max[32];

    *text = '\0';
    if (option->type == FMS_CHOICE) {
        size_t used = 0;

        for (const char *c = option->choices; *c != '\0' && used + 3 < size; c++)
            used += (size_t)snprintf(text + used, size - used, *c == '|' ? ", " : "%c", *c);
    } else if (option->type == FMS_BOOLEAN) {
        snprintf(text, size, "yes, no");
    } else if (option->type == FMS_INTEGER || option->type == FMS_DURATION || option->type == FMS_SIZE) {
        int64_t least = option->type == FMS_INTEGER ? INT64_MIN : 0;

        options_show(option, option->min, min, sizeof min);
        options_show(option, option->max, max, sizeof max);
        if (option->max < INT64_MAX && option->min > INT64_MIN)
            snprintf(text, size, "%s to %s", min, max);
        else if (option->max < INT64_MAX)
            snprintf(text, size, "at most %s", max);
        else if (option->min > least)
            snprintf(text, size, "at least %s", min);
    }
}

/* ------------------------------------------------------------------------------------------------ text into a field */

static bool options_is_required(const struct fms_option *option)
{
    return option->fallback != NULL && strcmp(option->fallback, FMS_REQUIRED) == 0;
}

static int options_expected(const struct fms_option *option, char *why, size_t size)
{
    static const char *const forms[] = {
        [FMS_STRING] = "a text that is not empty",
        [FMS_SECRET] = "a text that is not empty",
        [FMS_INTEGER] = "a whole number",
        [FMS_BOOLEAN] = "yes or no",
        [FMS_DURATION] = "a duration such as 250ms or 2s",
        [FMS_SIZE] = "a size such as 512, 64KiB or 10MiB",
        [FMS_CHOICE] = "one of",
        [FMS_LIST] = "items separated by commas, none of them empty",
        [FMS_TEMPLATE] = "a text that is not empty",
    };
    char accepts[OPTIONS_TEXT] = "";

    if (option->type != FMS_BOOLEAN)
        options_accepts(option, accepts, sizeof accepts);
    snprintf(why, size, "expected %s%s%s", forms[option->type],
             *accepts == '\0'                  ? ""
             : option->type == FMS_CHOICE      ? " "
             : strncmp(accepts, "at ", 3) == 0 ? ", "
                                               : ", from ",
             accepts);
    return -EINVAL;
}

static bool options_boolean(const char *text, bool *value)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(text, words[i]) == 0) {
            *value = i % 2 == 1;
            return true;
        }
    return false;
}

static bool options_choice(const char *choices, const char *text, int *value)
{
    size_t length = strlen(text);

    for (*value = 0; length > 0; (*value)++) {
        size_t size = strcspn(choices, "|");

        if (size == length && memcmp(choices, text, size) == 0)
            return true;
        if (choices[size] == '\0')
            break;
        choices += size + 1;
    }
    return false;
}

static void options_trim(char **text)
{
    char *end;

    *text += strspn(*text, " \t");
    end = *text + strlen(*text);
    while (end > *text && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
}

/* The next item of *rest, which becomes what stands behind its comma, or NULL. A comma behind a backslash is one of the item's. */
static char *options_item(char **rest)
{
    char *item = *rest, *to = item;

    for (char *from = item;; from++) {
        if (from[0] == '\\' && from[1] == ',') {
            from++;
        } else if (*from == ',' || *from == '\0') {
            *rest = *from == ',' ? from + 1 : NULL;
            *to = '\0';
            return item;
        }
        *to++ = *from;
    }
}

/* -EINVAL for an empty item. */
static int options_list(const char *text, struct options_memory *memory, struct fms_list *list)
{
    char *copy = options_keep(memory, strdup(text), free);
    const char **items;
    size_t count = 1;

    if (copy == NULL)
        return -ENOMEM;
    options_trim(&copy);
    *list = (struct fms_list){NULL, 0};
    if (*copy == '\0')
        return 0;
    for (const char *c = copy; *c != '\0'; c++)
        count += *c == ',';
    items = options_keep(memory, calloc(count, sizeof *items), free);
    if (items == NULL)
        return -ENOMEM;
    for (count = 0; copy != NULL; count++) {
        char *item = options_item(&copy);

        options_trim(&item);
        if (*item == '\0')
            return -EINVAL;
        items[count] = item;
    }
    *list = (struct fms_list){items, count};
    return 0;
}

/* Text without ${...} into the field. */
static int options_convert(const struct fms_option *option, const char *text, struct options_memory *memory,
                           void *field, char *why, size_t size)
{
    bool good = false;
    int error = 0;
    int64_t number = 0;

    switch (option->type) {
    case FMS_STRING:
    case FMS_SECRET:
    case FMS_PAIRS:
        *(const char **)field = options_keep(memory, strdup(text), free);
        error = *(const char **)field == NULL ? -ENOMEM : 0;
        break;
    case FMS_LIST:
        error = options_list(text, memory, field);
        break;
    case FMS_BOOLEAN:
        error = options_boolean(text, field) ? 0 : -EINVAL;
        break;
    case FMS_CHOICE:
        error = options_choice(option->choices, text, field) ? 0 : -EINVAL;
        break;
    default:
        if (option->type == FMS_INTEGER)
            good = options_integer(text, &number);
        else
            good = options_scaled(text, option->type == FMS_DURATION ? options_durations : options_sizes, &number);
        error = good && number >= option->min && number <= option->max ? 0 : -EINVAL;
        if (error == 0)
            *(int64_t *)field = number;
    }
    return error == -EINVAL ? options_expected(option, why, size) : error;
}

/* Whether a value must not be printed: client libraries take their secrets as plain strings. */
static bool options_is_secret(const struct fms_option *option, const char *key)
{
    static const char *const words[] = {"password",   "passwd",      "passphrase", "secret", "token",
                                        "credential", "oauthbearer", "jaas",       ".pem",   "private"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasestr(key, words[i]) != NULL)
            return true;
    return option->type == FMS_SECRET;
}

/* A value as a message shows it: without a URL's password, and not too much of it. Whether something was hidden. */
static bool options_quote(const char *value, char *text, size_t size)
{
    char *whole = strdup(value);
    bool is_hidden;
    size_t shown;

    *text = '\0';
    if (whole == NULL)
        return true;
    log_redact_config(whole);
    is_hidden = strcmp(whole, value) != 0;
    shown = strnlen(whole, OPTIONS_SHOWN);
    while (shown == OPTIONS_SHOWN && (whole[shown] & 0xc0) == 0x80)
        shown--;
    snprintf(text, size, "%.*s%s", (int)shown, whole, whole[shown] != '\0' ? "..." : "");
    free(whole);
    return is_hidden;
}

static bool options_is_template(const struct fms_option *option)
{
    return option->type == FMS_TEMPLATE || option->type == FMS_TEMPLATE_PAIRS;
}

static bool options_is_text(const struct fms_option *option)
{
    return option->type == FMS_STRING || option->type == FMS_SECRET || option->type == FMS_PAIRS;
}

/* Notes where a text comes from. 0 or -ENOMEM. */
static int options_source_add(struct options_memory *memory, const struct fms_option *option,
                              struct environment *environment, const char *key, const char *text, const char **field)
{
    struct options_source *source = calloc(1, sizeof *source);

    if (source == NULL)
        return -ENOMEM;
    *source = (struct options_source){.option = option,
                                      .environment = environment_hold(environment),
                                      .key = strdup(key),
                                      .text = strdup(text),
                                      .now = strdup(*field),
                                      .field = field};
    if (source->key == NULL || source->text == NULL || source->now == NULL) {
        options_source_free(source);
        return -ENOMEM;
    }
    source->next = memory->sources;
    memory->sources = source;
    return 0;
}

/* A compiled text into the field, which takes it if it is to be a template. */
static int options_take(const struct fms_option *option, struct fms_template **take, struct options_memory *memory,
                        void *field, char *why, size_t size)
{
    const char *constant = template_constant(*take);

    if (constant != NULL && *constant == '\0' && options_is_required(option))
        return options_expected(option, why, size);
    if (options_is_template(option)) {
        *(const struct fms_template **)field = options_keep(memory, *take, options_free_template);
        *take = NULL;
        return *(const struct fms_template **)field == NULL ? -ENOMEM : 0;
    }
    if (constant != NULL)
        return options_convert(option, constant, memory, field, why, size);
    snprintf(why, size,
             "only template options may hold a ${...} other than ${env:NAME} and ${file:PATH}, and this is none");
    return -EINVAL;
}

/* Text as it stands in a file into the field. -EINVAL: `why` says what is wrong. */
static int options_parse(const struct fms_option *option, const char *key, const char *text,
                         struct environment *environment, struct json_paths *paths, struct options_memory *memory,
                         void *field, char *why, size_t size)
{
    struct fms_template *compiled = template_compile(text, environment, paths, why, size);
    char shown[OPTIONS_SHOWN + 4];
    const char *constant;
    int error;

    if (compiled == NULL)
        return *why == '\0' ? -ENOMEM : -EINVAL;
    error = options_take(option, &compiled, memory, field, why, size);
    if (compiled == NULL)
        return error;
    constant = template_constant(compiled);
    if (error == -EINVAL && constant != NULL && strcmp(constant, text) != 0 && !options_is_secret(option, key) &&
        !template_uses_files(compiled)) {
        options_quote(constant, shown, sizeof shown);
        snprintf(why + strlen(why), size - strlen(why), "; with the environment it is \"%s\"", shown);
    }
    if (error == 0 && template_uses_files(compiled) && options_is_text(option))
        error = options_source_add(memory, option, environment, key, text, field);
    template_free(compiled);
    return error;
}

/* ------------------------------------------------------------------------------------------------------------ table */

static bool options_is_pairs(const struct fms_option *option)
{
    return option->type == FMS_PAIRS || option->type == FMS_TEMPLATE_PAIRS;
}

static bool options_is_number(const struct fms_option *option)
{
    return option->type == FMS_INTEGER || option->type == FMS_DURATION || option->type == FMS_SIZE;
}

/* A dead letter is a sink, so it has a sink's options too. */
static bool options_has_role(const struct fms_option *option, uint32_t role)
{
    if (role & FMS_DEAD_LETTER)
        role |= FMS_SINK;
    return option->roles == 0 || (option->roles & role) != 0;
}

struct field {
    size_t size, align;
};
#define OPTIONS_FIELD(T) ((struct field){sizeof(T), _Alignof(T)})

static struct field options_field(enum fms_option_type type)
{
    switch (type) {
    case FMS_INTEGER:
    case FMS_DURATION:
    case FMS_SIZE:
        return OPTIONS_FIELD(int64_t);
    case FMS_BOOLEAN:
        return OPTIONS_FIELD(bool);
    case FMS_CHOICE:
        return OPTIONS_FIELD(int);
    case FMS_LIST:
        return OPTIONS_FIELD(struct fms_list);
    case FMS_PAIRS:
    case FMS_TEMPLATE_PAIRS:
        return OPTIONS_FIELD(struct fms_pairs);
    default:
        return OPTIONS_FIELD(const char *);
    }
}

/* The option that takes the key: of that very name, else the longest prefix. */
static const struct fms_option *options_find(const struct fms_option *table, uint32_t role, const char *key)
{
    const struct fms_option *found = NULL;
    size_t longest = 0;

    for (const struct fms_option *option = table; option->name != NULL; option++) {
        size_t length = strlen(option->name);

        if (!options_has_role(option, role))
            continue;
        if (!options_is_pairs(option) && strcmp(option->name, key) == 0)
            return option;
        if (options_is_pairs(option) && length > longest && strlen(key) > length &&
            strncmp(option->name, key, length) == 0) {
            found = option;
            longest = length;
        }
    }
    return found;
}

/* What an option must not be, apart from its default; NULL: nothing. */
static const char *options_check_form(const struct fms_option *option, size_t instance_size)
{
    size_t length = strlen(option->name);
    struct field field = options_field(option->type);

    if (option->type < FMS_STRING || option->type > FMS_TEMPLATE_PAIRS)
        return "has no known type";
    if (length == 0 || strspn(option->name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") < length)
        return "has a name of other characters than a-z 0-9 _ . -";
    if (strcmp(option->name, "plugin") == 0)
        return "has the name that says which plugin a section is of";
    if ((option->name[length - 1] == '.') != options_is_pairs(option))
        return "ends in a dot where it should not, or the reverse: pairs do, others do not";
    if (option->offset % field.align != 0 || option->offset > instance_size ||
        field.size > instance_size - option->offset)
        return "has a field that is not in the instance";
    if (option->help == NULL || *option->help == '\0')
        return "has no help";
    if (options_is_number(option) ? option->min >= option->max : option->min != 0 || option->max != 0)
        return "has no range, or is no number and has one";
    if ((option->type == FMS_CHOICE) != (option->choices != NULL))
        return "has no choices, or is no choice and has some";
    if (option->choices != NULL &&
        (*option->choices == '\0' || *option->choices == '|' || strstr(option->choices, "||") != NULL ||
         option->choices[strlen(option->choices) - 1] == '|'))
        return "has an empty choice";
    if (options_is_pairs(option) && option->fallback != NULL)
        return "has a default, which pairs cannot";
    return NULL;
}

static bool options_overlap(const struct fms_option *one, const struct fms_option *other)
{
    return one->roles == 0 || other->roles == 0 || options_has_role(one, other->roles) ||
           options_has_role(other, one->roles);
}

int options_check_table(const struct fms_option *table, size_t instance_size, char *error, size_t size)
{
    struct options_memory *memory = options_memory_new();
    struct json_paths *paths = json_paths_new();
    const char *wrong = NULL;
    char why[OPTIONS_TEXT] = "";
    int result = memory == NULL || paths == NULL ? -ENOMEM : 0;

    snprintf(error, size, "out of memory");
    for (const struct fms_option *option = table; result == 0 && option != NULL && option->name != NULL; option++) {
        union {
            int64_t number;
            struct fms_list list;
        } field;

        wrong = options_check_form(option, instance_size);
        for (const struct fms_option *other = table; other < option && wrong == NULL; other++)
            if (options_overlap(option, other) &&
                (strcmp(option->name, other->name) == 0 || option->offset == other->offset))
                wrong = "shares its name or its field with another option";
        if (wrong == NULL && option->fallback != NULL && !options_is_required(option)) {
            result = options_parse(option, option->name, option->fallback, NULL, paths, memory, &field, why,
                                   sizeof why);
            if (result == -EINVAL)
                wrong = "has a default that it does not take itself: ";
        }
        if (wrong != NULL) {
            result = -EINVAL;
            snprintf(error, size, "option \"%s\" %s%s", option->name, wrong, why);
        }
    }
    options_memory_free(memory);
    json_paths_free(paths);
    if (result == 0 && size > 0)
        *error = '\0';
    return result;
}

/* -------------------------------------------------------------------------------------------------------- a section */

struct options_filler {
    const struct fms_option *table;
    enum fms_role role;
    const char *plugin;
    const struct config *config;
    const struct config_section *section;
    struct json_paths *paths;
    struct options_memory *memory;
    char *instance;
    unsigned errors;
    bool enomem;
};

/* "[sink kafka] ..." at a line. */
static void options_error(struct options_filler *filler, int line, const char *format, ...) FMS_PRINTF(3, 4);
static void options_error(struct options_filler *filler, int line, const char *format, ...)
{
    const struct config_section *section = filler->section;
    char *text = NULL;
    va_list args;

    if (filler->errors++ >= OPTIONS_ERRORS)
        return;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    if (text == NULL)
        filler->enomem = true;
    else
        log_config(FMS_LOG_ERROR, filler->config->path, line, "[%s%s%s] %s", section->kind,
                   *section->name == '\0' ? "" : " ", section->name, text);
    free(text);
}

static void options_bad_value(struct options_filler *filler, const struct fms_option *option,
                              const struct config_entry *entry, const char *why)
{
    char shown[OPTIONS_SHOWN + 4];
    bool is_secret = options_is_secret(option, entry->key);

    if ((options_quote(entry->value, shown, sizeof shown) || is_secret) && strstr(why, "unknown reference") != NULL)
        why = "a ${...} in it is not known; $${ stands for a literal ${"; /* rather than quote it */
    if (is_secret)
        options_error(filler, entry->line, "%s: %s", entry->key, why);
    else
        options_error(filler, entry->line, "%s = \"%s\": %s", entry->key, shown, why);
}

/* As others write what is ${file:PATH} here. It may be just that password. */
static void options_advise(const struct options_filler *filler, const struct config_entry *entry)
{
    const struct config_section *section = filler->section;

    if (strncmp(entry->value, "file:/", 6) == 0)
        log_config(FMS_LOG_WARN, filler->config->path, entry->line,
                   "[%s%s%s] %s: it begins with file:/ and is taken as it stands; ${file:PATH} is what a file holds",
                   section->kind, *section->name == '\0' ? "" : " ", section->name, entry->key);
}

static void options_fill_value(struct options_filler *filler, const struct fms_option *option,
                               const struct config_entry *entry, void *field)
{
    char why[OPTIONS_TEXT];
    int error = options_parse(option, entry->key, entry->value, filler->section->environment, filler->paths,
                              filler->memory, field, why, sizeof why);

    if (error == -EINVAL)
        options_bad_value(filler, option, entry, why);
    else if (error != 0)
        filler->enomem = true;
    else if (options_is_secret(option, entry->key))
        options_advise(filler, entry);
}

static void options_fill_pairs(struct options_filler *filler, const struct fms_option *option)
{
    const struct config_section *section = filler->section;
    struct fms_pairs *pairs = (struct fms_pairs *)(void *)(filler->instance + option->offset);
    struct fms_pair *items;
    size_t count = 0;

    for (size_t i = 0; i < section->count; i++)
        count += options_find(filler->table, filler->role, section->entries[i].key) == option;
    *pairs = (struct fms_pairs){NULL, 0};
    if (count == 0)
        return;
    items = options_keep(filler->memory, calloc(count, sizeof *items), free);
    for (size_t i = 0; i < section->count && items != NULL; i++) {
        const struct config_entry *entry = &section->entries[i];
        struct fms_pair *item = &items[pairs->count];

        if (options_find(filler->table, filler->role, entry->key) != option)
            continue;
        item->option = options_keep(filler->memory, strdup(entry->key), free);
        if (item->option == NULL)
            break;
        item->name = item->option + strlen(option->name);
        if (option->type == FMS_PAIRS)
            options_fill_value(filler, option, entry, &item->value);
        else
            options_fill_value(filler, option, entry, &item->text);
        pairs->count++;
    }
    pairs->items = items;
    if (pairs->count < count)
        filler->enomem = true;
}

static void options_fill_option(struct options_filler *filler, const struct fms_option *option)
{
    const struct config_entry *entry = config_find(filler->section, option->name);
    void *field = filler->instance + option->offset;
    struct config_entry fallback = {
        .key = (char *)option->name, .value = (char *)option->fallback, .line = filler->section->line};

    if (options_is_pairs(option)) {
        options_fill_pairs(filler, option);
        return;
    }
    memset(field, 0, options_field(option->type).size);
    if (entry != NULL)
        options_fill_value(filler, option, entry, field);
    else if (options_is_required(option))
        options_error(filler, filler->section->line, "%s is missing: %s", option->name, option->help);
    else if (option->fallback != NULL)
        options_fill_value(filler, option, &fallback, field);
}

static const char *options_role_name(uint32_t roles)
{
    return roles & FMS_SOURCE      ? "source"
           : roles & FMS_TRANSFORM ? "transform"
           : roles & FMS_SINK      ? "sink"
                                   : "dead letter";
}

/* A pair's key whose prefix is misspelt, in the right spelling. */
static bool options_nearest_pair(const struct options_filler *filler, const char *key, char *text, size_t size)
{
    const char *dot = strchr(key, '.');
    char prefix[WORDS_LONGEST + 2];

    if (dot == NULL || (size_t)(dot - key) >= WORDS_LONGEST)
        return false;
    snprintf(prefix, sizeof prefix, "%.*s", (int)(dot + 1 - key), key);
    for (const struct fms_option *option = filler->table; option->name != NULL; option++)
        if (options_is_pairs(option) && options_has_role(option, filler->role) &&
            words_nearest(prefix, &option->name, 1) != NULL) {
            snprintf(text, size, "%s%s", option->name, dot[1] == '\0' ? "NAME" : dot + 1);
            return true;
        }
    return false;
}

static void options_unknown(struct options_filler *filler, const struct config_entry *entry)
{
    const char *of = filler->plugin == NULL ? "" : " of ";
    const char *plugin = filler->plugin == NULL ? "" : filler->plugin;
    char near_pair[2 * WORDS_LONGEST + 2];
    const char *words[256];
    const char *near;
    size_t count = 0;

    for (const struct fms_option *option = filler->table; option->name != NULL; option++) {
        if (options_has_role(option, filler->role)) {
            if (count < sizeof words / sizeof words[0])
                words[count++] = option->name;
        } else if (strcmp(option->name, entry->key) == 0) {
            options_error(filler, entry->line, "\"%s\" is an option%s%s as a %s, not as a %s", entry->key, of, plugin,
                          options_role_name(option->roles), options_role_name(filler->role));
            return;
        }
    }
    near = words_nearest(entry->key, words, count);
    if ((near == NULL || near[strlen(near) - 1] == '.') &&
        options_nearest_pair(filler, entry->key, near_pair, sizeof near_pair))
        near = near_pair;
    if (near != NULL) {
        options_error(filler, entry->line, "unknown option \"%s\"%s%s; did you mean \"%s\"?", entry->key, of, plugin,
                      near);
    } else {
        char known[2048] = "it has none";
        size_t used = 0;

        for (size_t i = 0; i < count && used < sizeof known; i++)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s%s", i == 0 ? "known are " : ", ",
                                     words[i], words[i][strlen(words[i]) - 1] == '.' ? "NAME" : "");
        options_error(filler, entry->line, "unknown option \"%s\"%s%s; %s", entry->key, of, plugin, known);
    }
}

int options_fill(const struct fms_option *table, enum fms_role role, const char *plugin, const struct config *config,
                 const struct config_section *section, struct json_paths *paths, struct options_memory *memory,
                 void *instance)
{
    static const struct fms_option none[] = {FMS_OPT_END};
    struct options_filler filler = {.table = table == NULL ? none : table,
                                    .role = role,
                                    .plugin = plugin,
                                    .config = config,
                                    .section = section,
                                    .paths = paths,
                                    .memory = memory,
                                    .instance = instance};

    for (size_t i = 0; i < section->count; i++)
        if ((plugin == NULL || strcmp(section->entries[i].key, "plugin") != 0) &&
            options_find(filler.table, role, section->entries[i].key) == NULL)
            options_unknown(&filler, &section->entries[i]);
    secret_note(&memory->notes, memory->is_then);
    for (const struct fms_option *option = filler.table; option->name != NULL; option++)
        if (options_has_role(option, role))
            options_fill_option(&filler, option);
    secret_note(NULL, false);
    if (filler.errors > OPTIONS_ERRORS)
        log_config(FMS_LOG_ERROR, config->path, section->line, "and %u more errors in this section",
                   filler.errors - OPTIONS_ERRORS);
    return filler.enomem ? -ENOMEM : filler.errors > 0 ? -EINVAL : 0;
}

const char *options_shown(const struct fms_option *table, const char *key, const char *value, char *text, size_t size)
{
    static const struct fms_option unknown = {.type = FMS_STRING};
    const struct fms_option *option = &unknown;
    char shown[OPTIONS_SHOWN + 4];

    for (; table != NULL && table->name != NULL; table++) {
        if (strcmp(table->name, key) == 0)
            option = table;
    }
    options_quote(value, shown, sizeof shown);
    snprintf(text, size, "%s", options_is_secret(option, key) ? "(a secret)" : shown);
    return text;
}

/* ------------------------------------------------------------------------------------------------------------- news */

bool options_has(const struct fms_option *table, enum fms_role role, const char *key)
{
    return table != NULL && options_find(table, role, key) != NULL;
}

static struct options_source *options_source_of(const struct options_memory *memory, const char *key)
{
    struct options_source *source = memory->sources;

    while (source != NULL && strcmp(source->key, key) != 0)
        source = source->next;
    return source;
}

/* Its text as it is in the files now, to be freed. NULL: `why` says why not; "": there is no memory. */
static char *options_read(const struct options_source *source, char *why, size_t size)
{
    struct fms_template *compiled = template_compile(source->text, source->environment, NULL, why, size);
    char *text = NULL;

    if (compiled == NULL)
        return NULL;
    if (strlen(template_constant(compiled)) > SECRET_MOST)
        snprintf(why, size, "it has more than %u bytes", SECRET_MOST);
    else if (*template_constant(compiled) == '\0' && options_is_required(source->option))
        options_expected(source->option, why, size);
    else
        text = strdup(template_constant(compiled));
    template_free(compiled);
    return text;
}

/* Tells, once for each reason, that the text cannot be read; and, with `why` empty, that it can again. */
static void options_tell(struct options_source *source, const struct fms_host *host, const char *why)
{
    if (*why != '\0' && strcmp(why, source->fault) != 0)
        fms_warn(host, "%s cannot be read again, so it stays as it was: %s", source->key, why);
    else if (*why == '\0' && source->fault[0] != '\0')
        fms_info(host, "%s can be read again", source->key);
    snprintf(source->fault, sizeof source->fault, "%s", why);
}

int options_renew(struct options_memory *memory, const struct fms_host *host, const char *key)
{
    struct options_source *source = options_source_of(memory, key);
    char why[OPTIONS_TEXT] = "";
    char *text;

    if (source == NULL)
        return -ENOENT;
    source->is_renewed = true;
    text = options_read(source, why, sizeof why);
    if (text == NULL && *why == '\0')
        return 0;
    options_tell(source, host, why);
    if (text == NULL || strcmp(text, source->now) == 0) {
        free(text);
        return 0;
    }
    free(source->before);
    source->before = source->now;
    *source->field = source->now = text;
    fms_info(host, "%s has changed in its file", key);
    return 1;
}

/* Whether only those values have it that the plugin reads again by itself. */
static bool options_are_renewed(const struct options_memory *memory, const char *path)
{
    bool are_renewed = false;

    for (struct options_source *source = memory->sources; source != NULL; source = source->next) {
        if (strstr(source->text, path) == NULL)
            continue;
        if (!source->is_renewed)
            return false;
        are_renewed = true;
    }
    return are_renewed;
}

bool options_have_changed(const struct options_memory *memory)
{
    for (const struct secret_note *note = memory->notes; note != NULL; note = note->next) {
        if (!options_are_renewed(memory, note->path) && secret_has_changed(note))
            return true;
    }
    return false;
}

int options_as_then(struct options_memory *memory, const struct options_memory *then)
{
    memory->notes = secret_notes_copy(then->notes);
    memory->is_then = true;
    return memory->notes != NULL || then->notes == NULL ? 0 : -ENOMEM;
}
