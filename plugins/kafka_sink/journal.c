/* journal.c - see journal.h.
 *
 * Its records are numbered, and the key of each is its number's rest by 256: so Kafka, which compacts the topic,
 * keeps the last 256, and these tell all that is known. A record tells whole what its transaction has noted of an
 * entry. What only a record tells whose key comes round soon is told anew, by and by; and sooner where the last
 * records are too large for what they tell. */
#include "journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "telling.h"

#define BODY_MOST   (JOURNAL_RECORD_MOST - HEAD_MOST)
#define WEIGHT_MOST (48u * 1024 * 1024) /* all told in one transaction, and as much that is gone: 192 of 256 records */
#define RING_LEAST  (1024u * 1024)      /* bytes of the last records that are never too many */
#define RING_TIMES  4u                  /* so many times what they tell of use may they be */
#define LATE        32u                 /* so many records before its key comes round is it that one is told anew */
#define RETELL                                                                                                         \
    (16u * 1024) /* bytes, as many as a transaction has anyway, and 1/LATE of all that is told: are
                                         * told anew for both in one transaction */

/* One of the last records. */
struct slot {
    uint64_t number; /* of the record; UINT64_MAX: none */
    int64_t offset;  /* -1: not known */
    size_t size;     /* of its value; 0 where it is not needed any more */
    struct link told;
};

struct journal {
    size_t most;
    struct entries entries;
    struct slot slots[JOURNAL_KEYS];
    struct link dirty;    /* entries that the next records tell */
    struct link gone;     /* those that are none any more, as the next records tell */
    struct link leaving;  /* those of which the record has been or will be overwritten */
    uint64_t first, next; /* numbers: of the oldest record that tells something of use, and of the next one */
    size_t ring, alive;   /* bytes: of the last records, and of what they tell of use */
    struct journal_name last;
    bool has_loaded;
    uint64_t forgotten, unsure;
    unsigned char *buffer; /* of JOURNAL_RECORD_MOST */
};

static struct slot *slot_of(struct journal *journal, uint64_t number)
{
    return &journal->slots[number % JOURNAL_KEYS];
}

struct journal *journal_new(size_t entries_most)
{
    struct journal *journal = calloc(1, sizeof *journal);

    if (journal == NULL)
        return NULL;
    journal->most = entries_most == 0 ? 1 : entries_most;
    list_init(&journal->dirty);
    list_init(&journal->gone);
    list_init(&journal->leaving);
    for (size_t i = 0; i < JOURNAL_KEYS; i++) {
        journal->slots[i] = (struct slot){.number = UINT64_MAX, .offset = -1};
        list_init(&journal->slots[i].told);
    }
    journal->buffer = malloc(JOURNAL_RECORD_MOST);
    if (entries_init(&journal->entries) == 0 && journal->buffer != NULL)
        return journal;
    journal_free(journal);
    return NULL;
}

static void gone_free(struct journal *journal)
{
    while (!list_is_empty(&journal->gone)) {
        struct entry *entry = entry_of_told(journal->gone.next);

        list_remove(&entry->told);
        entry_free(entry);
    }
}

void journal_free(struct journal *journal)
{
    if (journal == NULL)
        return;
    gone_free(journal);
    entries_free(&journal->entries);
    free(journal->buffer);
    free(journal);
}

/* ---------------------------------------------------------------------------------------------------------- entries */

static bool is_whole(const struct fms_identity *identity)
{
    return identity->part == 0 || identity->is_end;
}

static struct entry *journal_find(struct journal *journal, enum entry_kind kind, const struct fms_identity *identity)
{
    struct entry_name name = {kind, identity->origin, kind == ENTRY_ORIGIN ? 0 : identity->sequence};

    return entries_find(&journal->entries, &name);
}

static struct entry *journal_reach(struct journal *journal, enum entry_kind kind, const struct fms_identity *identity)
{
    struct entry_name name = {kind, identity->origin, kind == ENTRY_ORIGIN ? 0 : identity->sequence};
    struct entry *entry = entries_find(&journal->entries, &name);

    return entry != NULL ? entry : entries_add(&journal->entries, &name);
}

/* Out of the table, and of the record that tells it. */
static void journal_take_out(struct journal *journal, struct entry *entry)
{
    entries_take(&journal->entries, entry);
    list_remove(&entry->told);
    journal->alive -= entry->told_size;
}

static void journal_drop(struct journal *journal, struct entry *entry)
{
    journal_take_out(journal, entry);
    entry_free(entry);
}

/* It has done its service. */
static void journal_end(struct journal *journal, struct entry *entry)
{
    journal_take_out(journal, entry);
    if (entry->told_size > 0)
        list_append(&journal->gone, &entry->told);
    else
        entry_free(entry);
}

static void journal_forget(struct journal *journal)
{
    struct entries *entries = &journal->entries;

    while (entries->count > journal->most || (entries->weight > WEIGHT_MOST && entries->count > 1)) {
        journal_drop(journal, entries_oldest(entries));
        journal->forgotten++;
    }
}

/* It was noted now, and is to be told. */
static void journal_touch(struct journal *journal, struct entry *entry)
{
    entries_put_last(&journal->entries, entry);
    if (!entry->is_dirty) {
        entry->is_dirty = 1;
        list_remove(&entry->told);
        list_append(&journal->dirty, &entry->told);
    }
    journal_forget(journal);
}

/* ----------------------------------------------------------------------------------------------- judging and noting */

static enum numbers_verdict entry_judge(const struct entry *entry, uint64_t number)
{
    return entry == NULL ? NUMBERS_NEW : numbers_judge(&entry->numbers, number);
}

/* All of an unsure record's parts may have been written, and their entry be gone. */
static enum numbers_verdict judge_numbered(struct journal *journal, const struct fms_identity *identity)
{
    enum numbers_verdict whole = entry_judge(journal_find(journal, ENTRY_ORIGIN, identity), identity->sequence), part;

    if (whole == NUMBERS_SEEN || identity->part == 0 || identity->is_end)
        return whole;
    part = entry_judge(journal_find(journal, ENTRY_PARTS, identity), identity->part);
    return part == NUMBERS_NEW ? whole : part;
}

/* What the identifier stood for last is still the same. */
static bool is_same(const struct entry *entry, const struct fms_identity *identity)
{
    uint64_t print[2];

    entry_print(entry, print);
    return print[0] == identity->print[0] && print[1] == identity->print[1];
}

static enum numbers_verdict judge_resent(struct journal *journal, const struct fms_identity *identity)
{
    const struct entry *entry = identity->may_repeat ? journal_find(journal, ENTRY_RESENT, identity) : NULL;

    if (entry == NULL || !is_same(entry, identity))
        return NUMBERS_NEW;
    if (entry_judge(entry, 0) == NUMBERS_SEEN)
        return NUMBERS_SEEN;
    return is_whole(identity) ? NUMBERS_NEW : entry_judge(entry, identity->part);
}

/* As a source may give it (fms_plugin.h). */
static bool is_identity(const struct fms_identity *identity)
{
    return (identity->kind == FMS_NUMBERED || identity->kind == FMS_RESENT) && identity->origin.size > 0 &&
           identity->origin.size <= FMS_ORIGIN_MOST;
}

enum journal_verdict journal_judge(struct journal *journal, const struct fms_identity *identity)
{
    enum numbers_verdict verdict = NUMBERS_NEW;

    if (is_identity(identity))
        verdict = identity->kind == FMS_NUMBERED ? judge_numbered(journal, identity) : judge_resent(journal, identity);
    if (verdict == NUMBERS_SEEN)
        return JOURNAL_SEEN;
    if (verdict == NUMBERS_NEW || identity->is_end)
        return JOURNAL_NEW;
    journal->unsure++;
    return JOURNAL_UNSURE;
}

/* The first numbers of an entry need no memory: so none is left without. */
static int journal_see(struct journal *journal, struct entry *entry, uint64_t first, uint64_t last)
{
    int error = entry == NULL ? -ENOMEM : entries_see(&journal->entries, entry, (struct interval){first, last});

    if (error != 0)
        return error;
    entries_bound(&journal->entries, entry);
    journal_touch(journal, entry);
    return 0;
}

static int note_numbered(struct journal *journal, const struct fms_identity *identity)
{
    uint64_t skipped = identity->skipped <= identity->sequence ? identity->skipped : 0;
    struct entry *parts;
    int error;

    if (!is_whole(identity)) {
        if (entry_judge(journal_find(journal, ENTRY_ORIGIN, identity), identity->sequence) == NUMBERS_SEEN)
            return 0;
        return journal_see(journal, journal_reach(journal, ENTRY_PARTS, identity), identity->part, identity->part);
    }
    error = journal_see(journal, journal_reach(journal, ENTRY_ORIGIN, identity), identity->sequence - skipped,
                        identity->sequence);
    parts = error != 0 || journal->entries.parts == 0 ? NULL : journal_find(journal, ENTRY_PARTS, identity);
    if (parts != NULL)
        journal_end(journal, parts);
    return error;
}

/* With another print, or as a new one though it was seen, it is another message, of which nothing was seen yet. */
static int note_resent(struct journal *journal, const struct fms_identity *identity)
{
    uint64_t part = is_whole(identity) ? 0 : identity->part;
    struct entry *entry = journal_reach(journal, ENTRY_RESENT, identity);
    bool was_seen;

    if (entry == NULL)
        return -ENOMEM;
    was_seen = is_same(entry, identity) &&
               (entry_judge(entry, 0) == NUMBERS_SEEN || entry_judge(entry, part) != NUMBERS_NEW);
    if (was_seen && identity->may_repeat) {
        journal_touch(journal, entry);
        return 0;
    }
    if (part == 0 || was_seen || !is_same(entry, identity)) {
        entries_clear(&journal->entries, entry);
        entry_set_print(entry, identity->print);
    }
    return journal_see(journal, entry, part, part);
}

int journal_note(struct journal *journal, const struct fms_identity *identity)
{
    if (!is_identity(identity))
        return 0;
    return identity->kind == FMS_NUMBERED ? note_numbered(journal, identity) : note_resent(journal, identity);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

struct writer {
    struct journal *journal;
    struct head head; /* of the record under way */
    journal_put *put;
    void *opaque;
    size_t body;   /* bytes of it */
    size_t budget; /* bytes that may still be told anew before they have to */
    int error;
};

/* Records that tell nothing of use are not needed any more. */
static void journal_advance(struct journal *journal)
{
    for (; journal->first < journal->next; journal->first++) {
        struct slot *slot = slot_of(journal, journal->first);

        if (slot->number != journal->first)
            continue;
        if (!list_is_empty(&slot->told))
            return;
        journal->ring -= slot->size;
        slot->size = 0;
    }
}

/* Where the record `first` is, or where it will be: behind those before it. */
static int64_t journal_base_of(struct journal *journal)
{
    uint64_t number = journal->first;

    for (unsigned i = 0; i < JOURNAL_KEYS && number < UINT64_MAX; i++, number--) {
        const struct slot *slot = slot_of(journal, number);

        if (slot->number == number && slot->offset >= 0)
            return number == journal->first ? slot->offset : slot->offset + 1;
    }
    return -1;
}

/* What the record before that of the same key tells is to be told in this transaction. */
static void writer_open(struct writer *writer)
{
    struct journal *journal = writer->journal;
    struct slot *slot = slot_of(journal, journal->next);

    list_splice(&journal->leaving, &slot->told);
    journal->ring -= slot->size;
    *slot = (struct slot){.number = journal->next, .offset = -1, .told = slot->told};
    list_init(&slot->told);
    writer->body = 0;
}

static void writer_close(struct writer *writer, bool is_last)
{
    struct journal *journal = writer->journal;
    struct slot *slot = slot_of(journal, journal->next);
    unsigned char head[HEAD_MOST];
    char key[sizeof "255"];
    unsigned place = (unsigned)(journal->next % JOURNAL_KEYS);

    journal_advance(journal);
    writer->head.number = journal->next;
    writer->head.first = journal->first;
    writer->head.base = journal_base_of(journal);
    writer->head.is_last = is_last;
    slot->size = head_write(&writer->head, writer->body, head) + writer->body;
    memcpy(journal->buffer + HEAD_MOST + writer->body - slot->size, head, slot->size - writer->body);
    snprintf(key, sizeof key, "%u", place % JOURNAL_KEYS);
    if (writer->error == 0)
        writer->error = writer->put(writer->opaque, key,
                                    fms_bytes_of(journal->buffer + HEAD_MOST + writer->body - slot->size, slot->size),
                                    place);
    journal->ring += slot->size;
    journal->next++;
    writer->head.place++;
}

/* Room for the telling of one more. */
static unsigned char *writer_reserve(struct writer *writer, const struct entry *entry)
{
    if (writer->body + telling_most(entry) > BODY_MOST) {
        writer_close(writer, false);
        writer_open(writer);
    }
    return writer->journal->buffer + HEAD_MOST + writer->body;
}

static void writer_tell(struct writer *writer, struct entry *entry, enum telling_mood mood)
{
    struct journal *journal = writer->journal;
    size_t size = telling_write(entry, mood, writer_reserve(writer, entry));

    writer->body += size;
    list_remove(&entry->told);
    if (mood == TELLING_GONE) {
        entry_free(entry);
        return;
    }
    list_append(&slot_of(journal, journal->next)->told, &entry->told);
    journal->alive += size - entry->told_size;
    entry->told_size = (uint16_t)size;
    entry->slot = (uint8_t)(journal->next % JOURNAL_KEYS);
    entry->is_dirty = 0;
}

/* Parts of a record that was seen whole: their end was told in a record that was loaded before they were. */
static bool is_over(struct journal *journal, const struct entry *entry)
{
    struct entry_name name = entry_name(entry), origin = {ENTRY_ORIGIN, name.origin, 0};

    return name.kind == ENTRY_PARTS &&
           entry_judge(entries_find(&journal->entries, &origin), name.sequence) == NUMBERS_SEEN;
}

static void writer_tell_anew(struct writer *writer, struct entry *entry)
{
    if (is_over(writer->journal, entry))
        journal_drop(writer->journal, entry);
    else
        writer_tell(writer, entry, TELLING_IDLE);
}

/* The last records are too large together, or the key of the oldest comes round soon. */
static bool writer_is_late(const struct writer *writer)
{
    const struct journal *journal = writer->journal;
    size_t bound = RING_TIMES * journal->alive;

    return journal->ring + writer->body > (bound < RING_LEAST ? RING_LEAST : bound) ||
           journal->next - journal->first >= JOURNAL_KEYS - LATE;
}

/* The oldest entry that should be told anew. NULL: there is none, or it is enough for this transaction. */
static struct entry *writer_oldest(struct writer *writer, uint64_t start)
{
    struct journal *journal = writer->journal;
    struct entry *entry;

    journal_advance(journal);
    if (journal->first >= start || !writer_is_late(writer))
        return NULL;
    entry = entry_of_told(slot_of(journal, journal->first)->told.next);
    if (writer->budget < entry->told_size)
        return NULL;
    writer->budget -= entry->told_size;
    return entry;
}

int journal_write(struct journal *journal, struct journal_name name, journal_put *put, void *opaque)
{
    struct writer writer = {.journal = journal, .head = {.name = name}, .put = put, .opaque = opaque};
    uint64_t start = journal->next;
    struct entry *entry;

    writer_open(&writer);
    while (!list_is_empty(&journal->gone))
        writer_tell(&writer, entry_of_told(journal->gone.next), TELLING_GONE);
    while (!list_is_empty(&journal->dirty))
        writer_tell(&writer, entry_of_told(journal->dirty.next), TELLING_NOTED);
    writer.budget = RETELL + (size_t)(journal->next - start) * BODY_MOST + writer.body + journal->alive / LATE;
    do {
        while (!list_is_empty(&journal->leaving))
            writer_tell_anew(&writer, entry_of_told(journal->leaving.next));
        entry = writer_oldest(&writer, start);
        if (entry != NULL)
            writer_tell_anew(&writer, entry);
    } while (entry != NULL);
    writer_close(&writer, true);
    return writer.error != 0 ? writer.error : (int)(journal->next - start);
}

void journal_stored(struct journal *journal, unsigned slot, int64_t offset)
{
    journal->slots[slot % JOURNAL_KEYS].offset = offset == INT64_MAX ? -1 : offset;
}

/* ---------------------------------------------------------------------------------------------------------- loading */

static int bad(char *why, size_t size, const char *text)
{
    snprintf(why, size, "%s", text);
    return -EBADMSG;
}

/* Checks all of it before anything is taken. */
static int journal_check(struct fms_bytes key, struct fms_bytes value, struct head *head, struct fms_bytes *body,
                         char *why, size_t size)
{
    int error = head_read(value, head, body, why, size);
    struct fms_bytes rest;
    struct telling telling;
    char right[sizeof "255"];

    if (error != 0)
        return error;
    rest = *body;
    snprintf(right, sizeof right, "%u", (unsigned)(head->number % JOURNAL_KEYS) % JOURNAL_KEYS);
    if (key.size != strlen(right) || memcmp(key.data, right, key.size) != 0)
        return bad(why, size, "its key is another record's");
    while (rest.size > 0)
        if (!telling_read(&rest, &telling))
            return bad(why, size, "what it tells makes no sense");
    return 0;
}

/* The record's place. What older records told, and none from `first` on tells anew, is of no use any more, unless
 * this one tells it. */
static struct slot *journal_enter(struct journal *journal, const struct head *head, size_t size, int64_t offset)
{
    struct slot *slot = slot_of(journal, head->number);

    if (head->number >= journal->next) {
        list_splice(&journal->leaving, &slot->told);
        journal->next = head->number + 1;
        journal->first = head->first > journal->first ? head->first : journal->first;
        journal->last = head->name;
        journal->has_loaded = true;
    }
    journal->ring += size - slot->size;
    slot->number = head->number;
    slot->offset = offset >= 0 && offset < INT64_MAX ? offset : -1;
    slot->size = size;
    for (struct slot *other = journal->slots; other < journal->slots + JOURNAL_KEYS; other++) {
        if (other->number >= journal->first)
            continue;
        list_splice(&journal->leaving, &other->told);
        journal->ring -= other->size;
        other->size = 0;
    }
    return slot;
}

/* No record that was loaded tells it later than this one, nor is it to be told. */
static bool is_newest(const struct journal *journal, const struct entry *entry, uint64_t number)
{
    return !entry->is_dirty && (entry->told_size == 0 || journal->slots[entry->slot].number <= number);
}

static void entry_place(struct journal *journal, struct entry *entry, struct slot *slot, const struct telling *telling)
{
    bool is_new = entry->told_size == 0;

    list_remove(&entry->told);
    list_append(&slot->told, &entry->told);
    journal->alive += telling->size - entry->told_size;
    entry->told_size = (uint16_t)telling->size;
    entry->slot = (uint8_t)(slot - journal->slots);
    if (!telling->is_idle)
        entries_put_last(&journal->entries, entry);
    else if (is_new)
        entries_put_idle(&journal->entries, entry);
}

/* Numbers that were seen stay seen, so those of an older record are added; of an identifier only the newest message
 * counts. */
static int entry_merge(struct journal *journal, struct entry *entry, struct telling *telling, bool is_newest_one)
{
    struct interval interval;
    int error = 0;

    if (entry->kind == ENTRY_RESENT) {
        if (!is_newest_one)
            return 0;
        entries_clear(&journal->entries, entry);
        entry_set_print(entry, telling->print);
    }
    while (error == 0 && telling_next(telling, &interval))
        error = entries_see(&journal->entries, entry, interval);
    if (error == 0)
        error = entries_doubt(&journal->entries, entry, telling->unsure);
    entries_bound(&journal->entries, entry);
    return error;
}

static int journal_take(struct journal *journal, struct telling *telling, struct slot *slot)
{
    struct entry *entry = entries_find(&journal->entries, &telling->name);
    bool is_newest_one = entry == NULL || is_newest(journal, entry, slot->number);
    int error;

    if (telling->is_gone) {
        if (entry != NULL && is_newest_one)
            journal_drop(journal, entry);
        return 0;
    }
    if (entry == NULL)
        entry = entries_add(&journal->entries, &telling->name);
    if (entry == NULL)
        return -ENOMEM;
    error = entry_merge(journal, entry, telling, is_newest_one);
    if (is_newest_one)
        entry_place(journal, entry, slot, telling);
    journal_forget(journal);
    return error;
}

int journal_load(struct journal *journal, struct fms_bytes key, struct fms_bytes value, int64_t offset, char *why,
                 size_t size)
{
    struct fms_bytes body = {NULL, 0};
    struct telling telling;
    struct slot *slot;
    struct head head;
    int error = journal_check(key, value, &head, &body, why, size);

    if (error != 0 || head.number < journal->first)
        return error;
    slot = journal_enter(journal, &head, value.size, offset);
    while (error == 0 && body.size > 0 && telling_read(&body, &telling))
        error = journal_take(journal, &telling, slot);
    while (!list_is_empty(&journal->leaving))
        journal_drop(journal, entry_of_told(journal->leaving.next));
    if (error != 0)
        snprintf(why, size, "there is no memory for it");
    return error;
}

int64_t journal_base(struct fms_bytes value)
{
    struct fms_bytes body;
    struct head head;
    char why[1];

    return head_read(value, &head, &body, why, sizeof why) == 0 ? head.base : -1;
}

bool journal_last(const struct journal *journal, struct journal_name *name)
{
    *name = journal->last;
    return journal->has_loaded;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

size_t journal_entries(const struct journal *journal)
{
    return journal->entries.count;
}

size_t journal_bytes(const struct journal *journal)
{
    return sizeof *journal + JOURNAL_RECORD_MOST + journal->entries.bytes;
}

uint64_t journal_forgotten(const struct journal *journal)
{
    return journal->forgotten;
}

uint64_t journal_unsure(const struct journal *journal)
{
    return journal->unsure;
}
