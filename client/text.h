/* text.h - text that came from elsewhere, for a terminal: nothing of it is a control character, and its columns are known. */
#ifndef FMS_TEXT_H
#define FMS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Takes the user's locale. Before anything else of this. */
void text_setup(void);
/* Whether the terminal shows characters beyond ASCII. */
bool text_is_wide(void);

/* Copies text into `to`, cut to `size` with its NUL at a whole character. What is no printable character (control characters, whatever
 * turns the direction of writing, bytes that are no UTF-8) stands there as \n, \x1b or \u202e. Returns how many bytes of the text
 * were copied. */
size_t text_clean(const char *text, size_t n, char *to, size_t size);

/* The columns that clean text takes. */
size_t text_columns(const char *text);

/* How many bytes of clean text fit into so many columns; `columns` becomes what they take. */
size_t text_fit(const char *text, size_t *columns);

#endif
