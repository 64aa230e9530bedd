/* describe.c - what a plugin says of itself, for people, for its README, and as a section to copy.
 *
 * All of it comes from the plugin's own tables; nothing here knows a plugin. */
#include "describe.h"

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "options.h"

#define DESCRIBE_WIDTH   100
#define DESCRIBE_COLUMNS 5

/* An option as text: name, type, default, range or choices, help. */
struct describe_row {
    char cells[DESCRIBE_COLUMNS][768];
};

static const struct describe_row describe_titles = {{"option", "type", "default", "range or choices", "meaning"}};

static bool describe_is_pairs(const struct fms_option *option)
{
    return option->type == FMS_PAIRS || option->type == FMS_TEMPLATE_PAIRS;
}

static bool describe_is_required(const struct fms_option *option)
{
    return option->fallback != NULL && strcmp(option->fallback, FMS_REQUIRED) == 0;
}

/* As it would stand in a file; what an absent option amounts to where the table has no default. */
static void describe_default(const struct fms_option *option, char *text, size_t size)
{
    const char *value = option->fallback;

    if (value != NULL && option->type == FMS_SECRET)
        value = "(a secret)";
    else if (value == NULL && option->type == FMS_BOOLEAN)
        value = "no";
    else if (value == NULL && option->type == FMS_CHOICE)
        value = option->choices;
    else if (value == NULL && (option->type == FMS_INTEGER || option->type == FMS_DURATION || option->type == FMS_SIZE))
        value = "0";
    snprintf(text, size, "%.*s", option->type == FMS_CHOICE ? (int)strcspn(value, "|") : 700,
             value == NULL ? "" : value);
}

static void describe_option(const struct fms_option *option, struct describe_row *row)
{
    static const char *const types[] = {
        [FMS_STRING] = "string",
        [FMS_SECRET] = "secret",
        [FMS_INTEGER] = "integer",
        [FMS_BOOLEAN] = "boolean",
        [FMS_DURATION] = "duration",
        [FMS_SIZE] = "size",
        [FMS_CHOICE] = "choice",
        [FMS_LIST] = "list",
        [FMS_TEMPLATE] = "template",
        [FMS_PAIRS] = "strings",
        [FMS_TEMPLATE_PAIRS] = "templates",
    };
    size_t size = sizeof row->cells[0];
    uint32_t roles = option->roles;

    snprintf(row->cells[0], size, "%s%s", option->name, describe_is_pairs(option) ? "NAME" : "");
    snprintf(row->cells[1], size, "%s", types[option->type]);
    if (describe_is_required(option))
        snprintf(row->cells[2], size, "required");
    else
        describe_default(option, row->cells[2], size);
    options_accepts(option, row->cells[3], size);
    snprintf(row->cells[4], size, "%s%s", option->help,
             roles == 0                 ? ""
             : roles == FMS_SOURCE      ? " (only as source)"
             : roles == FMS_TRANSFORM   ? " (only as transform)"
             : roles == FMS_DEAD_LETTER ? " (only for dead letters)"
             : roles & FMS_SINK         ? " (only as sink)"
                                        : "");
}

/* ------------------------------------------------------------------------------------------------------- for people */

/* Columns that a text takes: characters, not bytes. */
static size_t describe_width(const char *text, size_t size)
{
    size_t width = 0;

    for (size_t i = 0; i < size; i++)
        width += (text[i] & 0xc0) != 0x80;
    return width;
}

/* How many bytes of the text fit, up to a blank if there is one. */
static size_t describe_fit(const char *text, size_t width)
{
    size_t blank = 0;
    size_t i;

    for (i = 0; text[i] != '\0'; i++) {
        if (text[i] == ' ')
            blank = i;
        if ((text[i] & 0xc0) != 0x80 && width-- == 0)
            return blank > 0 ? blank : i;
    }
    return i;
}

/* One row, each cell folded into its width. */
static void describe_print(FILE *out, const struct describe_row *row, const size_t *widths, size_t columns)
{
    const char *rest[DESCRIBE_COLUMNS];
    bool more = true;

    for (size_t i = 0; i < columns; i++)
        rest[i] = row->cells[i];
    while (more) {
        size_t gap = 0;

        more = false;
        for (size_t i = 0; i < columns; i++) {
            size_t size = describe_fit(rest[i], widths[i]);

            if (size > 0)
                fprintf(out, "%*s%.*s", (int)gap, "", (int)size, rest[i]);
            gap = size > 0 ? 2 + widths[i] - describe_width(rest[i], size) : gap + 2 + widths[i];
            rest[i] += size;
            rest[i] += strspn(rest[i], " ");
            more = more || *rest[i] != '\0';
        }
        fputc('\n', out);
    }
}

static void describe_widen(size_t *widths, const size_t *most, const struct describe_row *row, size_t columns)
{
    for (size_t i = 0; i < columns; i++) {
        size_t width = describe_width(row->cells[i], strlen(row->cells[i]));

        if (width > widths[i])
            widths[i] = width < most[i] ? width : most[i];
    }
}

/* The last column gets what the others leave. */
static void describe_give_rest(size_t *widths, size_t columns)
{
    widths[columns - 1] = DESCRIBE_WIDTH;
    for (size_t i = 0; i < columns - 1; i++)
        widths[columns - 1] -= widths[i] + 2;
}

static void describe_options_table(FILE *out, const struct fms_option *options)
{
    static const size_t most[DESCRIBE_COLUMNS] = {24, 9, 18, 18, 0};
    size_t widths[DESCRIBE_COLUMNS] = {0};
    struct describe_row row;

    describe_widen(widths, most, &describe_titles, DESCRIBE_COLUMNS);
    for (const struct fms_option *option = options; option->name != NULL; option++) {
        describe_option(option, &row);
        describe_widen(widths, most, &row, DESCRIBE_COLUMNS);
    }
    describe_give_rest(widths, DESCRIBE_COLUMNS);
    fputc('\n', out);
    describe_print(out, &describe_titles, widths, DESCRIBE_COLUMNS);
    for (const struct fms_option *option = options; option->name != NULL; option++) {
        describe_option(option, &row);
        describe_print(out, &row, widths, DESCRIBE_COLUMNS);
    }
}

static void describe_metrics(FILE *out, const char *what, const struct fms_metric *metrics)
{
    static const size_t most[] = {40, 0};
    size_t widths[2] = {0};
    struct describe_row row = {{"", "meaning"}};

    if (metrics == NULL || metrics->name == NULL)
        return;
    snprintf(row.cells[0], sizeof row.cells[0], "%s", what);
    describe_widen(widths, most, &row, 2);
    for (const struct fms_metric *metric = metrics; metric->name != NULL; metric++) {
        snprintf(row.cells[0], sizeof row.cells[0], "%s", metric->name);
        describe_widen(widths, most, &row, 2);
    }
    describe_give_rest(widths, 2);
    fputc('\n', out);
    snprintf(row.cells[0], sizeof row.cells[0], "%s", what);
    describe_print(out, &row, widths, 2);
    for (const struct fms_metric *metric = metrics; metric->name != NULL; metric++) {
        snprintf(row.cells[0], sizeof row.cells[0], "%s", metric->name);
        snprintf(row.cells[1], sizeof row.cells[1], "%s", metric->help);
        describe_print(out, &row, widths, 2);
    }
}

/* ------------------------------------------------------------------------------------------------ a section to copy */

/* In quotes where it would not be read back as it stands. */
static void describe_value(FILE *out, const char *value)
{
    size_t size = strlen(value);

    if (size == 0 || (*value != '"' && *value != ' ' && value[size - 1] != ' ' && strstr(value, " ;") == NULL)) {
        fprintf(out, " =%s%s\n", size == 0 ? "" : " ", value);
        return;
    }
    fputs(" = \"", out);
    for (; *value != '\0'; value++)
        fprintf(out, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
    fputs("\"\n", out);
}

/* A value that the option takes, for the user to change. */
static void describe_placeholder(FILE *out, const struct fms_option *option)
{
    char accepts[512];
    const char *value = accepts;

    options_accepts(option, accepts, sizeof accepts);
    switch (option->type) {
    case FMS_SECRET:
        fprintf(out, " = ${env:FMS_SECRET:-CHANGE-ME}\n");
        break;
    case FMS_INTEGER:
    case FMS_DURATION:
    case FMS_SIZE:
    case FMS_BOOLEAN:
    case FMS_CHOICE: /* the first word of "1 to 9" or "yes, no", the last one of "at least 1" */
        value = strncmp(value, "at ", 3) == 0 ? strrchr(value, ' ') + 1 : value;
        fprintf(out, " = %.*s\n", *value == '\0' ? 1 : (int)strcspn(value, " ,"), *value == '\0' ? "1" : value);
        break;
    default:
        fprintf(out, " = CHANGE-ME\n");
    }
}

static void describe_sample(FILE *out, const struct fms_plugin *plugin, enum fms_role role, const char *section)
{
    fprintf(out, "\n[%s]\n", section);
    if (role != 0)
        fprintf(out, "plugin = %s\n", plugin->name);
    for (const struct fms_option *option = plugin->options; option != NULL && option->name != NULL; option++) {
        char value[768];

        if (option->roles != 0 && role != 0 && (option->roles & role) == 0)
            continue;
        describe_default(option, value, sizeof value);
        if (describe_is_required(option)) {
            fprintf(out, "%s", option->name);
            describe_placeholder(out, option);
        } else {
            fprintf(out, ";%s%s", option->name, describe_is_pairs(option) ? "NAME" : "");
            describe_value(out, value);
        }
    }
}

static void describe_for_people(FILE *out, const struct fms_plugin *plugin)
{
    const struct {
        bool has;
        enum fms_role role;
        const char *name, *section;
    } roles[] = {
        {plugin->source_poll != NULL, FMS_SOURCE, "source", "source"},
        {plugin->transform != NULL, FMS_TRANSFORM, "transform", "transform NAME"},
        {plugin->sink_write != NULL, FMS_SINK, "sink", "sink NAME"},
    };
    struct describe_row summary;
    size_t count = 0;

    fprintf(out, "%s %s", plugin->name, plugin->version);
    for (size_t i = 0; i < 3; i++)
        if (roles[i].has)
            fprintf(out, "%s%s", count++ == 0 ? " - " : ", ", roles[i].name);
    fputc('\n', out);
    snprintf(summary.cells[0], sizeof summary.cells[0], "%s", plugin->summary);
    describe_print(out, &summary, &(size_t){DESCRIBE_WIDTH}, 1);
    if (plugin->options == NULL || plugin->options->name == NULL)
        fprintf(out, "\nIt has no options.\n");
    else
        describe_options_table(out, plugin->options);
    describe_metrics(out, "counter", plugin->counters);
    describe_metrics(out, "gauge", plugin->gauges);
    describe_metrics(out, "duration", plugin->durations);
    for (size_t i = 0; i < 3; i++)
        if (roles[i].has)
            describe_sample(out, plugin, roles[i].role, roles[i].section);
    if (count == 0)
        describe_sample(out, plugin, 0, plugin->name);
}

/* ----------------------------------------------------------------------------------------------------- for a README */

static void describe_escaped(FILE *out, const char *text, const char *special)
{
    for (; *text != '\0'; text++)
        fprintf(out, "%s%c", strchr(special, *text) != NULL ? "\\" : "", *text);
}

static void describe_code(FILE *out, const char *text)
{
    if (*text == '\0')
        return;
    fputc('`', out);
    describe_escaped(out, text, "|");
    fputc('`', out);
}

static void describe_options_markdown(FILE *out, const struct fms_option *options)
{
    struct describe_row row;

    if (options == NULL || options->name == NULL) {
        fputs("It has no options.\n", out);
        return;
    }
    fputs("| option | type | default | range or choices | meaning |\n|---|---|---|---|---|\n", out);
    for (const struct fms_option *option = options; option->name != NULL; option++) {
        describe_option(option, &row);
        fputs("| ", out);
        describe_code(out, row.cells[0]);
        fprintf(out, " | %s | ", row.cells[1]);
        if (describe_is_required(option))
            fputs("required", out);
        else
            describe_code(out, row.cells[2]);
        fprintf(out, " | %s | ", row.cells[3]);
        describe_escaped(out, row.cells[4], "|*<`\\");
        fputs(" |\n", out);
    }
}

/* By the names under which they are exported. */
static void describe_metrics_markdown(FILE *out, const struct fms_plugin *plugin, const char *type,
                                      const struct fms_metric *metrics)
{
    const char *ending = strcmp(type, "counter") == 0 ? "_total" : "";

    for (const struct fms_metric *metric = metrics; metric != NULL && metric->name != NULL; metric++) {
        fprintf(out, "| `fmspipe_%s_%s%s` | %s | ", plugin->name, metric->name, ending, type);
        describe_escaped(out, metric->help, "|*<`\\");
        fputs(" |\n", out);
    }
}

static void describe_markdown(FILE *out, const struct fms_plugin *plugin)
{
    const struct fms_metric *const metrics[] = {plugin->counters, plugin->gauges, plugin->durations};
    static const char *const types[] = {"counter", "gauge", "histogram"};
    size_t count = 0;

    describe_options_markdown(out, plugin->options);
    for (size_t i = 0; i < 3; i++)
        count += metrics[i] != NULL && metrics[i]->name != NULL;
    if (count > 0)
        fputs("\n## Metrics\n\n| metric | type | meaning |\n|---|---|---|\n", out);
    for (size_t i = 0; i < 3; i++)
        describe_metrics_markdown(out, plugin, types[i], metrics[i]);
}

/* ------------------------------------------------------------------------------------------------------ for programs */

static void describe_member(FILE *out, bool is_first, const char *name, const char *text)
{
    fprintf(out, "%s\"%s\": ", is_first ? "" : ", ", name);
    log_json_string(out, text);
}

static void describe_option_json(FILE *out, const struct fms_option *option)
{
    struct describe_row row;

    describe_option(option, &row);
    describe_member(out, true, "name", row.cells[0]);
    describe_member(out, false, "type", row.cells[1]);
    fprintf(out, ", \"required\": %s", describe_is_required(option) ? "true" : "false");
    if (!describe_is_required(option) && *row.cells[2] != '\0')
        describe_member(out, false, "default", row.cells[2]);
    if (*row.cells[3] != '\0')
        describe_member(out, false, "accepts", row.cells[3]);
    describe_member(out, false, "help", row.cells[4]);
}

static void describe_metrics_json(FILE *out, const char *what, const struct fms_metric *metrics)
{
    const char *comma = "";

    fprintf(out, ",\n \"%s\": [", what);
    for (const struct fms_metric *metric = metrics; metric != NULL && metric->name != NULL; metric++) {
        fprintf(out, "%s\n  {", comma);
        describe_member(out, true, "name", metric->name);
        describe_member(out, false, "help", metric->help);
        fputs("}", out);
        comma = ",";
    }
    fputs("]", out);
}

static void describe_json(FILE *out, const struct fms_plugin *plugin)
{
    const char *comma = "";

    fputs("{", out);
    describe_member(out, true, "name", plugin->name);
    describe_member(out, false, "version", plugin->version);
    describe_member(out, false, "summary", plugin->summary);
    fprintf(out, ", \"source\": %s, \"transform\": %s, \"sink\": %s,\n \"options\": [",
            plugin->source_poll != NULL ? "true" : "false", plugin->transform != NULL ? "true" : "false",
            plugin->sink_write != NULL ? "true" : "false");
    for (const struct fms_option *option = plugin->options; option != NULL && option->name != NULL; option++) {
        fprintf(out, "%s\n  {", comma);
        describe_option_json(out, option);
        fputs("}", out);
        comma = ",";
    }
    fputs("]", out);
    describe_metrics_json(out, "counters", plugin->counters);
    describe_metrics_json(out, "gauges", plugin->gauges);
    describe_metrics_json(out, "durations", plugin->durations);
    fputs("}\n", out);
}

/* ---------------------------------------------------------------------------------------------------- for a man page */

static void describe_roff(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else
            fprintf(out, "%s%c", *text == '-' ? "\\" : "", *text);
    }
}

static void describe_roff_after(FILE *out, const char *before, const char *text)
{
    fputs(before, out);
    describe_roff(out, text);
}

static void describe_man(FILE *out, const struct fms_option *options)
{
    struct describe_row row;

    for (const struct fms_option *option = options; option != NULL && option->name != NULL; option++) {
        describe_option(option, &row);
        fputs(".TP\n\\fB", out);
        describe_roff(out, row.cells[0]);
        fprintf(out, "\\fR (%s", row.cells[1]);
        if (describe_is_required(option))
            fputs(", required", out);
        else if (*row.cells[2] != '\0')
            describe_roff_after(out, ", default ", row.cells[2]);
        if (*row.cells[3] != '\0')
            describe_roff_after(out, "; ", row.cells[3]);
        fputs(")\n\\&", out); /* a line may begin with a dot */
        describe_roff(out, row.cells[4]);
        fputc('\n', out);
    }
}

int describe_plugin(const struct fms_plugin *plugin, enum describe_format format, FILE *out)
{
    errno = 0;
    switch (format) {
    case DESCRIBE_TABLE:
        describe_for_people(out, plugin);
        break;
    case DESCRIBE_MARKDOWN:
        describe_markdown(out, plugin);
        break;
    case DESCRIBE_JSON:
        describe_json(out, plugin);
        break;
    case DESCRIBE_MAN:
        describe_man(out, plugin->options);
        break;
    }
    if (fflush(out) == 0 && !ferror(out))
        return 0;
    return errno != 0 ? -errno : -EIO;
}
