/* letter.h - what sinks under [dead_letter] have in common: how a letter that is refused for its size becomes less, and what each
 * letter has. */
#ifndef LETTER_COMMON_H
#define LETTER_COMMON_H

#include <fms_plugin.h>

/* How much of a dead letter is sent, less and less. */
enum letter {
    LETTER_WHOLE,
    LETTER_WITHOUT_PAYLOAD,
    LETTER_OF_THE_HOST, /* without the record's own headers */
    LETTER_CUT,         /* and what is long is cut */
};

#define LETTER_HEADERS 5   /* that the host adds */
#define LETTER_SHORT   100 /* bytes of a header's value in LETTER_CUT */

/* The header's place among those that the host adds, or LETTER_HEADERS. Any thread. */
size_t letter_header(const char *name);

/* Whether a template finds what it names in a letter that has only what each has, each of which is "_". False: *text says what is
 * missing. Otherwise it is the template's text. [control] */
bool letter_finds(const struct fms_host *host, const struct fms_template *template, struct fms_bytes *text);

#endif
