/* files.h - which pipeline files a command line names: a word is a file, or a folder of them. */
#ifndef FMS_FILES_H
#define FMS_FILES_H

#include <stddef.h>

struct files {
    char **paths;
    size_t count;
};

/* As it is now: the words that are files, or nothing, as they are; in the place of a folder its files whose names end in .ini and do not begin
 * with a dot, sorted. What is no file in it, such as a folder or a FIFO, is none of them. 0; or a negative errno, logged: a folder cannot be read, or -ENOMEM.
 * To be given to files_free in any case. Any thread. */
int files_list(struct files *files, char *const *words, size_t count);
void files_free(struct files *files);

#endif
