/* kafka_source - consumes topics as a member of a consumer group.
 *
 * An offset is committed when everything below it is settled. Each assigned partition keeps the offsets that it
 * emitted, in order, from the first unsettled one on; records are settled in any order, and the settled prefix moves
 * the position that the next commit takes along. A record's tag says generation and partition, and its place in that
 * partition, so that what is settled after its partition went elsewhere is told from what is not.
 *
 * rd_kafka_consumer_poll, message by message, is the one way into the pipeline that loses nothing in librdkafka 2.0.
 * Commits are made here and not by librdkafka, one at a time, so that none overtakes another. */
#include <errno.h>
#include <poll.h>
#include <regex.h>
#include <stdlib.h>

#include "../kafka_common/kafka_common.h"

#define BATCH            256u       /* messages a poll */
#define HEADERS_MAX      1000       /* of a record */
#define BLOCKED_PATIENCE FMS_SECOND /* then the group is served, with the partitions paused */
#define PAUSED_TICK      (50 * FMS_MS)
#define IDLE_TICK        FMS_SECOND /* at most, between polls, for max.poll.interval.ms */
#define CLOSE_PATIENCE   (5 * FMS_SECOND)

/* An assigned partition. */
struct partition {
    char *topic;
    int32_t id;
    int64_t *entries;    /* a ring of what was emitted, at `place & mask`: offset * 2, and 1 if settled */
    size_t capacity;     /* a power of two, or 0 */
    uint64_t head, tail; /* places: the first unsettled, the next to be used */
    int64_t position;    /* below it all is settled; -1: nothing was */
    bool is_dirty;       /* the position is not committed */
};

struct kafka_source {
    struct kafka kafka; /* first: librdkafka's opaque */
    struct fms_list topics;
    const char *group;
    int start;
    int64_t commit_interval, revoke_timeout;
    bool with_headers; /* librdkafka allocates to say that there are none */

    const char **fixed_topics; /* those that are no regular expression */
    size_t fixed_count;
    bool is_subscribed, is_stopped, is_closing;
    int error; /* that fails the pipeline */

    struct partition *partitions; /* by topic and id */
    size_t partition_count;
    struct partition *last; /* of the last message, which came as `last_rkt` and its partition's id */
    const rd_kafka_topic_t *last_rkt;
    uint32_t generation; /* of the assignment */

    rd_kafka_message_t **held; /* fetched, but there was no room */
    size_t held_count, held_capacity;
    struct partition *stuck;         /* the first held one waits for this partition's first unsettled record */
    size_t room_records, room_bytes; /* at the start */
    int64_t blocked_since;           /* 0: there is room */
    bool is_paused;

    rd_kafka_queue_t *commits; /* their results */
    bool is_committing;
    int64_t commit_at;

    struct fms_header headers[HEADERS_MAX];
};

enum { COUNTER_REBALANCES, COUNTER_COMMIT_ERRORS };

static const struct fms_option kafka_source_options[] = {
    {"topic", FMS_LIST, FMS_FIELD(struct kafka_source, topics, struct fms_list), FMS_REQUIRED, 0, 0, NULL,
     "topics to consume; one that begins with ^ is a regular expression", NULL, 0},
    FMS_OPT_STRING(struct kafka_source, group, FMS_REQUIRED,
                   "consumer group: its members share the partitions, and its committed offsets outlive them"),
    FMS_OPT_CHOICE(struct kafka_source, start, "latest", "latest|earliest",
                   "where to begin in a partition for which the group has no committed offset"),
    FMS_OPT_DURATION(struct kafka_source, commit_interval, "1s", FMS_MS, 3600 * FMS_SECOND,
                     "how often offsets are committed; so much is read again after a crash"),
    FMS_OPT_DURATION(struct kafka_source, revoke_timeout, "10s", 0, 240 * FMS_SECOND,
                     "how long partitions that go to another member wait for what is in flight"),
    FMS_OPT_BOOLEAN(struct kafka_source, with_headers, "yes",
                    "records carry the messages' headers; no: they are left out, which saves a tenth of the work"),
    KAFKA_OPTIONS(struct kafka_source),
    FMS_OPT_END,
};

static const struct fms_counter kafka_source_counters[] = {
    {"rebalances", "assignments of partitions to this member"},
    {"commit_errors", "commits that failed; the next one takes their offsets along"},
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
    const struct partition *a = left, *b = right;

    return partition_compare(a, b->topic, b->id);
}

static struct partition *partition_find(struct kafka_source *self, const char *topic, int32_t id)
{
    size_t low = 0, high = self->partition_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = partition_compare(&self->partitions[middle], topic, id);

        if (order == 0)
            return &self->partitions[middle];
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

static int64_t *partition_entry(struct partition *partition, uint64_t place)
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
        partition->position = *partition_entry(partition, partition->head) / 2 + 1;
        partition->is_dirty = true;
        partition->head++;
    }
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

/* What is settled from now on belongs to no partition. */
static void partitions_forget(struct kafka_source *self)
{
    for (size_t i = 0; i < self->partition_count; i++) {
        free(self->partitions[i].topic);
        free(self->partitions[i].entries);
    }
    free(self->partitions);
    self->partitions = NULL;
    self->partition_count = 0;
    self->last = NULL;
    self->last_rkt = NULL;
    self->generation++;
    held_forget(self);
}

static int partitions_set(struct kafka_source *self, const rd_kafka_topic_partition_list_t *list)
{
    partitions_forget(self);
    self->partitions = calloc((size_t)list->cnt + 1, sizeof *self->partitions);
    if (self->partitions == NULL)
        return -ENOMEM;
    for (int i = 0; i < list->cnt; i++) {
        struct partition *partition = &self->partitions[i];

        *partition = (struct partition){.id = list->elems[i].partition, .position = -1};
        partition->topic = strdup(list->elems[i].topic);
        if (partition->topic == NULL)
            return -ENOMEM;
        self->partition_count++;
    }
    qsort(self->partitions, self->partition_count, sizeof *self->partitions, partition_order);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- commits */

static rd_kafka_topic_partition_list_t *commit_list(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);

    for (size_t i = 0; i < self->partition_count; i++) {
        struct partition *partition = &self->partitions[i];

        if (partition->is_dirty)
            rd_kafka_topic_partition_list_add(list, partition->topic, partition->id)->offset = partition->position;
        partition->is_dirty = false;
    }
    return list;
}

static void commit_send(struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *list = commit_list(self);

    if (list->cnt > 0)
        self->is_committing = rd_kafka_commit_queue(self->kafka.rk, list, self->commits, NULL,
                                                    (void *)(uintptr_t)self->generation) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
}

/* While the group rebalances this is no error: the offsets go along with the next commit, or with the revoke. */
static bool is_passing(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS || error == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           error == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || error == RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST;
}

static void commit_failed(struct kafka_source *self, const rd_kafka_topic_partition_t *of, rd_kafka_resp_err_t error)
{
    struct partition *partition = partition_find(self, of->topic, of->partition);

    if (partition != NULL)
        partition->is_dirty = true;
    fms_count(self->kafka.host, COUNTER_COMMIT_ERRORS, 1);
    if (is_passing(error))
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
    if (list != NULL && rd_kafka_event_opaque(event) == (void *)(uintptr_t)self->generation) {
        for (int i = 0; i < list->cnt; i++) {
            rd_kafka_resp_err_t error = list->elems[i].err;

            if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
                error = rd_kafka_event_error(event);
            if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
                commit_failed(self, &list->elems[i], error);
        }
    }
    rd_kafka_event_destroy(event);
}

static void commit_on_time(struct kafka_source *self)
{
    int64_t now = fms_now(self->kafka.host);

    commit_finish(self, 0);
    if (self->is_committing || now < self->commit_at)
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

static void kafka_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct kafka_source *self = instance;
    struct partition *partition;

    (void)fate;
    if ((uint32_t)(record->tag[1] >> 32) != self->generation)
        return;
    partition = &self->partitions[(uint32_t)record->tag[1]];
    *partition_entry(partition, record->tag[0]) |= 1;
    if (record->tag[0] != partition->head)
        return;
    partition_advance(partition);
    if (partition == self->stuck)
        fms_wake(self->kafka.host);
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

static void assigned(struct kafka_source *self, rd_kafka_topic_partition_list_t *list)
{
    int error = partitions_set(self, list);

    if (error != 0) {
        self->error = fms_fail(self->kafka.host, error, "no memory for %d partitions", list->cnt);
        return;
    }
    rd_kafka_assign(self->kafka.rk, list);
    if (self->is_paused)
        pause_all(self, true);
    kafka_reached(&self->kafka);
    fms_count(self->kafka.host, COUNTER_REBALANCES, 1);
    fms_info(self->kafka.host, "group %s: %d partition%s assigned", self->group, list->cnt, list->cnt == 1 ? "" : "s");
}

/* The partitions are another member's afterwards: settle and commit while they are ours. */
static void revoked(struct kafka_source *self)
{
    const struct fms_host *host = self->kafka.host;
    size_t left = 0;

    held_forget(self);
    if (rd_kafka_assignment_lost(self->kafka.rk)) {
        fms_warn(host, "group %s: partitions are lost; what is in flight from them will be read again by others",
                 self->group);
    } else if (!self->is_closing && self->partition_count > 0) {
        left = fms_drain(host, fms_now(host) + self->revoke_timeout);
        commit_now(self, fms_now(host) + CLOSE_PATIENCE);
    }
    if (left > 0)
        fms_warn(host,
                 "group %s: %zu records were in flight when their partitions were revoked, and may be read again "
                 "by others; see revoke_timeout",
                 self->group, left);
    partitions_forget(self);
}

/* [lane], within rd_kafka_consumer_poll; [control] within close */
static void rebalanced(rd_kafka_t *rk, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_source *self = opaque;

    if (error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        assigned(self, list);
        return;
    }
    revoked(self);
    rd_kafka_assign(rk, NULL);
}

/* ----------------------------------------------------------------------------------------------------------- intake */

static struct fms_bytes bytes_or_absent(const void *data, size_t size)
{
    return fms_bytes_of(data, data == NULL ? 0 : size);
}

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
    if (rd_kafka_header_cnt(headers) > HEADERS_MAX)
        fms_warn(self->kafka.host, "%s [%d] at %lld: %zu headers, of which the first %d are kept",
                 rd_kafka_topic_name(message->rkt), message->partition, (long long)message->offset,
                 rd_kafka_header_cnt(headers), HEADERS_MAX);
    return n;
}

/* 0: emitted, or not ours any more; -EAGAIN: no room; another negative errno fails the pipeline. */
static int emit_message(struct kafka_source *self, const rd_kafka_message_t *message)
{
    struct partition *partition = partition_of(self, message);
    int64_t timestamp = rd_kafka_message_timestamp(message, NULL);
    struct fms_record draft = {
        .topic = fms_text(rd_kafka_topic_name(message->rkt)),
        .key = bytes_or_absent(message->key, message->key_len),
        .payload = bytes_or_absent(message->payload, message->len),
        .headers = self->headers,
        .timestamp = timestamp > 0 ? timestamp * FMS_MS : 0,
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
    draft.tag[1] = (uint64_t)self->generation << 32 | (uint64_t)(partition - self->partitions);
    error = fms_emit(self->kafka.host, &draft);
    if (error == 0)
        *partition_entry(partition, partition->tail++) = message->offset * 2;
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
        rd_kafka_fatal_error(self->kafka.rk, reason, sizeof reason);
        return fms_fail(host, -EIO, "group %s: the consumer can't go on: %s", self->group, reason);
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
    error = take_in(self, credit, wait);
    commit_on_time(self);
    if (kafka_created(&self->kafka, wait) && !self->is_subscribed && error == 0)
        error = subscribe(self);
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

    if (self->topics.count == 0)
        error = fms_fail_option(host, "topic", -EINVAL, "is empty: name at least one topic");
    for (size_t i = 0; i < self->topics.count; i++) {
        if (check_topic(host, self->topics.items[i]) != 0)
            error = -EINVAL;
    }
    if (self->group[0] == '\0')
        error = fms_fail_option(host, "group", -EINVAL, "is empty: name the consumer group");
    if (self->start == 0)
        fms_advise(host, "start",
                   "with latest, a group that has no committed offset yet skips what is in the topic "
                   "already, and what comes until it has joined; earliest reads it");
    return error;
}

static rd_kafka_conf_t *make_conf(struct kafka_source *self, const struct fms_host *host)
{
    const struct kafka_setting settings[] = {
        {"group.id", self->group},
        {"auto.offset.reset", self->start == 0 ? "latest" : "earliest"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {NULL, NULL},
    };

    return kafka_conf(&self->kafka, host, RD_KAFKA_CONSUMER, settings);
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

static int consumer_start(struct kafka_source *self, const struct fms_host *host)
{
    rd_kafka_conf_t *conf = make_conf(self, host);
    rd_kafka_queue_t *queue;
    int error;

    rd_kafka_conf_set_rebalance_cb(conf, rebalanced);
    error = kafka_start(&self->kafka, RD_KAFKA_CONSUMER, conf);
    if (error != 0)
        return error;
    rd_kafka_poll_set_consumer(self->kafka.rk);
    queue = rd_kafka_queue_get_consumer(self->kafka.rk);
    kafka_watch(&self->kafka, queue);
    rd_kafka_queue_destroy(queue);
    self->commits = rd_kafka_queue_new(self->kafka.rk);
    kafka_watch(&self->kafka, self->commits);
    kafka_create(&self->kafka, self->fixed_topics, self->fixed_count);
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
    rd_kafka_queue_t *queue = rd_kafka_queue_new(self->kafka.rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(self->kafka.rk, queue);
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

static void kafka_source_close(void *instance)
{
    struct kafka_source *self = instance;
    int64_t deadline = fms_now(self->kafka.host) + CLOSE_PATIENCE;
    bool has_left;

    self->is_closing = true;
    held_forget(self);
    commit_now(self, deadline);
    has_left = leave_group(self, deadline);
    partitions_forget(self);
    rd_kafka_queue_destroy(self->commits);
    kafka_stop(&self->kafka, has_left ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    kafka_release(&self->kafka);
    free(self->fixed_topics);
    free(self->held);
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

FMS_PLUGIN(.name = "kafka_source", .version = FMS_VERSION, .summary = "Consumes topics of Kafka as a member of a group",
           .options = kafka_source_options, .counters = kafka_source_counters,
           .instance_size = sizeof(struct kafka_source), .check = kafka_source_check, .probe = kafka_source_probe,
           .open = kafka_source_open, .close = kafka_source_close, .source_poll = kafka_source_poll,
           .source_settled = kafka_source_settled, .source_stop = kafka_source_stop);
