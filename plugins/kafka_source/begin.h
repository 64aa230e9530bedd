/* begin.h - where a consumer begins in the partitions that it was assigned.
 *
 * The decision that shapes it: librdkafka never chooses an offset (auto.offset.reset = error). Where the group has none, or
 * has one that is not in the log, it is found here, committed, and told. `start` counts once in the life of a group: for the
 * partitions there are when it is assigned some for the first time. What appears later has no past that anybody wanted to
 * skip, and begins at its beginning.
 *
 * What the group knew then stands in the metadata of each of its committed offsets, for members that start together, or
 * later: when it was assigned partitions first, how many the topic had, and a print of all topics that were there. What no
 * note vouches for is later: a record that is read twice costs less than one that is skipped.
 *
 * There, too, stands the word by which the group's numbers of this log are known (origin.h): it is there before the first of them is given, and
 * gone with the offset, when the topic is deleted or somebody sets the group back. */
#ifndef KAFKA_SOURCE_BEGIN_H
#define KAFKA_SOURCE_BEGIN_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include "fms_plugin.h"

enum begin_kind { BEGIN_LATEST, BEGIN_EARLIEST, BEGIN_ERROR, BEGIN_TIME, BEGIN_AGO };

struct begin {
    enum begin_kind kind;
    int64_t ms; /* BEGIN_TIME: since 1970 UTC. BEGIN_AGO: before the group's first assignment */
};

/* Reads the option `start`: latest, earliest, error, 2026-11-28T10:00:00Z (or +01:00), -1h. 0 or -EINVAL. */
int begin_read(const char *text, struct begin *begin);

/* How the offset of a place was found. */
enum place_found {
    PLACE_NOT,       /* it was not: see `error` of the search, or of the place; to be tried again */
    PLACE_COMMITTED, /* the group's */
    PLACE_START,     /* as `start` says; it is committed */
    PLACE_LATER,     /* the partition was not there at the group's first assignment: its beginning; it is committed */
    PLACE_KEPT,      /* out of range no more: where it was */
    PLACE_GONE,      /* it was below the log's start: that */
    PLACE_ABOVE,     /* it was above the log's end: the log's start */
    PLACE_REFUSED,   /* start = error, and there is no offset, or it is out of range */
};

/* A partition for which an offset is searched. */
struct place {
    char *topic; /* the search's */
    int32_t id;
    uint32_t serial; /* the caller's word */
    bool is_suspect; /* the broker says that `offset` is out of range */
    int64_t offset;  /* in: the suspect one, else RD_KAFKA_OFFSET_INVALID; out: where to begin */
    int64_t
        was; /* PLACE_GONE, PLACE_ABOVE, PLACE_REFUSED: the offset that is out of range, or RD_KAFKA_OFFSET_INVALID */
    int64_t low, end; /* of the log, where they were asked for */
    char *note;       /* metadata for each commit of this partition; NULL: none */
    bool is_renamed;  /* the group's offset had no word for the log's numbers, and is committed again, with one */
    enum place_found found;
    rd_kafka_resp_err_t error; /* why it was not found */
};

/* A search, which blocks and therefore runs on a thread of its own. Without places it only looks which topics there are, for
 * the searches to come: what is not seen by then is later. With `is_of_ends` it only asks where the logs end. */
struct search {
    const struct fms_host *host;
    rd_kafka_t *rk;
    const struct fms_list *topics; /* as subscribed to */
    struct begin start;
    const rd_kafka_topic_partition_list_t *seen; /* in: the topics of that look, each with its number of partitions */
    uint64_t seen_print;                         /* of that look; `seen` may have been changed since */
    bool is_of_ends; /* in: each place's `end`, -1 where it is not known, and nothing else */
    bool with_words; /* in: each place's note is to have a word */

    rd_kafka_topic_partition_list_t *looked; /* out, without places: what was seen */
    char *cluster;                           /* out, with `looked`: its id; NULL: the brokers do not tell */
    uint64_t looked_print;                   /* stands for all that was seen: topics and their numbers of partitions */
    struct place *places;                    /* out */
    size_t count;
    bool is_new_group;         /* PLACE_START: nobody was assigned anything before */
    rd_kafka_resp_err_t error; /* why some or all were not found */
    const char *doing;         /* what failed */

    int64_t deadline;
    pthread_mutex_t lock; /* guards is_cancelled, and the commit against it */
    bool is_cancelled;
    bool is_started;
    pthread_t thread;
    _Atomic bool is_done;
};

/* The word that a note has for the numbers of its log; 0: none. The note with a new one, for free(); NULL: no memory. [any] */
uint64_t begin_word(const char *note);
char *begin_with_word(const char *note);

/* A search with room for so many places; NULL: no memory. The caller fills it in. */
struct search *search_new(size_t count);

/* Begins; the thread wakes the host when it is done. 0 or -errno. [lane] */
int search_start(struct search *search);

/* The partitions are to go elsewhere: from now on it commits nothing, and asks nothing more. NULL will do. [lane], [control] */
void search_cancel(struct search *search);

/* Waits for its end, for seconds at most, and frees it; NULL will do. [lane] when it is done, [control] */
void search_free(struct search *search);

#endif
