/* spool_anchor.c - see spool_anchor.h.
 *
 * A root is one of LMDB's two meta pages, which are copied as they are; what is read of them (who is which, and the transaction) is compared
 * with what LMDB says, so that an LMDB with another format is refused rather than set back to something wrong. */
#include "spool_anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC     UINT64_C(0x31726f68636e6166) /* "fanchor1" */
#define MDB_MAGIC UINT32_C(0xBEEFC0DE)
#define BOOT      40   /* of the name that the kernel gives to a start of the machine, with the NUL byte */
#define PAGES     8    /* that a commit changes, or a few more */
#define SLOT      4096 /* two places, so that the one before stays while the next is written */

/* The head of LMDB's page, and what a meta page has behind it, in its data format 1. */
struct meta_table {
    uint32_t pad;
    uint16_t flags, depth;
    size_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    size_t number;
    uint16_t pad, flags, lower, upper;
    uint32_t magic, version;
    void *address;
    size_t map_size;
    struct meta_table tables[2];
    size_t last_page, transaction;
};

struct slot {
    uint64_t magic;
    uint64_t count; /* the higher one is the newer */
    uint64_t page;  /* bytes of one */
    char boot[BOOT];
    struct meta meta;
    uint64_t check; /* of all before it */
};

/* FNV-1a. */
static uint64_t hash_of(const void *bytes, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t slot_check(const struct slot *slot)
{
    return hash_of(slot, offsetof(struct slot, check));
}

/* The name of this start of the machine. A service may not see the kernel's (ProcSubset=pid); then it is when the kernel made /sys. */
static void boot_read(char boot[BOOT])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    struct stat made;

    memset(boot, 0, BOOT);
    if (fd < 0 || read(fd, boot, BOOT - 1) <= 0) {
        if (stat("/sys", &made) == 0)
            snprintf(boot, BOOT, "%lld.%09ld", (long long)made.st_ctim.tv_sec, made.st_ctim.tv_nsec);
    }
    if (fd >= 0)
        close(fd);
}

uint64_t anchor_boot(void)
{
    char boot[BOOT];

    boot_read(boot);
    return boot[0] != '\0' ? hash_of(boot, sizeof boot) : 0;
}

/* The newer of those that are whole. False: there is none. */
static bool slot_read(int fd, struct slot *newest)
{
    struct slot slot;
    bool is_found = false;

    for (int i = 0; i < 2; i++) {
        if (pread(fd, &slot, sizeof slot, i * SLOT) != sizeof slot || slot.magic != MAGIC ||
            slot.check != slot_check(&slot) || (is_found && slot.count < newest->count))
            continue;
        *newest = slot;
        is_found = true;
    }
    return is_found;
}

/* Where the older one is. */
static int slot_write(int fd, struct slot *slot, uint64_t count)
{
    slot->magic = MAGIC;
    slot->count = count;
    boot_read(slot->boot);
    slot->check = slot_check(slot);
    if (pwrite(fd, slot, sizeof *slot, (off_t)(count % 2) * SLOT) != sizeof *slot || fdatasync(fd) != 0)
        return errno != 0 ? errno : EIO;
    return 0;
}

/* -------------------------------------------------------------------------------------------------------------- opening */

/* Both roots become that one; the other one is older, so that LMDB takes it for the next commit. */
static int store_set_back(const char *path, const struct slot *slot)
{
    size_t other = slot->meta.number ^ 1;
    struct meta meta = slot->meta;
    char name[4096];
    int fd, error = 0;

    if (snprintf(name, sizeof name, "%s/data.mdb", path) >= (int)sizeof name)
        return ENAMETOOLONG;
    fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    if (pwrite(fd, &meta, sizeof meta, (off_t)(meta.number * slot->page)) != sizeof meta)
        error = EIO;
    meta.number = other;
    meta.transaction -= meta.transaction > 0;
    if (pwrite(fd, &meta, sizeof meta, (off_t)(other * slot->page)) != sizeof meta || fdatasync(fd) != 0)
        error = EIO;
    close(fd);
    return error;
}

static bool store_is_there(const char *path)
{
    char name[4096];

    return snprintf(name, sizeof name, "%s/data.mdb", path) >= (int)sizeof name || access(name, F_OK) == 0;
}

/* Once a start of the machine. An anchor without a store is another one's. */
static int anchor_use(const struct anchor *anchor, const char *path)
{
    char boot[BOOT];
    struct slot slot;
    int error;

    if (!store_is_there(path))
        return ftruncate(anchor->fd, 0) == 0 ? 0 : errno;
    boot_read(boot);
    if (!slot_read(anchor->fd, &slot) || (boot[0] != '\0' && memcmp(boot, slot.boot, BOOT) == 0))
        return 0;
    error = store_set_back(path, &slot);
    return error == 0 ? slot_write(anchor->fd, &slot, slot.count + 1) : error;
}

/* Has room for both slots, so that a full disk does not stop it. */
static int anchor_make_room(const struct anchor *anchor)
{
    static const char nothing[2 * SLOT];
    struct stat stat_of;

    if (fstat(anchor->fd, &stat_of) != 0)
        return errno;
    if (stat_of.st_size >= (off_t)sizeof nothing)
        return 0;
    return pwrite(anchor->fd, nothing, sizeof nothing, 0) == sizeof nothing ? 0 : ENOSPC;
}

int anchor_open(struct anchor *anchor, const char *path, bool is_needed)
{
    char name[4096];
    int error;

    *anchor = (struct anchor){.fd = -1};
    if (snprintf(name, sizeof name, "%s/anchor", path) >= (int)sizeof name)
        return ENAMETOOLONG;
    anchor->fd = open(name, O_RDWR | O_CLOEXEC | (is_needed ? O_CREAT : 0), 0600);
    if (anchor->fd < 0)
        return errno == ENOENT ? 0 : errno;
    error = flock(anchor->fd, LOCK_EX) == 0 ? anchor_use(anchor, path) : errno;
    if (error == 0 && is_needed)
        error = anchor_make_room(anchor);
    if (error == 0 && !is_needed && unlink(name) != 0)
        error = errno;
    if (error != 0 || !is_needed) {
        close(anchor->fd);
        anchor->fd = -1;
    }
    return error;
}

/* -------------------------------------------------------------------------------------------------------------- setting */

/* The newest root, and a reader that holds its pages. Nobody commits meanwhile. */
static int anchor_look(MDB_env *env, struct slot *slot, MDB_txn **pin)
{
    MDB_txn *writer;
    MDB_stat stat;
    int fd, error = mdb_txn_begin(env, NULL, 0, &writer);

    if (error != 0)
        return error;
    error = mdb_txn_begin(env, NULL, MDB_RDONLY, pin);
    if (error == 0) {
        size_t number = mdb_txn_id(*pin) & 1;

        *slot = (struct slot){.page = 0};
        mdb_env_stat(env, &stat);
        mdb_env_get_fd(env, &fd);
        slot->page = stat.ms_psize;
        if (pread(fd, &slot->meta, sizeof slot->meta, (off_t)(number * stat.ms_psize)) != sizeof slot->meta ||
            slot->meta.magic != MDB_MAGIC || slot->meta.version != 1 || slot->meta.number != number ||
            slot->meta.transaction != mdb_txn_id(*pin))
            error = MDB_VERSION_MISMATCH;
        if (error != 0)
            mdb_txn_abort(*pin);
    }
    mdb_txn_abort(writer);
    return error;
}

/* Another process may have set a newer one. The file's lock is held. */
static int anchor_keep(const struct anchor *anchor, struct slot *slot)
{
    struct slot kept;

    if (!slot_read(anchor->fd, &kept))
        return slot_write(anchor->fd, slot, 1);
    return kept.meta.transaction < slot->meta.transaction ? slot_write(anchor->fd, slot, kept.count + 1) : 0;
}

int anchor_set(struct anchor *anchor, MDB_env *env)
{
    struct slot slot;
    MDB_txn *pin;
    int error = anchor_look(env, &slot, &pin);

    if (error != 0)
        return error;
    if (anchor->pin != NULL && slot.meta.transaction == anchor->transaction) {
        mdb_txn_abort(pin);
        return 0; /* nothing has changed */
    }
    error = mdb_env_sync(env, 1);
    if (error == 0) {
        flock(anchor->fd, LOCK_EX);
        error = anchor_keep(anchor, &slot);
        flock(anchor->fd, LOCK_UN);
    }
    if (error != 0) {
        mdb_txn_abort(pin);
        return error;
    }
    if (anchor->pin != NULL)
        mdb_txn_abort(anchor->pin);
    anchor->pin = pin;
    anchor->transaction = slot.meta.transaction;
    return 0;
}

uint64_t anchor_holds(const struct anchor *anchor, MDB_env *env)
{
    MDB_envinfo info;
    MDB_stat stat;

    mdb_env_info(env, &info);
    mdb_env_stat(env, &stat);
    return (info.me_last_txnid - anchor->transaction) * PAGES * stat.ms_psize;
}

void anchor_close(struct anchor *anchor)
{
    if (anchor->pin != NULL)
        mdb_txn_abort(anchor->pin);
    if (anchor->fd >= 0)
        close(anchor->fd);
    *anchor = (struct anchor){.fd = -1};
}
