/* words.h - what somebody may have meant who wrote a word that is none. */
#ifndef FMS_WORDS_H
#define FMS_WORDS_H

#include <stddef.h>

#define WORDS_LONGEST 63u /* bytes; what is longer is near to nothing */

/* The nearest of `count` words by edit distance, or NULL when none is near. */
const char *words_nearest(const char *word, const char *const *words, size_t count);

#endif
