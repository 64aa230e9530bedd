/* terminal.h - a screen that is drawn anew as a whole, and left as it was found. */
#ifndef FMS_TERMINAL_H
#define FMS_TERMINAL_H

#include <stdbool.h>

#include "draw.h"

/* Whether standard output can be drawn on. */
bool terminal_is_one(void);

/* Takes the screen; `close` gives it back. Between them nothing else may write to it. */
void terminal_open(void);
void terminal_close(void);

/* One write: the lines from number `first` on, cut to the screen, and below them `footer` where there is room. False: the terminal is
 * not there any more. */
bool terminal_draw(const struct drawing *drawing, size_t first, const char *footer);
/* The screen as it is now; 80 x 24 where that cannot be told. */
void terminal_size(size_t *columns, size_t *rows);
/* The columns of the terminal that standard output is; 0: it is none, or they cannot be told. */
size_t terminal_columns(void);

/* Prints text as it is; on a terminal what that could take for a command is escaped. */
void terminal_print(const char *text, size_t size);

/* A key that was pressed: its character, or one of these; -1: none. */
enum { KEY_UP = 256, KEY_DOWN };
int terminal_key(void);

#endif
