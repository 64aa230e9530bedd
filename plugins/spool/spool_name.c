/* spool_name.c - see spool_name.h. */
#include "spool_name.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define HASH_START UINT64_C(14695981039346656037) /* FNV-1a */
#define HASH_PRIME UINT64_C(1099511628211)

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * HASH_PRIME;
    return hash;
}

/* What a file of the system says, if it says anything. */
static bool hash_file(uint64_t *hash, const char *name)
{
    char text[256];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text) : -1;

    if (fd >= 0)
        close(fd);
    if (size > 0)
        *hash = hash_bytes(*hash, text, (size_t)size);
    return size > 0;
}

/* What a disk, or that of a partition, says of itself: the number of a memory card, the name or the number of another. */
static void hash_disk(uint64_t *hash, dev_t device)
{
    static const char *const files[] = {"device/cid", "wwid", "device/wwid", "serial", "device/serial"};
    char name[128];

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (int up = 0; up < 2; up++) {
            snprintf(name, sizeof name, "/sys/dev/block/%u:%u/%s%s", major(device), minor(device), up ? "../" : "",
                     files[i]);
            if (hash_file(hash, name))
                return;
        }
    }
}

uint64_t name_place(const char *path)
{
    uint64_t hash = HASH_START;
    char name[4096];
    struct statx file;

    if (snprintf(name, sizeof name, "%s/data.mdb", path) < (int)sizeof name &&
        statx(AT_FDCWD, name, 0, STATX_INO | STATX_BTIME, &file) == 0) {
        hash = hash_bytes(hash, &file.stx_ino, sizeof file.stx_ino);
        if ((file.stx_mask & STATX_BTIME) != 0) {
            hash = hash_bytes(hash, &file.stx_btime.tv_sec, sizeof file.stx_btime.tv_sec);
            hash = hash_bytes(hash, &file.stx_btime.tv_nsec, sizeof file.stx_btime.tv_nsec);
        }
        hash_disk(&hash, makedev(file.stx_dev_major, file.stx_dev_minor));
    }
    hash_file(&hash, "/etc/machine-id");
    return hash;
}

int name_give(struct name *name, uint64_t since, uint64_t place)
{
    uint64_t id[2];

    if (getrandom(id, sizeof id, 0) != sizeof id)
        return errno != 0 ? errno : EIO;
    if (name->now.since < since)
        name->before = name->now;
    name->now = (struct name_span){{id[0], id[1]}, since};
    name->place = place;
    return 0;
}

void name_text(const struct name_span *span, char text[NAME_TEXT])
{
    text[0] = '\0';
    if ((span->id[0] | span->id[1]) != 0)
        snprintf(text, NAME_TEXT, "spool:%016" PRIx64 "%016" PRIx64, span->id[0], span->id[1]);
}
