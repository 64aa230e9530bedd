/* spool_store.c - see spool_store.h.
 *
 * LMDB must not open an environment twice in a process, so the environments of a process are in a list, by device and
 * inode of their directory, and both faces share one. MDB_WRITEMAP is never used: a full disk would be SIGBUS.
 *
 * A transaction needs free pages even to remove something, so the writer leaves the disk some space: else a full disk
 * could never be emptied again. */
#include "spool_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <lmdb.h>

#include "spool_anchor.h"
#include "spool_pack.h"
#include "spool_record.h"

#define SLACK      (INT64_C(64) << 20) /* of the map beyond twice max_size: pages are never quite full */
#define SPARED_MAX (UINT64_C(4) << 20) /* of the disk; at most an eighth of it */
#define HELD_MAX                                                                                                       \
    (UINT64_C(32) << 20) /* of the file, for a power cut, before it is written to the disk early; at most max_size */
#define PACKS_LEAST 16   /* for which a store has room */
#define LEASE       (UINT64_C(1) << 20) /* numbers: each takes a write to the disk that waits */

#define STATE_SIZE offsetof(struct store_state, count) /* of what is kept of it */

struct environment {
    struct environment *next;
    dev_t device;
    ino_t inode;
    unsigned users;
    MDB_env *env;
    MDB_dbi entries, meta;
    pthread_mutex_t anchor_lock; /* taken before a transaction begins */
    struct anchor anchor;        /* of a store that is not written to the disk at each commit */
    _Atomic uint64_t removed;    /* bytes since it was set, which it holds */
};

struct store {
    struct environment *shared;
    char *path;
    uint64_t max_size;
    bool keeps_identities;
    int lock_fd, watch_fd;
    struct name name;
    uint64_t next; /* the writer's: the next number, ... */
    uint64_t
        leased; /* ... and the first that it must not give yet, where a power cut takes back what is not on the disk */
    uint64_t fresh;
    MDB_txn *read; /* NULL: none yet; reset between reads */
    MDB_cursor *cursor;
    uint64_t read_from;
    bool has_begun;
    struct pack pack; /* what is being read */
};

static struct environment *environments;
static pthread_mutex_t environments_lock = PTHREAD_MUTEX_INITIALIZER;

/* LMDB's codes are below -30000, or an errno. */
static int store_code(int code)
{
    if (code == EAGAIN)
        return -EADDRINUSE; /* somebody has the lock that LMDB keeps for the process of our id */
    return code > 0 ? -code : code;
}

const char *store_error(int error)
{
    if (error == MDB_INVALID)
        return "its data.mdb is none, or a system of another word size or byte order wrote it, and only such a one "
               "reads it";
    return error < -30000 ? mdb_strerror(error) : strerror(-error);
}

/* ------------------------------------------------------------------------------------------------------ environments */

static int environment_open_tables(struct environment *shared)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(shared->env, NULL, 0, &txn);

    if (error != 0)
        return error;
    error = mdb_dbi_open(txn, "entries", MDB_CREATE, &shared->entries);
    if (error == 0)
        error = mdb_dbi_open(txn, "meta", MDB_CREATE, &shared->meta);
    if (error == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return error;
}

static int environment_write(struct environment *shared)
{
    uint64_t removed;
    int error;

    if (shared->anchor.fd < 0)
        return mdb_env_sync(shared->env, 1);
    pthread_mutex_lock(&shared->anchor_lock);
    removed = shared->removed;
    error = anchor_set(&shared->anchor, shared->env);
    if (error == 0)
        shared->removed -= removed;
    pthread_mutex_unlock(&shared->anchor_lock);
    return error;
}

/* LMDB takes the lock of our process's id with its first reader: now, so that whoever comes from another container is refused from
 * here on, and does not get that lock first. */
static int environment_claim(const struct environment *shared)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(shared->env, NULL, MDB_RDONLY, &txn);

    if (error == 0)
        mdb_txn_abort(txn);
    return error;
}

static int environment_open(struct environment *shared, const char *path, enum store_sync sync, int64_t max_size)
{
    unsigned flags = MDB_NOTLS | (sync == STORE_ALWAYS ? 0 : MDB_NOSYNC);
    int dead, error = mdb_env_set_maxdbs(shared->env, 2);

    if (error == 0)
        error = mdb_env_set_mapsize(shared->env, (size_t)(2 * max_size + SLACK));
    if (error == 0)
        error = mdb_env_open(shared->env, path, flags, 0600);
    if (error == 0)
        error = environment_claim(shared);
    if (error == 0)
        error = environment_write(shared);
    if (error == 0)
        error = mdb_reader_check(shared->env, &dead); /* a reader that was killed would keep its pages for ever */
    return error == 0 ? environment_open_tables(shared) : error;
}

static void environment_close(struct environment *shared)
{
    anchor_close(&shared->anchor);
    mdb_env_close(shared->env);
    pthread_mutex_destroy(&shared->anchor_lock);
}

static int environment_start(struct environment *shared, const char *path, enum store_sync sync, int64_t max_size)
{
    int error = mdb_env_create(&shared->env);

    if (error != 0)
        return error;
    error = anchor_open(&shared->anchor, path, sync != STORE_ALWAYS);
    if (error != 0) {
        mdb_env_close(shared->env);
        return error;
    }
    pthread_mutex_init(&shared->anchor_lock, NULL);
    error = environment_open(shared, path, sync, max_size);
    if (error != 0)
        environment_close(shared);
    return error;
}

/* The environment of that directory. */
static int environment_get(const char *path, enum store_sync sync, int64_t max_size, struct environment **got)
{
    struct environment *shared;
    struct stat stat_of;
    int error = 0;

    if (stat(path, &stat_of) != 0)
        return errno;
    pthread_mutex_lock(&environments_lock);
    for (shared = environments; shared != NULL; shared = shared->next) {
        if (shared->device == stat_of.st_dev && shared->inode == stat_of.st_ino)
            break;
    }
    if (shared == NULL) {
        shared = calloc(1, sizeof *shared);
        error = shared != NULL ? environment_start(shared, path, sync, max_size) : ENOMEM;
        if (error == 0) {
            shared->device = stat_of.st_dev;
            shared->inode = stat_of.st_ino;
            shared->next = environments;
            environments = shared;
        } else {
            free(shared);
            shared = NULL;
        }
    }
    if (shared != NULL)
        shared->users++;
    *got = shared;
    pthread_mutex_unlock(&environments_lock);
    return error;
}

static void environment_release(struct environment *shared)
{
    struct environment **link = &environments;

    pthread_mutex_lock(&environments_lock);
    if (--shared->users == 0) {
        while (*link != shared)
            link = &(*link)->next;
        *link = shared->next;
        environment_write(shared);
        environment_close(shared);
        free(shared);
    }
    pthread_mutex_unlock(&environments_lock);
}

/* -------------------------------------------------------------------------------------------------------------- state */

static MDB_val meta_key(const char *name)
{
    return (MDB_val){strlen(name), (void *)(uintptr_t)name};
}

/* Zeros, where there is none of that name. */
static int meta_get(const struct store *store, MDB_txn *txn, const char *name, void *to, size_t size)
{
    MDB_val key = meta_key(name), value;
    int error = mdb_get(txn, store->shared->meta, &key, &value);

    memset(to, 0, size);
    if (error == MDB_NOTFOUND)
        return 0;
    if (error == 0 && value.mv_size != size)
        return MDB_CORRUPTED;
    if (error == 0)
        memcpy(to, value.mv_data, size);
    return error;
}

static int meta_put(const struct store *store, MDB_txn *txn, const char *name, const void *from, size_t size)
{
    MDB_val key = meta_key(name), value = {size, (void *)(uintptr_t)from};

    return mdb_put(txn, store->shared->meta, &key, &value, 0);
}

/* All but the count, which mostly LMDB knows; see state_count. */
static int state_get(const struct store *store, MDB_txn *txn, struct store_state *state)
{
    state->count = 0;
    return meta_get(store, txn, "state", state, STATE_SIZE);
}

static int state_put(const struct store *store, MDB_txn *txn, const struct store_state *state)
{
    return meta_put(store, txn, "state", state, STATE_SIZE);
}

/* How many entries more there are than values that hold them. */
static int packed_get(const struct store *store, MDB_txn *txn, uint64_t *packed)
{
    return meta_get(store, txn, "packed", packed, sizeof *packed);
}

static int packed_add(const struct store *store, MDB_txn *txn, int64_t more)
{
    uint64_t packed;
    int error = more != 0 ? packed_get(store, txn, &packed) : 0;

    if (error != 0 || more == 0)
        return error;
    packed += (uint64_t)more;
    return meta_put(store, txn, "packed", &packed, sizeof packed);
}

static int state_count(const struct store *store, MDB_txn *txn, struct store_state *state)
{
    uint64_t packed = 0;
    MDB_stat stat;
    int error = mdb_stat(txn, store->shared->entries, &stat);

    if (error == 0)
        error = packed_get(store, txn, &packed);
    if (error == 0)
        state->count = stat.ms_entries + packed;
    return error;
}

/* Keys are big-endian, so that they sort as numbers do. */
struct entry_key {
    unsigned char bytes[8];
};

static MDB_val entry_key(uint64_t number, struct entry_key *key)
{
    for (int i = 0; i < 8; i++)
        key->bytes[i] = (unsigned char)(number >> 8 * (7 - i));
    return (MDB_val){sizeof key->bytes, key->bytes};
}

static uint64_t entry_number(MDB_val key)
{
    uint64_t number = 0;

    for (size_t i = 0; i < key.mv_size && i < 8; i++)
        number = number << 8 | ((const unsigned char *)key.mv_data)[i];
    return number;
}

/* ------------------------------------------------------------------------------------------------------ name, numbers */

static int name_get(const struct store *store, MDB_txn *txn, struct name *name)
{
    return meta_get(store, txn, "name", name, sizeof *name);
}

static int name_put(const struct store *store, MDB_txn *txn, const struct name *name)
{
    return meta_put(store, txn, "name", name, sizeof *name);
}

/* On the disk, whatever `sync` says. */
static int commit_for_good(const struct store *store, MDB_txn *txn)
{
    int error = mdb_txn_commit(txn);

    return error == 0 && store->shared->anchor.fd >= 0 ? environment_write(store->shared) : error;
}

/* Whether a power cut may have taken entries back, and their numbers: the machine has started since the last writer, which did not end well. */
static bool numbers_are_doubtful(const struct name *name, const struct store_state *state)
{
    return name->lease > state->next && (name->boot == 0 || name->boot != anchor_boot());
}

/* Goes on behind all numbers that may have been given. */
static int numbers_begin(struct store *store, MDB_txn *txn, struct store_state *state)
{
    if (state->first == state->next)
        state->first = store->name.lease;
    state->next = store->name.lease;
    return state_put(store, txn, state);
}

/* Names the store, where it has no name or has become a copy. 0 or LMDB's error. */
static int store_begin(struct store *store, enum store_face face)
{
    uint64_t place = name_place(store->path);
    struct name *name = &store->name;
    bool is_named = false, is_doubtful = false;
    struct store_state state;
    MDB_txn *txn;
    int error = mdb_txn_begin(store->shared->env, NULL, 0, &txn); /* NOLINT(clang-analyzer-core.NullDereference) */

    if (error != 0)
        return error;
    error = state_get(store, txn, &state);
    if (error == 0)
        error = name_get(store, txn, name);
    if (error == 0 && (name->now.id[0] | name->now.id[1]) == 0)
        error = name_give(name, 0, place);
    else if (error == 0 && name->place != place)
        error = name_give(name, state.next, place);
    else
        is_named = true;
    if (error == 0 && !is_named)
        error = name_put(store, txn, name);
    is_doubtful = numbers_are_doubtful(name, &state);
    store->fresh = is_doubtful ? name->lease : state.next;
    is_doubtful = is_doubtful && face == STORE_WRITER;
    if (error == 0 && is_doubtful)
        error = numbers_begin(store, txn, &state);
    store->next = state.next;
    if (error == 0 && (!is_named || is_doubtful))
        return commit_for_good(store, txn);
    mdb_txn_abort(txn);
    return error;
}

/* From now on numbers below that are given. */
static int store_lease(struct store *store, uint64_t below)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(store->shared->env, NULL, 0, &txn);

    if (error != 0)
        return error;
    error = name_get(store, txn, &store->name);
    store->name.lease = below;
    store->name.boot = anchor_boot();
    if (error == 0)
        error = name_put(store, txn, &store->name);
    if (error == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return error;
}

/* Before so many numbers are given, it must be on the disk that they may have been. */
static int numbers_reserve(struct store *store, size_t count)
{
    uint64_t below = store->next + LEASE;
    int error;

    if (store->shared->anchor.fd < 0 || store->leased >= store->next + count)
        return 0;
    error = store_lease(store, below);
    if (error == 0)
        error = environment_write(store->shared);
    if (error == 0)
        store->leased = below;
    return error;
}

const struct name *store_name(const struct store *store)
{
    return &store->name;
}

uint64_t store_fresh(const struct store *store)
{
    return store->fresh;
}

/* -------------------------------------------------------------------------------------------------------- open, close */

static int face_lock(const char *path, enum store_face face)
{
    static const char *const names[] = {"writer.lock", "reader.lock"};
    char name[4096];
    int fd;

    if (snprintf(name, sizeof name, "%s/%s", path, names[face]) >= (int)sizeof name)
        return -ENAMETOOLONG;
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    close(fd);
    return -EWOULDBLOCK;
}

static int watch_open(const char *path)
{
    char name[4096];
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (fd < 0)
        return -errno;
    snprintf(name, sizeof name, "%s/data.mdb", path);
    if (inotify_add_watch(fd, name, IN_MODIFY) >= 0)
        return fd;
    close(fd);
    return -errno;
}

int store_open(struct store **made, const char *path, enum store_face face, enum store_sync sync, int64_t max_size)
{
    struct store *store = calloc(1, sizeof *store);
    int error = 0;

    if (store == NULL)
        return -ENOMEM;
    store->lock_fd = store->watch_fd = -1;
    store->max_size = (uint64_t)max_size;
    store->path = strdup(path);
    if (store->path == NULL)
        error = -ENOMEM;
    if (error == 0 && face != STORE_VISITOR && mkdir(path, 0700) != 0 && errno != EEXIST)
        error = -errno;
    if (error == 0 && face != STORE_VISITOR)
        error = store->lock_fd = face_lock(path, face);
    if (error >= 0)
        error = store_code(environment_get(path, sync, max_size, &store->shared));
    if (error == 0 && face != STORE_VISITOR)
        error = store_code(store_begin(store, face));
    if (error == 0 && face != STORE_VISITOR)
        error = store->watch_fd = watch_open(path);
    if (error < 0) {
        store_close(store);
        return error;
    }
    *made = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store->cursor != NULL)
        mdb_cursor_close(store->cursor);
    if (store->read != NULL)
        mdb_txn_abort(store->read);
    if (store->watch_fd >= 0)
        close(store->watch_fd);
    if (store->leased > 0)
        store_lease(store, store->next); /* at worst numbers are left out */
    if (store->shared != NULL)
        environment_release(store->shared);
    if (store->lock_fd >= 0)
        close(store->lock_fd); /* gives the lock back */
    free(store->path);
    free(store);
}

/* ------------------------------------------------------------------------------------------------------------- remove */

/* Removes what is below the number, from the front: a pack only as a whole, what is below in the last one is only not there any more. */
static int entries_remove(const struct store *store, MDB_txn *txn, struct store_state *state, uint64_t below)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int64_t packed = 0;
    int error = mdb_cursor_open(txn, store->shared->entries, &cursor);

    if (error != 0)
        return error;
    while ((error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0 && entry_number(key) < below) {
        struct pack pack;
        size_t count, bytes;

        pack_open(&pack, entry_number(key), fms_bytes_of(value.mv_data, value.mv_size));
        pack_skip(&pack, state->first, &count);
        bytes = pack_skip(&pack, below, &count) + count * STORE_ENTRY_EXTRA;
        state->bytes -= bytes < state->bytes ? bytes : state->bytes;
        packed -= (int64_t)count;
        if (pack.left > 0)
            break;
        packed++;
        store->shared->removed += value.mv_size;
        error = mdb_cursor_del(cursor, 0);
        if (error != 0)
            break;
    }
    mdb_cursor_close(cursor);
    if (error == 0 || error == MDB_NOTFOUND)
        error = packed_add(store, txn, packed);
    if (error == 0)
        state->first = below;
    return error;
}

int store_remove(struct store *store, uint64_t below)
{
    struct store_state state;
    MDB_txn *txn;
    int error = mdb_txn_begin(store->shared->env, NULL, 0, &txn);

    if (error != 0)
        return store_code(error);
    error = state_get(store, txn, &state);
    if (error == 0 && below > state.first)
        error = entries_remove(store, txn, &state, below);
    if (error == 0)
        error = state_put(store, txn, &state);
    if (error != 0) {
        mdb_txn_abort(txn);
        return store_code(error);
    }
    return store_code(mdb_txn_commit(txn));
}

/* ------------------------------------------------------------------------------------------------------------- append */

/* Records in a row that become one value. */
struct run {
    const struct fms_record *const *records;
    const uint32_t *eras; /* NULL: none has one */
    size_t count, size;   /* of them; bytes of the pack ... */
    size_t most;          /* ... at most */
    size_t sizes[PACK_COUNT];
};

static uint32_t run_era(const struct run *run, size_t i)
{
    return run->eras != NULL ? run->eras[i] : 0;
}

static const struct fms_identity *kept_identity(const struct store *store, const struct fms_record *record)
{
    return store->keeps_identities ? spool_record_identity(record) : NULL;
}

/* What is removed of a pack leaves no room before all of it is: so a small store has small ones. */
static size_t pack_most(const struct store *store)
{
    return store->max_size / PACKS_LEAST < PACK_MOST ? (size_t)(store->max_size / PACKS_LEAST) : PACK_MOST;
}

/* Whether an entry of that size may join the run. */
static bool run_has_room(const struct run *run, size_t size)
{
    return run->count < PACK_COUNT && run->size + PACK_EACH + size <= run->most;
}

static void run_begin(struct run *run, const struct fms_record *const *records, const uint32_t *eras, size_t most)
{
    run->records = records;
    run->eras = eras;
    run->count = 0;
    run->size = PACK_HEAD;
    run->most = most;
}

static void run_add(struct run *run, struct store_state *state, size_t size)
{
    run->sizes[run->count++] = size;
    run->size += PACK_EACH + size;
    state->bytes += size + STORE_ENTRY_EXTRA;
}

static void run_write(const struct store *store, const struct run *run, unsigned char *to)
{
    if (run->count > 1)
        to = pack_begin(to, run->count);
    for (size_t i = 0; i < run->count; i++) {
        if (run->count > 1)
            to = pack_add(to, run->sizes[i]);
        spool_record_write(run->records[i], run_era(run, i), kept_identity(store, run->records[i]), to);
        to += run->sizes[i];
    }
}

/* Stores the run, if there is one, and begins the next behind it. */
static int run_end(const struct store *store, MDB_txn *txn, struct store_state *state, struct run *run)
{
    struct entry_key bytes;
    MDB_val key = entry_key(state->next, &bytes), value = {run->count == 1 ? run->sizes[0] : run->size, NULL};
    int error;

    if (run->count == 0)
        return 0;
    error = mdb_put(txn, store->shared->entries, &key, &value, MDB_APPEND | MDB_RESERVE);
    if (error != 0)
        return error;
    run_write(store, run, value.mv_data);
    state->next += run->count;
    error = packed_add(store, txn, (int64_t)run->count - 1);
    run_begin(run, run->records + run->count, run->eras != NULL ? run->eras + run->count : NULL, run->most);
    return error;
}

/* Removes the first one. */
static int entries_drop_first(const struct store *store, MDB_txn *txn, struct store_state *state)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t first;
    int error = mdb_cursor_open(txn, store->shared->entries, &cursor);

    if (error != 0)
        return error;
    error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    mdb_cursor_close(cursor);
    if (error != 0)
        return error;
    first = entry_number(key) > state->first ? entry_number(key) : state->first;
    return entries_remove(store, txn, state, first + 1);
}

/* Makes room for so many bytes. */
static int entries_drop(const struct store *store, MDB_txn *txn, struct store_state *state, uint64_t needed,
                        uint64_t *dropped)
{
    int error = 0;

    while (error == 0 && state->bytes + needed > store->max_size && state->first < state->next) {
        error = entries_drop_first(store, txn, state);
        ++*dropped;
    }
    return error;
}

/* As many records as fit. */
static int entries_append(const struct store *store, MDB_txn *txn, struct store_state *state,
                          const struct fms_record *const *records, const uint32_t *eras, size_t count, bool drop_oldest,
                          size_t *taken, uint64_t *dropped)
{
    struct run run;
    int error = 0;

    run_begin(&run, records, eras, pack_most(store));
    for (; *taken < count && error == 0; ++*taken) {
        size_t size = spool_record_size(records[*taken], run_era(&run, run.count),
                                        kept_identity(store, records[*taken]));
        bool has_room = state->bytes + size + STORE_ENTRY_EXTRA <= store->max_size;

        if (!has_room && !drop_oldest)
            break;
        if (!has_room || !run_has_room(&run, size))
            error = run_end(store, txn, state, &run);
        if (error == 0 && !has_room)
            error = entries_drop(store, txn, state, size + STORE_ENTRY_EXTRA, dropped);
        if (error == 0)
            run_add(&run, state, size);
    }
    return error == 0 ? run_end(store, txn, state, &run) : error;
}

/* Bytes of the file that are held for a power cut. */
static uint64_t file_held(const struct store *store)
{
    const struct environment *shared = store->shared;

    return shared->anchor.fd >= 0 ? anchor_holds(&shared->anchor, shared->env) + shared->removed : 0;
}

/* Bytes of the file that hold nothing: about what can be stored without its growing. */
static uint64_t file_slack(const struct store *store, MDB_txn *txn)
{
    MDB_dbi tables[] = {0 /* LMDB's own, of free pages */, store->shared->entries, store->shared->meta};
    uint64_t used = 2, all, held = file_held(store);
    MDB_envinfo info;
    MDB_stat stat;

    mdb_env_info(store->shared->env, &info);
    all = info.me_last_pgno + 1;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        mdb_stat(txn, tables[i], &stat);
        used += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    all = all > used ? (all - used) * stat.ms_psize : 0;
    return all > held ? all - held : 0;
}

/* What is left of it, and what of that is not for records. False: it does not say. */
static bool disk_look(const struct store *store, uint64_t *left, uint64_t *spared)
{
    struct statvfs disk;

    if (statvfs(store->path, &disk) != 0)
        return false;
    *left = (uint64_t)disk.f_bavail * disk.f_frsize;
    *spared = (uint64_t)disk.f_blocks * disk.f_frsize / 8;
    if (*spared > SPARED_MAX)
        *spared = SPARED_MAX;
    return true;
}

uint64_t store_disk_room(const struct store *store)
{
    uint64_t left, spared;

    if (!disk_look(store, &left, &spared))
        return UINT64_MAX;
    return left > spared ? left - spared : 0;
}

/* Whether there is room for these and some more, on the disk or in the file. */
static bool disk_has_room(const struct store *store, MDB_txn *txn, const struct fms_record *const *records,
                          size_t count)
{
    uint64_t needed, left;

    if (!disk_look(store, &left, &needed))
        return true; /* then the write will say */
    if (store->keeps_identities)
        needed += count * SPOOL_IDENTITY_MOST;
    for (size_t i = 0; i < count; i++)
        needed += spool_record_size(records[i], UINT32_MAX, NULL) + STORE_ENTRY_EXTRA;
    return left >= needed || left + file_slack(store, txn) >= needed;
}

int store_append(struct store *store, const struct fms_record *const *records, const uint32_t *eras, size_t count,
                 bool drop_oldest, size_t *taken, uint64_t *dropped)
{
    struct store_state state;
    MDB_txn *txn;
    int error;

    *taken = 0;
    *dropped = 0;
    error = numbers_reserve(store, count);
    if (error == 0)
        error = mdb_txn_begin(store->shared->env, NULL, 0, &txn);
    if (error != 0)
        return store_code(error);
    error = state_get(store, txn, &state);
    if (error == 0 && !disk_has_room(store, txn, records, count))
        error = ENOSPC;
    if (error == 0)
        error = entries_append(store, txn, &state, records, eras, count, drop_oldest, taken, dropped);
    if (error == 0 && *taken > 0)
        error = state_put(store, txn, &state);
    if (error == 0 && *taken > 0) {
        error = mdb_txn_commit(txn);
    } else {
        mdb_txn_abort(txn);
    }
    if (error != 0)
        *taken = 0;
    else if (*taken > 0)
        store->next = state.next;
    return store_code(error);
}

void store_keep_identities(struct store *store)
{
    store->keeps_identities = true;
}

/* --------------------------------------------------------------------------------------------------------------- read */

int store_read_begin(struct store *store, uint64_t from)
{
    struct store_state state;
    int error = store->read == NULL ? mdb_txn_begin(store->shared->env, NULL, MDB_RDONLY, &store->read)
                                    : mdb_txn_renew(store->read);

    if (error == 0)
        error = store->cursor == NULL ? mdb_cursor_open(store->read, store->shared->entries, &store->cursor)
                                      : mdb_cursor_renew(store->read, store->cursor);
    if (error == 0)
        error = state_get(store, store->read, &state);
    store->read_from = error == 0 && state.first > from ? state.first
                                                        : from; /* a pack may begin with what is removed */
    store->has_begun = false;
    store->pack.left = 0;
    return store_code(error);
}

/* Opens the value that is asked for; MDB_NOTFOUND: none is there. */
static int pack_get(struct store *store, MDB_cursor_op op, uint64_t from)
{
    struct entry_key bytes;
    MDB_val key = entry_key(from, &bytes), value;
    int error = mdb_cursor_get(store->cursor, &key, &value, op);

    if (error == 0 && key.mv_size != sizeof bytes.bytes)
        return MDB_CORRUPTED;
    if (error == 0)
        pack_open(&store->pack, entry_number(key), fms_bytes_of(value.mv_data, value.mv_size));
    return error;
}

/* Opens the value that has that number's entry, or the next one, and goes there. */
static int pack_seek(struct store *store, uint64_t from)
{
    int error = pack_get(store, MDB_SET_RANGE, from);
    bool is_last = error == MDB_NOTFOUND;
    size_t count;

    if (!is_last && (error != 0 || store->pack.number == from))
        return error;
    error = pack_get(store, is_last ? MDB_LAST : MDB_PREV, from);
    if (error == 0)
        pack_skip(&store->pack, from, &count);
    if (error == 0 && store->pack.left > 0)
        return 0;
    if (is_last)
        return error != 0 ? error : MDB_NOTFOUND;
    return error == 0 ? pack_get(store, MDB_NEXT, from) : pack_get(store, MDB_SET_RANGE, from);
}

int store_next(struct store *store, uint64_t *number, struct fms_bytes *entry)
{
    while (!pack_next(&store->pack, number, entry)) {
        int error = store->has_begun ? pack_get(store, MDB_NEXT, 0) : pack_seek(store, store->read_from);

        store->has_begun = true;
        if (error == MDB_NOTFOUND)
            return -ENOENT;
        if (error != 0)
            return store_code(error);
    }
    return store->pack.is_damaged ? STORE_DAMAGED : 0;
}

void store_read_end(struct store *store)
{
    mdb_txn_reset(store->read);
}

int store_state(struct store *store, struct store_state *state)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(store->shared->env, NULL, MDB_RDONLY, &txn);

    if (error != 0)
        return store_code(error);
    error = state_get(store, txn, state);
    if (error == 0)
        error = state_count(store, txn, state);
    mdb_txn_abort(txn);
    return store_code(error);
}

/* --------------------------------------------------------------------------------------------------------------- note */

/* How many bytes there are; LMDB's error counts as none, for the note is no entry. */
static size_t note_get(const struct store *store, MDB_txn *txn, void *note)
{
    MDB_val key = meta_key("eras"), value;

    if (mdb_get(txn, store->shared->meta, &key, &value) != 0 || value.mv_size > STORE_NOTE)
        return 0;
    memcpy(note, value.mv_data, value.mv_size);
    return value.mv_size;
}

size_t store_note_read(struct store *store, void *note)
{
    return note_get(store, store->read, note);
}

int store_note_change(struct store *store,
                      size_t (*change)(void *user, void *note, size_t size, const struct store_state *state),
                      void *user)
{
    char note[STORE_NOTE];
    MDB_val key = meta_key("eras"), value = {0, note};
    struct store_state state;
    MDB_txn *txn;
    int error = mdb_txn_begin(store->shared->env, NULL, 0, &txn);

    if (error != 0)
        return store_code(error);
    error = state_get(store, txn, &state);
    if (error == 0)
        error = state_count(store, txn, &state);
    if (error == 0) {
        value.mv_size = change(user, note, note_get(store, txn, note), &state);
        error = mdb_put(txn, store->shared->meta, &key, &value, 0);
    }
    if (error != 0) {
        mdb_txn_abort(txn);
        return store_code(error);
    }
    return store_code(commit_for_good(store, txn));
}

int store_flush(struct store *store)
{
    return store_code(environment_write(store->shared));
}

bool store_holds_much(const struct store *store)
{
    return file_held(store) > (store->max_size < HELD_MAX ? store->max_size : HELD_MAX);
}

int store_watch(const struct store *store)
{
    return store->watch_fd;
}

bool store_unwatch(const struct store *store)
{
    char events[4096];
    bool was_readable = false;

    while (read(store->watch_fd, events, sizeof events) > 0)
        was_readable = true;
    return was_readable;
}
