/* file_position.c - see file_position.h.
 *
 * File systems give the inode of a deleted file to the next one made, which after a rotation is its successor; and a
 * file that was emptied and grew again has the same inode, too. Hence the hash. */
#include "file_position.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* FNV-1a. */
static uint64_t position_hash(const unsigned char *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

int file_position_identify(int fd, int64_t size, struct file_identity *identity)
{
    unsigned char head[FILE_HEAD];
    size_t wanted = size < FILE_HEAD ? (size_t)size : FILE_HEAD;
    struct stat stat;
    ssize_t n = fstat(fd, &stat) == 0 ? pread(fd, head, wanted, 0) : -1;

    if (n < 0)
        return -errno;
    *identity = (struct file_identity){stat.st_dev, stat.st_ino, position_hash(head, (size_t)n), n};
    return 0;
}

bool file_position_fits(const struct file_position *position, int fd)
{
    struct file_identity is = {0, 0, 0, 0};
    struct stat stat;

    return fstat(fd, &stat) == 0 && stat.st_size >= position->offset &&
           file_position_identify(fd, position->file.head_size, &is) == 0 && is.head_size == position->file.head_size &&
           is.device == position->file.device && is.inode == position->file.inode && is.head == position->file.head;
}

/* Somebody else may have put a link to what only we can read in its place: it is not followed, and nothing of it is shown. */
int file_position_read(const char *path, struct file_position *position, const char **wrong)
{
    json_int_t device, inode, head, offset, line, origin = 0, head_size = -1;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    json_t *root;
    bool is_good;

    if (fd < 0) {
        int error = errno;

        *wrong = error == ELOOP ? "it is a symbolic link" : strerror(error);
        return -error;
    }
    root = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
    close(fd);
    is_good = root != NULL &&
              json_unpack(root, "{s:I,s:I,s:I,s:I,s:I,s?I,s?I!}", "device", &device, "inode", &inode, "head", &head,
                          "offset", &offset, "line", &line, "head_size", &head_size, "origin", &origin) == 0;
    json_decref(root);
    if (is_good && head_size < 0)
        head_size = offset < FILE_HEAD ? offset : FILE_HEAD;
    if (!is_good || offset < 0 || line < 0 || head_size > FILE_HEAD) {
        *wrong = is_good ? "a number is negative, or too large"
                         : "it is no JSON object of device, inode, head, offset and line";
        return -EBADMSG;
    }
    *position = (struct file_position){
        {(uint64_t)device, (uint64_t)inode, (uint64_t)head, head_size}, offset, (uint64_t)line, (uint64_t)origin};
    return 0;
}

/* What an older fmspipe does not know is there only where it is needed. */
static int position_add_origin(json_t *root, const struct file_position *position)
{
    if (position->origin == 0)
        return 0;
    return json_object_set_new(root, "head_size", json_integer(position->file.head_size)) |
           json_object_set_new(root, "origin", json_integer((json_int_t)position->origin));
}

static int position_write_to(int fd, const struct file_position *position)
{
    json_t *root = json_pack("{s:I,s:I,s:I,s:I,s:I}", "device", (json_int_t)position->file.device, "inode",
                             (json_int_t)position->file.inode, "head", (json_int_t)position->file.head, "offset",
                             (json_int_t)position->offset, "line", (json_int_t)position->line);
    char text[256];
    size_t size = root != NULL && position_add_origin(root, position) == 0 ? json_dumpb(root, text, sizeof text - 1, 0)
                                                                           : 0;
    ssize_t n;

    json_decref(root);
    if (size == 0)
        return -ENOMEM;
    text[size++] = '\n';
    n = write(fd, text, size);
    if (n != (ssize_t)size)
        return n < 0 ? -errno : -ENOSPC;
    return fsync(fd) == 0 ? 0 : -errno;
}

int file_position_write(const char *path, const struct file_position *position)
{
    char *temporary;
    int fd, error;

    if (asprintf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    unlink(temporary); /* of a crash; where somebody else makes one meanwhile, nothing is written through it */
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    error = fd >= 0 ? position_write_to(fd, position) : -errno;
    if (fd >= 0)
        close(fd);
    if (error == 0 && rename(temporary, path) != 0)
        error = -errno;
    if (error != 0 && fd >= 0)
        unlink(temporary);
    free(temporary);
    return error;
}
