/* config.c - reads a pipeline file with inih.
 *
 * inih tells its handler no lines, hides empty sections, joins duplicates, and cuts long lines and values silently. So
 * our reader looks at each line before inih does: it makes the sections, reports what inih would get wrong, and hands
 * such a line on as an empty one. What arrives at the handler is whole and belongs to the line last read.
 *
 * The format: [kind] or [kind name]; key = value, unindented. A line that begins with a blank continues the value
 * above; the two are joined by one blank. Comments are lines that begin with ; or #, and, behind a value, what follows
 * a blank, a semicolon and another blank. In double quotes a value is taken as it stands, but for \" and \\. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define CONFIG_SIZE      (4U << 20) /* of a file; a pipeline has some kilobytes */
#define CONFIG_ERRORS    20         /* that are logged; the others are counted */
#define CONFIG_WORD      49         /* inih's limit for a section header and for a key */
#define CONFIG_SEMICOLON '\001'     /* stands for ; within quotes while inih has the line */
#define CONFIG_BLANKS    " \t"

/* What a line that begins with a blank would continue. */
enum config_above { ABOVE_NOTHING, ABOVE_VALUE, ABOVE_ERROR };

static struct {
    const char *place, *name, *text; /* NULL: none */
    size_t size;
} config_guest; /* see config_stand_in */

struct config_parser {
    struct config *config;
    const char *next, *end; /* what is still to be read */
    int line;
    unsigned errors, warnings;
    bool enomem;
    bool lost; /* the keys here belong to a section header with an error */
    enum config_above above;
    bool continues; /* the line at inih does */
    char *value;    /* of the last entry, as far as it has been read */
    size_t size, capacity;
};

static void config_error(struct config_parser *parser, int line, const char *format, ...) FMS_PRINTF(3, 4);
static void config_error(struct config_parser *parser, int line, const char *format, ...)
{
    va_list args;

    if (parser->errors++ >= CONFIG_ERRORS)
        return;
    va_start(args, format);
    log_vconfig(FMS_LOG_ERROR, parser->config->path, line, format, args);
    va_end(args);
}

/* Of what is right, but hardly meant. Values are not shown: they may be secrets. */
static void config_warn(struct config_parser *parser, const char *text)
{
    if (parser->warnings++ < CONFIG_ERRORS)
        log_config(FMS_LOG_WARN, parser->config->path, parser->line, "%s", text);
}

/* An array that doubles whenever its count is a power of two. */
static void *config_grow(struct config_parser *parser, void *items, size_t count, size_t size)
{
    void *grown;

    if ((count & (count - 1)) != 0)
        return items;
    grown = realloc(items, (count == 0 ? 1 : 2 * count) * size);
    if (grown == NULL)
        parser->enomem = true;
    return grown;
}

static struct config_section *config_last_section(struct config_parser *parser)
{
    return parser->config->count == 0 ? NULL : &parser->config->sections[parser->config->count - 1];
}

static struct config_entry *config_last_entry(struct config_parser *parser)
{
    struct config_section *section = config_last_section(parser);

    return section == NULL || section->count == 0 ? NULL : &section->entries[section->count - 1];
}

static void config_append(struct config_parser *parser, const char *text, size_t size)
{
    if (parser->capacity - parser->size <= size) {
        size_t capacity = 2 * (parser->size + size + 1);
        char *value = realloc(parser->value, capacity);

        if (value == NULL) {
            parser->enomem = true;
            return;
        }
        parser->value = value;
        parser->capacity = capacity;
    }
    memcpy(parser->value + parser->size, text, size);
    parser->size += size;
}

/* The last entry's value is whole. */
static void config_finish_entry(struct config_parser *parser)
{
    struct config_entry *entry = config_last_entry(parser);

    if (entry == NULL || entry->value != NULL)
        return;
    config_append(parser, "", 1);
    entry->value = parser->enomem ? NULL : strdup(parser->value);
    if (entry->value == NULL)
        parser->enomem = true;
}

/* --------------------------------------------------------------------------------------- a line, before inih has it */

static bool config_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static char *config_skip_blanks(const char *text)
{
    return (char *)text + strspn(text, CONFIG_BLANKS);
}

/* The end of a word that ends at `stop`, without the blanks before it. */
static char *config_trim(const char *start, const char *stop)
{
    while (stop > start && config_is_blank(stop[-1]))
        stop--;
    return (char *)stop;
}

static void config_add_section(struct config_parser *parser, const char *kind, size_t kind_size, const char *name)
{
    struct config *config = parser->config;
    struct config_section *section;
    struct config_section *sections;

    config_finish_entry(parser);
    sections = config_grow(parser, config->sections, config->count, sizeof *sections);
    if (sections == NULL)
        return;
    config->sections = sections;
    section = &sections[config->count++];
    *section = (struct config_section){.line = parser->line, .environment = config->environment};
    section->kind = strndup(kind, kind_size);
    section->name = strdup(name);
    if (section->kind == NULL || section->name == NULL)
        parser->enomem = true;
}

static bool config_check_header(struct config_parser *parser, const char *line)
{
    const char *kind = config_skip_blanks(line + 1);
    size_t kind_size = strcspn(kind, CONFIG_BLANKS "]");
    const char *name = config_skip_blanks(kind + kind_size);
    size_t name_size = strcspn(name, CONFIG_BLANKS "]");
    const char *close = config_skip_blanks(name + name_size);
    const char *behind = *close == ']' ? config_skip_blanks(close + 1) : NULL;
    char word[CONFIG_WORD + 1];

    parser->above = ABOVE_NOTHING;
    parser->lost = true;
    if (strchr(line, ']') == NULL)
        config_error(parser, parser->line, "a section header ends with ]");
    else if (kind_size == 0)
        config_error(parser, parser->line, "a section header says what it is: [source], [sink kafka]");
    else if (behind == NULL)
        config_error(parser, parser->line, "a section header is one word, or two: [source], [sink kafka]");
    else if (*behind != '\0' && *behind != ';')
        config_error(parser, parser->line, "nothing but a comment can follow a section header in its line");
    else if (strcspn(line, "]") - 1 > CONFIG_WORD)
        config_error(parser, parser->line, "a section header has at most %d bytes between its brackets", CONFIG_WORD);
    else if (strcspn(line + 1, "[;=\"") < strcspn(line + 1, "]"))
        config_error(parser, parser->line, "a section header holds none of the characters [ ; = \"");
    else
        parser->lost = false;
    if (parser->lost)
        return false;
    memcpy(word, name, name_size);
    word[name_size] = '\0';
    config_add_section(parser, kind, kind_size, word);
    return true;
}

/* The quote opens at `value`. Hides semicolons within from inih. NULL where no quote closes, else what follows it. */
static char *config_check_quoted(char *value)
{
    for (char *c = value + 1; *c != '\0'; c++)
        if (*c == '\\' && (c[1] == '"' || c[1] == '\\'))
            c++;
        else if (*c == ';')
            *c = CONFIG_SEMICOLON;
        else if (*c == '"')
            return c + 1;
    return NULL;
}

/* A # that begins a comment elsewhere: behind a blank, with something behind it. It stands alone as a topic filter. */
static bool config_has_hash_comment(const char *value)
{
    for (const char *at = value; (at = strchr(at, '#')) != NULL; at++) {
        const char *behind = config_skip_blanks(at + 1);

        if ((at == value || config_is_blank(at[-1])) && *behind != '\0' && *behind != ',')
            return true;
    }
    return false;
}

/* ' or one of the quotation marks U+2018 to U+201F, into which some editors turn \" and '. */
static bool config_has_other_quote(const char *value)
{
    return *value == '\'' || (strncmp(value, "\xe2\x80", 2) == 0 && value[2] >= '\x98' && value[2] <= '\x9f');
}

/* The value is what stands there, without double quotes and without a comment. */
static void config_warn_of_value(struct config_parser *parser, const char *value)
{
    value = config_skip_blanks(value);
    if (config_has_other_quote(value))
        config_warn(parser,
                    "the quotation marks are taken as a part of the value: only double quotes, \", enclose one");
    if (config_has_hash_comment(value))
        config_warn(
            parser,
            "the # and what follows are taken as a part of the value: a comment begins with a blank, ; and a blank; "
            "put the value in double quotes if it is meant so");
}

static bool config_check_value(struct config_parser *parser, char *value)
{
    bool is_quoted = *config_skip_blanks(value) == '"';
    char *at = config_skip_blanks(value);

    if (*at == '"') {
        at = config_check_quoted(at);
        if (at == NULL) {
            config_error(parser, parser->line,
                         "a value that begins with a double quote ends with one, in the same line");
            return false;
        }
        value = at;
        at = config_skip_blanks(at);
        if (*at != '\0' && (*at != ';' || at == value)) {
            config_error(parser, parser->line,
                         "something stands behind the closing quote; within quotes write \\\" for a quote");
            return false;
        }
    }
    for (at = value; (at = strchr(at, ';')) != NULL; at++) {
        if (at == value || !config_is_blank(at[-1]))
            continue;
        if (at[1] == '\0' || config_is_blank(at[1])) {
            *at = '\0'; /* the comment: inih leaves it in some lines */
            break;
        }
        config_error(parser, parser->line,
                     "is this ; part of the value, or a comment? Put the value in double quotes, or a blank behind "
                     "the ; of a comment");
        return false;
    }
    if (!is_quoted)
        config_warn_of_value(parser, value);
    return true;
}

static bool config_check_key(struct config_parser *parser, const char *key, size_t size)
{
    size_t word = strcspn(key, CONFIG_BLANKS "\";[]=");

    if (size == 0)
        config_error(parser, parser->line, "a key is missing before the =");
    else if (memchr(key, ':', size) != NULL)
        config_error(parser, parser->line, "key = value expected; a key holds no colon");
    else if (size > CONFIG_WORD)
        config_error(parser, parser->line,
                     "the key is longer than %d bytes; a line that goes on with a value begins with a blank",
                     CONFIG_WORD);
    else if (word < size) /* what follows may be a secret, and its = be missing */
        config_error(parser, parser->line,
                     "the key, which begins with \"%.*s\", holds a blank, or one of the characters \" ; [ ]", (int)word,
                     key);
    else
        return true;
    return false;
}

static bool config_check_pair(struct config_parser *parser, char *line)
{
    char *equals = strchr(line, '=');
    bool good = false;

    if (parser->config->count == 0 && !parser->lost) {
        config_error(parser, parser->line, "a section is missing before this line, such as [pipeline]");
        parser->lost = true;
    } else if (equals == NULL) {
        config_error(parser, parser->line, "key = value expected, or a section such as [source]");
    } else {
        good = config_check_key(parser, line, (size_t)(config_trim(line, equals) - line)) &&
               config_check_value(parser, equals + 1) && !parser->lost;
    }
    parser->above = good ? ABOVE_VALUE : ABOVE_ERROR;
    return good;
}

/* "key =" or "[": a user's indentation, which inih would take for text. */
static bool config_looks_indented(const char *text)
{
    size_t word = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

    return *text == '[' || (word > 0 && *config_skip_blanks(text + word) == '=');
}

static bool config_check_continuation(struct config_parser *parser, char *line, char *text)
{
    const char *why = NULL;

    if (parser->above == ABOVE_ERROR)
        return false;
    if (parser->above == ABOVE_NOTHING)
        why = "there is none; remove the blank";
    else if (config_looks_indented(text))
        why = "it does not look so; remove the blank, or put the line in double quotes";
    if (why != NULL)
        config_error(parser, parser->line, "a line that begins with a blank continues the value above, but %s", why);
    else if (config_check_value(parser, line))
        return true;
    parser->above = ABOVE_ERROR;
    return false;
}

/* Whether inih shall see the line. */
static bool config_check_line(struct config_parser *parser, char *line)
{
    char *text = config_skip_blanks(line);

    parser->continues = text > line;
    if (*text == '\0' || *text == ';' || *text == '#')
        return false;
    if (parser->continues)
        return config_check_continuation(parser, line, text);
    if (*text == '[')
        return config_check_header(parser, line);
    return config_check_pair(parser, line);
}

/* Whether the line can be copied for inih, which has `room` bytes. */
static bool config_check_bytes(struct config_parser *parser, const char *line, size_t size, size_t room)
{
    size_t bad = 0;
    size_t blanks = 0;

    while (bad < size && ((unsigned char)line[bad] >= 0x20 || line[bad] == '\t'))
        bad++;
    while (blanks < size && config_is_blank(line[blanks]))
        blanks++;
    if (bad == size && size < room)
        return true;
    if (bad < size)
        config_error(parser, parser->line, "a byte of value %d: is this a text file, in UTF-8?", line[bad]);
    else if (blanks < size && line[blanks] != ';' && line[blanks] != '#')
        config_error(parser, parser->line,
                     "the line has %zu bytes, more than %zu; a value can go on in the next line if that begins with "
                     "a blank",
                     size, room - 1);
    else
        return false;
    parser->above = ABOVE_ERROR;
    if (line[0] == '[')
        parser->lost = true;
    return false;
}

/* inih's reader: the next line, or an empty one in its place. */
static char *config_next_line(char *line, int room, void *user)
{
    struct config_parser *parser = user;
    const char *start = parser->next;
    const char *stop;
    size_t size;

    if (parser->enomem || start == parser->end)
        return NULL;
    stop = memchr(start, '\n', (size_t)(parser->end - start));
    parser->next = stop == NULL ? parser->end : stop + 1;
    if (stop == NULL)
        stop = parser->end;
    if (stop > start && stop[-1] == '\r')
        stop--;
    size = (size_t)(stop - start);

    parser->line++;
    line[0] = '\0';
    if (config_check_bytes(parser, start, size, (size_t)room)) {
        memcpy(line, start, size);
        line[size] = '\0';
        if (!config_check_line(parser, line))
            line[0] = '\0';
    }
    return line;
}

/* -------------------------------------------------------------------------------------------------- what inih found */

static void config_append_piece(struct config_parser *parser, const char *piece)
{
    if (*piece != '"') {
        config_append(parser, piece, strlen(piece));
        return;
    }
    for (piece++; *piece != '"' && *piece != '\0'; piece++) {
        if (*piece == '\\' && (piece[1] == '"' || piece[1] == '\\'))
            piece++;
        config_append(parser, *piece == CONFIG_SEMICOLON ? ";" : piece, 1);
    }
}

/* inih's handler. It is not told of a section without keys, so the sections are ours, made by the reader. */
static int config_take(void *user, const char *section_name, const char *key, const char *value)
{
    struct config_parser *parser = user;
    struct config_section *section = config_last_section(parser);
    struct config_entry *entries;

    (void)section_name;
    if (parser->continues) {
        config_append(parser, " ", 1);
        config_append_piece(parser, value);
        return 1;
    }
    config_finish_entry(parser);
    entries = config_grow(parser, section->entries, section->count, sizeof *entries);
    if (entries == NULL)
        return 0;
    section->entries = entries;
    entries[section->count] = (struct config_entry){.key = strdup(key), .line = parser->line};
    if (entries[section->count].key == NULL)
        parser->enomem = true;
    section->count++;
    parser->size = 0;
    config_append_piece(parser, value);
    return 1;
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int config_order_entries(const void *a, const void *b)
{
    const struct config_entry *const *one = a, *const *other = b;
    int order = strcmp((*one)->key, (*other)->key);

    return order != 0 ? order : (*one)->line - (*other)->line;
}

static int config_order_sections(const void *a, const void *b)
{
    const struct config_section *const *one = a, *const *other = b;
    int order = strcmp((*one)->kind, (*other)->kind);

    if (order == 0)
        order = strcmp((*one)->name, (*other)->name);
    return order != 0 ? order : (*one)->line - (*other)->line;
}

static void config_check_entries(struct config_parser *parser, const struct config_section *section)
{
    const struct config_entry **sorted = calloc(section->count + 1, sizeof *sorted);

    if (sorted == NULL) {
        parser->enomem = true;
        return;
    }
    for (size_t i = 0; i < section->count; i++)
        sorted[i] = &section->entries[i];
    qsort(sorted, section->count, sizeof *sorted, config_order_entries);
    for (size_t i = 1; i < section->count; i++)
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0)
            config_error(parser, sorted[i]->line, "\"%s\" stands in line %d already", sorted[i]->key,
                         sorted[i - 1]->line);
    free(sorted);
}

static void config_check_sections(struct config_parser *parser)
{
    const struct config *config = parser->config;
    const struct config_section **sorted = calloc(config->count + 1, sizeof *sorted); /* of none, too */

    if (sorted == NULL) {
        parser->enomem = true;
        return;
    }
    for (size_t i = 0; i < config->count; i++)
        sorted[i] = &config->sections[i];
    qsort(sorted, config->count, sizeof *sorted, config_order_sections);
    for (size_t i = 1; i < config->count; i++)
        if (strcmp(sorted[i - 1]->kind, sorted[i]->kind) == 0 && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            config_error(parser, sorted[i]->line, "[%s%s%s] stands in line %d already", sorted[i]->kind,
                         *sorted[i]->name == '\0' ? "" : " ", sorted[i]->name, sorted[i - 1]->line);
    free(sorted);
}

int config_parse(const char *name, const char *text, size_t size, struct config **config)
{
    struct config_parser parser = {.next = text, .end = text + size};

    *config = NULL;
    parser.config = calloc(1, sizeof *parser.config);
    if (parser.config == NULL)
        return -ENOMEM;
    parser.config->environment = environment_in_use();
    parser.config->path = strdup(name);
    if (parser.config->path == NULL) {
        parser.enomem = true;
    } else if (size > CONFIG_SIZE) {
        config_error(&parser, 0, "larger than %u MiB: this is no pipeline file", CONFIG_SIZE >> 20);
        parser.next = parser.end;
    } else if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        parser.next += 3; /* a byte order mark */
    }

    ini_parse_stream(config_next_line, &parser, config_take, &parser);
    config_finish_entry(&parser);
    free(parser.value);
    for (size_t i = 0; i < parser.config->count && !parser.enomem; i++)
        config_check_entries(&parser, &parser.config->sections[i]);
    if (!parser.enomem)
        config_check_sections(&parser);

    if (parser.errors > CONFIG_ERRORS)
        log_config(FMS_LOG_ERROR, name, 0, "and %u more errors", parser.errors - CONFIG_ERRORS);
    if (parser.enomem || parser.errors > 0) {
        config_free(parser.config);
        return parser.enomem ? -ENOMEM : -EINVAL;
    }
    *config = parser.config;
    return 0;
}

/* All that can be read, but not much more than config_parse takes. */
static int config_read_all(int fd, char **text, size_t *size)
{
    size_t capacity = 0;

    *text = NULL;
    *size = 0;
    while (*size <= CONFIG_SIZE) {
        ssize_t n;

        if (*size == capacity) {
            char *grown = realloc(*text, capacity = capacity == 0 ? 16384 : 2 * capacity);

            if (grown == NULL)
                return -ENOMEM;
            *text = grown;
        }
        n = read(fd, *text + *size, capacity - *size);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            *size += (size_t)n;
    }
    return 0;
}

void config_stand_in(const char *place, const char *name, const char *text, size_t size)
{
    config_guest.place = place;
    config_guest.name = name;
    config_guest.text = text;
    config_guest.size = size;
}

static int config_read_guest(struct config **config)
{
    int error = config_parse(config_guest.name, config_guest.text, config_guest.size, config);

    if (error != 0)
        return error;
    (*config)->place = strdup(config_guest.place);
    if ((*config)->place != NULL)
        return 0;
    config_free(*config);
    *config = NULL;
    return -ENOMEM;
}

/* `fd` may be a negative errno. */
static int config_read_from(int fd, const char *path, struct config **config)
{
    char *text = NULL;
    size_t size = 0;
    int error = fd < 0 ? fd : config_read_all(fd, &text, &size);

    *config = NULL;
    if (error != 0)
        log_config(FMS_LOG_ERROR, path, 0, "cannot be read: %s", strerror(-error));
    else
        error = config_parse(path, text, size, config);
    if (fd >= 0)
        close(fd);
    free(text);
    return error;
}

int config_read(const char *path, struct config **config)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return config_read_from(fd >= 0 ? fd : -errno, path, config);
}

int config_open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), error = fd < 0 ? -errno : 0;
    struct stat status;

    if (error == 0 && fstat(fd, &status) != 0)
        error = -errno;
    else if (error == 0 && !S_ISREG(status.st_mode))
        error = S_ISDIR(status.st_mode) ? -EISDIR : -ESPIPE;
    if (error != 0 && fd >= 0)
        close(fd);
    return error != 0 ? error : fd;
}

int config_read_again(const char *path, struct config **config)
{
    int fd;

    if (config_guest.place != NULL && strcmp(path, config_guest.place) == 0)
        return config_read_guest(config);
    fd = config_open_file(path);
    if (fd != -ESPIPE)
        return config_read_from(fd, path, config);
    log_config(FMS_LOG_ERROR, path, 0, "is no file that can be read again: put one in its place");
    *config = NULL;
    return -EINVAL;
}

const char *config_file(const struct config *config)
{
    return config->place != NULL ? config->place : config->path;
}

struct config *config_hold(struct config *config)
{
    config->holders++;
    return config;
}

void config_free(struct config *config)
{
    if (config == NULL || config->holders-- > 0)
        return;
    for (size_t i = 0; i < config->count; i++) {
        struct config_section *section = &config->sections[i];

        for (size_t k = 0; k < section->count; k++) {
            free(section->entries[k].key);
            free(section->entries[k].value);
        }
        free(section->entries);
        free(section->kind);
        free(section->name);
    }
    free(config->sections);
    environment_free(config->environment);
    free(config->path);
    free(config->place);
    free(config->shard);
    free(config);
}

const struct config_entry *config_find(const struct config_section *section, const char *key)
{
    for (size_t i = 0; i < section->count; i++)
        if (strcmp(section->entries[i].key, key) == 0)
            return &section->entries[i];
    return NULL;
}

static bool config_is_same_value(const struct config_section *a, const struct config_entry *one,
                                 const struct config_section *b, const struct config_entry *other)
{
    return strcmp(one->value, other->value) == 0 && environment_is_same(one->value, a->environment, b->environment);
}

bool config_is_same(const struct config_section *a, const struct config_section *b)
{
    size_t n = a != NULL ? a->count : 0;
    bool is_same = n == (b != NULL ? b->count : 0);

    for (size_t i = 0; i < n && is_same; i++)
        is_same = strcmp(a->entries[i].key, b->entries[i].key) == 0 &&
                  config_is_same_value(a, &a->entries[i], b, &b->entries[i]);
    return is_same;
}

bool config_has_same(const struct config_section *a, const struct config_section *b, const char *key)
{
    const struct config_entry *one = a != NULL ? config_find(a, key) : NULL;
    const struct config_entry *other = b != NULL ? config_find(b, key) : NULL;

    return one == NULL || other == NULL ? one == other : config_is_same_value(a, one, b, other);
}

const struct config_section *config_section(const struct config *config, const char *kind)
{
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->sections[i].kind, kind) == 0)
            return &config->sections[i];
    }
    return NULL;
}
