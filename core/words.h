/* words.h - words that somebody may have meant, and words that last. */
#ifndef FMS_WORDS_H
#define FMS_WORDS_H

#include <stddef.h>

#define WORDS_LONGEST 63u /* bytes; what is longer is near to nothing */

/* The nearest of `count` words by edit distance, or NULL when none is near. */
const char *words_nearest(const char *word, const char *const *words, size_t count);

/* The same text, which lives as long as the process and is the same pointer each time: names of pipelines and stages, which outlive
 * these where somebody still looks. NULL: out of memory. Any thread. */
const char *words_keep(const char *text);

#endif
