/* transaction.c - see transaction.h.
 *
 * Who is fenced is told from who was only late by the journal: each producer signs it with a transaction of its own before anything
 * else, so that the newest record's life is whose turn it is. A producer that follows another of ours looks there first, and
 * where it finds somebody else it does not begin, for that would fence the other in turn, and both for ever. */
#include "transaction.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../kafka_common/kafka_progress.h"
#include "journal_topic.h"
#include "kafka_sink.h"

#define TICK_MS        500     /* between looks whether the thread must stop */
#define TIMEOUT_MS     "15000" /* readers wait so long for a transaction that nobody ends */
#define ABORT_MS       1000    /* at the end, so that readers need not wait for the time-out of a transaction */
#define FENCE_PATIENCE (2 * FMS_SECOND) /* for whoever fenced us to sign the journal */
#define TELL_AFTER     (5 * FMS_SECOND) /* of a beginning that does not come to an end */
#define JOURNAL_ROOM   256              /* messages that librdkafka's queue keeps free for the journal */
#define QUIET          (3 * FMS_MS)     /* without a new record: its source may wait for those that it has given */
#define PROMPT         2                /* transactions in a row, whose end is what the source waited for */
#define RECORD_BYTES   300u             /* of a record, beside its payload, as fms_room counts them */
#define WEIGHED        10000u           /* records with an identity, of which it is looked how many are repetitions */
#define SETTLE_MOST    1024u /* records, for the host goes through them several times: they stay in a core's cache */
#define JOURNAL_MARK                                                                                                   \
    ((uintptr_t)4) /* in librdkafka's opaque of a message of the journal: records are aligned to more */
#define JOURNAL_SHIFT 3
#define OPENING       JOURNAL_KEYS /* in the place of a slot: of no record of the journal */
#define OPENING_KEY   "-"

enum state {
    STATE_BEGINNING, /* the journal is read */
    STATE_READY,
    STATE_OPEN,
    STATE_FLUSHING,
    STATE_COMMITTING,
    STATE_SETTLING, /* committed: its records are settled as delivered */
    STATE_FAILED,   /* the producer is given up */
    STATE_FENCED,
};

enum task { TASK_NONE, TASK_BEGIN, TASK_FLUSH, TASK_COMMIT, TASK_ABORT, TASK_END };

/* What the thread works at. The lane writes to it while it rests, and reads from it then. */
struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    enum task task; /* under way, or asked for; TASK_NONE: it rests */
    bool is_new;    /* that was not seen by the thread yet */
    _Atomic bool must_stop;

    const struct fms_host *host;
    rd_kafka_t *producer, *consumer;
    struct journal_topic topic;
    size_t entries_most;
    rd_kafka_topic_partition_list_t *offsets; /* of a group, to be committed with the records; NULL: none */
    rd_kafka_consumer_group_metadata_t *group;
    bool must_prove; /* an earlier producer of ours has signed */
    uint64_t life[2];

    int error;     /* 0 or -errno; -ESTALE: somebody else has signed */
    bool is_fence; /* the error looks like one */
    char why[JOURNAL_WHY + 64];
    struct journal *journal; /* that was read */
};

struct transactions {
    enum state state;
    struct worker worker;
    char *topic, *prefix; /* of the journal */
    rd_kafka_topic_t *handle;
    struct journal *journal;
    struct journal_name name; /* of the transaction under way, or the next one */
    bool must_sign;
    bool looks_fenced; /* brokers have said so to this producer */
    bool has_written;  /* `records` are not only ends and repetitions */
    bool is_doubtful;  /* `records` are of one that may be committed, or not */

    const struct fms_record **records; /* of the transaction, in their order; NULL: settled by itself */
    size_t count, capacity;
    size_t settled;     /* so many of the first, after the commit */
    size_t bytes;       /* of them, about */
    size_t found;       /* where one was dropped last */
    size_t seen;        /* how many there were at the last look */
    int64_t seen_at;    /* when there was one more than before */
    int64_t commit_at;  /* at the latest */
    int64_t started_at; /* the last commit */
    int64_t settled_at; /* and its records; 0: more came before it began, or while it was made */
    unsigned prompt;    /* transactions in a row before which nothing came, but as soon as the last one was settled */
    size_t queue_most;  /* messages that librdkafka may hold */
    bool is_waited_for; /* not all that was offered was taken */
    unsigned weighed, repeated;
};

/* --------------------------------------------------------------------------------------------------------- the thread */

/* Somebody else may have the transactional id now; or the transaction took too long, for which brokers end it likewise. */
static bool is_fence(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR__FENCED || error == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           error == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

static int work_fail(struct worker *worker, int error, const char *what, rd_kafka_error_t *cause)
{
    worker->is_fence = is_fence(rd_kafka_error_code(cause));
    snprintf(worker->why, sizeof worker->why, "%s: %s", what, rd_kafka_error_string(cause));
    rd_kafka_error_destroy(cause);
    return error;
}

/* Whether to try again after this. */
static bool is_passing(const struct worker *worker, const rd_kafka_error_t *error)
{
    return rd_kafka_error_is_retriable(error) && !atomic_load(&worker->must_stop);
}

static int work_init(struct worker *worker)
{
    int64_t tell_at = fms_now(worker->host) + TELL_AFTER;
    rd_kafka_error_t *error;

    while ((error = rd_kafka_init_transactions(worker->producer, TICK_MS)) != NULL && is_passing(worker, error)) {
        if (fms_now(worker->host) >= tell_at) {
            fms_warn(worker->host, "its transactions can't begin yet: %s", rd_kafka_error_string(error));
            tell_at += TELL_AFTER;
        }
        rd_kafka_error_destroy(error);
    }
    return error == NULL ? 0 : work_fail(worker, -EIO, "its transactions can't begin", error);
}

static int work_read(struct worker *worker, struct journal **journal)
{
    char why[JOURNAL_WHY] = "it must stop";
    int error = journal_topic_make(&worker->topic, worker->producer, why);

    if (error == 0)
        error = journal_topic_read(&worker->topic, worker->producer, worker->consumer, worker->entries_most, journal,
                                   why);
    if (error != 0)
        snprintf(worker->why, sizeof worker->why, "topic %s of the journal: %s", worker->topic.name, why);
    return error;
}

/* Whether the newest record of the journal is ours still. */
static int work_prove(struct worker *worker)
{
    struct journal *journal = NULL;
    struct journal_name last;
    int error = work_read(worker, &journal);

    if (error == 0 && journal_last(journal, &last) && memcmp(last.life, worker->life, sizeof last.life) != 0)
        error = -ESTALE;
    journal_free(journal);
    return error;
}

static int work_begin(struct worker *worker)
{
    int error = worker->must_prove ? work_prove(worker) : 0;

    if (error == 0)
        error = work_init(worker);
    if (error == 0)
        error = work_read(worker, &worker->journal);
    return error;
}

/* The lane fetches the reports meanwhile. */
static int work_flush(struct worker *worker)
{
    while (rd_kafka_flush(worker->producer, TICK_MS) == RD_KAFKA_RESP_ERR__TIMED_OUT) {
        if (atomic_load(&worker->must_stop))
            return -EINTR;
    }
    return 0;
}

static void worker_drop_offsets(struct worker *worker)
{
    if (worker->offsets != NULL)
        rd_kafka_topic_partition_list_destroy(worker->offsets);
    if (worker->group != NULL)
        rd_kafka_consumer_group_metadata_destroy(worker->group);
    worker->offsets = NULL;
    worker->group = NULL;
}

static int work_offsets(struct worker *worker)
{
    rd_kafka_error_t *error;

    while ((error = rd_kafka_send_offsets_to_transaction(worker->producer, worker->offsets, worker->group, TICK_MS)) !=
               NULL &&
           is_passing(worker, error))
        rd_kafka_error_destroy(error);
    return error == NULL
               ? 0
               : work_fail(worker, -EIO, "a transaction could not take along the offsets of its group", error);
}

static int work_commit(struct worker *worker)
{
    int failed = worker->offsets != NULL ? work_offsets(worker) : 0;
    rd_kafka_error_t *error;

    worker_drop_offsets(worker);
    if (failed != 0)
        return failed;
    while ((error = rd_kafka_commit_transaction(worker->producer, TICK_MS)) != NULL && is_passing(worker, error))
        rd_kafka_error_destroy(error);
    return error == NULL ? 0 : work_fail(worker, -EIO, "the commit of a transaction failed", error);
}

static int work_abort(struct worker *worker)
{
    rd_kafka_error_t *error = rd_kafka_abort_transaction(worker->producer, ABORT_MS);

    return error == NULL ? 0 : work_fail(worker, -EIO, "a transaction could not be aborted", error);
}

static int work(struct worker *worker, enum task task)
{
    switch (task) {
    case TASK_BEGIN:
        return work_begin(worker);
    case TASK_FLUSH:
        return work_flush(worker);
    case TASK_COMMIT:
        return work_commit(worker);
    case TASK_ABORT:
        return work_abort(worker);
    default:
        return 0;
    }
}

static void *worker_run(void *opaque)
{
    struct worker *worker = opaque;
    enum task task;

    do {
        pthread_mutex_lock(&worker->lock);
        while (!worker->is_new)
            pthread_cond_wait(&worker->asked, &worker->lock);
        worker->is_new = false;
        task = worker->task;
        pthread_mutex_unlock(&worker->lock);
        worker->error = work(worker, task);
        pthread_mutex_lock(&worker->lock);
        worker->task = TASK_NONE;
        pthread_cond_broadcast(&worker->asked);
        pthread_mutex_unlock(&worker->lock);
        if (task != TASK_END && task != TASK_ABORT)
            fms_wake(worker->host);
    } while (task != TASK_END);
    return NULL;
}

static void worker_ask(struct worker *worker, enum task task)
{
    pthread_mutex_lock(&worker->lock);
    worker->task = task;
    worker->is_new = true;
    pthread_cond_broadcast(&worker->asked);
    pthread_mutex_unlock(&worker->lock);
}

static bool worker_rests(struct worker *worker)
{
    bool rests;

    pthread_mutex_lock(&worker->lock);
    rests = worker->task == TASK_NONE;
    pthread_mutex_unlock(&worker->lock);
    return rests;
}

static void worker_await(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->task != TASK_NONE)
        pthread_cond_wait(&worker->asked, &worker->lock);
    pthread_mutex_unlock(&worker->lock);
}

static int worker_start(struct worker *worker)
{
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->asked, NULL);
    return -pthread_create(&worker->thread, NULL, worker_run, worker);
}

/* The consumer is made anew for each beginning. */
static void worker_drop_consumer(struct worker *worker)
{
    if (worker->consumer != NULL)
        rd_kafka_destroy(worker->consumer);
    worker->consumer = NULL;
}

/* --------------------------------------------------------------------------------------------------- fates of records */

static void forget_records(struct transactions *own)
{
    own->count = own->settled = own->bytes = own->found = own->seen = 0;
    own->is_doubtful = own->has_written = false;
}

/* The next of them, at most so many. */
static void deliver_records(struct kafka_sink *self, size_t most)
{
    struct transactions *own = self->transactions;
    size_t end = own->count - own->settled > most ? own->settled + most : own->count;

    for (; own->settled < end; own->settled++) {
        if (own->records[own->settled] != NULL)
            fms_delivered(self->kafka.host, own->records[own->settled]);
    }
    if (end == own->count)
        forget_records(own);
}

static void retry_records(struct kafka_sink *self, const char *why)
{
    struct transactions *own = self->transactions;

    for (size_t i = 0; i < own->count; i++) {
        if (own->records[i] != NULL)
            fms_retry(self->kafka.host, own->records[i], "%s", why);
    }
    forget_records(own);
}

static int put_message(struct kafka_sink *self, const char *key, struct fms_bytes value, unsigned slot)
{
    struct transactions *own = self->transactions;
    char name[300];
    int size = snprintf(name, sizeof name, "%s%s", own->prefix, key);

    if (rd_kafka_produce(own->handle, 0, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value.data, value.size, name,
                         (size_t)size, (void *)((uintptr_t)slot << JOURNAL_SHIFT | JOURNAL_MARK)) != 0)
        return -EIO;
    self->unsettled++;
    return 0;
}

/* A broker lets so many messages be under way, and no more: a source that is there gives nothing before some are settled, and then at
 * once; which may be a commit later, where a sink of dead letters has to hear of their ends. */
static void note_promptness(struct transactions *own, int64_t now)
{
    int64_t others = own->settled_at - own->started_at + QUIET;
    bool is_prompt = own->settled_at != 0 && now - own->settled_at < others + QUIET;

    own->prompt = !is_prompt ? 0 : own->prompt < PROMPT ? own->prompt + 1 : PROMPT;
}

/* With the first record the journal's partition becomes part of the transaction, by a message without a value, which
 * readers pass over: one request tells the coordinator of both. librdkafka 2.0.2 waits a millisecond before each, and
 * does so by looking at the clock again and again. */
static void list_record(struct kafka_sink *self, const struct fms_record *record)
{
    struct transactions *own = self->transactions;

    if (own->count == 0) {
        own->commit_at = fms_now(self->kafka.host) + self->commit_interval;
        note_promptness(own, own->commit_at - self->commit_interval);
        (void)put_message(self, OPENING_KEY, fms_bytes_of(NULL, 0), OPENING); /* or the journal's records do it */
    }
    own->records[own->count++] = record;
    own->bytes += record->payload.size + RECORD_BYTES;
}

static void note(struct kafka_sink *self, const struct fms_record *record)
{
    if (record->identity != NULL && journal_note(self->transactions->journal, record->identity) != 0)
        kafka_sink_give_up(self); /* out of memory: what was noted is not known any more */
}

/* After a crash or an outage much comes again. But where most does for long, numbers are not what they are taken for. */
static void weigh(struct kafka_sink *self, bool is_repetition)
{
    struct transactions *own = self->transactions;

    own->repeated += is_repetition;
    if (++own->weighed < WEIGHED)
        return;
    if (own->repeated > WEIGHED / 2)
        fms_warn(
            self->kafka.host,
            "of the last %u records with a number %u were written before, and are not written again; where that goes "
            "on, several vehicles have one origin, or count from the beginning again: see origin and sequence of the "
            "source",
            own->weighed, own->repeated);
    own->weighed = own->repeated = 0;
}

bool transactions_knows(struct kafka_sink *self, const struct fms_record *record)
{
    const struct fms_identity *identity = record->identity;
    enum journal_verdict verdict;

    if (!fms_owns(self->kafka.host, record)) {
        list_record(self, record); /* it is another's to write */
        return true;
    }
    if (identity == NULL)
        return false;
    verdict = journal_judge(self->transactions->journal, identity);
    if (verdict == JOURNAL_UNSURE)
        fms_count(self->kafka.host, COUNTER_UNSURE, 1);
    if (verdict != JOURNAL_SEEN && !identity->is_end)
        return false;
    if (identity->is_end) {
        note(self, record);
    } else {
        fms_count(self->kafka.host, COUNTER_SUPPRESSED, 1);
        weigh(self, true);
    }
    list_record(self, record);
    return true;
}

void transactions_took(struct kafka_sink *self, const struct fms_record *record)
{
    self->transactions->has_written = true;
    note(self, record);
    if (record->identity != NULL)
        weigh(self, false);
    list_record(self, record);
}

/* They are reported nearly in the order in which they were taken. */
void transactions_drop(struct kafka_sink *self, const struct fms_record *record, rd_kafka_resp_err_t error)
{
    struct transactions *own = self->transactions;

    own->looks_fenced = own->looks_fenced || is_fence(error);
    for (size_t i = 0; i < own->count; i++) {
        size_t at = (own->found + i) % own->count;

        if (own->records[at] == record) {
            own->records[at] = NULL;
            own->found = at;
            return;
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- transactions */

static void give_up(struct kafka_sink *self, const char *why)
{
    char fatal[256];

    if (rd_kafka_fatal_error(self->kafka.rk, fatal, sizeof fatal) != RD_KAFKA_RESP_ERR_NO_ERROR)
        why = fatal;
    fms_warn(self->kafka.host, "a transaction is given up, and what is in it will be offered again: %s", why);
    kafka_sink_give_up(self);
}

static bool begin_transaction(struct kafka_sink *self)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(self->kafka.rk);

    if (error != NULL) {
        give_up(self, rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        return false;
    }
    self->transactions->state = STATE_OPEN;
    return true;
}

static bool has_room(struct transactions *own)
{
    size_t more = own->capacity == 0 ? 1024 : 2 * own->capacity;
    const struct fms_record **grown;

    if (own->count < own->capacity)
        return true;
    grown = realloc(own->records, more * sizeof(*grown));
    if (grown == NULL)
        return false;
    own->records = grown;
    own->capacity = more;
    return true;
}

bool transactions_may_write(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (own->state == STATE_READY && !own->must_sign && !begin_transaction(self))
        return false;
    own->is_waited_for = own->state != STATE_OPEN || self->unsettled >= own->queue_most || !has_room(own);
    return !own->is_waited_for;
}

/* The offsets of a source that is a member of a group of this cluster, as they will be when these records are settled. False: some of
 * them are another member's by now. */
static bool take_progress(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;
    const struct kafka_progress *progress;
    struct fms_bytes bytes;
    char *cluster;
    int error = fms_progress(self->kafka.host, own->records, own->count, &bytes);

    if (error == -ESTALE)
        return false;
    progress = error == 0 ? kafka_progress_of(bytes) : NULL;
    cluster = progress != NULL && progress->offsets->cnt > 0 ? rd_kafka_clusterid(self->kafka.rk, 0) : NULL;
    if (cluster == NULL)
        return true;
    if (strcmp(cluster, progress->cluster) == 0) {
        *progress->is_taken = true;
        own->worker.offsets = rd_kafka_topic_partition_list_copy(progress->offsets);
        rd_kafka_error_destroy(
            rd_kafka_consumer_group_metadata_read(&own->worker.group, progress->group.data, progress->group.size));
    }
    rd_kafka_mem_free(self->kafka.rk, cluster);
    return true;
}

/* One record of the journal. */
static int put_record(void *opaque, const char *key, struct fms_bytes value, unsigned slot)
{
    return put_message(opaque, key, value, slot);
}

static void start_commit(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (own->state == STATE_READY && !begin_transaction(self))
        return;
    own->started_at = fms_now(self->kafka.host);
    if (!take_progress(self)) {
        give_up(self, "its source has lost the partition of some of its records to another member of the group");
        return;
    }
    if (journal_write(own->journal, own->name, put_record, self) < 0) {
        give_up(self, rd_kafka_err2str(rd_kafka_last_error()));
        return;
    }
    own->state = STATE_FLUSHING;
    worker_ask(&own->worker, TASK_FLUSH);
}

bool transactions_reported(struct kafka_sink *self, const rd_kafka_message_t *message)
{
    uintptr_t word = (uintptr_t)message->_private;
    unsigned slot = (unsigned)(word >> JOURNAL_SHIFT);

    if ((word & JOURNAL_MARK) == 0)
        return false;
    if (self->is_closing || self->is_broken)
        return true;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset >= 0) {
        if (slot != OPENING)
            journal_stored(self->transactions->journal, slot, message->offset);
    } else {
        give_up(self, message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? "a record of the journal was not confirmed"
                                                                 : rd_kafka_err2str(message->err));
    }
    return true;
}

static void has_committed(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    fms_observe(self->kafka.host, DURATION_COMMIT, fms_now(self->kafka.host) - own->started_at);
    fms_count(self->kafka.host, COUNTER_TRANSACTIONS, 1);
    own->state = STATE_SETTLING;
    own->must_sign = false;
    own->worker.must_prove = true;
    own->name.transaction++;
    kafka_sink_note_progress(self);
}

/* Whether the source gave nothing for a while before the commit, nor since. */
static bool was_quiet(const struct transactions *own)
{
    return own->started_at - own->seen_at >= QUIET && !own->is_waited_for;
}

static void settle_some(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    deliver_records(self, SETTLE_MOST);
    if (own->count == 0) {
        own->state = STATE_READY;
        own->settled_at = was_quiet(own) ? fms_now(self->kafka.host) : 0;
    }
    if (own->count > 0 || own->is_waited_for)
        fms_wake(self->kafka.host);
}

/* Whether the doubtful one was committed. */
static bool was_committed(const struct transactions *own)
{
    struct journal_name last;

    return journal_last(own->journal, &last) && memcmp(last.life, own->name.life, sizeof last.life) == 0 &&
           last.transaction >= own->name.transaction;
}

static void has_begun(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    journal_free(own->journal);
    own->journal = own->worker.journal;
    own->worker.journal = NULL;
    worker_drop_consumer(&own->worker);
    own->handle = rd_kafka_topic_new(self->kafka.rk, own->topic, NULL);
    own->state = STATE_READY;
    own->must_sign = true;
    if (own->is_doubtful && was_committed(own)) {
        fms_info(self->kafka.host, "the last transaction was committed, as the journal says: %zu records", own->count);
        deliver_records(self, own->count);
    } else if (own->is_doubtful) {
        retry_records(self, "its transaction was not committed");
    }
    own->name.transaction++;
}

/* A task has come to its end. */
static void judge_begun(struct kafka_sink *self)
{
    struct worker *worker = &self->transactions->worker;

    if (worker->error == 0) {
        has_begun(self);
        return;
    }
    worker_drop_consumer(worker);
    if (worker->error == -ESTALE) {
        self->transactions->state = STATE_FENCED;
        return;
    }
    if (!atomic_load(&worker->must_stop))
        fms_warn(self->kafka.host, "no transaction can begin, trying again: %s", worker->why);
    kafka_sink_give_up(self);
}

static void judge_flushed(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (self->unsettled > 0 || self->is_broken)
        return; /* the last reports are on their way; or it is over */
    own->state = STATE_COMMITTING;
    worker_ask(&own->worker, TASK_COMMIT);
}

static void judge_committed(struct kafka_sink *self)
{
    if (self->transactions->worker.error == 0)
        has_committed(self);
    else
        kafka_sink_give_up(self); /* and transactions_return finds out */
}

/* It holds half of what may be in flight: what comes while it is committed needs the other half. */
static bool is_large(const struct kafka_sink *self)
{
    const struct transactions *own = self->transactions;
    size_t records, bytes;

    fms_room(self->kafka.host, &records, &bytes);
    return own->count >= records || own->bytes >= bytes;
}

/* When the transaction is to be committed: soon where nothing more comes, but not more often than once in commit_interval, for a
 * transaction costs what a hundred records do; unless that is what its source waits for. */
static int64_t commits_at(struct kafka_sink *self, int64_t now)
{
    struct transactions *own = self->transactions;
    int64_t early;

    if (own->seen != own->count)
        own->seen_at = now;
    own->seen = own->count;
    if (self->must_replace || is_large(self))
        return now;
    early = own->seen_at + QUIET;
    if (own->has_written && own->prompt < PROMPT && early < own->started_at + self->commit_interval)
        early = own->started_at + self->commit_interval;
    return early < own->commit_at ? early : own->commit_at;
}

static void look_for_commit(struct kafka_sink *self, struct fms_wait *wait)
{
    struct transactions *own = self->transactions;
    int64_t now, at = FMS_NEVER;

    if (own->state == STATE_OPEN && own->count > 0) {
        now = fms_now(self->kafka.host);
        at = commits_at(self, now);
        at = at > now ? at : 0;
    } else if (own->state == STATE_READY && own->must_sign) {
        at = 0;
    }
    if (at == 0)
        start_commit(self);
    else if (wait->deadline > at)
        wait->deadline = at;
}

void transactions_poll(struct kafka_sink *self, struct fms_wait *wait)
{
    struct transactions *own = self->transactions;

    if (self->is_broken || own->state == STATE_FENCED || own->state == STATE_FAILED)
        return;
    if (own->state != STATE_READY && own->state != STATE_OPEN && own->state != STATE_SETTLING) {
        if (!worker_rests(&own->worker))
            return;
        if (own->state == STATE_BEGINNING)
            judge_begun(self);
        else if (own->state == STATE_FLUSHING)
            judge_flushed(self);
        else
            judge_committed(self);
    }
    if (own->state == STATE_SETTLING)
        settle_some(self);
    look_for_commit(self, wait);
    if (own->state == STATE_OPEN && own->is_waited_for && self->unsettled < own->queue_most / 2) {
        own->is_waited_for = false;
        fms_wake(self->kafka.host);
    }
}

/* ------------------------------------------------------------------------------------------------------- the producer */

void transactions_configure(struct kafka_sink *self, rd_kafka_conf_t *conf)
{
    char linger[24];

    rd_kafka_conf_set(conf, "transactional.id", self->transactional_id, NULL, 0);
    if (!kafka_sink_is_configured(self, "transaction.timeout.ms"))
        rd_kafka_conf_set(conf, "transaction.timeout.ms", TIMEOUT_MS, NULL, 0);
    /* Nobody sees a record before the commit, which sends what is left. */
    snprintf(linger, sizeof linger, "%lld", (long long)(self->commit_interval / 2 / FMS_MS));
    if (self->kafka.profile == KAFKA_REALTIME && !kafka_sink_is_configured(self, "linger.ms"))
        rd_kafka_conf_set(conf, "linger.ms", linger, NULL, 0);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
}

static rd_kafka_t *make_consumer(struct kafka_sink *self)
{
    static const struct kafka_setting settings[] = {
        {"enable.partition.eof", "true"},
        {"isolation.level", "read_committed"},
        {"fetch.wait.max.ms", "10"},
        {"fetch.min.bytes", "1"},
        {"statistics.interval.ms", "0"},
        {"allow.auto.create.topics", "false"},
        {"check.crcs", "true"},
        {"log_level", "3"}, /* else it tells that it has no use for the producer's properties */
        {NULL, NULL},
    };
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, self->kafka.host, RD_KAFKA_CONSUMER, settings);

    rd_kafka_conf_set_error_cb(conf, NULL); /* it is not served on the lane */
    rd_kafka_conf_set_stats_cb(conf, NULL);
    return kafka_make(&self->kafka, RD_KAFKA_CONSUMER, conf);
}

int transactions_start(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;
    int64_t most = self->producer.queue_most;

    own->queue_most = most > 2 * JOURNAL_ROOM ? (size_t)most - JOURNAL_ROOM : (size_t)(most + 1) / 2;
    own->worker.producer = self->kafka.rk;
    own->worker.consumer = make_consumer(self);
    if (own->worker.consumer == NULL)
        return -ENOMEM;
    own->state = STATE_BEGINNING;
    own->looks_fenced = false;
    atomic_store(&own->worker.must_stop, false);
    worker_ask(&own->worker, TASK_BEGIN);
    return 0;
}

bool transactions_let_go(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (!self->is_broken && (own->count > 0 || own->state == STATE_FLUSHING || own->state == STATE_COMMITTING))
        return false;
    if (!worker_rests(&own->worker)) {
        if (own->state == STATE_BEGINNING)
            atomic_store(&own->worker.must_stop, true);
        return false;
    }
    worker_drop_consumer(&own->worker);
    worker_drop_offsets(&own->worker);
    journal_free(own->worker.journal);
    own->worker.journal = NULL;
    if (own->handle != NULL)
        rd_kafka_topic_destroy(own->handle);
    own->handle = NULL;
    return true;
}

bool transactions_return(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;
    bool was_committing = own->state == STATE_COMMITTING;

    if (!worker_rests(&own->worker)) {
        if (own->state == STATE_BEGINNING)
            atomic_store(&own->worker.must_stop, true);
        return false;
    }
    if (was_committing && own->worker.error == 0)
        has_committed(self);
    if (own->state == STATE_SETTLING) {
        deliver_records(self, own->count);
    } else if (was_committing) {
        own->is_doubtful = true;
        fms_count(self->kafka.host, COUNTER_ABORTED, 1);
        fms_warn(self->kafka.host, "whether a transaction was committed is to be found out: %s", own->worker.why);
        own->looks_fenced = own->looks_fenced || own->worker.is_fence;
    }
    own->looks_fenced = own->looks_fenced || is_fence(rd_kafka_fatal_error(self->kafka.rk, NULL, 0));
    if (own->looks_fenced && own->state != STATE_FAILED)
        self->restart_at = fms_now(self->kafka.host) + FENCE_PATIENCE;
    own->state = STATE_FAILED;
    if (!own->is_doubtful && own->count > 0) {
        fms_count(self->kafka.host, COUNTER_ABORTED, 1);
        retry_records(self, "its transaction was not committed");
    }
    return true;
}

bool transactions_is_fenced(const struct kafka_sink *self)
{
    return self->transactions->state == STATE_FENCED;
}

void transactions_measure(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (own->journal == NULL)
        return;
    fms_gauge(self->kafka.host, GAUGE_JOURNAL_ENTRIES, (double)journal_entries(own->journal));
    fms_gauge(self->kafka.host, GAUGE_JOURNAL_BYTES, (double)journal_bytes(own->journal));
}

/* ------------------------------------------------------------------------------------------------------ open and close */

static char *text_of(const char *format, const char *id)
{
    char *text = NULL;

    return asprintf(&text, format, id) >= 0 ? text : NULL;
}

int transactions_open(struct kafka_sink *self)
{
    struct transactions *own = calloc(1, sizeof *own);

    if (own == NULL)
        return -ENOMEM;
    own->topic = self->journal != NULL ? strdup(self->journal) : text_of("%s-journal", self->transactional_id);
    own->prefix = text_of("%s/", self->transactional_id);
    if (own->topic == NULL || own->prefix == NULL || getrandom(own->name.life, sizeof own->name.life, 0) < 0 ||
        worker_start(&own->worker) != 0) {
        free(own->topic);
        free(own->prefix);
        free(own);
        return -ENOMEM;
    }
    own->worker.host = self->kafka.host;
    own->worker.topic = (struct journal_topic){.host = self->kafka.host,
                                               .name = own->topic,
                                               .prefix = own->prefix,
                                               .replication = self->kafka.replication > 0 ? (int)self->kafka.replication
                                                                                          : -1,
                                               .must_stop = &own->worker.must_stop};
    own->worker.entries_most = (size_t)self->journal_entries;
    memcpy(own->worker.life, own->name.life, sizeof own->name.life);
    self->transactions = own;
    return 0;
}

void transactions_stop(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;
    struct worker *worker = &own->worker;

    atomic_store(&worker->must_stop, true);
    worker_await(worker);
    if (self->kafka.rk != NULL && !self->kafka.is_fatal && (own->state == STATE_OPEN || own->state == STATE_FLUSHING)) {
        rd_kafka_purge(self->kafka.rk,
                       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
        worker_ask(worker, TASK_ABORT);
        while (!worker_rests(worker)) { /* it waits for the reports */
            kafka_sink_fetch_reports(self);
            poll(NULL, 0, 1);
        }
    }
    worker_ask(worker, TASK_END);
    pthread_join(worker->thread, NULL);
    if (own->handle != NULL)
        rd_kafka_topic_destroy(own->handle);
    worker_drop_consumer(worker);
    worker_drop_offsets(worker);
}

void transactions_close(struct kafka_sink *self)
{
    struct transactions *own = self->transactions;

    if (own == NULL)
        return;
    pthread_mutex_destroy(&own->worker.lock);
    pthread_cond_destroy(&own->worker.asked);
    journal_free(own->worker.journal);
    journal_free(own->journal);
    free(own->records);
    free(own->topic);
    free(own->prefix);
    free(own);
    self->transactions = NULL;
}
