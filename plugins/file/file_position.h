/* file_position.h - how far everything is settled, in a small file of its own. */
#ifndef FILE_POSITION_H
#define FILE_POSITION_H

#include <fms_plugin.h>

/* Which file is meant: its name may change, and its inode be used again for another. */
struct file_identity {
    uint64_t device, inode;
    uint64_t head;     /* a hash of its first bytes, ... */
    int64_t head_size; /* ... of so many, FILE_HEAD at most */
};

#define FILE_HEAD 256

struct file_position {
    struct file_identity file;
    int64_t offset; /* the beginning of the first line that is not settled */
    uint64_t line;  /* its number; 0: not known */
    uint64_t
        origin; /* random: whose numbers the offsets are, until the file's content is replaced; 0: nobody asked for that */
};

/* 0; -ENOENT: there is none yet; another negative errno, with what is wrong. */
int file_position_read(const char *path, struct file_position *position, const char **wrong);

/* Whole or not at all, on the disk. 0 or a negative errno. */
int file_position_write(const char *path, const struct file_position *position);

/* The identity of an open file, by so many of its first bytes as far as they are there. 0 or a negative errno. */
int file_position_identify(int fd, int64_t size, struct file_identity *identity);

/* Whether that file is the one that the position means, and still holds what is before it. */
bool file_position_fits(const struct file_position *position, int fd);

#endif
