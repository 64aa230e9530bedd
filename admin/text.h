/* text.h - text of others (a link's reason, a line of the log, a name), which may be no UTF-8, or be cut within a character. */
#ifndef FMS_TEXT_H
#define FMS_TEXT_H

#include <stddef.h>

/* How many bytes the UTF-8 character at the beginning of a NUL-terminated text has; 0: there is none. */
size_t text_character(const char *text);

#endif
