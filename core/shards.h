/* shards.h - a pipeline file that is several pipelines: one for each of its shards that are this process's.
 *
 * A shard is what one session of a broker brings, in order; to whom it belongs follows from numbers alone, so that no process needs
 * to ask another. All functions: [control]. */
#ifndef FMS_SHARDS_H
#define FMS_SHARDS_H

#include "config.h"
#include "fms_plugin.h"

#define SHARDS_MAX 4096

/* For the options of [pipeline], in struct S, which has fields of these names. */
/* clang-format off */
#define SHARDS_OPTIONS(S)                                                                                          \
    FMS_OPT_INTEGER(S, shards, "0", 0, SHARDS_MAX,                                                                 \
                    "parts of the fleet, each with a pipeline of its own, in which ${shard} is its number, from 0; 0:" \
                    " the file is one pipeline, and has no ${shard}"),                                             \
    FMS_OPT_INTEGER(S, replicas, "1", 1, SHARDS_MAX,                                                               \
                    "processes that the shards are dealt out to: shard s is that of replica s mod replicas"),      \
    FMS_OPT_STRING(S, replica, "0",                                                                                \
                   "which of them this process is, from 0; or a host name that ends in that, such as bridge-2"),   \
    FMS_OPT_INTEGER(S, replicas_next, "0", 0, SHARDS_MAX,                                                          \
                    "how many replicas there will be: shards that another one will have are given up, and taken by nobody" \
                    " until replicas says so, too; 0: no change is planned")
/* clang-format on */

/* What a file says of its shards. */
struct shards {
    int64_t shards; /* 0: it is one pipeline */
    int64_t replicas, replicas_next;
    const char *replica; /* NULL once it is read */
    int64_t ordinal;     /* of the replica */
};

/* 0, -EINVAL (logged) or -ENOMEM. `has_run`: this process does, and a replica that is too many by now is no mistake, but has no shards any
 * more; unless `was`, what the file said before (NULL: that is not known), has another replica. */
int shards_read(struct shards *shards, const struct config *config, bool has_run, const struct config *was);

/* Whether shard number `shard` is this process's. */
bool shards_own(const struct shards *shards, int64_t shard);

/* A copy of the file in which ${shard} stands for that number, also in the pipeline's name. NULL: no memory. */
struct config *shards_config(const struct config *config, int64_t shard);

/* Whether the text has a ${shard}, and so is another one in each shard. */
bool shards_differ(const char *text);

#endif
