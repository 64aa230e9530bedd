/* kafka_source - consumes topics as a member of a consumer group.
 *
 * An offset is committed when everything below it is settled. Each assigned partition keeps the offsets that it
 * emitted, in order, from the first unsettled one on; records are settled in any order, and the settled prefix moves
 * the position that the next commit takes along. A record's tag says which partition of which assignment, and its place in
 * that, so that what is settled after its partition went elsewhere is told from what is not.
 *
 * rd_kafka_consumer_poll, message by message, is the one way into the pipeline that loses nothing in librdkafka 2.0.
 * Commits are made here and not by librdkafka, one at a time, so that none overtakes another.
 *
 * Where to begin is found here too: see begin.h. An assignment is answered when that is done, so nothing is consumed before. */
#include <errno.h>
#include <poll.h>
#include <regex.h>
#include <stdlib.h>

#include "../kafka_common/kafka_common.h"
#include "../kafka_common/kafka_progress.h"
#include "../kafka_common/origin.h"
#include "begin.h"

#define BATCH            256u       /* messages a poll */
#define HEADERS_MAX      1000       /* of a record */
#define BLOCKED_PATIENCE FMS_SECOND /* then the group is served, with the partitions paused */
#define PAUSED_TICK      (50 * FMS_MS)
#define ENDS_INTERVAL    (2 * FMS_SECOND) /* no fetch tells of them while the partitions are paused */
#define IDLE_TICK        FMS_SECOND       /* at most, between polls, for max.poll.interval.ms */
#define CLOSE_PATIENCE   (4 * FMS_SECOND) /* for a last commit, and to leave the group; see STOP_PATIENCE too */
#define DRAIN_STEP       (10 * FMS_MS)    /* between looks whether those that leave are settled */
#define SEARCH_MIN       (100 * FMS_MS)   /* between searches that found not all */
#define SEARCH_MAX       (10 * FMS_SECOND)

#define CARRIED_PATIENCE                                                                                               \
    (60 * FMS_SECOND) /* since a sink last took the offsets: it may have been replaced by one that takes none */

#define VOID INT64_C(-2) /* the entry of a record whose offset means nothing any more; -1 if settled */

/* An assigned partition. */
struct partition {
    char *topic;
    int32_t id;
    uint32_t serial; /* of it alone: a partition that has gone and come back is another one */
    uint32_t slot;
    bool is_fetched; /* librdkafka was told where from */
    bool is_leaving; /* it is being revoked */
    size_t in_flight;
    char *note;       /* metadata of its commits; NULL: none */
    char *origin;     /* whose numbers its offsets are; NULL: nobody asks */
    int64_t numbered; /* the offset behind the last one that was emitted; -1: none was */
    int64_t begin; /* the offset of the first record to be emitted; -1: it is still searched, and nothing is consumed */
    uint64_t begin_at;   /* the place of that record */
    bool is_suspect;     /* the broker says that its next offset is out of range */
    int64_t *entries;    /* a ring of what was emitted, at `place & mask`: offset * 2, and 1 if settled; or VOID */
    size_t capacity;     /* a power of two, or 0 */
    uint64_t head, tail; /* places: the first unsettled, the next to be used */
    int64_t position;    /* below it all is settled; -1: nothing was */
    int64_t end;         /* of the log, as it was asked for while the partition was paused; -1: it was not */
    bool is_dirty;       /* the position is not committed */
};

struct kafka_source {
    struct kafka kafka; /* first: librdkafka's opaque */
    struct fms_list topics;
    const char *group, *group_instance_id, *start;
    struct begin begin; /* `start`, read */
    int64_t commit_interval, revoke_timeout;
    bool with_headers; /* librdkafka allocates to say that there are none */

    const char **fixed_topics; /* those that are no regular expression */
    size_t fixed_count;
    bool is_subscribed, is_stopped, is_closing, is_committing;
    bool is_fenced; /* another member has taken our group_instance_id: there is no client any more */
    int error;      /* that fails the pipeline */

    struct partition **partitions; /* by topic and id */
    size_t partition_count;
    struct partition **slots;     /* where settled records find theirs */
    uint32_t slot_count, serials; /* serials: given out */
    struct partition *last;       /* of the last message, which came as `last_rkt` and its partition's id */
    const rd_kafka_topic_t *last_rkt;
    unsigned search_attempt;

    rd_kafka_topic_partition_list_t *seen; /* the topics of the first look; NULL: not yet looked */
    uint64_t seen_print;                   /* of them all, as they were then */
    struct search *search;                 /* under way */
    bool must_search;                      /* some partition is without a beginning, or is suspect */
    bool must_answer;                      /* librdkafka waits for the answer to an assignment */
    bool is_paused;                        /* the partitions are, for there is no room */
    bool must_replace;                     /* the consumer, for the files that it was made of have changed */
    int64_t search_at;                     /* not before */
    int64_t ends_at;                       /* when to ask for the ends of the logs again */

    rd_kafka_message_t **held; /* fetched, but there was no room */
    size_t held_count, held_capacity;
    struct partition *stuck;         /* the first held one waits for this partition's first unsettled record */
    size_t room_records, room_bytes; /* at the start */
    int64_t blocked_since;           /* 0: there is room */

    rd_kafka_queue_t *closing; /* of a consumer that is replaced; NULL: it is not */
    int64_t closing_until;

    rd_kafka_queue_t *commits; /* their results */
    int64_t commit_at;
    bool is_taken;         /* a sink has taken what source_progress told it */
    int64_t carried_until; /* so long its commits count, and not ours, while something is in flight */
    struct kafka_progress progress;
    rd_kafka_topic_partition_list_t *ahead; /* what it says, and its group; NULL: it was not asked yet */
    void *group_bytes;

    char *cluster; /* its id; NULL: not yet looked, or the brokers do not tell */
    struct fms_identity identity;
    struct fms_header headers[HEADERS_MAX];
};

enum { COUNTER_REBALANCES = KAFKA_COUNTERS, COUNTER_COMMIT_ERRORS, COUNTER_GONE_OFFSETS, COUNTER_REWINDS };

static const struct fms_option kafka_source_options[] = {
    {"topic", FMS_LIST, FMS_FIELD(struct kafka_source, topics, struct fms_list), FMS_REQUIRED, 0, 0, NULL,
     "topics to consume; one that begins with ^ is a regular expression", NULL, 0},
    FMS_OPT_STRING(struct kafka_source, group, FMS_REQUIRED,
                   "consumer group: its members share the partitions, and its committed offsets outlive them"),
    FMS_OPT_UNIQUE(
        struct kafka_source, group_instance_id, NULL, "Kafka group instance id",
        "name of this member, without a like in the group: its partitions wait for it while it restarts, for "
        "kafka.session.timeout.ms at most; absent: they go to others at once"),
    FMS_OPT_STRING(
        struct kafka_source, start, "latest",
        "where a new group begins: latest, earliest, at a time such as 2026-11-28T10:00:00Z, so long ago such as "
        "-1h; error: it does not"),
    FMS_OPT_DURATION(struct kafka_source, commit_interval, "1s", FMS_MS, 3600 * FMS_SECOND,
                     "how often offsets are committed; so much is read again after a crash"),
    FMS_OPT_DURATION(struct kafka_source, revoke_timeout, "10s", 0, 240 * FMS_SECOND,
                     "how long partitions that go to another member wait for what is in flight"),
    FMS_OPT_BOOLEAN(struct kafka_source, with_headers, "yes",
                    "records carry the messages' headers; no: they are left out, which saves a tenth of the work"),
    KAFKA_OPTIONS(struct kafka_source),
    FMS_OPT_END,
};

static const struct fms_metric kafka_source_counters[] = {
    KAFKA_COUNTER_TABLE,
    [COUNTER_REBALANCES] = {"rebalances", "assignments of partitions to this member"},
    [COUNTER_COMMIT_ERRORS] = {"commit_errors", "commits that failed; the next one takes their offsets along"},
    [COUNTER_GONE_OFFSETS] = {"gone_offsets", "offsets that were no more in the log when they were to be read"},
    [COUNTER_REWINDS] = {"rewinds", "partitions begun anew because their log ended below the group's offset"},
    {NULL, NULL},
};

enum { GAUGE_PARTITIONS = KAFKA_GAUGES, GAUGE_LAG, GAUGE_LAG_MOST };

static const struct fms_metric kafka_source_gauges[] = {
    KAFKA_GAUGE_TABLE(", with its wait for new messages"),
    [GAUGE_PARTITIONS] = {"assigned_partitions", "partitions that this member reads; 0: others have them all"},
    [GAUGE_LAG] = {"lag_records", "records in these partitions that are not settled yet, or not read"},
    [GAUGE_LAG_MOST] = {"lag_records_max", "of these, those of the partition that has most"},
    {NULL, NULL},
};

/* ------------------------------------------------------------------------------------------------------- partitions */

static int partition_compare(const struct partition *partition, const char *topic, int32_t id)
{
    int order = strcmp(partition->topic, topic);

    return order != 0 ? order : (partition->id > id) - (partition->id < id);
}

static int partition_order(const void *left, const void *right)
{
    struct partition *const *a = left, *const *b = right;

    return partition_compare(*a, (*b)->topic, (*b)->id);
}

static struct partition *partition_find(struct kafka_source *self, const char *topic, int32_t id)
{
    size_t low = 0, high = self->partition_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = partition_compare(self->partitions[middle], topic, id);

        if (order == 0)
            return self->partitions[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A message's partition; NULL when it is no longer assigned. */
static struct partition *partition_of(struct kafka_source *self, const rd_kafka_message_t *message)
{
    if (message->rkt != self->last_rkt || self->last == NULL || self->last->id != message->partition) {
        self->last_rkt = message->rkt;
        self->last = partition_find(self, rd_kafka_topic_name(message->rkt), message->partition);
    }
    return self->last;
}

static int64_t *partition_entry(const struct partition *partition, uint64_t place)
{
    return &partition->entries[place & (partition->capacity - 1)]; /* NOLINT(clang-analyzer-unix.Malloc): a ring */
}

/* Makes room for one more entry. */
static bool partition_reserve(struct partition *partition)
{
    size_t used = (size_t)(partition->tail - partition->head);
    struct partition grown = *partition;

    if (used < partition->capacity)
        return true;
    grown.capacity = partition->capacity == 0 ? 64 : 2 * partition->capacity;
    grown.entries = malloc(grown.capacity * sizeof *grown.entries);
    if (grown.entries == NULL)
        return false;
    for (uint64_t place = partition->head; place != partition->tail; place++)
        *partition_entry(&grown, place) = *partition_entry(partition, place);
    free(partition->entries);
    *partition = grown;
    return true;
}

/* Moves the position over what is settled. */
static void partition_advance(struct partition *partition)
{
    while (partition->head != partition->tail && (*partition_entry(partition, partition->head) & 1) != 0) {
        int64_t entry = *partition_entry(partition, partition->head++);

        if (entry != (VOID | 1)) {
            partition->position = entry / 2 + 1;
            partition->is_dirty = true;
        }
    }
}

/* Goes on elsewhere. What is in flight is of a log that is no more: it moves the position no longer. */
static void partition_move(struct partition *partition, int64_t offset)
{
    for (uint64_t place = partition->head; place != partition->tail; place++)
        *partition_entry(partition, place) = VOID | (*partition_entry(partition, place) & 1);
    partition->begin = partition->position = offset;
    partition->end = partition->numbered = -1;
    partition->begin_at = partition->tail;
    partition->is_dirty = true;
}

/* One late record must not make the ring of those behind it grow without bound. */
static bool partition_is_full(const struct kafka_source *self, const struct partition *partition)
{
    return partition->tail - partition->head >= 4 * (uint64_t)self->room_records;
}

static void held_forget(struct kafka_source *self)
{
    for (size_t i = 0; i < self->held_count; i++)
        rd_kafka_message_destroy(self->held[i]);
    self->held_count = 0;
    self->stuck = NULL;
}

/* Those of partitions that leave. */
static void held_forget_leaving(struct kafka_source *self)
{
    size_t kept = 0;

    for (size_t i = 0; i < self->held_count; i++) {
        const struct partition *partition = partition_of(self, self->held[i]);

        if (partition != NULL && !partition->is_leaving)
            self->held[kept++] = self->held[i];
        else
            rd_kafka_message_destroy(self->held[i]);
    }
    self->held_count = kept;
    if (self->stuck != NULL && self->stuck->is_leaving)
        self->stuck = NULL;
}

static void partition_free(struct kafka_source *self, struct partition *partition)
{
    self->slots[partition->slot] = NULL;
    free(partition->topic);
    free(partition->note);
    free(partition->origin);
    free(partition->entries);
    free(partition);
}

/* What is settled from now on of those that leave belongs to no partition. */
static void partitions_drop_leaving(struct kafka_source *self)
{
    size_t kept = 0;

    held_forget_leaving(self);
    for (size_t i = 0; i < self->partition_count; i++) {
        if (self->partitions[i]->is_leaving)
            partition_free(self, self->partitions[i]);
        else
            self->partitions[kept++] = self->partitions[i];
    }
    self->partition_count = kept;
    self->last = NULL;
    self->last_rkt = NULL;
}

static void partitions_forget(struct kafka_source *self)
{
    for (size_t i = 0; i < self->partition_count; i++)
        self->partitions[i]->is_leaving = true;
    partitions_drop_leaving(self);
}

/* False: no memory. */
static bool partition_add(struct kafka_source *self, const char *topic, int32_t id)
{
    struct partition *partition = calloc(1, sizeof *partition);
    uint32_t slot = 0;

    while (slot < self->slot_count && self->slots[slot] != NULL)
        slot++;
    if (partition == NULL || (partition->topic = strdup(topic)) == NULL) {
        free(partition);
        return false;
    }
    partition->id = id;
    partition->serial = ++self->serials;
    partition->slot = slot;
    partition->begin = partition->position = partition->end = partition->numbered = -1;
    if (slot == self->slot_count)
        self->slot_count++;
    self->slots[slot] = self->partitions[self->partition_count++] = partition;
    return true;
}

static bool partitions_reserve(struct kafka_source *self, size_t count)
{
    struct partition **partitions = realloc(self->partitions, count * sizeof *partitions);
    struct partition **slots = realloc(self->slots, (count + self->slot_count) * sizeof *slots);

    self->partitions = partitions != NULL ? partitions : self->partitions;
    self->slots = slots != NULL ? slots : self->slots;
    return partitions != NULL && slots != NULL;
}

static int partitions_add(struct kafka_source *self, const rd_kafka_topic_partition_list_t *list)
{
    if (!partitions_reserve(self, self->partition_count + (size_t)list->cnt + 1))
        return -ENOMEM;
    for (int i = 0; i < list->cnt; i++) {
        if (!partition_add(self, list->elems[i].topic, list->elems[i].partition))
            return -ENOMEM;
    }
    qsort(self->partitions, self->partition_count, sizeof *self->partitions, partition_order);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- commits */

static void list_offset(rd_kafka_topic_partition_list_t *list, const struct partition *partition, int64_t offset)
{
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(list, partition->topic, partition->id);

    element->offset = offset;
    element->metadata = partition->note == NULL ? NULL : strdup(partition->note);
    element->metadata_size = element->metadata == NULL ? 0 : strlen(partition->note);
}

static rd_kafka_topic_partition_list_t *commit_list(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);

    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = self->partitions[i];

        if (partition->is_dirty)
            list_offset(list, partition, partition->position);
        partition->is_dirty = false;
    }
    return list;
}

static void commit_send(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = commit_list(self);

    if (list->cnt > 0)
        self->is_committing = rd_kafka_commit_queue(self->kafka.rk, list, self->commits, NULL, NULL) ==
                              RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
}

/* While the group rebalances this is no error: the offsets go along with the next commit, or with the revoke. */
static bool is_passing(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS || error == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           error == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || error == RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST;
}

/* Another member has our group_instance_id, and with it our partitions. To fail would have this process started again, and fence
 * the other one in turn; so the source is without a link from now on, and all else flows. */
static void fenced(struct kafka_source *self)
{
    char id[256] = "";
    size_t size = sizeof id;

    if (self->is_fenced)
        return;
    self->is_fenced = true;
    (void)rd_kafka_conf_get(rd_kafka_conf(self->kafka.rk), "group.instance.id", id, &size);
    fms_error(
        self->kafka.host,
        "group %s: FENCED_INSTANCE_ID: another member has joined as \"%s\" and has our partitions, so this source "
        "consumes nothing more: give each member a group_instance_id of its own, and start this one again",
        self->group, id);
}

static void commit_failed(struct kafka_source *self, const rd_kafka_topic_partition_t *of, rd_kafka_resp_err_t error)
{
    struct partition *partition = partition_find(self, of->topic, of->partition);

    if (partition == NULL || partition->position < 0) /* it was another one, which has gone */
        return;
    partition->is_dirty = true;
    fms_count(self->kafka.host, COUNTER_COMMIT_ERRORS, 1);
    if (error == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        fenced(self);
    else if (is_passing(error))
        fms_debug(self->kafka.host, "offset of %s [%d] not committed: %s", of->topic, of->partition,
                  rd_kafka_err2str(error));
    else
        fms_warn(self->kafka.host, "group %s: offset of %s [%d] not committed, goes along with the next commit: %s",
                 self->group, of->topic, of->partition, rd_kafka_err2str(error));
}

/* Takes in the result of the commit that is under way, if it comes in time. */
static void commit_finish(struct kafka_source *self, int timeout_ms)
{
    rd_kafka_event_t *event = self->is_committing ? rd_kafka_queue_poll(self->commits, timeout_ms) : NULL;
    rd_kafka_topic_partition_list_t *list;

    if (event == NULL)
        return;
    self->is_committing = false;
    list = rd_kafka_event_topic_partition_list(event);
    for (int i = 0; list != NULL && i < list->cnt; i++) {
        rd_kafka_resp_err_t error = list->elems[i].err;

        if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
            error = rd_kafka_event_error(event);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
            commit_failed(self, &list->elems[i], error);
    }
    rd_kafka_event_destroy(event);
}

static bool has_in_flight(const struct kafka_source *self)
{
    for (size_t i = 0; i < self->partition_count; i++) {
        if (self->partitions[i]->in_flight > 0)
            return true;
    }
    return false;
}

/* Beside a transaction that takes offsets along no others are committed: what came later would stand above them. */
static void commit_on_time(struct kafka_source *self)
{
    int64_t now = fms_now(self->kafka.host);

    commit_finish(self, 0);
    if (self->is_taken)
        self->carried_until = now + CARRIED_PATIENCE;
    self->is_taken = false;
    if (self->is_committing || now < self->commit_at || (now < self->carried_until && has_in_flight(self)))
        return;
    commit_send(self);
    self->commit_at = now + self->commit_interval;
}

/* Commits all that is settled and waits for it, until the deadline. */
static void commit_now(struct kafka_source *self, int64_t deadline)
{
    commit_finish(self, kafka_ms_until(self->kafka.host, deadline));
    if (!self->is_committing)
        commit_send(self);
    commit_finish(self, kafka_ms_until(self->kafka.host, deadline));
    if (self->is_committing)
        fms_warn(self->kafka.host,
                 "group %s: the last commit was not confirmed in time: what it covers may be read "
                 "again",
                 self->group);
}

/* NULL: it has gone to another member. */
static struct partition *partition_of_record(const struct kafka_source *self, const struct fms_record *record)
{
    uint32_t slot = (uint32_t)record->tag[1];
    struct partition *partition = slot < self->slot_count ? self->slots[slot] : NULL;

    return partition != NULL && partition->serial == (uint32_t)(record->tag[1] >> 32) ? partition : NULL;
}

static void kafka_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct kafka_source *self = instance;
    struct partition *partition = partition_of_record(self, record);

    (void)fate;
    if (partition == NULL)
        return;
    partition->in_flight--;
    *partition_entry(partition, record->tag[0]) |= 1;
    if (record->tag[0] != partition->head)
        return;
    partition_advance(partition);
    if (partition == self->stuck)
        fms_wake(self->kafka.host);
}

/* --------------------------------------------------------------------------------- offsets in somebody's transaction */

static bool kafka_source_owns(void *instance, const struct fms_record *record)
{
    return partition_of_record(instance, record) != NULL;
}

/* As partition_advance would have it. */
static int64_t partition_ahead(const struct partition *partition)
{
    int64_t position = partition->position;

    for (uint64_t place = partition->head; place != partition->tail; place++) {
        int64_t entry = *partition_entry(partition, place);

        if ((entry & 1) == 0)
            break;
        if (entry != (VOID | 1))
            position = entry / 2 + 1;
    }
    return position;
}

/* Partitions that have got further since they were told of, or will have with those that count as settled. */
static void tell_ahead(struct kafka_source *self)
{
    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = self->partitions[i];
        int64_t position = partition_ahead(partition);

        if (position >= 0 && (partition->is_dirty || position != partition->position))
            list_offset(self->ahead, partition, position);
    }
}

static void progress_drop(struct kafka_source *self)
{
    if (self->ahead != NULL)
        rd_kafka_topic_partition_list_destroy(self->ahead);
    if (self->group_bytes != NULL)
        rd_kafka_mem_free(NULL, self->group_bytes);
    self->ahead = NULL;
    self->group_bytes = NULL;
}

/* The group's generation, by which brokers know offsets of a member that is one no more. */
static int tell_group(struct kafka_source *self)
{
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(self->kafka.rk);
    rd_kafka_error_t *error = group != NULL ? rd_kafka_consumer_group_metadata_write(group, &self->group_bytes,
                                                                                     &self->progress.group.size)
                                            : NULL;

    if (group != NULL)
        rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_error_destroy(error);
    self->progress.group.data = self->group_bytes;
    return self->group_bytes != NULL ? 0 : -EAGAIN;
}

/* What is settled is not, and the reverse. */
static void turn_round(const struct kafka_source *self, const struct fms_record *const *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct partition *partition = partition_of_record(self, records[i]);

        if (partition != NULL)
            *partition_entry(partition, records[i]->tag[0]) ^= 1;
    }
}

static int kafka_source_progress(void *instance, const struct fms_record *const *records, size_t count,
                                 struct fms_bytes *progress)
{
    struct kafka_source *self = instance;
    int error;

    progress_drop(self);
    if (self->kafka.rk == NULL || self->cluster == NULL)
        return -ENOTSUP;
    error = tell_group(self);
    if (error != 0)
        return error;
    self->ahead = rd_kafka_topic_partition_list_new(8);
    turn_round(self, records, count);
    tell_ahead(self);
    turn_round(self, records, count);
    memcpy(self->progress.mark, KAFKA_PROGRESS_MARK, sizeof self->progress.mark);
    self->progress.cluster = self->cluster;
    self->progress.offsets = self->ahead;
    self->progress.is_taken = &self->is_taken;
    *progress = fms_bytes_of(&self->progress, sizeof self->progress);
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- rebalance */

static void pause_all(struct kafka_source *self, bool is_paused)
{
    rd_kafka_topic_partition_list_t *list;

    self->is_paused = is_paused;
    if (rd_kafka_assignment(self->kafka.rk, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    if (is_paused)
        rd_kafka_pause_partitions(self->kafka.rk, list);
    else
        rd_kafka_resume_partitions(self->kafka.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* The offset of the next message to be fetched. */
static int64_t partition_next(struct kafka_source *self, struct partition *partition)
{
    for (size_t i = self->held_count; i-- > 0;) {
        if (partition_of(self, self->held[i]) == partition)
            return self->held[i]->offset + 1;
    }
    if (partition->tail != partition->begin_at)
        return *partition_entry(partition, partition->tail - 1) / 2 + 1;
    return partition->begin;
}

/* Whether partitions come and go one by one, and those that stay are fetched from all the while. */
static bool is_cooperative(const struct kafka_source *self)
{
    const char *protocol = rd_kafka_rebalance_protocol(self->kafka.rk);

    return protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
}

static void change_some(struct kafka_source *self, const rd_kafka_topic_partition_list_t *list, bool is_addition)
{
    rd_kafka_error_t *error = is_addition ? rd_kafka_incremental_assign(self->kafka.rk, list)
                                          : rd_kafka_incremental_unassign(self->kafka.rk, list);

    if (error != NULL) /* librdkafka has logged it */
        rd_kafka_error_destroy(error);
}

/* Those that librdkafka fetches from and that leave, or that are to begin elsewhere. */
static void unassign_some(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);

    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = self->partitions[i];

        if (partition->is_leaving && partition->is_fetched)
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->id);
        partition->is_fetched = partition->is_fetched && !partition->is_leaving;
    }
    change_some(self, list, false);
    rd_kafka_topic_partition_list_destroy(list);
}

/* Consumes the partitions of which it is known where, from there on; cooperatively, those of them that it does not consume yet. */
static void assign(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)self->partition_count);
    bool is_incremental = is_cooperative(self);

    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = self->partitions[i];

        if (partition->begin < 0 || partition->is_suspect || (is_incremental && partition->is_fetched))
            continue;
        rd_kafka_topic_partition_list_add(list, partition->topic, partition->id)->offset = partition_next(self,
                                                                                                          partition);
        partition->is_fetched = true;
    }
    if (is_incremental)
        change_some(self, list, true);
    else
        rd_kafka_assign(self->kafka.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (self->is_paused)
        pause_all(self, true);
}

static void answer(struct kafka_source *self)
{
    self->must_answer = false;
    assign(self);
    fms_info(self->kafka.host, "group %s: %zu partition%s assigned", self->group, self->partition_count,
             self->partition_count == 1 ? "" : "s");
}

/* It is answered when it is found where to begin; cooperatively at once, for then the partitions can be added later. */
static void assigned(struct kafka_source *self, const rd_kafka_topic_partition_list_t *list)
{
    bool is_incremental = is_cooperative(self);
    int error;

    if (!is_incremental)
        partitions_forget(self);
    error = partitions_add(self, list);
    if (error != 0) {
        self->error = fms_fail(self->kafka.host, error, "no memory for %d partitions", list->cnt);
        return;
    }
    self->must_answer = !is_incremental;
    self->must_search = self->must_search || list->cnt > 0;
    self->search_at = 0;
    self->search_attempt = 0;
    kafka_reached(&self->kafka);
    fms_count(self->kafka.host, COUNTER_REBALANCES, 1);
    if (is_incremental)
        answer(self);
}

static size_t leaving_in_flight(const struct kafka_source *self)
{
    size_t count = 0;

    for (size_t i = 0; i < self->partition_count; i++)
        count += self->partitions[i]->is_leaving ? self->partitions[i]->in_flight : 0;
    return count;
}

/* Waits for what is in flight of those that leave; with those that stay it would not come to an end. */
static void drain_leaving(struct kafka_source *self, bool do_all_leave)
{
    const struct fms_host *host = self->kafka.host;
    int64_t until = fms_now(host) + self->revoke_timeout;

    if (do_all_leave) {
        fms_drain(host, until);
        return;
    }
    while (leaving_in_flight(self) > 0 && fms_now(host) < until)
        fms_drain(host, fms_now(host) + DRAIN_STEP < until ? fms_now(host) + DRAIN_STEP : until);
}

/* These partitions, or all (NULL), are another member's afterwards: settle and commit while they are ours. The caller answers. */
static void revoked(struct kafka_source *self, const rd_kafka_topic_partition_list_t *list)
{
    const struct fms_host *host = self->kafka.host;
    size_t leaving = 0;

    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = self->partitions[i];

        partition->is_leaving = list == NULL ||
                                rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)(uintptr_t)list,
                                                                   partition->topic, partition->id) != NULL;
        leaving += partition->is_leaving;
    }
    held_forget_leaving(self);
    search_cancel(self->search);
    if (rd_kafka_assignment_lost(self->kafka.rk)) {
        fms_warn(host, "group %s: partitions are lost; what is in flight from them will be read again by others",
                 self->group);
    } else if (!self->is_closing && leaving > 0) {
        drain_leaving(self, leaving == self->partition_count);
        commit_now(self, fms_now(host) + CLOSE_PATIENCE);
        if (leaving_in_flight(self) > 0)
            fms_warn(
                host,
                "group %s: records in flight when their partitions were revoked, which others may read again: %zu; "
                "see revoke_timeout",
                self->group, leaving_in_flight(self));
    }
}

/* What has gone is forgotten when librdkafka knows that it has. */
static void revocation_end(struct kafka_source *self)
{
    partitions_drop_leaving(self);
    self->must_answer = false;
    self->must_search = self->partition_count > 0; /* a search that was under way found nothing for those that stay */
    self->search_at = 0;
}

/* [lane], within rd_kafka_consumer_poll; [control] within close */
static void rebalanced(rd_kafka_t *rk, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_source *self = opaque;

    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        assigned(self, list);
        return;
    }
    if (is_cooperative(self)) {
        revoked(self, list);
        unassign_some(self);
    } else {
        revoked(self, NULL);
        rd_kafka_assign(rk, NULL);
    }
    revocation_end(self);
}

/* ------------------------------------------------------------------------------------------------- where it begins */

/* Places that were found in one way. */
struct tally {
    size_t count;
    int64_t offsets; /* skipped, to be read, or gone */
    const struct place *first;
};

static void tally(const struct search *search, enum place_found found, struct tally *tally)
{
    *tally = (struct tally){0};
    for (size_t i = 0; i < search->count; i++) {
        const struct place *place = &search->places[i];

        if (place->found != found)
            continue;
        if (tally->count++ == 0)
            tally->first = place;
        tally->offsets += found == PLACE_LATER  ? place->end - place->offset
                          : found == PLACE_GONE ? place->offset - place->was
                                                : place->offset - place->low;
    }
}

/* "fms-data [3] and 2 other partitions" */
static const char *tally_name(const struct tally *tally, char text[320])
{
    int size = snprintf(text, 320, "%s [%d]", tally->first->topic, tally->first->id);

    if (tally->count > 1)
        snprintf(text + size, 320 - (size_t)size, " and %zu other partition%s", tally->count - 1,
                 tally->count == 2 ? "" : "s");
    return text;
}

static void tell_beginnings(struct kafka_source *self, const struct search *search)
{
    const struct fms_host *host = self->kafka.host;
    struct tally told;
    char name[320];

    tally(search, PLACE_START, &told);
    if (told.count > 0)
        host->log(host, told.offsets > 0 ? FMS_LOG_WARN : FMS_LOG_INFO,
                  "group %s%s begins in %s as start = %s says: offsets skipped before that: %lld", self->group,
                  search->is_new_group ? " is new, and" : "", tally_name(&told, name), self->start,
                  (long long)told.offsets);
    tally(search, PLACE_LATER, &told);
    if (told.count > 0)
        fms_info(host, "group %s: %s %s not there when the group began: begins at the beginning; offsets in it: %lld",
                 self->group, tally_name(&told, name), told.count == 1 ? "was" : "were", (long long)told.offsets);
}

static void tell_losses(struct kafka_source *self, const struct search *search)
{
    const struct fms_host *host = self->kafka.host;
    struct tally told;
    char name[320];

    tally(search, PLACE_GONE, &told);
    if (told.count > 0)
        fms_warn(host,
                 "group %s: offsets gone from %s before they were read: %lld; the log was at %lld, and begins at %lld "
                 "now; going on there. See the topic's retention",
                 self->group, tally_name(&told, name), (long long)told.offsets, (long long)told.first->was,
                 (long long)told.first->offset);
    fms_count(host, COUNTER_GONE_OFFSETS, (uint64_t)told.offsets);
    tally(search, PLACE_ABOVE, &told);
    if (told.count > 0)
        fms_warn(
            host,
            "group %s: %s was made anew, or its log was cut off: it ends at %lld, below the group's offset %lld; going "
            "on at its beginning, so records can repeat",
            self->group, tally_name(&told, name), (long long)told.first->end, (long long)told.first->was);
    fms_count(host, COUNTER_REWINDS, told.count);
    tally(search, PLACE_KEPT, &told);
    if (told.count > 0)
        fms_warn(host, "group %s: %s: the broker refused offset %lld, which is in its log: trying it again",
                 self->group, tally_name(&told, name), (long long)told.first->was);
}

/* start = error */
static int refuse(struct kafka_source *self, const struct search *search)
{
    struct tally told;
    char name[320];

    tally(search, PLACE_REFUSED, &told);
    if (told.count == 0)
        return 0;
    tally_name(&told, name);
    if (told.first->was < 0)
        return fms_fail(self->kafka.host, -ENOENT,
                        "group %s has no committed offset in %s, and start = error: commit one for it, or set start to "
                        "latest, earliest or a time",
                        self->group, name);
    return fms_fail(
        self->kafka.host, -ERANGE,
        "group %s: its offset %lld in %s is out of range, and start = error: the log goes from %lld to %lld; "
        "commit another offset, or set start to earliest to go on at its beginning",
        self->group, (long long)told.first->was, name, (long long)told.first->low, (long long)told.first->end);
}

/* A partition that has no offset once its topic was begun is a later one, even if there was one of that name at the first look. */
static void seen_forget(struct kafka_source *self, const char *topic)
{
    for (int i = 0; i < self->seen->cnt; i++) {
        if (strcmp(self->seen->elems[i].topic, topic) == 0)
            self->seen->elems[i].partition = 0;
    }
}

/* Its offsets are numbers by the word in its note. */
static void partition_name(struct kafka_source *self, struct partition *partition)
{
    char text[KAFKA_ORIGIN_TEXT];
    struct kafka_origin origin = {.cluster = fms_text(self->cluster),
                                  .word = begin_word(partition->note),
                                  .partition = partition->id,
                                  .topic = fms_text(partition->topic)};

    free(partition->origin);
    partition->origin = NULL;
    if (!self->kafka.host->identities || origin.word == 0)
        return;
    if (kafka_origin_write(&origin, text) > 0)
        partition->origin = strdup(text);
    else
        fms_warn(self->kafka.host, "%s: its name is too long for an origin: its messages go on without their numbers",
                 partition->topic);
}

/* What follows is of another log, or of the same one cut off: its offsets come again, for other records. */
static void partition_rename(struct partition *partition)
{
    char *note = partition->origin != NULL ? begin_with_word(partition->note) : NULL;

    if (note == NULL)
        return;
    free(partition->note);
    partition->note = note;
}

static void take_place(struct kafka_source *self, struct place *place)
{
    struct partition *partition = partition_find(self, place->topic, place->id);

    if (place->found == PLACE_NOT)
        return;
    partition->is_leaving = partition->is_fetched; /* to begin elsewhere */
    seen_forget(self, place->topic);
    partition->is_suspect = false;
    if (place->found == PLACE_GONE || place->found == PLACE_ABOVE) {
        partition_move(partition, place->offset);
        if (place->found == PLACE_ABOVE)
            partition_rename(partition);
    } else if (place->found != PLACE_KEPT) {
        partition->begin = place->offset;
        partition->note = place->note;
        place->note = NULL;
    }
    partition_name(self, partition);
}

/* What was found for partitions that have gone since is not true any more. How many others there are. */
static size_t forget_stale(struct kafka_source *self, struct search *search)
{
    size_t left = 0;

    for (size_t i = 0; i < search->count; i++) {
        struct place *place = &search->places[i];
        const struct partition *partition = partition_find(self, place->topic, place->id);

        if (partition != NULL && partition->serial == place->serial)
            left++;
        else
            place->found = PLACE_NOT;
    }
    return left;
}

static int take_places(struct kafka_source *self, struct search *search)
{
    int error = refuse(self, search);

    if (error != 0)
        return error;
    tell_beginnings(self, search);
    tell_losses(self, search);
    for (size_t i = 0; i < search->count; i++)
        take_place(self, &search->places[i]);
    if (self->must_answer) {
        answer(self);
        return 0;
    }
    if (is_cooperative(self))
        unassign_some(self);
    for (size_t i = 0; i < self->partition_count; i++)
        self->partitions[i]->is_leaving = false;
    assign(self);
    return 0;
}

/* Searches again, but not at once. librdkafka has said what is wrong where no broker can be reached. */
static void search_put_off(struct kafka_source *self, const struct search *search)
{
    if (search->error != RD_KAFKA_RESP_ERR_NO_ERROR && self->kafka.down_since == 0)
        fms_warn(self->kafka.host, "group %s: where to begin is not known yet, trying again: %s: %s", self->group,
                 search->doing, rd_kafka_err2str(search->error));
    self->must_search = self->must_search || search->error != RD_KAFKA_RESP_ERR_NO_ERROR;
    self->search_at = fms_now(self->kafka.host) +
                      fms_backoff(self->kafka.host, SEARCH_MIN, SEARCH_MAX, self->search_attempt++);
}

static void take_ends(struct kafka_source *self, const struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        struct partition *partition = partition_find(self, search->places[i].topic, search->places[i].id);

        if (partition != NULL && search->places[i].end >= 0)
            partition->end = search->places[i].end;
    }
}

/* Takes in what a search has found; what it has not is searched for again. */
static int search_finish(struct kafka_source *self)
{
    struct search *search = self->search;
    size_t left = forget_stale(self, search);
    struct tally kept;
    int error = 0;

    self->search = NULL;
    tally(search, PLACE_KEPT, &kept);
    if (search->looked != NULL) {
        self->seen = search->looked;
        self->seen_print = search->looked_print;
        search->looked = NULL;
        self->cluster = search->cluster;
        search->cluster = NULL;
        kafka_create(&self->kafka, self->fixed_topics, self->fixed_count);
    } else if (search->is_of_ends) {
        take_ends(self, search);
    } else if (search->count == 0) {
        search_put_off(self, search);
    } else if (left > 0) {
        error = take_places(self, search);
        if (!search->is_cancelled && (search->error != RD_KAFKA_RESP_ERR_NO_ERROR || kept.count > 0))
            search_put_off(self, search);
        else /* after a revocation what is left is searched for anew, at once */
            self->search_attempt = 0;
    }
    search_free(search);
    return error;
}

static bool is_searched(const struct partition *partition)
{
    return partition->begin < 0 || partition->is_suspect;
}

/* Whether it is time to ask for the ends of all partitions. */
static bool must_ask_ends(struct kafka_source *self)
{
    return self->is_paused && self->kafka.host->watched && !self->must_search && !self->must_answer &&
           fms_now(self->kafka.host) >= self->ends_at;
}

static int place_set(struct kafka_source *self, struct place *place, struct partition *partition)
{
    place->topic = strdup(partition->topic);
    place->id = partition->id;
    place->serial = partition->serial;
    place->is_suspect = partition->is_suspect;
    place->offset = partition->is_suspect ? partition_next(self, partition) : RD_KAFKA_OFFSET_INVALID;
    place->end = -1;
    return place->topic == NULL ? -ENOMEM : 0;
}

/* Searches for what has no beginning, or is suspect; or asks for the ends of all. */
static int search_begin(struct kafka_source *self, bool is_of_ends)
{
    const struct fms_host *host = self->kafka.host;
    size_t count = 0;
    int error = 0;

    for (size_t i = 0; i < self->partition_count; i++)
        count += is_of_ends || is_searched(self->partitions[i]);
    if (is_of_ends)
        self->ends_at = fms_now(host) + ENDS_INTERVAL;
    else
        self->must_search = false;
    if (count == 0 && self->seen != NULL)
        return 0;
    self->search = search_new(count);
    if (self->search == NULL)
        return fms_fail(host, -ENOMEM, "no memory for %zu partitions", count);
    self->search->host = host;
    self->search->rk = self->kafka.rk;
    self->search->topics = &self->topics;
    self->search->start = self->begin;
    self->search->seen = self->seen;
    self->search->seen_print = self->seen_print;
    self->search->is_of_ends = is_of_ends;
    self->search->with_words = host->identities;
    for (size_t i = self->partition_count; i-- > 0 && error == 0;) {
        if (is_of_ends || is_searched(self->partitions[i]))
            error = place_set(self, &self->search->places[--count], self->partitions[i]);
    }
    if (error == 0)
        error = search_start(self->search);
    return error == 0 ? 0 : fms_fail(host, error, "a thread can't be started: %s", strerror(-error));
}

/* Carries the search on. What is held goes first: a partition in which it moves must have nothing left from before. */
static int search_serve(struct kafka_source *self, struct fms_wait *wait)
{
    int64_t now = fms_now(self->kafka.host);
    bool is_needed = self->seen == NULL || self->must_search;
    int error = 0;

    if (self->search != NULL && self->search->is_done)
        error = search_finish(self);
    if (self->must_answer && self->partition_count == 0)
        answer(self);
    if (error == 0 && self->search == NULL && must_ask_ends(self))
        return search_begin(self, true);
    if (error != 0 || self->search != NULL || !is_needed || self->held_count > 0)
        return error;
    if (now >= self->search_at)
        return search_begin(self, false);
    if (wait->deadline > self->search_at)
        wait->deadline = self->search_at;
    return 0;
}

/* The broker does not have the offset that comes next. */
static void suspect(struct kafka_source *self, const rd_kafka_message_t *message)
{
    struct partition *partition = partition_find(self, rd_kafka_topic_name(message->rkt), message->partition);

    if (partition == NULL || partition->begin < 0)
        return;
    partition->is_suspect = true;
    self->must_search = true;
}

/* ----------------------------------------------------------------------------------------------------------- intake */

static struct fms_bytes bytes_or_absent(const void *data, size_t size)
{
    return fms_bytes_of(data, data == NULL ? 0 : size);
}

/* How many a message has; up to HEADERS_MAX are in self->headers. */
static size_t read_headers(struct kafka_source *self, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    size_t n = 0;

    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    for (; n < HEADERS_MAX; n++) {
        struct fms_header *header = &self->headers[n];
        const void *data;
        size_t size;

        if (rd_kafka_header_get_all(headers, n, &header->name, &data, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
            return n;
        header->value = bytes_or_absent(data, size);
    }
    return rd_kafka_header_cnt(headers);
}

/* More than a record can have: it is rejected, without them. */
static int reject_headers(struct kafka_source *self, const rd_kafka_message_t *message, struct fms_record draft)
{
    size_t count = draft.header_count;

    draft.header_count = 0;
    return fms_emit_rejected(self->kafka.host, &draft,
                             "%s [%d] at %lld has %zu headers, and a record has %d at most; with_headers = no takes it "
                             "without them",
                             rd_kafka_topic_name(message->rkt), message->partition, (long long)message->offset, count,
                             HEADERS_MAX);
}

/* In nanoseconds. 0: nobody has said it, or it is one that they can't say. */
static int64_t time_of(const rd_kafka_message_t *message)
{
    int64_t time = rd_kafka_message_timestamp(message, NULL);

    return time > 0 && time <= INT64_MAX / FMS_MS ? time * FMS_MS : 0;
}

/* Its offset is its number, and those since the last message are no message's: transactions end with one, compaction leaves some out. */
static void identify(struct kafka_source *self, const struct partition *partition, const rd_kafka_message_t *message,
                     struct fms_record *draft)
{
    bool has_skipped = partition->numbered >= 0 && message->offset > partition->numbered;

    self->identity = (struct fms_identity){
        .kind = FMS_NUMBERED,
        .origin = fms_text(partition->origin),
        .sequence = (uint64_t)message->offset,
        .skipped = has_skipped ? (uint64_t)(message->offset - partition->numbered) : 0,
    };
    draft->identity = &self->identity;
}

/* 0: emitted, or not ours any more; -EAGAIN: no room; another negative errno fails the pipeline. */
static int emit_message(struct kafka_source *self, const rd_kafka_message_t *message)
{
    struct partition *partition = partition_of(self, message);
    struct fms_record draft = {
        .topic = fms_text(rd_kafka_topic_name(message->rkt)),
        .key = bytes_or_absent(message->key, message->key_len),
        .payload = bytes_or_absent(message->payload, message->len),
        .headers = self->headers,
        .timestamp = time_of(message),
    };
    int error;

    if (partition == NULL)
        return 0;
    if (partition_is_full(self, partition)) {
        self->stuck = partition;
        return -EAGAIN;
    }
    if (!partition_reserve(partition))
        return fms_fail(self->kafka.host, -ENOMEM, "no memory for %zu offsets in flight", 2 * partition->capacity);
    if (self->with_headers)
        draft.header_count = read_headers(self, message);
    draft.tag[0] = partition->tail;
    draft.tag[1] = (uint64_t)partition->serial << 32 | partition->slot;
    if (partition->origin != NULL)
        identify(self, partition, message, &draft);
    error = draft.header_count <= HEADERS_MAX ? fms_emit(self->kafka.host, &draft)
                                              : reject_headers(self, message, draft);
    if (error == 0) {
        *partition_entry(partition, partition->tail++) = message->offset * 2;
        partition->in_flight++;
        partition->numbered = message->offset + 1;
    }
    return error == -ESHUTDOWN ? 0 : error;
}

static int hold(struct kafka_source *self, rd_kafka_message_t *message)
{
    if (self->held_count == self->held_capacity) {
        size_t capacity = self->held_capacity == 0 ? 4 : 2 * self->held_capacity;
        rd_kafka_message_t **held = realloc(self->held, capacity * sizeof *held);

        if (held == NULL) {
            rd_kafka_message_destroy(message);
            return fms_fail(self->kafka.host, -ENOMEM, "no memory for a message");
        }
        self->held = held;
        self->held_capacity = capacity;
    }
    self->held[self->held_count++] = message;
    return 0;
}

/* What came in place of a message. */
static int consumer_error(struct kafka_source *self, const rd_kafka_message_t *message)
{
    const struct fms_host *host = self->kafka.host;
    const char *text = rd_kafka_message_errstr(message);
    char reason[512];

    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        return 0;
    case RD_KAFKA_RESP_ERR__FATAL:
        if (rd_kafka_fatal_error(self->kafka.rk, reason, sizeof reason) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID) {
            fenced(self);
            return 0;
        }
        return fms_fail(host, -EIO, "group %s: the consumer can't go on: %s", self->group, reason);
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        suspect(self, message);
        return 0;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        fms_warn(host, "waiting for a topic: %s", text);
        return 0;
    default:
        fms_warn(host, "group %s: still trying: %s", self->group, text);
        return 0;
    }
}

/* The next message, or NULL: nothing is there, or *error is set. Rebalances happen in here. */
static rd_kafka_message_t *next_message(struct kafka_source *self, int *error)
{
    rd_kafka_message_t *message;

    while ((message = rd_kafka_consumer_poll(self->kafka.rk, 0)) != NULL) {
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            kafka_reached(&self->kafka);
            return message;
        }
        *error = consumer_error(self, message);
        rd_kafka_message_destroy(message);
        if (*error != 0)
            return NULL;
    }
    *error = self->error;
    return NULL;
}

/* Emits what is held; *credit counts down. */
static int emit_held(struct kafka_source *self, size_t *credit)
{
    size_t n = 0;
    int error = 0;

    self->stuck = NULL;
    while (n < self->held_count && *credit != 0 && (error = emit_message(self, self->held[n])) == 0) {
        rd_kafka_message_destroy(self->held[n++]);
        --*credit;
    }
    self->held_count -= n;
    if (n > 0)
        memmove(self->held, self->held + n, self->held_count * sizeof *self->held);
    return error;
}

/* Emits until the credit, of BATCH at most, is used up (*credit is 0 then), or nothing is there. What was emitted is given back
 * in one go: message by message, its memory would be fought over with the thread that fetches. */
static int emit_new(struct kafka_source *self, size_t *credit)
{
    rd_kafka_message_t *done[BATCH];
    size_t count = 0;
    int error = 0;

    while (*credit > 0 && error == 0) {
        rd_kafka_message_t *message = next_message(self, &error);

        if (message == NULL)
            break;
        error = emit_message(self, message);
        if (error == -EAGAIN) {
            int held = hold(self, message);

            error = held != 0 ? held : -EAGAIN;
        } else {
            done[count++] = message;
            --*credit;
        }
    }
    for (size_t i = 0; i < count; i++)
        rd_kafka_message_destroy(done[i]);
    return error;
}

/* Without room: for a moment, don't poll. For longer, the partitions are paused and the group is served; what comes all
 * the same is held. */
static int serve_blocked(struct kafka_source *self, struct fms_wait *wait)
{
    int64_t now = fms_now(self->kafka.host);
    rd_kafka_message_t *message;
    int error = 0;

    if (self->blocked_since == 0)
        self->blocked_since = now;
    if (!self->is_paused) {
        if (now - self->blocked_since < BLOCKED_PATIENCE) {
            wait->deadline = self->blocked_since + BLOCKED_PATIENCE;
            return 0;
        }
        pause_all(self, true);
    }
    while (error == 0 && (message = next_message(self, &error)) != NULL)
        error = hold(self, message);
    wait->deadline = now + PAUSED_TICK;
    return error;
}

/* Pausing drops what was fetched ahead, so it pays to go on with some room only. */
static bool may_resume(const struct kafka_source *self)
{
    size_t records, bytes;

    if (self->stuck != NULL && partition_is_full(self, self->stuck))
        return false;
    fms_room(self->kafka.host, &records, &bytes);
    return records >= self->room_records / 4 && bytes >= self->room_bytes / 4;
}

static int take_in(struct kafka_source *self, size_t credit, struct fms_wait *wait)
{
    size_t left = credit < BATCH ? credit : BATCH;
    int error;

    if (left == 0 || (self->is_paused && !may_resume(self)))
        return serve_blocked(self, wait);
    if (self->is_paused) {
        pause_all(self, false);
        self->blocked_since = 0;
    }
    error = emit_held(self, &left);
    if (error == 0)
        error = emit_new(self, &left);
    if (error == -EAGAIN)
        return serve_blocked(self, wait);
    self->blocked_since = 0;
    wait->deadline = fms_now(self->kafka.host);
    if (left > 0)
        wait->deadline += self->commit_interval < IDLE_TICK ? self->commit_interval : IDLE_TICK;
    return error;
}

/* --------------------------------------------------------------------------------------------------------- consumer */

static rd_kafka_conf_t *make_conf(struct kafka_source *self, const struct fms_host *host)
{
    const struct kafka_setting settings[] = {
        {"group.id", self->group},
        {"auto.offset.reset", "error"}, /* librdkafka would skip without a word */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {self->group_instance_id == NULL ? NULL : "group.instance.id", self->group_instance_id},
        {NULL, NULL},
    };

    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, host, RD_KAFKA_CONSUMER, settings);

    rd_kafka_conf_set_rebalance_cb(conf, rebalanced);
    return conf;
}

static int consumer_start(struct kafka_source *self, const struct fms_host *host)
{
    rd_kafka_queue_t *queue;
    int error = kafka_start(&self->kafka, RD_KAFKA_CONSUMER, make_conf(self, host));

    if (error != 0)
        return error;
    rd_kafka_poll_set_consumer(self->kafka.rk);
    queue = rd_kafka_queue_get_consumer(self->kafka.rk);
    kafka_watch(&self->kafka, queue);
    rd_kafka_queue_destroy(queue);
    self->commits = rd_kafka_queue_new(self->kafka.rk);
    kafka_watch(&self->kafka, self->commits);
    return 0;
}

static int subscribe(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)self->topics.count);
    rd_kafka_resp_err_t error;

    for (size_t i = 0; i < self->topics.count; i++)
        rd_kafka_topic_partition_list_add(list, self->topics.items[i], RD_KAFKA_PARTITION_UA);
    error = rd_kafka_subscribe(self->kafka.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fms_fail_option(self->kafka.host, "topic", -EINVAL, "can't be subscribed to: %s",
                               rd_kafka_err2str(error));
    self->is_subscribed = true;
    return 0;
}

/* librdkafka reads certificates, keys and most secrets once a client, so what has changed takes a new one: the old one leaves the group
 * first. */
static void consumer_replace(struct kafka_source *self)
{
    rd_kafka_error_t *error;

    self->must_replace = false;
    self->closing = rd_kafka_queue_new(self->kafka.rk);
    self->closing_until = fms_now(self->kafka.host) + self->revoke_timeout + 2 * CLOSE_PATIENCE;
    error = rd_kafka_consumer_close_queue(self->kafka.rk, self->closing);
    if (error != NULL)
        rd_kafka_error_destroy(error);
}

static int replacement_serve(struct kafka_source *self, struct fms_wait *wait)
{
    bool is_closed = rd_kafka_consumer_closed(self->kafka.rk), must_create = self->seen != NULL && !self->is_subscribed;
    rd_kafka_event_t *event;
    int error;

    while ((event = rd_kafka_queue_poll(self->closing, 0)) != NULL) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
            revoked(self, NULL);
            rd_kafka_assign(self->kafka.rk, NULL);
            revocation_end(self);
        }
        rd_kafka_event_destroy(event);
    }
    if (!is_closed && fms_now(self->kafka.host) < self->closing_until) {
        wait->deadline = fms_now(self->kafka.host) + PAUSED_TICK;
        return 0;
    }
    partitions_forget(self);
    rd_kafka_queue_destroy(self->closing);
    rd_kafka_queue_destroy(self->commits);
    self->closing = self->commits = NULL;
    self->is_committing = self->is_subscribed = self->is_paused = false;
    kafka_leave(&self->kafka, is_closed ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    wait->deadline = fms_now(self->kafka.host);
    error = consumer_start(self, self->kafka.host);
    if (error == 0 && must_create)
        kafka_create(&self->kafka, self->fixed_topics, self->fixed_count);
    return error;
}

/* What is in flight is the other member's, too. The client goes: it would go on asking to be let in again. */
static int fenced_serve(struct kafka_source *self, struct fms_wait *wait)
{
    wait->deadline = FMS_NEVER;
    search_cancel(self->search);
    if (self->kafka.rk == NULL || (self->search != NULL && !self->search->is_done)) /* its end wakes the lane */
        return 0;
    search_free(self->search);
    self->search = NULL;
    partitions_forget(self);
    rd_kafka_assign(self->kafka.rk, NULL);
    rd_kafka_queue_destroy(self->commits);
    if (self->closing != NULL)
        rd_kafka_queue_destroy(self->closing);
    self->commits = self->closing = NULL;
    kafka_leave(&self->kafka, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    fms_link_down(self->kafka.host, "another member of group %s has joined as this one (FENCED_INSTANCE_ID)",
                  self->group);
    return 0;
}

static int kafka_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct kafka_source *self = instance;
    int error;

    if (self->is_stopped)
        return FMS_END;
    if (self->room_records == 0)
        fms_room(self->kafka.host, &self->room_records, &self->room_bytes);
    wait->fd = self->kafka.event_fd;
    wait->events = POLLIN;
    kafka_awake(&self->kafka);
    if (self->is_fenced)
        return fenced_serve(self, wait);
    if (self->closing != NULL)
        return replacement_serve(self, wait);
    error = take_in(self, credit, wait);
    commit_on_time(self);
    if (self->is_fenced)
        return fenced_serve(self, wait);
    if (error == 0)
        error = search_serve(self, wait);
    if (error == 0 && self->seen != NULL && kafka_created(&self->kafka, wait) && !self->is_subscribed)
        error = subscribe(self);
    if (error == 0 && kafka_has_new_files(&self->kafka, wait) &&
        kafka_renew(&self->kafka, RD_KAFKA_CONSUMER, make_conf(self, self->kafka.host)))
        self->must_replace = true;
    if (error == 0 && self->must_replace && self->search == NULL && !self->must_answer)
        consumer_replace(self);
    return error;
}

/* What was fetched and not emitted stays uncommitted. */
static void kafka_source_stop(void *instance)
{
    struct kafka_source *self = instance;

    self->is_stopped = true;
    held_forget(self);
}

/* -------------------------------------------------------------------------------------------- check, open and close */

static int check_topic(const struct fms_host *host, const char *topic)
{
    const char *reason;
    regex_t regex;

    if (topic[0] != '^') {
        reason = kafka_topic_error(topic, strlen(topic));
        return reason == NULL ? 0 : fms_fail_option(host, "topic", -EINVAL, "\"%s\" %s", topic, reason);
    }
    if (regcomp(&regex, topic, REG_EXTENDED | REG_NOSUB) != 0)
        return fms_fail_option(host, "topic", -EINVAL, "\"%s\" is no regular expression (POSIX, extended)", topic);
    regfree(&regex);
    return 0;
}

static int kafka_source_check(void *instance, const struct fms_host *host)
{
    struct kafka_source *self = instance;
    int error = kafka_check(&self->kafka, host, RD_KAFKA_CONSUMER);
    const char *reason;

    if (self->topics.count == 0)
        error = fms_fail_option(host, "topic", -EINVAL, "is empty: name at least one topic");
    for (size_t i = 0; i < self->topics.count; i++) {
        if (check_topic(host, self->topics.items[i]) != 0)
            error = -EINVAL;
    }
    if (self->group[0] == '\0')
        error = fms_fail_option(host, "group", -EINVAL, "is empty: name the consumer group");
    reason = self->group_instance_id == NULL
                 ? NULL
                 : kafka_topic_error(self->group_instance_id, strlen(self->group_instance_id));
    if (reason != NULL)
        error = fms_fail_option(host, "group_instance_id", -EINVAL, "\"%s\" %s", self->group_instance_id, reason);
    if (begin_read(self->start, &self->begin) != 0)
        return fms_fail_option(
            host, "start", -EINVAL,
            "\"%s\" is none of latest, earliest, error, a time such as 2026-11-28T10:00:00Z, or so long ago "
            "such as -1h (ms, s, m, h, d)",
            self->start);
    if (self->begin.kind == BEGIN_LATEST)
        fms_advise(host, "start",
                   "with latest, a group that has no committed offset yet skips what is in the topic "
                   "already, and what comes until it has joined; earliest reads it");
    fms_promise(host, "commit_interval", FMS_EXACTLY_ONCE,
                "what was delivered and not yet committed is read again after a crash, and has its number");
    return error;
}

static int find_fixed_topics(struct kafka_source *self, const struct fms_host *host)
{
    self->fixed_topics = calloc(self->topics.count, sizeof *self->fixed_topics);
    if (self->fixed_topics == NULL)
        return fms_fail(host, -ENOMEM, "no memory");
    for (size_t i = 0; i < self->topics.count; i++) {
        if (self->topics.items[i][0] != '^')
            self->fixed_topics[self->fixed_count++] = self->topics.items[i];
    }
    return 0;
}

static int kafka_source_open(void *instance, const struct fms_host *host)
{
    struct kafka_source *self = instance;
    int error = kafka_prepare(&self->kafka, host);

    if (error != 0)
        return error;
    error = find_fixed_topics(self, host);
    if (error == 0)
        error = consumer_start(self, host);
    if (error != 0) {
        free(self->fixed_topics);
        kafka_release(&self->kafka);
    }
    return error;
}

/* Leaves the group, so that others get the partitions at once. False: no answer until the deadline. */
static bool leave_group(struct kafka_source *self, int64_t deadline)
{
    rd_kafka_queue_t *queue = self->closing != NULL ? self->closing : rd_kafka_queue_new(self->kafka.rk);
    rd_kafka_error_t *error = self->closing != NULL ? NULL : rd_kafka_consumer_close_queue(self->kafka.rk, queue);
    bool is_closed = false;

    if (error != NULL)
        rd_kafka_error_destroy(error);
    while (error == NULL && !(is_closed = rd_kafka_consumer_closed(self->kafka.rk)) &&
           fms_now(self->kafka.host) < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 100);

        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            rd_kafka_assign(self->kafka.rk, NULL);
        rd_kafka_event_destroy(event);
    }
    if (!is_closed) /* or rd_kafka_destroy waits for ever for the answer to a revocation that came after the deadline */
        rd_kafka_assign(self->kafka.rk, NULL);
    rd_kafka_queue_destroy(queue);
    return is_closed;
}

static void consumer_end(struct kafka_source *self)
{
    int64_t deadline;
    bool has_left;

    search_cancel(self->search);
    if (self->must_answer)
        rd_kafka_assign(self->kafka.rk, NULL);
    deadline = fms_now(self->kafka.host) + CLOSE_PATIENCE;
    commit_now(self, deadline);
    search_free(self->search);
    has_left = leave_group(self, deadline);
    rd_kafka_queue_destroy(self->commits);
    kafka_stop(&self->kafka, has_left ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void kafka_source_close(void *instance)
{
    struct kafka_source *self = instance;

    self->is_closing = true;
    held_forget(self);
    if (self->kafka.rk != NULL) /* it was not fenced */
        consumer_end(self);
    partitions_forget(self);
    kafka_release(&self->kafka);
    if (self->seen != NULL)
        rd_kafka_topic_partition_list_destroy(self->seen);
    progress_drop(self);
    rd_kafka_mem_free(NULL, self->cluster);
    free(self->fixed_topics);
    free(self->held);
    free(self->partitions);
    free(self->slots);
}

/* ------------------------------------------------------------------------------------------------------------ probe */

/* What is committed is not of interest; the group's coordinator has to answer. */
static int probe_group(struct kafka_source *self, int64_t deadline)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t error;

    rd_kafka_topic_partition_list_add(list, self->fixed_topics[0], 0);
    error = rd_kafka_committed(self->kafka.rk, list, kafka_ms_until(self->kafka.host, deadline));
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fms_fail_option(self->kafka.host, "group", -EIO, "%s: its coordinator did not answer: %s", self->group,
                               rd_kafka_err2str(error));
    fms_report(self->kafka.host, "group %s: its coordinator answers", self->group);
    return 0;
}

static int kafka_source_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct kafka_source *self = instance;
    int error = find_fixed_topics(self, host);

    if (error == 0)
        error = kafka_probe(&self->kafka, RD_KAFKA_CONSUMER, make_conf(self, host), self->fixed_topics,
                            self->fixed_count, deadline);
    if (error == 0) {
        if (self->fixed_count > 0)
            error = probe_group(self, deadline);
        kafka_stop(&self->kafka, 0);
    }
    free(self->fixed_topics);
    self->fixed_topics = NULL;
    self->fixed_count = 0;
    return error;
}

/* How far what is settled is behind the end of the log, as the last answer to a fetch told that end, or a question for it. */
static int64_t partition_lag(struct kafka_source *self, const struct partition *partition)
{
    int64_t first = partition->position >= 0 ? partition->position : partition->begin;
    int64_t low, end = -1;

    if (first < 0)
        return 0;
    (void)rd_kafka_get_watermark_offsets(self->kafka.rk, partition->topic, partition->id, &low, &end);
    if (partition->end > end)
        end = partition->end;
    return end > first ? end - first : 0;
}

static void kafka_source_measure(void *instance)
{
    struct kafka_source *self = instance;
    int64_t lag = 0, most = 0;

    kafka_measure(&self->kafka);
    for (size_t i = 0; i < self->partition_count; i++) {
        int64_t its = partition_lag(self, self->partitions[i]);

        lag += its;
        most = its > most ? its : most;
    }
    fms_gauge(self->kafka.host, GAUGE_PARTITIONS, (double)self->partition_count);
    fms_gauge(self->kafka.host, GAUGE_LAG, (double)lag);
    fms_gauge(self->kafka.host, GAUGE_LAG_MOST, (double)most);
}

FMS_PLUGIN(.name = "kafka_source", .version = FMS_VERSION, .summary = "Consumes topics of Kafka as a member of a group",
           .options = kafka_source_options, .counters = kafka_source_counters, .gauges = kafka_source_gauges,
           .instance_size = sizeof(struct kafka_source), .check = kafka_source_check, .probe = kafka_source_probe,
           .open = kafka_source_open, .close = kafka_source_close, .source_poll = kafka_source_poll,
           .source_settled = kafka_source_settled, .source_progress = kafka_source_progress,
           .source_owns = kafka_source_owns, .source_stop = kafka_source_stop, .traits = FMS_TRAIT_LINK,
           .measure = kafka_source_measure);
