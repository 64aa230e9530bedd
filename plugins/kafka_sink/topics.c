/* topics.c - see topics.h. One request is under way at a time: limits of many topics, which say as well whether they are there, or
 * the creation of some. */
#include "topics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKED_MOST          200 /* topics in one request */
#define CREATED_MOST        50
#define TRIED_MOST          1000              /* librdkafka's search for them grows with the square */
#define REFUSED_MOST        4096              /* that are remembered */
#define ROUND               (60 * FMS_SECOND) /* between questions for limits */
#define REST                10u               /* rounds after which an unused topic is forgotten */
#define REFUSED_FOR         (10 * FMS_SECOND) /* then the topic may have been made */
#define RELAPSES_MOST       5u                /* that double it: to five minutes */
#define ANSWER_PATIENCE     (10 * FMS_SECOND)
#define CONTROLLER_PATIENCE (2 * FMS_SECOND) /* of a cluster that answers, but names none */
#define CLUSTER_TICK        (100 * FMS_MS)   /* between looks whether it answers */
#define FIXED_PATIENCE      (500 * FMS_MS)   /* with a broker that has not heard of what its controller has made */
#define FIXED_AGAIN         (50 * FMS_MS)
#define PROBE_PATIENCE      (3 * FMS_SECOND)
#define ASK_AGAIN           FMS_SECOND
#define CREATION_PATIENCE   (30 * FMS_SECOND) /* with what may pass: too few brokers, throttling */
#define FAILURES_MOST       3u                /* of requests in a row, until librdkafka has to find out */
#define MISSES_MOST         10u /* that it does not find a topic that brokers say is there: their metadata are late */

static const struct topic_limits no_limits = {NO_LIMIT, NO_LIMIT, NO_LIMIT, false};

/* ------------------------------------------------------------------------------------------------------------ table */

static int topic_compare(const struct topic *topic, struct fms_bytes name)
{
    size_t size = topic->name_size;
    int order = name.data == NULL ? 0 : memcmp(topic->name, name.data, size < name.size ? size : name.size);

    return order != 0 ? order : (size > name.size) - (size < name.size);
}

/* The place of the first topic whose name is not before `name`. */
static size_t topics_place(const struct topics *topics, struct fms_bytes name)
{
    size_t low = 0, high = topics->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (topic_compare(topics->items[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct topic *topics_find(const struct topics *topics, struct fms_bytes name)
{
    size_t place = topics_place(topics, name);

    return place < topics->count && topic_compare(topics->items[place], name) == 0 ? topics->items[place] : NULL;
}

static void topic_want(struct topics *topics, struct topic *topic, enum topic_want want)
{
    topics->wanting += want != WANT_NOTHING;
    topics->wanting -= topic->want != WANT_NOTHING;
    topic->want = want;
    topics->look_at = 0;
}

static void topic_enter(struct topics *topics, struct topic *topic, enum topic_state state)
{
    topics->tried += (size_t)(state == TOPIC_TRIED) - (size_t)(topic->state == TOPIC_TRIED);
    topics->refused += (size_t)(state == TOPIC_REFUSED) - (size_t)(topic->state == TOPIC_REFUSED);
    topic->state = state;
}

static void topic_drop_handle(struct topic *topic)
{
    if (topic->handle != NULL)
        rd_kafka_topic_destroy(topic->handle);
    topic->handle = NULL;
}

/* Brokers are asked for it. */
static void topic_ask(struct topics *topics, struct topic *topic)
{
    topic_enter(topics, topic, TOPIC_ASKED);
    topic->asked_at = fms_now(topics->kafka->host);
    topic->ask_at = 0;
    if (!topics->cannot_describe)
        topic_want(topics, topic, WANT_LIMITS);
    else
        topic_want(topics, topic, topics->kafka->create_topic && !topics->cannot_create ? WANT_CREATION : WANT_TRIAL);
}

static void topic_free(struct topics *topics, struct topic *topic)
{
    topic_want(topics, topic, WANT_NOTHING);
    topic_enter(topics, topic, TOPIC_ASKED);
    topic_drop_handle(topic);
    free(topic->refusal);
    free(topic);
}

static void topics_remove(struct topics *topics, size_t place)
{
    topics->last = NULL;
    topic_free(topics, topics->items[place]);
    memmove(&topics->items[place], &topics->items[place + 1], (--topics->count - place) * sizeof(*topics->items));
}

/* Makes room for this one to be refused. */
static void topics_forget_refused(struct topics *topics, const struct topic *topic)
{
    for (size_t i = 0; topics->refused >= REFUSED_MOST && i < topics->count; i++) {
        size_t place = topics->next_victim++ % topics->count;

        if (topics->items[place]->state == TOPIC_REFUSED && topics->items[place]->waiting == 0 &&
            topics->items[place] != topic)
            topics_remove(topics, place);
    }
}

static bool topics_grow(struct topics *topics)
{
    size_t capacity = topics->capacity == 0 ? 16 : 2 * topics->capacity;
    struct topic **items;

    if (topics->count < topics->capacity)
        return true;
    items = realloc(topics->items, capacity * sizeof(*items));
    if (items == NULL)
        return false;
    topics->items = items;
    topics->capacity = capacity;
    return true;
}

static struct topic *topics_add(struct topics *topics, struct fms_bytes name)
{
    struct topic *topic = name.data != NULL && topics_grow(topics) ? calloc(1, sizeof *topic + name.size + 1) : NULL;
    size_t place = topics_place(topics, name);

    if (topic == NULL)
        return NULL;
    memcpy(topic->name, name.data, name.size);
    topic->name_size = name.size;
    topic->limits = no_limits;
    topic->batch_bytes = NO_LIMIT;
    topic->used = topics->round;
    memmove(&topics->items[place + 1], &topics->items[place], (topics->count++ - place) * sizeof(*topics->items));
    return topics->items[place] = topic;
}

struct topic *topics_fix(struct topics *topics, const char *name)
{
    struct topic *topic = topics_add(topics, fms_text(name));

    if (topic == NULL)
        return NULL;
    topic->is_fixed = true;
    topic_enter(topics, topic, TOPIC_THERE);
    return topic;
}

static bool has_room(const struct topics *topics)
{
    return topics->count - topics->refused < (size_t)topics->max;
}

struct topic *topics_get(struct topics *topics, struct fms_bytes name, bool *must_wait)
{
    struct topic *topic = topics->last;

    if (topic == NULL || topic_compare(topic, name) != 0)
        topic = topics_find(topics, name);
    if (topic != NULL) {
        if (topic->state == TOPIC_REFUSED && topic->waiting == 0 && has_room(topics) &&
            fms_now(topics->kafka->host) >= topic->refused_until)
            topic_ask(topics, topic);
        topic->used = topics->round;
        return topics->last = topic;
    }
    *must_wait = topics->wanting > 0 || topics->tried > 0;
    if (!has_room(topics))
        return NULL;
    topic = topics_add(topics, name);
    if (topic != NULL)
        topic_ask(topics, topic);
    return topic;
}

int64_t topics_batch_bytes(const struct topics *topics)
{
    int64_t least = NO_LIMIT;

    for (size_t i = 0; i < topics->count; i++) {
        if (topics->items[i]->batch_bytes < least)
            least = topics->items[i]->batch_bytes;
    }
    return least;
}

/* ---------------------------------------------------------------------------------------------------------- verdicts */

void topic_refuse(struct topics *topics, struct topic *topic, const char *why)
{
    char *refusal = strdup(why != NULL ? why : "no reason given");

    topics_forget_refused(topics, topic);
    free(topic->refusal);
    topic->refusal = refusal;
    topic->refused_until = fms_now(topics->kafka->host) + (REFUSED_FOR << topic->relapses);
    topic_want(topics, topic, WANT_NOTHING);
    topic_enter(topics, topic, TOPIC_REFUSED);
    topic_drop_handle(topic);
}

void topic_refuse_again(struct topics *topics, struct topic *topic, const char *why)
{
    topic_refuse(topics, topic, why);
    topic->relapses += topic->relapses < RELAPSES_MOST;
}

void topic_proved(struct topics *topics, struct topic *topic)
{
    if (topic->state == TOPIC_TRIED)
        topic_enter(topics, topic, TOPIC_THERE);
}

bool topic_missed(struct topics *topics, struct topic *topic, const char *why)
{
    if (topic->state == TOPIC_ASKED || topic->state == TOPIC_REFUSED)
        return topic->state == TOPIC_REFUSED;
    if (topic->state == TOPIC_THERE && topic->failures++ < MISSES_MOST) {
        topic_ask(topics, topic);
        topic->ask_at = topic->asked_at + ASK_AGAIN;
        topic_drop_handle(topic);
        return false;
    }
    topic_refuse(topics, topic, why);
    return true;
}

void topic_doubt(struct topics *topics, struct topic *topic)
{
    topic->asked_at = fms_now(topics->kafka->host);
    if (topic->want == WANT_NOTHING && !topics->cannot_describe)
        topic_want(topics, topic, WANT_LIMITS);
}

void topic_teach(struct topics *topics, struct topic *topic, int64_t size)
{
    topic->taught_at = fms_now(topics->kafka->host);
    if (topic->limits.size > size)
        topic->limits.size = size;
}

void topic_teach_batch(struct topic *topic, int64_t size)
{
    if (topic->batch_bytes > size)
        topic->batch_bytes = size;
}

/* What a refusal has taught of a limit that can't be read may be true no more. */
static void topic_unlearn(const struct topics *topics, struct topic *topic)
{
    if (fms_now(topics->kafka->host) - topic->taught_at > ROUND)
        topic->limits.size = NO_LIMIT;
}

/* Brokers have no more to say. */
static void topic_try(struct topics *topics, struct topic *topic)
{
    topic_want(topics, topic, topic->state == TOPIC_ASKED ? WANT_TRIAL : WANT_NOTHING);
}

static void topic_is_there(struct topics *topics, struct topic *topic)
{
    topic->was_there = true;
    if (topic->state == TOPIC_ASKED)
        topic_enter(topics, topic, TOPIC_THERE);
}

static void topic_is_missing(struct topics *topics, struct topic *topic, const char *why)
{
    int64_t now = fms_now(topics->kafka->host);

    if (topic->is_fixed && now - topic->asked_at < FIXED_PATIENCE)
        topic->ask_at = now + FIXED_AGAIN;
    else if (topic->state != TOPIC_ASKED)
        topic_want(topics, topic, WANT_NOTHING); /* records will show */
    else if (!topics->kafka->create_topic)
        topic_refuse(topics, topic, why);
    else
        topic_want(topics, topic, WANT_CREATION);
}

/* It can't be said: it may be there all the same. */
static void topic_is_hidden(struct topics *topics, struct topic *topic)
{
    topic_unlearn(topics, topic);
    if (topic->state == TOPIC_ASKED && topics->kafka->create_topic && !topics->cannot_create &&
        topic->want != WANT_CREATION)
        topic_want(topics, topic, WANT_CREATION);
    else
        topic_try(topics, topic);
}

/* ----------------------------------------------------------------------------------------------------------- answers */

static int64_t limit_of(const char *value)
{
    char *end;
    long long limit;

    errno = 0;
    limit = strtoll(value, &end, 10);
    return errno != 0 || *end != '\0' || end == value || limit < 0 ? NO_LIMIT : limit;
}

static struct topic_limits limits_of(const rd_kafka_ConfigResource_t *resource)
{
    struct topic_limits limits = no_limits;
    bool is_timed_by_broker = false;
    size_t count;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);

    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]), *value = rd_kafka_ConfigEntry_value(entries[i]);

        if (value == NULL)
            continue;
        if (strcmp(name, "max.message.bytes") == 0)
            limits.size = limit_of(value);
        else if (strcmp(name, "message.timestamp.type") == 0)
            is_timed_by_broker = strcmp(value, "LogAppendTime") == 0;
        else if (strcmp(name, "message.timestamp.before.max.ms") == 0)
            limits.before = limit_of(value);
        else if (strcmp(name, "message.timestamp.after.max.ms") == 0)
            limits.after = limit_of(value);
        else if (strcmp(name, "cleanup.policy") == 0)
            limits.needs_key = strstr(value, "compact") != NULL;
    }
    if (is_timed_by_broker)
        limits.before = limits.after = NO_LIMIT;
    return limits;
}

static void take_limits(struct topics *topics, const rd_kafka_ConfigResource_t *resource)
{
    struct topic *topic = topics_find(topics, fms_text(rd_kafka_ConfigResource_name(resource)));
    rd_kafka_resp_err_t error = rd_kafka_ConfigResource_error(resource);

    if (topic == NULL || topic->want != WANT_LIMITS)
        return;
    switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        topic->limits = limits_of(resource);
        topic->batch_bytes = topic->limits.size;
        topic_want(topics, topic, WANT_NOTHING);
        topic_is_there(topics, topic);
        break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        topic_is_missing(topics, topic, rd_kafka_err2str(error));
        break;
    default:
        topic_is_hidden(topics, topic);
    }
}

static void take_creation(struct topics *topics, const rd_kafka_topic_result_t *result)
{
    const struct fms_host *host = topics->kafka->host;
    struct topic *topic = topics_find(topics, fms_text(rd_kafka_topic_result_name(result)));
    const char *text = rd_kafka_topic_result_error_string(result);
    char why[256];

    if (topic == NULL || topic->want != WANT_CREATION)
        return;
    snprintf(why, sizeof why, "it is not there and can't be created: %s", text != NULL ? text : "no reason given");
    switch (rd_kafka_topic_result_error(result)) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        kafka_tell_created(host, topic->name, ++topics->created);
        topic_is_there(topics, topic);
        topic_want(topics, topic, topics->cannot_describe ? WANT_NOTHING : WANT_LIMITS);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        topic_is_there(topics, topic);
        topic_want(topics, topic, WANT_NOTHING);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        topic_try(topics, topic);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
        topic_refuse(topics, topic, why);
        break;
    default:
        topic->ask_at = fms_now(host) + ASK_AGAIN;
        fms_warn(host, "topic %s can't be created, will be tried again: %s", topic->name, why);
        if (fms_now(host) - topic->asked_at > CREATION_PATIENCE)
            topic_refuse(topics, topic, why);
    }
}

/* A request that brokers do not know, or that none has answered. The latter says nothing of topics, unless others are
 * answered. */
static void take_failure(struct topics *topics, rd_kafka_event_t *event)
{
    bool is_creation = rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT;
    bool is_known = rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
    int64_t now = fms_now(topics->kafka->host);

    topics->cannot_create = topics->cannot_create || (is_creation && !is_known);
    topics->is_mute = topics->cannot_create;
    topics->cannot_describe = topics->cannot_describe || (!is_creation && !is_known);
    topics->failures = topics->kafka->down_since == 0 ? topics->failures + 1 : 0;
    fms_debug(topics->kafka->host, "no answer about topics: %s", rd_kafka_event_error_string(event));
    for (size_t i = 0; i < topics->count; i++) {
        struct topic *topic = topics->items[i];

        if (!topic->is_asked || topic->want == WANT_NOTHING)
            continue;
        topic->ask_at = now + ASK_AGAIN;
        if (!is_known || topics->failures >= FAILURES_MOST)
            topic_is_hidden(topics, topic);
    }
}

static void take_answer(struct topics *topics, rd_kafka_event_t *event)
{
    size_t count;

    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        take_failure(topics, event);
        return;
    }
    topics->failures = 0;
    topics->has_answered = true;
    topics->is_mute = false;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT) {
        const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(
            rd_kafka_event_CreateTopics_result(event), &count);

        for (size_t i = 0; i < count; i++)
            take_creation(topics, results[i]);
    } else {
        const rd_kafka_ConfigResource_t **results = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(event), &count);

        for (size_t i = 0; i < count; i++)
            take_limits(topics, results[i]);
    }
}

/* Whether there was one. */
static bool take_answers(struct topics *topics)
{
    rd_kafka_event_t *event = topics->is_asking ? rd_kafka_queue_poll(topics->answers, 0) : NULL;

    if (event == NULL)
        return false;
    take_answer(topics, event);
    rd_kafka_event_destroy(event);
    topics->is_asking = false;
    topics->look_at = 0;
    for (size_t i = 0; i < topics->count; i++)
        topics->items[i]->is_asked = false;
    return true;
}

/* librdkafka asks the controller. A cluster that answers, but has none for now, or is none of Kafka's, is not waited for: until when
 * it is. */
static int64_t waits_until(struct topics *topics, int64_t now)
{
    int64_t since;

    if (!topics->is_asking || topics->has_answered || topics->cannot_describe)
        return NO_LIMIT;
    since = kafka_answering_at(topics->kafka);
    if (since == 0)
        return now + CLUSTER_TICK;
    return (since > topics->asking_since ? since : topics->asking_since) + CONTROLLER_PATIENCE;
}

static bool stop_waiting(struct topics *topics, int64_t now)
{
    if (now < waits_until(topics, now))
        return false;
    topics->cannot_describe = topics->cannot_create = topics->is_mute = true;
    for (size_t i = 0; i < topics->count; i++) {
        if (topics->items[i]->want != WANT_NOTHING)
            topic_is_hidden(topics, topics->items[i]);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------------------ asking */

/* The topics that want it and may be asked for now; sets look_at to when more may be. */
static size_t topics_gather(struct topics *topics, enum topic_want want, struct topic **chosen, size_t most,
                            int64_t now)
{
    size_t n = 0;

    for (size_t i = 0; i < topics->count && n < most; i++) {
        struct topic *topic = topics->items[i];

        if (topic->want != want)
            continue;
        if (topic->ask_at > now)
            topics->look_at = topics->look_at < topic->ask_at ? topics->look_at : topic->ask_at;
        else
            chosen[n++] = topic;
    }
    return n;
}

static rd_kafka_AdminOptions_t *ask_options(struct topics *topics, rd_kafka_admin_op_t operation)
{
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(topics->kafka->rk, operation);

    rd_kafka_AdminOptions_set_request_timeout(options, (int)(ANSWER_PATIENCE / FMS_MS), NULL, 0);
    if (operation == RD_KAFKA_ADMIN_OP_CREATETOPICS)
        rd_kafka_AdminOptions_set_operation_timeout(options, (int)(ANSWER_PATIENCE / FMS_MS), NULL, 0);
    return options;
}

static rd_kafka_ConfigResource_t *limits_wanted(const char *name)
{
    static const char *const names[] = {"max.message.bytes", "message.timestamp.type",
                                        "message.timestamp.before.max.ms", "message.timestamp.after.max.ms",
                                        "cleanup.policy"};
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        rd_kafka_ConfigResource_set_config(resource, names[i], "");
    return resource;
}

static bool ask_limits(struct topics *topics, int64_t now)
{
    struct topic *chosen[ASKED_MOST];
    rd_kafka_ConfigResource_t *resources[ASKED_MOST];
    size_t n = topics_gather(topics, WANT_LIMITS, chosen, ASKED_MOST, now);
    rd_kafka_AdminOptions_t *options;

    if (n == 0)
        return false;
    options = ask_options(topics, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    for (size_t i = 0; i < n; i++) {
        chosen[i]->is_asked = true;
        resources[i] = limits_wanted(chosen[i]->name);
    }
    rd_kafka_DescribeConfigs(topics->kafka->rk, resources, n, options, topics->answers);
    rd_kafka_ConfigResource_destroy_array(resources, n);
    rd_kafka_AdminOptions_destroy(options);
    return true;
}

/* Refuses those of the chosen that would be more than may be created; how many are left. */
static size_t refuse_excess(struct topics *topics, struct topic **chosen, size_t count)
{
    int64_t room = topics->max - topics->created;
    size_t left = 0;

    for (size_t i = 0; i < count; i++) {
        if (chosen[i]->was_there || room-- > 0)
            chosen[left++] = chosen[i];
        else
            topic_refuse(topics, chosen[i], "it is not there, and this run has created as many as topics_max allows");
    }
    return left;
}

static bool ask_creation(struct topics *topics, int64_t now)
{
    struct topic *chosen[CREATED_MOST];
    rd_kafka_NewTopic_t *creations[CREATED_MOST];
    size_t n = refuse_excess(topics, chosen, topics_gather(topics, WANT_CREATION, chosen, CREATED_MOST, now));
    rd_kafka_AdminOptions_t *options;

    if (n == 0)
        return false;
    options = ask_options(topics, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    for (size_t i = 0; i < n; i++) {
        chosen[i]->is_asked = true;
        creations[i] = kafka_new_topic(topics->kafka, chosen[i]->name);
    }
    rd_kafka_CreateTopics(topics->kafka->rk, creations, n, options, topics->answers);
    rd_kafka_NewTopic_destroy_array(creations, n);
    rd_kafka_AdminOptions_destroy(options);
    return true;
}

/* Whether any topic came to be tried. */
static bool start_trials(struct topics *topics, int64_t now)
{
    struct topic *chosen[ASKED_MOST];
    size_t room = topics->tried < TRIED_MOST ? TRIED_MOST - topics->tried : 0;
    size_t n = topics_gather(topics, WANT_TRIAL, chosen, room < ASKED_MOST ? room : ASKED_MOST, now);

    for (size_t i = 0; i < n; i++) {
        topic_want(topics, chosen[i], WANT_NOTHING);
        topic_enter(topics, chosen[i], TOPIC_TRIED);
    }
    return n > 0;
}

/* Asks for limits anew, and forgets what nobody uses. */
static void topics_turn(struct topics *topics, int64_t now)
{
    topics->round++;
    topics->round_at = now + ROUND;
    topics->cannot_describe = topics->cannot_create = false;
    for (size_t i = topics->count; i-- > 0;) {
        struct topic *topic = topics->items[i];

        topic->is_wary = false;
        if (topic->is_asked || topic->waiting > 0)
            continue;
        if (topic->state == TOPIC_THERE && now - topic->asked_at > ROUND)
            topic->relapses = topic->failures = 0;
        if (topic->state == TOPIC_THERE && topic->want == WANT_NOTHING)
            topic_want(topics, topic, WANT_LIMITS);
        if ((topic->state == TOPIC_REFUSED && topic->relapses == 0 && now >= topic->refused_until) ||
            (!topic->is_fixed && topics->round - topic->used > REST))
            topics_remove(topics, i);
    }
}

bool topics_poll(struct topics *topics, struct fms_wait *wait)
{
    bool is_decided = take_answers(topics);
    int64_t now = fms_now(topics->kafka->host), until;

    if (now >= topics->round_at)
        topics_turn(topics, now);
    is_decided = stop_waiting(topics, now) || is_decided;
    if (topics->wanting > 0 && now >= topics->look_at) {
        topics->look_at = NO_LIMIT;
        while (start_trials(topics, now))
            is_decided = true;
        if (!topics->is_asking) {
            topics->is_asking = ask_creation(topics, now) || ask_limits(topics, now);
            topics->asking_since = now;
        }
    }
    until = waits_until(topics, now);
    if (wait->deadline > until)
        wait->deadline = until;
    if (!topics->is_asking && topics->wanting > 0 && wait->deadline > topics->look_at)
        wait->deadline = topics->look_at;
    if (wait->deadline > topics->round_at)
        wait->deadline = topics->round_at;
    return is_decided;
}

/* ------------------------------------------------------------------------------------------------------------- probe */

rd_kafka_resp_err_t topics_probe(struct kafka *kafka, const char *name, struct topic_limits *limits, int64_t deadline)
{
    rd_kafka_queue_t *answers = rd_kafka_queue_new(kafka->rk);
    rd_kafka_ConfigResource_t *resource = limits_wanted(name);
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__TIMED_OUT;
    int64_t patience = fms_now(kafka->host) + PROBE_PATIENCE;
    rd_kafka_event_t *event;
    size_t count;

    rd_kafka_DescribeConfigs(kafka->rk, &resource, 1, NULL, answers);
    event = rd_kafka_queue_poll(answers, kafka_ms_until(kafka->host, deadline < patience ? deadline : patience));
    if (event != NULL)
        error = rd_kafka_event_error(event);
    if (event != NULL && error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        const rd_kafka_ConfigResource_t **results = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(event), &count);

        error = rd_kafka_ConfigResource_error(results[0]);
        *limits = limits_of(results[0]);
    }
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_queue_destroy(answers);
    return error;
}

/* --------------------------------------------------------------------------------------------------------- life cycle */

int topics_open(struct topics *topics, struct kafka *kafka, int64_t max)
{
    topics->kafka = kafka;
    topics->max = max;
    topics->round_at = fms_now(kafka->host) + ROUND;
    return topics_grow(topics) ? 0 : -ENOMEM;
}

void topics_start(struct topics *topics)
{
    topics->answers = rd_kafka_queue_new(topics->kafka->rk);
    kafka_watch(topics->kafka, topics->answers);
    topics->look_at = 0;
}

void topics_stop(struct topics *topics)
{
    for (size_t i = 0; i < topics->count; i++) {
        topic_drop_handle(topics->items[i]);
        topics->items[i]->is_asked = false;
    }
    topics->is_asking = false;
    rd_kafka_queue_destroy(topics->answers);
}

void topics_close(struct topics *topics)
{
    while (topics->count > 0)
        topics_remove(topics, topics->count - 1);
    free(topics->items);
}
