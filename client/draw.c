/* draw.c - see draw.h.
 *
 * Nothing is taken for granted of a document: what is missing, or of another type, is shown as "-" or left out. */
#include "draw.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

#define WARNINGS    5u
#define INDENT      "    " /* of what goes on in another line */
#define MOST_INDENT 12u    /* columns: on a narrower screen nothing goes on */
#define MOST_LINES  5u

/* ------------------------------------------------------------------------------------------------------------ lines */

/* Twice as many when it is full; false: no more. */
static bool has_room(struct drawing *drawing)
{
    size_t n = drawing->count;
    struct line *grown;

    if (n == 0 || (n >= 16 && (n & (n - 1)) == 0)) {
        grown = n < DRAW_MOST ? realloc(drawing->lines, (n < 16 ? 16 : 2 * n) * sizeof *grown) : NULL;
        if (grown == NULL)
            return false;
        drawing->lines = grown;
    }
    return n < DRAW_MOST;
}

static void put_line(struct drawing *drawing, enum style style, const char *indent, const char *text, size_t n)
{
    char *line = NULL;

    if (!drawing->is_cut && has_room(drawing) && asprintf(&line, "%s%.*s", indent, (int)n, text) < 0)
        line = NULL;
    if (line != NULL)
        drawing->lines[drawing->count++] = (struct line){style, line};
    drawing->is_cut = line == NULL;
}

/* How many bytes of it stand in a line: as many as fit, but for a word that began among them. */
static size_t break_at(const char *text, size_t columns)
{
    size_t n = text_fit(text, &columns), blank = n;

    if (text[n] == '\0' || text[n] == ' ')
        return n;
    while (blank > 0 && text[blank] != ' ')
        blank--;
    return blank > n / 2 ? blank : n;
}

/* As lines of so many columns; those behind the first are indented. */
static void put_lines(struct drawing *drawing, enum style style, size_t columns, const char *text)
{
    size_t n = columns > MOST_INDENT ? break_at(text, columns) : strlen(text);

    put_line(drawing, style, "", text, n);
    for (size_t i = 1; i < MOST_LINES && text[n] != '\0'; i++) {
        text += n + strspn(text + n, " ");
        n = break_at(text, columns - strlen(INDENT));
        if (n > 0)
            put_line(drawing, style, INDENT, text, n);
    }
}

void draw_text(struct drawing *drawing, enum style style, size_t columns, const char *format, ...)
{
    char raw[DRAW_LINE], clean[DRAW_LINE];
    va_list args;

    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    text_clean(raw, strlen(raw), clean, sizeof clean);
    put_lines(drawing, style, columns, clean);
}

void draw_free(struct drawing *drawing)
{
    for (size_t i = 0; i < drawing->count; i++)
        free(drawing->lines[i].text);
    free(drawing->lines);
    *drawing = (struct drawing){0};
}

/* ----------------------------------------------------------------------------------------------------------- values */

const char *draw_string(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name)); /* 0 for what is none */
}

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

/* Whole numbers in groups of three. */
static void group(double value, char *text, size_t size)
{
    char digits[40];
    int n = snprintf(digits, sizeof digits, "%.0f", value);
    size_t k = 0;

    for (int i = 0; i < n && k + 2 < size; i++) {
        if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-')
            text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = '\0';
}

void draw_number(const json_t *value, char *text, size_t size)
{
    double what = json_number_value(value);

    if (!json_is_number(value))
        snprintf(text, size, "-");
    else if (fabs(what) >= 1e15)
        snprintf(text, size, "%.1e", what);
    else if (json_is_real(value) && what != 0 && fabs(what) < 9.95)
        snprintf(text, size, "%.1f", what);
    else
        group(what, text, size);
}

void draw_duration(double seconds, char *text, size_t size)
{
    if (!(seconds > 0))
        snprintf(text, size, "0 s");
    else if (seconds < 0.0009995)
        snprintf(text, size, "%.0f us", seconds * 1e6);
    else if (seconds < 0.9995)
        snprintf(text, size, seconds < 0.00995 ? "%.1f ms" : "%.0f ms", seconds * 1e3);
    else if (seconds < 60)
        snprintf(text, size, seconds < 9.95 ? "%.1f s" : "%.0f s", seconds);
    else if (seconds < 3600)
        snprintf(text, size, "%d min %d s", (int)seconds / 60, (int)seconds % 60);
    else if (seconds < 86400)
        snprintf(text, size, "%d h %d min", (int)seconds / 3600, (int)seconds / 60 % 60);
    else if (seconds < 1e8)
        snprintf(text, size, "%d d %d h", (int)seconds / 86400, (int)seconds / 3600 % 24);
    else
        snprintf(text, size, "years");
}

static void duration_of(const json_t *object, const char *name, char *text, size_t size)
{
    const json_t *value = json_object_get(object, name);

    if (json_is_number(value))
        draw_duration(json_number_value(value), text, size);
    else
        snprintf(text, size, "-");
}

void draw_time(double since_1970, char *text, size_t size)
{
    time_t at = since_1970 > 0 && since_1970 < 1e11 ? (time_t)since_1970 : 0;
    struct tm tm;

    if (at == 0 || strftime(text, size, "%H:%M:%SZ", gmtime_r(&at, &tm)) == 0)
        snprintf(text, size, "-");
}

/* ----------------------------------------------------------------------------------------------------------- stages */

#define NAME_LEAST 10u

/* The columns for stages' names: the longest that there is, but a third of what there are. */
static size_t name_columns(const json_t *stages, size_t columns)
{
    size_t longest = NAME_LEAST, most = columns == 0 || columns > 3 * 32 ? 32 : columns / 3;
    const json_t *stage;
    size_t i;

    json_array_foreach(stages, i, stage)
    {
        char name[256];
        size_t its;

        text_clean(draw_string(stage, "name"), strlen(draw_string(stage, "name")), name, sizeof name);
        its = text_columns(name);
        longest = its > longest ? its : longest;
    }
    most = most > NAME_LEAST ? most : NAME_LEAST;
    return longest < most ? longest : most;
}

/* A name cut and filled to just so many columns. */
static void cell(const char *name, size_t columns, char *text, size_t size)
{
    char clean[256];
    size_t taken = columns, n;

    text_clean(name, strlen(name), clean, sizeof clean);
    n = text_fit(clean, &taken);
    snprintf(text, size, "%.*s%*s", (int)n, clean, (int)(columns - taken), "");
}

/* What is to be said of its far end, and why it is not ready. */
static void link_of(const json_t *stage, double now, char *text, size_t size)
{
    const json_t *connected = json_object_get(stage, "connected");
    const char *why = draw_string(stage, "why"), *reason = draw_string(stage, "disconnect_reason");
    char since[32] = "";
    int n = 0;

    if (json_is_boolean(connected)) {
        const char *changed = json_is_true(connected) ? "connected_since" : "disconnected_since";

        if (json_is_number(json_object_get(stage, changed)))
            draw_duration(now - number(stage, changed), since, sizeof since);
        n = snprintf(text, size, "%s %s", json_is_true(connected) ? "up" : "down", since);
        why = json_is_false(connected) && *why == '\0' ? reason : why;
    }
    if (is_true(stage, "dead"))
        why = *why != '\0' ? why : "it has failed or finished";
    n = n < 0 ? 0 : n < (int)size ? n : (int)size - 1;
    snprintf(text + n, size - (size_t)n, "%s%s", n > 0 && *why != '\0' ? ": " : "", why);
}

static void draw_stage(struct drawing *drawing, const json_t *stage, size_t names, size_t columns, double now,
                       const char *held_by)
{
    const char *name = draw_string(stage, "name");
    bool is_holding = *held_by != '\0' && strcmp(held_by, name) == 0;
    bool is_ready = !json_is_false(json_object_get(stage, "ready"));
    char first[300], in[32], out[32], held[32], oldest[32], rejected[32], link[512];

    cell(name, names, first, sizeof first);
    draw_number(json_object_get(stage, "rate_in"), in, sizeof in);
    draw_number(json_object_get(stage, "rate_out"), out, sizeof out);
    draw_number(json_object_get(stage, "held"), held, sizeof held);
    draw_number(json_object_get(stage, "rejected"), rejected, sizeof rejected);
    duration_of(stage, "oldest_seconds", oldest, sizeof oldest);
    link_of(stage, now, link, sizeof link);
    draw_text(drawing, is_holding || !is_ready ? STYLE_BAD : STYLE_PLAIN, columns, "%c %s %7s %7s %7s %11s %8s  %s",
              is_holding ? '>' : ' ', first, in, out, held, oldest, rejected, link);
}

static void draw_stages(struct drawing *drawing, const json_t *pipeline, size_t columns, double now)
{
    const json_t *stages = json_object_get(pipeline, "stages");
    size_t names = name_columns(stages, columns);

    draw_text(drawing, STYLE_FAINT, 0, "  %-*s %7s %7s %7s %11s %8s  %s", (int)names, "stage", "in/s", "out/s", "held",
              "oldest", "rejected", "link");
    for (size_t i = 0; i < json_array_size(stages); i++)
        draw_stage(drawing, json_array_get(stages, i), names, columns, now, draw_string(pipeline, "held_by"));
}

/* -------------------------------------------------------------------------------------------------------- pipelines */

static enum style style_of(const json_t *pipeline)
{
    const char *verdict = draw_string(pipeline, "verdict");

    if (strcmp(verdict, "failed") == 0 || strcmp(verdict, "stuck") == 0 ||
        json_is_false(json_object_get(pipeline, "live")))
        return STYLE_BAD;
    if (is_true(pipeline, "ready") && (strcmp(verdict, "flowing") == 0 || strcmp(verdict, "idle") == 0))
        return STYLE_GOOD;
    return STYLE_DOUBTFUL;
}

/* "in flight 12 of 10,000; received 5,012, delivered 5,000, rejected 0; half within 4 ms, 99 % within 12 ms" */
static void draw_amounts(struct drawing *drawing, const json_t *pipeline, size_t columns)
{
    static const char *const names[] = {"received", "delivered", "rejected", "dead_letters", "retried"};
    const json_t *flight = json_object_get(pipeline, "in_flight"), *counts = json_object_get(pipeline, "counts");
    const json_t *total = json_object_get(json_object_get(pipeline, "latency"), "total");
    char held[32], most[32], half[32], nearly_all[32], texts[5][32];

    draw_number(json_object_get(flight, "records"), held, sizeof held);
    draw_number(json_object_get(flight, "max_records"), most, sizeof most);
    for (size_t i = 0; i < 5; i++)
        draw_number(json_object_get(counts, names[i]), texts[i], sizeof texts[i]);
    duration_of(total, "p50", half, sizeof half);
    duration_of(total, "p99", nearly_all, sizeof nearly_all);
    draw_text(drawing, STYLE_PLAIN, columns,
              "  in flight %s of %s; received %s, delivered %s, rejected %s (%s to dead letters), retried %s", held,
              most, texts[0], texts[1], texts[2], texts[3], texts[4]);
    if (json_is_number(json_object_get(total, "p50")))
        draw_text(drawing, STYLE_PLAIN, columns, "  in the last minute half were delivered within %s, 99 %% within %s",
                  half, nearly_all);
}

static void draw_warnings(struct drawing *drawing, const json_t *document, size_t columns)
{
    const json_t *warnings = json_object_get(document, "warnings");
    size_t n = json_array_size(warnings);

    for (size_t i = n > WARNINGS ? n - WARNINGS : 0; i < n; i++) {
        const json_t *warning = json_array_get(warnings, i);
        const char *stage = draw_string(warning, "stage"), *level = draw_string(warning, "level");
        char when[16];

        draw_time(number(warning, "time"), when, sizeof when);
        draw_text(drawing, strcmp(level, "error") == 0 ? STYLE_BAD : STYLE_DOUBTFUL, columns, "%s %.8s %s%s%s: %s",
                  when, level, draw_string(warning, "pipeline"), *stage != '\0' ? "/" : "", stage,
                  draw_string(warning, "text"));
    }
}

void draw_status(struct drawing *drawing, const json_t *document, size_t columns)
{
    const json_t *pipelines = json_object_get(document, "pipelines"), *pipeline;
    size_t i;

    json_array_foreach(pipelines, i, pipeline)
    {
        draw_text(drawing, style_of(pipeline), columns, "%s: %s", draw_string(pipeline, "name"),
                  draw_string(pipeline, "sentence"));
        draw_amounts(drawing, pipeline, columns);
        draw_stages(drawing, pipeline, columns, number(document, "time"));
        draw_text(drawing, STYLE_PLAIN, 0, "%s", "");
    }
    draw_warnings(drawing, document, columns);
}

json_t *draw_parse(const char *text, size_t size, char *why, size_t why_size)
{
    json_error_t error;
    json_t *document = json_loadb(text, size, 0, &error);

    if (document == NULL) {
        snprintf(why, why_size, "what it says is no JSON: %s, at byte %d", error.text, error.position);
    } else if (!json_is_string(json_object_get(document, "fmspipe")) ||
               !json_is_array(json_object_get(document, "pipelines"))) {
        snprintf(why, why_size, "what it says is no status of fmspipe");
        json_decref(document);
        document = NULL;
    }
    return document;
}
