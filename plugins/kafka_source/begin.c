/* begin.c - finds where a consumer begins: by asking, one question after the other. See begin.h. */
#include "begin.h"

#include <errno.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "../kafka_common/kafka_common.h"

#define PATIENCE (4 * FMS_SECOND) /* of all questions of a search together: whoever closes waits for it */
#define TOGETHER                                                                                                       \
    (300 * INT64_C(1000)) /* ms after the first assignment: members that start now have started with the others */
#define NOTE_IN "fmspipe first=%" SCNd64 " partitions=%" SCNd32 " topics=%" SCNx64
#define NOTE    "fmspipe first=%" PRId64 " partitions=%" PRId32 " topics=%016" PRIx64
#define WORD    " word="

/* ------------------------------------------------------------------------------------------------------ the option */

static const struct {
    char unit[3];
    int64_t ms;
} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

/* "-1h" */
static int read_ago(const char *text, struct begin *begin)
{
    char *unit;
    long long number = strtoll(text, &unit, 10);

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].unit) == 0 && number <= 0 && number > -INT64_C(100000000)) {
            *begin = (struct begin){BEGIN_AGO, -number * units[i].ms};
            return 0;
        }
    }
    return -EINVAL;
}

/* "2026-11-28T10:00:00Z", "2026-11-28T10:00:00+01:00" */
static int read_time(const char *text, struct begin *begin)
{
    struct tm tm = {0};
    int day, hours = 0, minutes = 0, size = 0;
    const char *zone = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    time_t seconds;

    if (zone == NULL)
        return -EINVAL;
    day = tm.tm_mday;
    seconds = timegm(&tm);
    if (seconds < 0 || tm.tm_mday != day) /* no February has 30 */
        return -EINVAL;
    if (strcmp(zone, "Z") != 0 &&
        ((zone[0] != '+' && zone[0] != '-') || sscanf(zone + 1, "%2d:%2d%n", &hours, &minutes, &size) != 2 ||
         zone[1 + size] != '\0' || hours < 0 || hours > 23 || minutes < 0 || minutes > 59))
        return -EINVAL;
    *begin = (struct begin){BEGIN_TIME, 1000 * (seconds - (zone[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60))};
    return 0;
}

int begin_read(const char *text, struct begin *begin)
{
    static const char *const words[] = {"latest", "earliest", "error"}; /* in the order of enum begin_kind */

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *begin = (struct begin){(enum begin_kind)i, 0};
            return 0;
        }
    }
    return text[0] == '-' ? read_ago(text, begin) : read_time(text, begin);
}

/* ------------------------------------------------------------------------------------------------------------- words */

uint64_t begin_word(const char *note)
{
    const char *at = note != NULL ? strstr(note, WORD) : NULL;

    return at != NULL ? strtoull(at + strlen(WORD), NULL, 16) : 0;
}

char *begin_with_word(const char *note)
{
    const char *kept = note != NULL ? note : "fmspipe", *at = strstr(kept, WORD);
    uint64_t word = 0;
    char *made;

    if (getrandom(&word, sizeof word, 0) != sizeof word)
        return NULL;
    return asprintf(&made, "%.*s" WORD "%016" PRIx64, (int)(at != NULL ? at - kept : (long)strlen(kept)), kept, word) <
                   0
               ? NULL
               : made;
}

/* ------------------------------------------------------------------------------------------------------- questions */

static bool is_cancelled(struct search *search)
{
    bool is;

    pthread_mutex_lock(&search->lock);
    is = search->is_cancelled;
    pthread_mutex_unlock(&search->lock);
    return is;
}

static int ms_left(struct search *search)
{
    return is_cancelled(search) ? 0 : kafka_ms_until(search->host, search->deadline);
}

/* A question failed as a whole. */
static bool failed(struct search *search, const char *doing, rd_kafka_resp_err_t error)
{
    search->doing = doing;
    search->error = error;
    return false;
}

/* Places that still lack what `is_asked` tells of, as a list; each element's opaque is its place. */
static rd_kafka_topic_partition_list_t *list_of(struct search *search, bool (*is_asked)(const struct place *),
                                                int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)search->count);

    for (size_t i = 0; i < search->count; i++) {
        struct place *place = &search->places[i];

        if (place->error == RD_KAFKA_RESP_ERR_NO_ERROR && is_asked(place)) {
            rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(list, place->topic, place->id);

            element->offset = offset;
            element->opaque = place;
        }
    }
    return list;
}

static char *note_of(const rd_kafka_topic_partition_t *element)
{
    return element->metadata == NULL ? NULL : strndup(element->metadata, element->metadata_size);
}

/* A partition of which nobody knows is one without an offset. */
static bool is_error(const rd_kafka_topic_partition_t *element)
{
    return element->err != RD_KAFKA_RESP_ERR_NO_ERROR && element->err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

static bool is_without_offset(const struct place *place)
{
    return place->offset < 0;
}

static bool ask_committed(struct search *search)
{
    rd_kafka_topic_partition_list_t *list = list_of(search, is_without_offset, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_resp_err_t error = list->cnt == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR
                                               : rd_kafka_committed(search->rk, list, ms_left(search));

    for (int i = 0; i < list->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        struct place *place = list->elems[i].opaque;

        if (is_error(&list->elems[i])) {
            place->error = list->elems[i].err;
        } else if (list->elems[i].offset >= 0) {
            place->offset = list->elems[i].offset;
            place->note = note_of(&list->elems[i]);
            place->found = PLACE_COMMITTED;
        }
    }
    rd_kafka_topic_partition_list_destroy(list);
    return error == RD_KAFKA_RESP_ERR_NO_ERROR || failed(search, "the group's offsets", error);
}

static bool is_open(const struct place *place)
{
    return place->found == PLACE_NOT;
}

static void set_low(struct place *place, int64_t offset)
{
    place->low = offset;
}

static void set_end(struct place *place, int64_t offset)
{
    place->end = offset;
}

static void set_offset(struct place *place, int64_t offset)
{
    place->offset = offset < 0 ? place->end : offset; /* no record is as late as that */
}

/* Asks for the first offsets of that time, or of RD_KAFKA_OFFSET_BEGINNING or _END, which Kafka takes in place of a time. */
static bool ask_offsets(struct search *search, bool (*is_asked)(const struct place *), int64_t time,
                        void (*set)(struct place *, int64_t))
{
    rd_kafka_topic_partition_list_t *list = list_of(search, is_asked, time);
    rd_kafka_resp_err_t error = list->cnt == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR
                                               : rd_kafka_offsets_for_times(search->rk, list, ms_left(search));

    for (int i = 0; i < list->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        struct place *place = list->elems[i].opaque;

        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
            place->error = list->elems[i].err;
        else
            set(place, list->elems[i].offset);
    }
    rd_kafka_topic_partition_list_destroy(list);
    return error == RD_KAFKA_RESP_ERR_NO_ERROR || failed(search, "the ends of the partitions", error);
}

/* ------------------------------------------------------------------------------------------- what the group remembers */

/* A group's offsets in all the topics that it subscribes to. */
struct memory {
    bool is_known;                            /* there is one */
    int64_t first;                            /* ms since 1970 of its first assignment; 0: nobody has noted it */
    uint64_t topics;                          /* the print of those that were there then; 0: the notes don't agree */
    rd_kafka_topic_partition_list_t *offsets; /* with their notes */
};

static bool matches(const char *pattern, const char *topic)
{
    regex_t regex;
    bool is_match;

    if (pattern[0] != '^')
        return strcmp(pattern, topic) == 0;
    if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    is_match = regexec(&regex, topic, 0, NULL, 0) == 0;
    regfree(&regex);
    return is_match;
}

static bool is_ours(const struct search *search, const char *topic)
{
    for (size_t i = 0; i < search->topics->count; i++) {
        if (matches(search->topics->items[i], topic))
            return true;
    }
    return false;
}

static bool ask_topics(struct search *search, const struct rd_kafka_metadata **metadata)
{
    rd_kafka_resp_err_t error = rd_kafka_metadata(search->rk, 1, NULL, metadata, ms_left(search));

    return error == RD_KAFKA_RESP_ERR_NO_ERROR || failed(search, "the topics", error);
}

/* Of topics and their numbers of partitions: FNV-1a, and never 0. Whoever has the same has seen the same. */
static uint64_t print_of(rd_kafka_topic_partition_list_t *topics)
{
    uint64_t print = UINT64_C(14695981039346656037);
    char text[300];

    rd_kafka_topic_partition_list_sort(topics, NULL, NULL);
    for (int i = 0; i < topics->cnt; i++) {
        snprintf(text, sizeof text, "%s %" PRId32 ",", topics->elems[i].topic, topics->elems[i].partition);
        for (const char *at = text; *at != '\0'; at++)
            print = (print ^ (unsigned char)*at) * UINT64_C(1099511628211);
    }
    return print == 0 ? 1 : print;
}

/* Looks which of our topics there are, and how many partitions each has. */
static bool look(struct search *search)
{
    const struct rd_kafka_metadata *metadata;

    if (!ask_topics(search, &metadata))
        return false;
    search->looked = rd_kafka_topic_partition_list_new(8);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (is_ours(search, metadata->topics[i].topic))
            rd_kafka_topic_partition_list_add(search->looked, metadata->topics[i].topic,
                                              metadata->topics[i].partition_cnt);
    }
    rd_kafka_metadata_destroy(metadata);
    search->cluster = rd_kafka_clusterid(search->rk, 0); /* which it has heard with the topics */
    search->looked_print = print_of(search->looked);
    return true;
}

/* What stands in the metadata of an offset. */
struct note {
    int64_t first;
    int32_t partitions;
    uint64_t topics;
};

static bool read_note(const rd_kafka_topic_partition_t *element, struct note *note)
{
    char *text = note_of(element);
    bool is_read;

    *note = (struct note){0};
    is_read = text != NULL && sscanf(text, NOTE_IN, &note->first, &note->partitions, &note->topics) >= 2 &&
              note->first >= 0;
    free(text);
    if (!is_read)
        *note = (struct note){0};
    return is_read;
}

static void memory_take(struct memory *memory)
{
    for (int i = 0; i < memory->offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *element = &memory->offsets->elems[i];
        struct note note;

        if (element->offset < 0)
            continue;
        read_note(element, &note);
        if (!memory->is_known || note.first < memory->first)
            memory->first = note.first;
        if (!memory->is_known || note.topics != memory->topics)
            memory->topics = memory->is_known ? 0 : note.topics;
        memory->is_known = true;
    }
}

static bool ask_memory(struct search *search, struct memory *memory)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (!ask_topics(search, &metadata))
        return false;
    memory->offsets = rd_kafka_topic_partition_list_new(64);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

        if (topic->partition_cnt > 0 && is_ours(search, topic->topic))
            rd_kafka_topic_partition_list_add_range(memory->offsets, topic->topic, 0, topic->partition_cnt - 1);
    }
    rd_kafka_metadata_destroy(metadata);
    if (memory->offsets->cnt > 0)
        error = rd_kafka_committed(search->rk, memory->offsets, ms_left(search));
    for (int i = 0; i < memory->offsets->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        if (is_error(&memory->offsets->elems[i]))
            error = memory->offsets->elems[i].err;
    }
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return failed(search, "the group's offsets", error);
    memory_take(memory);
    return true;
}

static int32_t partitions_seen(const struct search *search, const char *topic)
{
    for (int i = 0; i < search->seen->cnt; i++) {
        if (strcmp(search->seen->elems[i].topic, topic) == 0)
            return search->seen->elems[i].partition;
    }
    return 0;
}

/* How many partitions a topic had at the group's first assignment, as far as somebody vouches for it: a note in that topic, or, for
 * a group that begins now or has begun with the very topics that we saw, our first look. */
static int32_t partitions_then(const struct search *search, const struct memory *memory, const char *topic)
{
    int32_t then = INT32_MAX;
    struct note note;

    for (int i = 0; i < memory->offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *element = &memory->offsets->elems[i];

        if (element->offset >= 0 && strcmp(element->topic, topic) == 0 && read_note(element, &note) &&
            note.partitions < then)
            then = note.partitions;
    }
    if (then != INT32_MAX)
        return then;
    return !memory->is_known || memory->topics == search->seen_print ? partitions_seen(search, topic) : 0;
}

/* ---------------------------------------------------------------------------------------------------------- answers */

/* Whether `start` counts for a partition: it was there then, and "then" is now, or so lately that we start with the others. */
static bool is_start(const struct search *search, const struct memory *memory, const struct place *place,
                     int32_t partitions, int64_t now)
{
    int64_t age = memory->is_known ? now - memory->first : 0;

    return place->id < partitions && (search->start.kind == BEGIN_ERROR || (age < TOGETHER && age > -TOGETHER));
}

/* For a partition in which the group has no offset. Where a time decides, the offset is still to be asked for. */
static void begin_anew(struct search *search, const struct memory *memory, struct place *place, int64_t now)
{
    int32_t partitions = partitions_then(search, memory, place->topic);
    char note[100];

    snprintf(note, sizeof note, NOTE, memory->is_known ? memory->first : now, partitions,
             memory->is_known ? memory->topics : search->seen_print);
    place->note = strdup(note);
    if (!is_start(search, memory, place, partitions, now)) {
        place->found = PLACE_LATER;
        place->offset = place->low;
        return;
    }
    place->found = search->start.kind == BEGIN_ERROR ? PLACE_REFUSED : PLACE_START;
    place->was = RD_KAFKA_OFFSET_INVALID;
    if (search->start.kind == BEGIN_EARLIEST)
        place->offset = place->low;
    else if (search->start.kind == BEGIN_LATEST && !memory->is_known)
        place->offset = place->end;
}

/* For an offset that the broker has refused. */
static void begin_in_range(const struct search *search, struct place *place)
{
    place->was = place->offset;
    if (place->offset >= place->low && place->offset <= place->end) {
        place->found = PLACE_KEPT;
        return;
    }
    place->found = search->start.kind == BEGIN_ERROR ? PLACE_REFUSED
                   : place->offset < place->low      ? PLACE_GONE
                                                     : PLACE_ABOVE;
    place->offset = place->low;
}

static bool is_timed(const struct place *place)
{
    return place->found == PLACE_START && place->offset < 0;
}

static bool is_new(const struct place *place)
{
    return place->found == PLACE_START || place->found == PLACE_LATER;
}

static bool must_be_committed(const struct place *place)
{
    return is_new(place) || place->is_renamed;
}

/* Gives each place a word that has none. False: no memory. */
static bool find_words(struct search *search)
{
    for (size_t i = 0; i < search->count && search->with_words; i++) {
        struct place *place = &search->places[i];
        char *note;

        if ((place->found != PLACE_COMMITTED && !is_new(place)) || begin_word(place->note) != 0)
            continue;
        note = begin_with_word(place->note);
        if (note == NULL)
            return failed(search, "a number for its records", RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE);
        free(place->note);
        place->note = note;
        place->is_renamed = true;
    }
    return true;
}

static void forget(struct place *place, rd_kafka_resp_err_t error)
{
    place->found = PLACE_NOT;
    place->offset = RD_KAFKA_OFFSET_INVALID;
    place->is_renamed = false;
    place->error = error;
    free(place->note);
    place->note = NULL;
}

/* librdkafka hands it to the coordinator before an answer to a revocation that is given later, and so for the generation in which
 * the partitions are ours: in the next they could be another member's, who may have gone on from an earlier offset. */
static rd_kafka_resp_err_t commit_send(struct search *search, const rd_kafka_topic_partition_list_t *list,
                                       rd_kafka_queue_t *queue)
{
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST;

    pthread_mutex_lock(&search->lock);
    if (!search->is_cancelled)
        error = rd_kafka_commit_queue(search->rk, list, queue, NULL, NULL);
    pthread_mutex_unlock(&search->lock);
    return error;
}

/* The group that stops before it had a message knows next time where it was. Nothing is consumed before that is confirmed. */
static bool commit_new(struct search *search)
{
    rd_kafka_topic_partition_list_t *list = list_of(search, must_be_committed, 0), *committed;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(search->rk);
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_event_t *event = NULL;

    for (int i = 0; i < list->cnt; i++) {
        const struct place *place = list->elems[i].opaque;

        list->elems[i].offset = place->offset;
        list->elems[i].metadata = place->note == NULL ? NULL : strdup(place->note);
        list->elems[i].metadata_size = list->elems[i].metadata == NULL ? 0 : strlen(place->note);
    }
    if (list->cnt > 0)
        error = commit_send(search, list, queue);
    if (list->cnt > 0 && error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        event = rd_kafka_queue_poll(queue, ms_left(search));
        error = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(event);
    }
    committed = event == NULL ? NULL : rd_kafka_event_topic_partition_list(event);
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *answer = committed == NULL
                                                       ? NULL
                                                       : rd_kafka_topic_partition_list_find(
                                                             committed, list->elems[i].topic, list->elems[i].partition);
        rd_kafka_resp_err_t failure = answer != NULL && answer->err != 0 ? answer->err : error;

        if (failure != RD_KAFKA_RESP_ERR_NO_ERROR)
            forget(list->elems[i].opaque, failure);
    }
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(list);
    return error == RD_KAFKA_RESP_ERR_NO_ERROR || failed(search, "the commit of where it begins", error);
}

/* ----------------------------------------------------------------------------------------------------------- search */

static bool find_new(struct search *search, struct memory *memory)
{
    int64_t now = fms_realtime(search->host) / FMS_MS, time;

    for (size_t i = 0; i < search->count; i++) {
        struct place *place = &search->places[i];

        if (place->found == PLACE_NOT && place->error == RD_KAFKA_RESP_ERR_NO_ERROR)
            begin_anew(search, memory, place, now);
    }
    search->is_new_group = !memory->is_known;
    time = memory->is_known ? memory->first : now;
    if (search->start.kind == BEGIN_TIME)
        time = search->start.ms;
    else if (search->start.kind == BEGIN_AGO)
        time -= search->start.ms;
    return ask_offsets(search, is_timed, time < 0 ? 0 : time, set_offset);
}

/* Fills in all places, or as many as it can. */
static bool find(struct search *search)
{
    struct memory memory = {0};
    bool is_any_open = false, is_any_new = false, is_good;

    if (!ask_committed(search))
        return false;
    for (size_t i = 0; i < search->count; i++) {
        is_any_open = is_any_open || is_open(&search->places[i]);
        is_any_new = is_any_new || is_without_offset(&search->places[i]);
    }
    if (!is_any_open)
        return find_words(search) && commit_new(search);
    is_good = (!is_any_new || ask_memory(search, &memory)) &&
              ask_offsets(search, is_open, RD_KAFKA_OFFSET_BEGINNING, set_low) &&
              ask_offsets(search, is_open, RD_KAFKA_OFFSET_END, set_end);
    for (size_t i = 0; i < search->count && is_good; i++) {
        struct place *place = &search->places[i];

        if (place->is_suspect && place->error == RD_KAFKA_RESP_ERR_NO_ERROR)
            begin_in_range(search, place);
    }
    is_good = is_good && (!is_any_new || find_new(search, &memory)) && find_words(search) && commit_new(search);
    if (memory.offsets != NULL)
        rd_kafka_topic_partition_list_destroy(memory.offsets);
    return is_good;
}

/* What was not found to the end begins from anew the next time. */
static void clean_up(struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        struct place *place = &search->places[i];

        if (place->found == PLACE_NOT || is_timed(place) || (must_be_committed(place) && search->error != 0))
            forget(place, place->error != 0 ? place->error : search->error);
        if (place->found == PLACE_NOT && search->error == RD_KAFKA_RESP_ERR_NO_ERROR)
            failed(search, "a partition", place->error);
    }
}

static void *search_run(void *opaque)
{
    struct search *search = opaque;

    search->deadline = fms_now(search->host) + PATIENCE;
    if (search->is_of_ends) {
        ask_offsets(search, is_open, RD_KAFKA_OFFSET_END, set_end);
    } else if (search->count == 0) {
        look(search);
    } else {
        find(search);
        clean_up(search);
    }
    search->is_done = true;
    fms_wake(search->host);
    return NULL;
}

struct search *search_new(size_t count)
{
    struct search *search = calloc(1, sizeof *search);
    struct place *places = calloc(count + 1, sizeof *places);

    if (search == NULL || places == NULL) {
        free(search);
        free(places);
        return NULL;
    }
    search->places = places;
    search->count = count;
    pthread_mutex_init(&search->lock, NULL);
    return search;
}

int search_start(struct search *search)
{
    int error = pthread_create(&search->thread, NULL, search_run, search);

    search->is_started = error == 0;
    return -error;
}

void search_cancel(struct search *search)
{
    if (search == NULL)
        return;
    pthread_mutex_lock(&search->lock);
    search->is_cancelled = true;
    pthread_mutex_unlock(&search->lock);
}

void search_free(struct search *search)
{
    if (search == NULL)
        return;
    if (search->is_started)
        pthread_join(search->thread, NULL);
    for (size_t i = 0; i < search->count; i++) {
        free(search->places[i].topic);
        free(search->places[i].note);
    }
    if (search->looked != NULL)
        rd_kafka_topic_partition_list_destroy(search->looked);
    rd_kafka_mem_free(NULL, search->cluster);
    pthread_mutex_destroy(&search->lock);
    free(search->places);
    free(search);
}
