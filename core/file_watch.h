/* file_watch.h - notices that files have changed: rewritten, replaced, or led elsewhere by a symbolic link; or come and gone in a folder. */
#ifndef FMS_FILE_WATCH_H
#define FMS_FILE_WATCH_H

#include <stddef.h>

struct file_watch;

/* From now on a thread calls `changed` when one of the files that the words name (files_list) holds something else than before, or others
 * are named, and a second has passed without another change. The words live until file_watch_stop. NULL after an error, logged. [control] */
struct file_watch *file_watch_start(char *const *words, size_t count, void (*changed)(void));
/* Waits for the thread. NULL: nothing. [control] */
void file_watch_stop(struct file_watch *watch);

#endif
