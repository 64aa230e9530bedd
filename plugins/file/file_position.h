/* file_position.h - how far everything is settled, in a small file of its own. */
#ifndef FILE_POSITION_H
#define FILE_POSITION_H

#include <fms_plugin.h>

/* Which file is meant: its name may change, and its inode be used again for another. */
struct identity {
    uint64_t device, inode;
    uint64_t head; /* a hash of its first bytes, of as many as were read */
};

struct position {
    struct identity file;
    int64_t offset; /* the beginning of the first line that is not settled */
    uint64_t line;  /* its number; 0: not known */
};

/* 0; -ENOENT: there is none yet; another negative errno, with what is wrong. */
int position_read(const char *path, struct position *position, char *wrong, size_t size);

/* Whole or not at all, on the disk. 0 or a negative errno. */
int position_write(const char *path, const struct position *position);

/* The identity of an open file of which `offset` bytes were read. 0 or a negative errno. */
int position_identify(int fd, int64_t offset, struct identity *identity);

/* Whether that file is the one that the position means, and still holds what is before it. */
bool position_fits(const struct position *position, int fd);

#endif
