/* throttle - passes at most one record a key and interval.
 *
 * An interval begins when a record of its key passes. With `latest` the newest record that comes within it is kept,
 * unacknowledged, and passes when it ends, which begins the next one; what it replaced is dropped, which counts as
 * delivered. So the records of a key pass in their order, and the last one always does.
 *
 * A pipeline lets its transforms keep half of what may be in flight. How much that is shows in fms_room, so no option can
 * be set against it: a record that is too much to keep passes at once (counter `early`). */
#include <fms_plugin.h>

#include <errno.h>

#include "keys.h"

#define BOOKKEEPING 2048 /* more than a record takes beside its bytes, unless the pipeline has dozens of sinks */

enum which { WHICH_FIRST, WHICH_LATEST };
enum counter { COUNTER_PASSED, COUNTER_DROPPED, COUNTER_EARLY, COUNTER_FORGOTTEN };

struct throttle {
    const struct fms_template *key;
    int64_t interval;
    int which;
    int64_t max_keys;

    const struct fms_host *host;
    struct keys keys;
    size_t kept, kept_weight;
    size_t room, room_bytes; /* the most there ever was: at most what the pipeline may have in flight */
    bool is_timed;           /* transform_poll is called when the first interval ends */
    bool has_warned_of_room, has_warned_of_keys;
};

static const struct fms_option throttle_options[] = {
    FMS_OPT_DURATION(struct throttle, interval, FMS_REQUIRED, FMS_MS, 7 * 24 * 3600 * FMS_SECOND,
                     "time for which a key passes one record"),
    FMS_OPT_TEMPLATE(struct throttle, key, "${json:vehicle_id}", "what is passed once an interval"),
    FMS_OPT_CHOICE(struct throttle, which, "latest", "first|latest",
                   "first: what comes within an interval is dropped; latest: the newest of it passes when it ends"),
    FMS_OPT_INTEGER(struct throttle, max_keys, "100000", 1, 10000000,
                    "keys that are remembered; beyond it the one whose record passed longest ago is forgotten"),
    FMS_OPT_END,
};

static const struct fms_metric throttle_counters[] = {
    [COUNTER_PASSED] = {"passed", "records passed on"},
    [COUNTER_DROPPED] = {"dropped", "records dropped"},
    [COUNTER_EARLY] = {"early", "records among those, for which there was no room until their interval ended"},
    [COUNTER_FORGOTTEN] = {"forgotten", "keys forgotten within their interval, as there were more than max_keys"},
    {NULL, NULL},
};

enum { GAUGE_KEYS, GAUGE_KEYS_LIMIT, GAUGE_KEPT };

static const struct fms_metric throttle_gauges[] = {
    [GAUGE_KEYS] = {"keys", "keys that it remembers"},
    [GAUGE_KEYS_LIMIT] = {"keys_limit", "as many it may: max_keys"},
    [GAUGE_KEPT] = {"kept_records", "records that wait for their interval's end"},
    {NULL, NULL},
};

/* ---------------------------------------------------------------------------------------------------------- keeping */

/* Not less than the record counts for max_in_flight_bytes; the core may round it up to twice its size. */
static size_t record_weight(const struct fms_record *record)
{
    size_t size = record->topic.size + record->key.size + record->payload.size;

    for (size_t i = 0; i < record->header_count; i++)
        size += sizeof record->headers[i] + strlen(record->headers[i].name) + record->headers[i].value.size + 2;
    return 2 * (size + BOOKKEEPING);
}

static void throttle_keep(struct throttle *self, struct key *key, const struct fms_record *record, size_t weight)
{
    key->kept = record;
    key->weight = weight;
    self->kept++;
    self->kept_weight += weight;
}

/* The record that the key kept. */
static const struct fms_record *throttle_unkeep(struct throttle *self, struct key *key)
{
    const struct fms_record *record = key->kept;

    key->kept = NULL;
    self->kept--;
    self->kept_weight -= key->weight;
    return record;
}

static void throttle_pass_kept(struct throttle *self, struct key *key)
{
    fms_pass(self->host, throttle_unkeep(self, key));
    fms_count(self->host, COUNTER_PASSED, 1);
}

static void throttle_learn_room(struct throttle *self)
{
    size_t records, bytes;

    fms_room(self->host, &records, &bytes);
    self->room = records > self->room ? records : self->room;
    self->room_bytes = bytes > self->room_bytes ? bytes : self->room_bytes;
}

static bool throttle_can_keep(const struct throttle *self, size_t weight)
{
    return self->kept < self->room / 2 && weight <= self->room_bytes / 2 &&
           self->kept_weight <= self->room_bytes / 2 - weight;
}

/* -------------------------------------------------------------------------------------------------------- intervals */

static void throttle_begin_interval(struct throttle *self, struct key *key, int64_t now)
{
    key->ends = now > INT64_MAX - self->interval ? INT64_MAX : now + self->interval;
    key_list_append(&self->keys.in_interval, key);
}

/* Passes what the key, one in its interval, keeps, which begins its next one; a key that keeps nothing is idle. */
static void throttle_end_interval(struct throttle *self, struct key *key, int64_t now)
{
    key_list_remove(&self->keys.in_interval, key);
    if (key->kept == NULL) {
        key_list_append(&self->keys.idle, key);
        return;
    }
    throttle_pass_kept(self, key);
    throttle_begin_interval(self, key, now);
}

static void throttle_end_intervals(struct throttle *self, int64_t now)
{
    struct key *key;

    while ((key = self->keys.in_interval.head) != NULL && key->ends <= now)
        throttle_end_interval(self, key, now);
}

/* ------------------------------------------------------------------------------------------------------------- keys */

static void throttle_warn_of_keys(struct throttle *self)
{
    if (!self->has_warned_of_keys)
        fms_warn(self->host, "more than max_keys = %lld keys came within an interval; raise it, or records pass early",
                 (long long)self->max_keys);
    self->has_warned_of_keys = true;
}

/* Takes out of its list the key whose record passed longest ago, and passes what it keeps. NULL: there is room for one
 * more. */
static struct key *throttle_forget_one(struct throttle *self, int64_t now)
{
    struct key_list *list = self->keys.idle.head != NULL ? &self->keys.idle : &self->keys.in_interval;
    struct key *key = list->head;

    if (self->keys.count < self->keys.most)
        return NULL;
    key_list_remove(list, key);
    if (key->kept != NULL) {
        throttle_pass_kept(self, key);
        fms_count(self->host, COUNTER_EARLY, 1);
    }
    if (key->ends > now) {
        fms_count(self->host, COUNTER_FORGOTTEN, 1);
        throttle_warn_of_keys(self);
    }
    key->ends = now;
    return key;
}

/* In its interval, or in no list: then its interval is to begin. NULL: no memory. */
static struct key *throttle_find(struct throttle *self, struct fms_bytes name, int64_t now)
{
    struct key *key = keys_find(&self->keys, name), *victim;

    if (key != NULL) {
        if (key->ends <= now)
            key_list_remove(&self->keys.idle, key);
        return key;
    }
    victim = throttle_forget_one(self, now);
    key = keys_add(&self->keys, name, victim);
    if (key == NULL && victim != NULL)
        key_list_append(&self->keys.idle, victim);
    return key;
}

/* ---------------------------------------------------------------------------------------------------------- records */

static enum fms_verdict throttle_pass(struct throttle *self, struct key *key, int64_t now)
{
    throttle_begin_interval(self, key, now);
    fms_count(self->host, COUNTER_PASSED, 1);
    return FMS_PASS;
}

static enum fms_verdict throttle_pass_early(struct throttle *self, struct key *key, int64_t now)
{
    if (!self->has_warned_of_room)
        fms_warn(self->host,
                 "%zu records are kept, as many as half of max_in_flight and max_in_flight_bytes allow: others pass "
                 "before their interval ends; raise these",
                 self->kept);
    self->has_warned_of_room = true;
    fms_count(self->host, COUNTER_EARLY, 1);
    key_list_remove(&self->keys.in_interval, key);
    return throttle_pass(self, key, now);
}

/* The record takes the place of the one that its key kept. */
static enum fms_verdict throttle_replace(struct throttle *self, struct key *key, const struct fms_record *record,
                                         int64_t now)
{
    size_t weight = record_weight(record);

    if (key->kept != NULL) {
        fms_delivered(self->host, throttle_unkeep(self, key));
        fms_count(self->host, COUNTER_DROPPED, 1);
    }
    if (!throttle_can_keep(self, weight))
        throttle_learn_room(self);
    if (!throttle_can_keep(self, weight))
        return throttle_pass_early(self, key, now);
    throttle_keep(self, key, record, weight);
    if (!self->is_timed)
        fms_wake(self->host);
    self->is_timed = true;
    return FMS_KEPT;
}

static enum fms_verdict throttle_transform(void *instance, const struct fms_record *record)
{
    struct throttle *self = instance;
    int64_t now = fms_now(self->host);
    struct fms_bytes name;
    struct key *key;
    int error;

    throttle_end_intervals(self, now);
    error = fms_expand(self->host, self->key, record, &name);
    if (error != 0)
        return fms_reject(self->host, record, "key: %s", error == -ENOENT ? (const char *)name.data : strerror(-error));
    if (name.size > KEY_LENGTH)
        return fms_reject(self->host, record, "key: it has %zu bytes, more than %d", name.size, KEY_LENGTH);
    key = throttle_find(self, name, now);
    if (key == NULL) {
        fms_warn(self->host, "no memory for another key: its records pass; lower max_keys");
        return FMS_PASS;
    }
    if (key->ends <= now)
        return throttle_pass(self, key, now);
    if (self->which == WHICH_LATEST)
        return throttle_replace(self, key, record, now);
    fms_count(self->host, COUNTER_DROPPED, 1);
    return FMS_DROP;
}

/* At the start nothing is in flight, so that all the room there is shows. */
static int throttle_poll(void *instance, struct fms_wait *wait)
{
    struct throttle *self = instance;

    throttle_learn_room(self);
    throttle_end_intervals(self, fms_now(self->host));
    self->is_timed = self->kept > 0;
    if (self->is_timed)
        wait->deadline = self->keys.in_interval.head->ends;
    return 0;
}

static void throttle_flush(void *instance)
{
    struct throttle *self = instance;

    for (struct key *key = self->keys.in_interval.head; key != NULL; key = key->next) {
        if (key->kept != NULL)
            throttle_pass_kept(self, key);
    }
}

static void throttle_measure(void *instance)
{
    const struct throttle *self = instance;

    fms_gauge(self->host, GAUGE_KEYS, (double)self->keys.count);
    fms_gauge(self->host, GAUGE_KEYS_LIMIT, (double)self->max_keys);
    fms_gauge(self->host, GAUGE_KEPT, (double)self->kept);
}

/* ----------------------------------------------------------------------------------------------------- open, close */

static int throttle_open(void *instance, const struct fms_host *host)
{
    struct throttle *self = instance;

    self->host = host;
    return keys_init(&self->keys, (size_t)self->max_keys) == 0
               ? 0
               : fms_fail_option(host, "max_keys", -ENOMEM, "no memory for %lld keys", (long long)self->max_keys);
}

static void throttle_close(void *instance)
{
    struct throttle *self = instance;

    keys_free(&self->keys);
}

FMS_PLUGIN(.name = "throttle", .version = FMS_VERSION, .summary = "Passes at most one record a key and interval",
           .options = throttle_options, .counters = throttle_counters, .instance_size = sizeof(struct throttle),
           .open = throttle_open, .close = throttle_close, .transform = throttle_transform,
           .transform_poll = throttle_poll, .transform_flush = throttle_flush, .gauges = throttle_gauges,
           .measure = throttle_measure);
