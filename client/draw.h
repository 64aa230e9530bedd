/* draw.h - the /status document as lines of text, whatever stands in it. */
#ifndef FMS_DRAW_H
#define FMS_DRAW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* How a line as a whole is to look. */
enum style { STYLE_PLAIN, STYLE_STRONG, STYLE_FAINT, STYLE_GOOD, STYLE_DOUBTFUL, STYLE_BAD };

#define DRAW_MOST 2000u /* lines */
#define DRAW_LINE 1024u /* bytes of one, with its NUL */

struct drawing {
    struct line {
        enum style style;
        char *text; /* clean: see text.h */
    } * lines;
    size_t count;
    bool is_cut; /* there is no memory, or no line left, for the rest */
};

/* A line more, or several where it is longer than so many columns (0: as long as it is). What its arguments hold is cleaned. */
void draw_text(struct drawing *drawing, enum style style, size_t columns, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* All that there is to see of a document, for so many columns (0: as many as it takes). */
void draw_status(struct drawing *drawing, const json_t *document, size_t columns);
void draw_free(struct drawing *drawing);

/* The document in `text`; NULL, and why: it is none of fmspipe's. */
json_t *draw_parse(const char *text, size_t size, char *why, size_t why_size);

/* "5,012" or "4.5"; "-" where there is none. */
void draw_number(const json_t *value, char *text, size_t size);
/* Of seconds: "4 ms", "3.2 s", "1 min 15 s", "3 h 5 min", "2 d 3 h". */
void draw_duration(double seconds, char *text, size_t size);
/* "14:02:11Z", as log lines have it. */
void draw_time(double since_1970, char *text, size_t size);
/* The string of that name, "" where there is none. */
const char *draw_string(const json_t *object, const char *name);

#endif
