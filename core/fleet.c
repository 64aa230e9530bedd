/* fleet.c - see fleet.h.
 *
 * A record costs a hash, a comparison and two stores. Once in a second and vehicle its fields are looked up, and it is moved to
 * the end of a list, which is therefore in the order of silence, to a second: what makes room in a full table is its head. Beyond
 * 50,000 records a second one in some is looked at, at random, and counts for these: so a fleet costs a lane no more than that, however
 * fast it is.
 *
 * What names a vehicle and what it said changes under an odd `version`, word by word: who reads between two looks at the same even
 * number has read what belongs together. */
#include "fleet.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "clock.h"
#include "words.h"

#define NONE        UINT32_MAX
#define NAME_WORDS  (FLEET_NAME / sizeof(uint64_t))
#define VALUE_WORDS (FLEET_VALUE / sizeof(uint64_t))
#define LOOK        FMS_SECOND /* between two looks at the fields of a vehicle */
#define READ_TRIES  100
#define WINDOW      (100 * FMS_MS)
#define LOOKS       5000u /* at records, in a window */

struct vehicle {
    uint64_t hash;         /* the lane's, like all up to `seen_at` */
    uint32_t older, newer; /* in the list; NONE: none */
    int64_t looked_at;
    _Atomic int64_t seen_at, first_at;
    _Atomic uint64_t records;
    _Atomic uint32_t version;
    _Atomic uint32_t name_size;
    _Atomic uint64_t name[NAME_WORDS];                  /* zeros behind it */
    _Atomic uint64_t fields[FLEET_FIELDS][VALUE_WORDS]; /* text; a NUL byte behind it */
};

struct fleet {
    struct fleet_options options; /* what the lane alone uses of them, and the bound */
    _Atomic int64_t silent_after;
    const char *fields_told[FLEET_FIELDS]; /* see words_keep */
    _Atomic unsigned holders;              /* but the first */
    struct json_paths *paths;              /* of the fields alone, so that records do not grow by them */
    struct json_cache *cache;
    size_t cache_size;
    int path; /* what names a vehicle, if that is a field alone; else -1 */
    int fields[FLEET_FIELDS];
    uint64_t secret[2];
    struct vehicle *vehicles;
    _Atomic size_t count; /* of these */
    uint32_t oldest, newest;
    uint32_t *places; /* by hash: a vehicle's number, plus 1; 0: none. Where one is taken, the next is tried */
    size_t mask;
    _Atomic uint64_t unnamed, untracked;
    int64_t counted_at; /* when the last window ended */
    uint64_t passed;    /* records since */
    uint32_t stride;    /* one in so many is looked at */
    uint64_t gap;       /* records that are passed over before the next */
    uint64_t random;
};

/* ------------------------------------------------------------------------------------------------------------ words */

static void word_store(_Atomic uint64_t *to, const char *from, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint64_t word;

        memcpy(&word, from + i * sizeof word, sizeof word);
        atomic_store_explicit(&to[i], word, memory_order_release); /* after the odd version */
    }
}

static void word_load(char *to, const _Atomic uint64_t *from, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint64_t word = atomic_load_explicit(&from[i],
                                             memory_order_acquire); /* before the version is looked at again */

        memcpy(to + i * sizeof word, &word, sizeof word);
    }
}

/* The lane is the only one that writes these. */
#define OWN(field)        atomic_load_explicit(&(field), memory_order_relaxed)
#define PUT(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define ADD(field, n)     PUT(field, OWN(field) + (n))

static void change_begin(struct vehicle *vehicle)
{
    PUT(vehicle->version, OWN(vehicle->version) + 1);
}

static void change_end(struct vehicle *vehicle)
{
    atomic_store_explicit(&vehicle->version, OWN(vehicle->version) + 1, memory_order_release);
}

/* ------------------------------------------------------------------------------------------------------------ names */

static uint64_t folded(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t crossed = (a >> 32) * (b & UINT32_MAX) ^ (a & UINT32_MAX) * (b >> 32);

    return (a & UINT32_MAX) * (b & UINT32_MAX) ^ (a >> 32) * (b >> 32) ^ crossed << 32 ^ crossed >> 32;
#endif
}

static inline uint64_t word_at(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* Two words at a time, mixed with what nobody outside knows: names cannot be chosen so that they meet in one place. The last
 * words may overlap those before; of a short name the bytes are taken one by one. */
static uint64_t name_hash(const struct fleet *fleet, const char *name, size_t size)
{
    uint64_t state = fleet->secret[0] ^ size, first = 0, last = 0;

    for (; size > 16; size -= 16, name += 16)
        state = folded(word_at(name) ^ fleet->secret[1], word_at(name + 8) ^ state);
    if (size >= 8) {
        first = word_at(name);
        last = word_at(name + size - 8);
    } else {
        for (size_t i = 0; i < size; i++)
            first = first << 8 | (unsigned char)name[i];
    }
    return folded(folded(first ^ fleet->secret[1], last ^ state) ^ fleet->secret[0], fleet->secret[1]);
}

/* As memcmp says, without a call. */
static bool is_same(const char *a, const char *b, size_t size)
{
    size_t i = 0;

    if (size < 8)
        return memcmp(a, b, size) == 0;
    for (; i + 8 < size; i += 8) {
        if (word_at(a + i) != word_at(b + i))
            return false;
    }
    return word_at(a + size - 8) == word_at(b + size - 8);
}

/* What is kept of a text: at most so much, and no part of a character. */
static size_t cut(struct fms_bytes text, size_t most)
{
    const unsigned char *at = text.data;
    size_t size = most;

    if (text.size <= most)
        return text.size;
    while (size > 0 && (at[size] & 0xc0) == 0x80)
        size--;
    return size > 0 ? size : most; /* no UTF-8 at all */
}

static bool has_name(const struct vehicle *vehicle, uint64_t hash, const char *name, size_t size)
{
    return vehicle->hash == hash && OWN(vehicle->name_size) == size && is_same((const char *)vehicle->name, name, size);
}

/* Where a vehicle's number stands, or would. */
static size_t place_of(const struct fleet *fleet, uint64_t hash, const char *name, size_t size)
{
    size_t place = (size_t)hash & fleet->mask;

    while (fleet->places[place] != 0 && !has_name(&fleet->vehicles[fleet->places[place] - 1], hash, name, size))
        place = (place + 1) & fleet->mask;
    return place;
}

/* Those behind a place that is given up and may not stay behind a gap move up. */
static void place_free(struct fleet *fleet, size_t place)
{
    size_t next = place;

    for (;;) {
        size_t wanted;

        next = (next + 1) & fleet->mask;
        if (fleet->places[next] == 0)
            break;
        wanted = (size_t)fleet->vehicles[fleet->places[next] - 1].hash & fleet->mask;
        if (((next - wanted) & fleet->mask) < ((next - place) & fleet->mask))
            continue;
        fleet->places[place] = fleet->places[next];
        place = next;
    }
    fleet->places[place] = 0;
}

/* ------------------------------------------------------------------------------------------------- the order of silence */

static void list_remove(struct fleet *fleet, const struct vehicle *vehicle)
{
    if (vehicle->older == NONE)
        fleet->oldest = vehicle->newer;
    else
        fleet->vehicles[vehicle->older].newer = vehicle->newer;
    if (vehicle->newer == NONE)
        fleet->newest = vehicle->older;
    else
        fleet->vehicles[vehicle->newer].older = vehicle->older;
}

static void list_append(struct fleet *fleet, struct vehicle *vehicle)
{
    uint32_t number = (uint32_t)(vehicle - fleet->vehicles);

    vehicle->older = fleet->newest;
    vehicle->newer = NONE;
    if (fleet->newest == NONE)
        fleet->oldest = number;
    else
        fleet->vehicles[fleet->newest].newer = number;
    fleet->newest = number;
}

/* A vehicle's memory, in no list and at no place: a new one, or that of the one that is silent for longest. NULL: all are heard. */
static struct vehicle *vehicle_take(struct fleet *fleet, int64_t now)
{
    size_t count = OWN(fleet->count);
    struct vehicle *vehicle;

    if (count < fleet->options.most)
        return &fleet->vehicles[count];
    vehicle = &fleet->vehicles[fleet->oldest];
    if (now - OWN(vehicle->seen_at) < OWN(fleet->silent_after))
        return NULL;
    list_remove(fleet, vehicle);
    place_free(fleet, place_of(fleet, vehicle->hash, (const char *)vehicle->name, OWN(vehicle->name_size)));
    return vehicle;
}

static struct vehicle *vehicle_new(struct fleet *fleet, uint64_t hash, const char *name, size_t size, int64_t now)
{
    struct vehicle *vehicle = vehicle_take(fleet, now);
    char padded[FLEET_NAME] = {0}, empty[FLEET_VALUE] = {0};

    if (vehicle == NULL)
        return NULL;
    memcpy(padded, name, size);
    change_begin(vehicle);
    vehicle->hash = hash;
    vehicle->looked_at = now - LOOK; /* so that it is looked at now */
    atomic_store_explicit(&vehicle->name_size, (uint32_t)size, memory_order_release);
    word_store(vehicle->name, padded, NAME_WORDS);
    for (size_t i = 0; i < FLEET_FIELDS; i++)
        word_store(vehicle->fields[i], empty, VALUE_WORDS);
    atomic_store_explicit(&vehicle->first_at, now, memory_order_release);
    atomic_store_explicit(&vehicle->seen_at, now, memory_order_release);
    atomic_store_explicit(&vehicle->records, 0, memory_order_release);
    change_end(vehicle);
    list_append(fleet, vehicle);
    /* Sought anew: a vehicle that made room may have made one nearer. */
    fleet->places[place_of(fleet, hash, name, size)] = (uint32_t)(vehicle - fleet->vehicles) + 1;
    if (vehicle == &fleet->vehicles[OWN(fleet->count)])
        atomic_store_explicit(&fleet->count, OWN(fleet->count) + 1, memory_order_release);
    return vehicle;
}

/* ----------------------------------------------------------------------------------------------------------- fields */

/* A value as text, cut; nothing of what is no single value. */
static void field_text(const struct fms_json *value, char *to)
{
    struct fms_bytes bytes = value->text;
    char text[8 * FLEET_VALUE];

    memset(to, 0, FLEET_VALUE);
    if (value->type < FMS_JSON_BOOLEAN || value->type > FMS_JSON_STRING)
        return;
    if (value->escaped && bytes.size <= sizeof text) /* a longer one is shown as it stands */
        bytes = fms_bytes_of(text, json_unescape(bytes.data, bytes.size, text));
    memcpy(to, bytes.data, cut(bytes, FLEET_VALUE - 1));
}

static void look_at_fields(struct fleet *fleet, struct vehicle *vehicle, const struct fms_record *record)
{
    size_t count = fleet->options.fields.count;
    char text[FLEET_FIELDS][FLEET_VALUE];

    if (count == 0)
        return;
    memset(fleet->cache, 0, fleet->cache_size);
    for (size_t i = 0; i < count; i++) {
        struct fms_json value = {FMS_JSON_MISSING, false, {"", 0}};

        if (json_get(fleet->paths, fleet->cache, record->payload, fleet->fields[i], &value) != 0)
            value.type = FMS_JSON_MISSING;
        field_text(&value, text[i]);
    }
    change_begin(vehicle);
    for (size_t i = 0; i < count; i++)
        word_store(vehicle->fields[i], text[i], VALUE_WORDS);
    change_end(vehicle);
}

__attribute__((noinline)) static void look_at(struct fleet *fleet, struct vehicle *vehicle,
                                              const struct fms_record *record, int64_t now)
{
    vehicle->looked_at = now;
    list_remove(fleet, vehicle);
    list_append(fleet, vehicle);
    look_at_fields(fleet, vehicle, record);
}

/* What names the vehicle, without a NUL byte behind it. False: nothing does. */
static inline bool name_of(const struct fleet *fleet, const struct fms_record *record, struct json_cache *cache,
                           struct fms_bytes *name)
{
    if (fleet->path >= 0 && json_find(fleet->options.paths, cache, record->payload) == 0) {
        const struct json_slot *slot = &cache->slots[fleet->path];

        if (slot->type > FMS_JSON_NULL && !slot->escaped) {
            *name = fms_bytes_of((const char *)record->payload.data + slot->offset, slot->size);
            return slot->size > 0;
        }
    }
    return template_expand(fleet->options.vehicle, record, cache, name) == 0 && name->size > 0;
}

/* Those that are not met at once: the first of a name, and what shares its place. NULL: there is no room. */
__attribute__((noinline)) static struct vehicle *vehicle_find(struct fleet *fleet, uint64_t hash, const char *name,
                                                              size_t size, int64_t now, uint32_t weight)
{
    uint32_t number = fleet->places[place_of(fleet, hash, name, size)];
    struct vehicle *vehicle = number != 0 ? &fleet->vehicles[number - 1] : vehicle_new(fleet, hash, name, size, now);

    if (vehicle == NULL)
        ADD(fleet->untracked, weight);
    return vehicle;
}

/* For how many records this one stands; 0: it is passed over. */
static inline uint32_t weight_of(struct fleet *fleet, int64_t now)
{
    uint32_t stride = fleet->stride;

    fleet->passed++;
    if (now - fleet->counted_at >= WINDOW) {
        fleet->stride = 1 + (uint32_t)(fleet->passed * WINDOW / (uint64_t)(now - fleet->counted_at) / LOOKS);
        fleet->counted_at = now;
        fleet->passed = 0;
    }
    if (stride <= 1)
        return 1;
    if (fleet->gap > 0) {
        fleet->gap--;
        return 0;
    }
    fleet->random = fleet->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    fleet->gap = (fleet->random >> 33) % (2 * (uint64_t)stride - 1); /* stride - 1 in the middle */
    return stride;
}

bool fleet_see(struct fleet *fleet, const struct fms_record *record, struct json_cache *cache, int64_t now)
{
    uint32_t weight = weight_of(fleet, now), number;
    struct vehicle *vehicle;
    struct fms_bytes name;
    uint64_t hash;

    if (weight == 0)
        return true;
    if (!name_of(fleet, record, cache, &name)) {
        ADD(fleet->unnamed, weight);
        return false;
    }
    if (name.size > FLEET_NAME)
        name.size = cut(name, FLEET_NAME);
    hash = name_hash(fleet, name.data, name.size);
    number = fleet->places[hash & fleet->mask];
    vehicle = number != 0 ? &fleet->vehicles[number - 1] : NULL;
    if ((vehicle == NULL || !has_name(vehicle, hash, name.data, name.size)) &&
        (vehicle = vehicle_find(fleet, hash, name.data, name.size, now, weight)) == NULL)
        return true;
    PUT(vehicle->seen_at, now);
    ADD(vehicle->records, weight);
    if (now - vehicle->looked_at >= LOOK)
        look_at(fleet, vehicle, record, now);
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- looking */

static enum vehicle_state state_of(const struct fleet *fleet, const struct vehicle *vehicle, int64_t now)
{
    int64_t silent_after = OWN(fleet->silent_after);

    if (now - OWN(vehicle->seen_at) >= silent_after)
        return VEHICLE_SILENT;
    return now - OWN(vehicle->first_at) < silent_after ? VEHICLE_NEW : VEHICLE_ACTIVE;
}

void fleet_count(const struct fleet *fleet, int64_t now, struct fleet_counts *to)
{
    size_t states[VEHICLE_STATES] = {0}, count;

    *to = (struct fleet_counts){0};
    if (fleet == NULL)
        return;
    count = atomic_load_explicit(&fleet->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        states[state_of(fleet, &fleet->vehicles[i], now)]++;
    to->is_kept = true;
    to->silent = states[VEHICLE_SILENT];
    to->new = states[VEHICLE_NEW];
    to->active = states[VEHICLE_ACTIVE];
    to->limit = fleet->options.most;
    to->unnamed = OWN(fleet->unnamed);
    to->untracked = OWN(fleet->untracked);
}

/* Ends the text where it can be shown: no NUL byte within, no control characters. */
static void make_plain(char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    }
    text[size] = '\0';
}

/* What belongs together; false: it changed each time. */
static bool vehicle_read(const struct fleet *fleet, const struct vehicle *vehicle, int64_t now, struct vehicle_view *to)
{
    for (unsigned i = 0; i < READ_TRIES; i++) {
        uint32_t version = atomic_load_explicit(&vehicle->version, memory_order_acquire), size;

        size = atomic_load_explicit(&vehicle->name_size, memory_order_acquire);
        word_load(to->name, vehicle->name, NAME_WORDS);
        for (size_t k = 0; k < FLEET_FIELDS; k++)
            word_load(to->fields[k], vehicle->fields[k], VALUE_WORDS);
        to->seen_at = atomic_load_explicit(&vehicle->seen_at, memory_order_acquire);
        to->records = atomic_load_explicit(&vehicle->records, memory_order_acquire);
        to->state = state_of(fleet, vehicle, now);
        if ((version & 1) != 0 || OWN(vehicle->version) != version)
            continue;
        make_plain(to->name, size);
        for (size_t k = 0; k < FLEET_FIELDS; k++)
            make_plain(to->fields[k], strnlen(to->fields[k], FLEET_VALUE - 1));
        return true;
    }
    return false;
}

/* A vehicle's place in the answer. */
struct rank {
    uint32_t number;
    uint32_t state;
    int64_t seen_at;
};

static int rank_compare(const void *a, const void *b)
{
    const struct rank *one = a, *other = b;

    if (one->state != other->state)
        return one->state < other->state ? -1 : 1;
    if (one->state == VEHICLE_SILENT && one->seen_at != other->seen_at)
        return one->seen_at < other->seen_at ? -1 : 1;
    return one->number < other->number ? -1 : 1; /* as they came: they do not jump from look to look */
}

static size_t rank_all(const struct fleet *fleet, int64_t now, const char *find, struct rank *ranks, size_t count)
{
    struct vehicle_view view;
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        const struct vehicle *vehicle = &fleet->vehicles[i];

        if (*find != '\0' && (!vehicle_read(fleet, vehicle, now, &view) || strstr(view.name, find) == NULL))
            continue;
        ranks[found++] = (struct rank){(uint32_t)i, state_of(fleet, vehicle, now), OWN(vehicle->seen_at)};
    }
    qsort(ranks, found, sizeof *ranks, rank_compare);
    return found;
}

bool fleet_look(const struct fleet *fleet, int64_t now, const char *find, size_t most, struct fleet_view *to)
{
    size_t count = fleet != NULL ? atomic_load_explicit(&fleet->count, memory_order_acquire) : 0;
    struct rank *ranks = fleet != NULL ? malloc((count + 1) * sizeof *ranks) : NULL;

    *to = (struct fleet_view){0};
    if (ranks == NULL)
        return false;
    to->total = rank_all(fleet, now, find, ranks, count);
    most = most < to->total ? most : to->total;
    to->vehicles = malloc((most + 1) * sizeof *to->vehicles);
    for (size_t i = 0; to->vehicles != NULL && i < most; i++)
        to->count += vehicle_read(fleet, &fleet->vehicles[ranks[i].number], now, &to->vehicles[to->count]);
    free(ranks);
    to->shown_at = now;
    to->silent_after = OWN(fleet->silent_after);
    memcpy(to->fields, fleet->fields_told, sizeof to->fields);
    to->field_count = fleet->options.fields.count;
    fleet_count(fleet, now, &to->counts);
    return to->vehicles != NULL;
}

/* ----------------------------------------------------------------------------------------------------- new and free */

static int add_fields(struct fleet *fleet, char *error, size_t size)
{
    const struct fms_list *fields = &fleet->options.fields;

    if (fields->count > FLEET_FIELDS) {
        snprintf(error, size, "%zu fields, but at most %u of a vehicle are kept", fields->count, FLEET_FIELDS);
        return -EINVAL;
    }
    for (size_t i = 0; i < fields->count; i++) {
        fleet->fields[i] = json_paths_add(fleet->paths, fields->items[i]);
        if (fleet->fields[i] == -EINVAL)
            snprintf(error, size, "\"%s\" is no path of a payload: speed, position.lat and axles.0.load are",
                     fields->items[i]);
        if (fleet->fields[i] < 0)
            return fleet->fields[i];
        fleet->fields_told[i] = words_keep(fields->items[i]);
        if (fleet->fields_told[i] == NULL)
            return -ENOMEM;
    }
    fleet->cache_size = json_cache_size(fleet->paths);
    fleet->cache = malloc(fleet->cache_size + 1);
    return fleet->cache != NULL ? 0 : -ENOMEM;
}

static void draw_secret(struct fleet *fleet)
{
    int64_t now = clock_realtime();

    if (getrandom(fleet->secret, sizeof fleet->secret, GRND_NONBLOCK) != (ssize_t)sizeof fleet->secret) {
        fleet->secret[0] = (uint64_t)now * UINT64_C(0x9e3779b97f4a7c15);
        fleet->secret[1] = (uintptr_t)fleet * UINT64_C(0x94d049bb133111eb) + (uint64_t)now;
    }
    fleet->secret[1] |= 1;
}

/* Memory of which what is never used is never touched. */
static int fleet_init(struct fleet *fleet, const struct fleet_options *options, char *error, size_t size)
{
    size_t places = 16;

    while (places < 2 * options->most)
        places *= 2;
    fleet->options = *options;
    fleet->options.told = options->told != NULL ? words_keep(options->told) : NULL;
    fleet->silent_after = options->silent_after;
    fleet->path = template_path(options->vehicle);
    fleet->mask = places - 1;
    fleet->oldest = fleet->newest = NONE;
    fleet->paths = json_paths_new();
    fleet->places = calloc(places, sizeof *fleet->places);
    fleet->vehicles = calloc(options->most, sizeof *fleet->vehicles);
    if (fleet->paths == NULL || fleet->places == NULL || fleet->vehicles == NULL ||
        (options->told != NULL && fleet->options.told == NULL))
        return -ENOMEM;
    draw_secret(fleet);
    return add_fields(fleet, error, size);
}

struct fleet *fleet_new(const struct fleet_options *options, char *error, size_t size)
{
    struct fleet *fleet = calloc(1, sizeof *fleet);
    int result = fleet != NULL ? fleet_init(fleet, options, error, size) : -ENOMEM;

    if (result == 0)
        return fleet;
    fleet_free(fleet);
    errno = -result;
    return NULL;
}

struct fleet *fleet_hold(struct fleet *fleet)
{
    if (fleet != NULL)
        atomic_fetch_add(&fleet->holders, 1);
    return fleet;
}

void fleet_free(struct fleet *fleet)
{
    if (fleet == NULL || atomic_fetch_sub(&fleet->holders, 1) > 0)
        return;
    if (fleet->paths != NULL)
        json_paths_free(fleet->paths);
    free(fleet->cache);
    free(fleet->places);
    free(fleet->vehicles);
    free(fleet);
}

/* ------------------------------------------------------------------------------------------------------------- change */

bool fleet_fits(const struct fleet *fleet, const struct fleet_options *options)
{
    bool fits = fleet != NULL && fleet->options.told != NULL && options->told != NULL &&
                strcmp(fleet->options.told, options->told) == 0 && fleet->options.most == options->most &&
                fleet->options.fields.count == options->fields.count;

    for (size_t i = 0; fits && i < options->fields.count; i++)
        fits = strcmp(fleet->fields_told[i], options->fields.items[i]) == 0;
    return fits;
}

void fleet_keep(struct fleet *fleet, const struct fms_template *vehicle, int64_t silent_after)
{
    fleet->options.vehicle = vehicle;
    fleet->path = template_path(vehicle);
    PUT(fleet->silent_after, silent_after);
}

/* Which field of the other table is the same; FLEET_FIELDS: none. */
static size_t field_in(const struct fleet *fleet, const char *told)
{
    size_t i = 0;

    while (i < fleet->options.fields.count && fleet->fields_told[i] != told)
        i++;
    return i < fleet->options.fields.count ? i : FLEET_FIELDS;
}

static void copy_words(_Atomic uint64_t *to, const _Atomic uint64_t *from, size_t words)
{
    for (size_t i = 0; i < words; i++)
        PUT(to[i], OWN(from[i]));
}

/* Behind those that it has; the next record of it is looked at. `fields`: where those of this table are in the other. */
static void vehicle_copy(struct fleet *fleet, const struct vehicle *from, const size_t *fields)
{
    size_t count = OWN(fleet->count), size = OWN(from->name_size);
    struct vehicle *to = &fleet->vehicles[count];

    to->hash = from->hash;
    to->looked_at = from->looked_at - LOOK;
    PUT(to->seen_at, OWN(from->seen_at));
    PUT(to->first_at, OWN(from->first_at));
    PUT(to->records, OWN(from->records));
    PUT(to->name_size, (uint32_t)size);
    copy_words(to->name, from->name, NAME_WORDS);
    for (size_t i = 0; i < fleet->options.fields.count; i++) {
        if (fields[i] < FLEET_FIELDS)
            copy_words(to->fields[i], from->fields[fields[i]], VALUE_WORDS);
    }
    list_append(fleet, to);
    fleet->places[place_of(fleet, to->hash, (const char *)to->name, size)] = (uint32_t)count + 1;
    PUT(fleet->count, count + 1);
}

void fleet_follow(struct fleet *fleet, const struct fleet *old)
{
    size_t count = OWN(old->count), skipped = count > fleet->options.most ? count - fleet->options.most : 0;
    size_t fields[FLEET_FIELDS] = {0};

    PUT(fleet->unnamed, OWN(old->unnamed));
    PUT(fleet->untracked, OWN(old->untracked));
    fleet->counted_at = old->counted_at;
    fleet->passed = old->passed;
    fleet->stride = old->stride;
    fleet->gap = old->gap;
    fleet->random = old->random;
    if (fleet->options.told == NULL || fleet->options.told != old->options.told)
        return;
    memcpy(fleet->secret, old->secret, sizeof fleet->secret);
    for (size_t i = 0; i < fleet->options.fields.count; i++)
        fields[i] = field_in(old, fleet->fields_told[i]);
    for (uint32_t number = old->oldest; number != NONE; number = old->vehicles[number].newer) {
        if (skipped > 0)
            skipped--;
        else
            vehicle_copy(fleet, &old->vehicles[number], fields);
    }
}
