/* words.c - see words.h. */
#include "words.h"

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits from one word to the other: a character more, less, changed, or two swapped; case does not matter. */
static size_t distance_of(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t rows[3][WORDS_LONGEST + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];

    for (size_t j = 0; j <= b_size; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t *free_row = before;

        now[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);

            now[j] = least_of(least_of(last[j], now[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least_of(now[j], before[j - 2] + 1);
        }
        before = last;
        last = now;
        now = free_row;
    }
    return last[b_size];
}

const char *words_nearest(const char *word, const char *const *words, size_t count)
{
    size_t size = strlen(word);
    size_t least = SIZE_MAX;
    const char *nearest = NULL;

    for (size_t i = 0; i < count && size <= WORDS_LONGEST; i++) {
        size_t other = strlen(words[i]);
        size_t distance;

        if (other > WORDS_LONGEST)
            continue;
        distance = distance_of(word, size, words[i], other);
        if (distance < least && 3 * distance <= (size > other ? size : other)) {
            least = distance;
            nearest = words[i];
        }
    }
    return nearest;
}

const char *words_keep(const char *text)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct kept {
        struct kept *next;
        char text[];
    } * kept;
    size_t size = strlen(text) + 1;
    struct kept *found;

    pthread_mutex_lock(&lock);
    for (found = kept; found != NULL && strcmp(found->text, text) != 0; found = found->next)
        continue;
    if (found == NULL && (found = malloc(sizeof *found + size)) != NULL) {
        memcpy(found->text, text, size);
        found->next = kept;
        kept = found;
    }
    pthread_mutex_unlock(&lock);
    return found != NULL ? found->text : NULL;
}
