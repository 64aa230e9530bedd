/* decoder.c - from frames to samples: a message is whole or not looked at, a signal is fresh or left out. */
#include "can_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../can_common/dbc.h"

#define MISSION      3  /* signals that each sample has, if they have a value */
#define HEAD         96 /* bytes of a sample besides its vehicle and signals */
#define NAMELESS_TOO 30 /* samples that were not made before that is told */

#define PGN_TD      0xFEE6            /* the bus's clock */
#define TACHOGRAPH  0xEE              /* the address of the one that the law keeps right */
#define TD_PATIENCE (10 * FMS_SECOND) /* then another address may tell the time */
#define TD_YEAR     2025              /* no bus that this is for says an earlier one, and means it */

static const char *const mission[MISSION] = {"speed", "rpm", "fuel_level"};

struct decoder {
    struct signals signals;
    struct j1939 j1939;
    struct reading **order; /* as they stand in a sample */
    size_t count;
    struct reading *vin; /* NULL: the vehicle's id is an option */
    char vehicle[SIGNAL_TEXT];
    char *payload;
    int64_t latest;
    int td_address; /* who tells the time; -1: nobody yet ... */
    int64_t td_at;  /* ... and when it did, last */
    uint64_t nameless;
    uint64_t counted[COUNTS];
    uint64_t frames;
};

/* ------------------------------------------------------------------------------------------------------------ the table */

/* 0 or a negative errno, told. */
static int decoder_add_line(const struct can_source *self, const struct fms_host *host, struct signals *signals,
                            struct fms_bytes line, unsigned long long number)
{
    char why[SIGNAL_WHY];
    int error = signals_add(signals, line, why);

    if (error >= 0)
        return 0;
    return fms_fail_option(host, "table", error, "%s line %llu: %s", self->table, number,
                           error == -ENOMEM ? "no memory, or more than 4096 signals" : why);
}

/* What of a DBC is a signal here is added; the rest is told. */
static int decoder_add_dbc(const struct can_source *self, const struct fms_host *host, struct signals *signals,
                           struct dbc *dbc, const char *line, unsigned long long number)
{
    char translated[DBC_LINE], why[SIGNAL_WHY];
    int error = dbc_translate(dbc, line, translated, why);

    if (error == 0)
        error = signals_add(signals, fms_text(translated), why);
    if (error == -ENOMEM)
        return fms_fail_option(host, "table", error, "%s line %llu: no memory, or more than 4096 signals", self->table,
                               number);
    if (error < 0)
        fms_warn(host, "%s line %llu: this signal is left out: %s", self->table, number, why);
    return 0;
}

/* All lines of a file, or first what a DBC has behind its messages. */
static int decoder_read_lines(const struct can_source *self, const struct fms_host *host, struct signals *signals,
                              FILE *file, struct dbc *dbc, bool is_first)
{
    unsigned long long number = 0;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    int error = 0;

    errno = 0;
    while (error == 0 && (size = getline(&line, &capacity, file)) >= 0) {
        number++;
        if (dbc == NULL)
            error = decoder_add_line(self, host, signals, fms_bytes_of(line, (size_t)size), number);
        else
            error = is_first ? dbc_note(dbc, line) : decoder_add_dbc(self, host, signals, dbc, line, number);
    }
    if (error == 0 && !feof(file))
        error = fms_fail_option(host, "table", -EIO, "%s: cannot be read: %s", self->table, strerror(errno));
    free(line);
    return error;
}

static int decoder_read_table(const struct can_source *self, const struct fms_host *host, struct signals *signals)
{
    const char *end = strrchr(self->table, '.');
    bool is_dbc = end != NULL && strcmp(end, ".dbc") == 0;
    FILE *file = fopen(self->table, "re");
    struct dbc dbc = {.count = 0};
    int error = 0;

    if (file == NULL)
        return fms_fail_option(host, "table", -errno, "%s: cannot be read: %s", self->table, strerror(errno));
    if (is_dbc) {
        error = decoder_read_lines(self, host, signals, file, &dbc, true);
        rewind(file);
    }
    if (error == 0)
        error = decoder_read_lines(self, host, signals, file, is_dbc ? &dbc : NULL, false);
    dbc_free(&dbc);
    fclose(file);
    return error;
}

static int decoder_unknown(const struct can_source *self, const struct fms_host *host, const char *option,
                           const char *name)
{
    return fms_fail_option(host, option, -EINVAL, "there is no signal \"%s\"%s%s", name,
                           self->table != NULL ? " in the FMS-Standard's table or in "
                                               : " in the FMS-Standard's table; `table` names a file with more",
                           self->table != NULL ? self->table : "");
}

static void decoder_ask_all(struct signals *signals)
{
    for (size_t i = 0; i < signals->count; i++)
        signals->items[i].is_asked = signals->items[i].is_asked || !signals->items[i].signal.is_personal;
}

static int decoder_ask(const struct can_source *self, const struct fms_host *host, struct signals *signals)
{
    struct reading *reading;

    for (size_t i = 0; i < MISSION; i++)
        signals_find(signals, mission[i])->is_asked = true;
    for (size_t i = 0; i < self->signals.count; i++) {
        const char *name = self->signals.items[i];

        if (strcmp(name, "all") == 0) {
            decoder_ask_all(signals);
            continue;
        }
        reading = signals_find(signals, name);
        if (reading == NULL)
            return decoder_unknown(self, host, "signals", name);
        reading->is_asked = true;
    }
    return 0;
}

/* A byte, in decimal or as 0x31. */
static int read_address(const char *text)
{
    char *end;
    long value = strtol(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);

    return *text >= '0' && *text <= '9' && *end == '\0' && value >= 0 && value <= 253 ? (int)value : -1;
}

static int decoder_want(const struct can_source *self, const struct fms_host *host, struct signals *signals)
{
    for (size_t i = 0; i < self->addresses.count; i++) {
        const struct fms_pair *pair = &self->addresses.items[i];
        struct reading *reading = signals_find(signals, pair->name);

        if (reading == NULL)
            return decoder_unknown(self, host, pair->option, pair->name);
        reading->wanted = read_address(pair->value);
        if (reading->wanted < 0)
            return fms_fail_option(host, pair->option, -EINVAL,
                                   "\"%s\" is no address; accepted are 0 to 253, or 0x00 to 0xfd", pair->value);
    }
    return 0;
}

static int decoder_fill(const struct can_source *self, const struct fms_host *host, struct signals *signals)
{
    char why[SIGNAL_WHY];
    int error = signals_add_fms(signals, why);

    if (error < 0)
        return fms_fail(host, error, "the FMS-Standard's table: %s", error == -ENOMEM ? "no memory" : why);
    error = self->table != NULL ? decoder_read_table(self, host, signals) : 0;
    if (error == 0)
        error = decoder_ask(self, host, signals);
    return error != 0 ? error : decoder_want(self, host, signals);
}

static int decoder_check_vehicle(const struct can_source *self, const struct fms_host *host)
{
    const char *id = self->vehicle_id;
    size_t size = id != NULL ? strlen(id) : 1;

    if (id != NULL && (size == 0 || size >= SIGNAL_TEXT || strpbrk(id, "\"\\") != NULL))
        return fms_fail_option(host, "vehicle_id", -EINVAL, "1 to 63 letters without quotes and backslashes, please");
    for (size_t i = 0; id != NULL && i < size; i++) {
        if ((unsigned char)id[i] < ' ')
            return fms_fail_option(host, "vehicle_id", -EINVAL, "no control characters, please");
    }
    return 0;
}

/* A table of the user's is a file, which `check` does not touch: then names are looked up when it is opened. */
int decoder_check(const struct can_source *self, const struct fms_host *host)
{
    struct signals signals = {.count = 0};
    int error = self->table == NULL ? decoder_fill(self, host, &signals) : 0, other = decoder_check_vehicle(self, host);

    signals_free(&signals);
    return error != 0 ? error : other;
}

/* ---------------------------------------------------------------------------------------------------------- opening */

static void decoder_tell(void *user, const struct reading *reading, enum signals_event event, int address)
{
    struct can_source *self = user;
    const char *name = reading->signal.name;

    if (event == SIGNALS_CHOSEN)
        fms_info(self->host, "%s: from address %d (0x%02x)", name, address, (unsigned)address);
    if (event == SIGNALS_OTHER)
        fms_info(self->host, "%s: address %d (0x%02x) has it, too; address.%s = %d would take it from there", name,
                 address, (unsigned)address, name, address);
    if (event != SIGNALS_CHANGED)
        return;
    fms_warn(self->host, "%s: from address %d (0x%02x) now: the one before has had no value for long", name, address,
             (unsigned)address);
    fms_count(self->host, COUNT_ADDRESSES, 1);
}

static void decoder_put_in_order(struct decoder *decoder, const char *name)
{
    struct reading *reading = signals_find(&decoder->signals, name);

    for (size_t i = 0; i < decoder->count; i++) {
        if (decoder->order[i] == reading)
            return;
    }
    decoder->order[decoder->count++] = reading;
}

/* The mission's first, then as they were asked for, and in `all` by their messages. */
static void decoder_order(const struct can_source *self, struct decoder *decoder)
{
    for (size_t i = 0; i < MISSION; i++)
        decoder_put_in_order(decoder, mission[i]);
    for (size_t i = 0; i < self->signals.count; i++) {
        bool is_all = strcmp(self->signals.items[i], "all") == 0;

        if (!is_all)
            decoder_put_in_order(decoder, self->signals.items[i]);
        for (size_t k = 0; is_all && k < decoder->signals.asked; k++) {
            if (!decoder->signals.items[k].signal.is_personal)
                decoder_put_in_order(decoder, decoder->signals.items[k].signal.name);
        }
    }
}

/* The id is an option, or what the bus says of itself, asked for besides. */
static int decoder_name(const struct can_source *self, struct decoder *decoder)
{
    struct reading *vin = signals_find(&decoder->signals, "vin");

    if (self->vehicle_id != NULL) {
        memcpy(decoder->vehicle, self->vehicle_id, strlen(self->vehicle_id) + 1);
        return 0;
    }
    if (!vin->signal.is_text)
        return fms_fail_option(self->host, "table", -EINVAL, "%s: its vin is no text; set vehicle_id", self->table);
    vin->is_asked = true;
    return 0;
}

static int decoder_start(struct can_source *self, struct decoder *decoder)
{
    int error = decoder_fill(self, self->host, &decoder->signals);

    if (error == 0)
        error = decoder_name(self, decoder);
    if (error != 0)
        return error;
    error = signals_index(&decoder->signals);
    decoder->order = calloc(decoder->signals.asked, sizeof *decoder->order);
    decoder->payload = malloc(HEAD + SIGNAL_TEXT + decoder->signals.asked * (SIGNAL_NAME + SIGNAL_TEXT + 6));
    if (error != 0 || decoder->order == NULL || decoder->payload == NULL)
        return fms_fail(self->host, -ENOMEM, "no memory for %zu signals", decoder->signals.asked);
    decoder->vin = self->vehicle_id == NULL ? signals_find(&decoder->signals, "vin") : NULL;
    decoder_order(self, decoder);
    decoder->signals.tell = decoder_tell;
    decoder->signals.user = self;
    decoder->td_address = -1;
    return 0;
}

int decoder_open(struct can_source *self)
{
    int error;

    self->decoder = calloc(1, sizeof *self->decoder);
    if (self->decoder == NULL)
        return fms_fail(self->host, -ENOMEM, "no memory for the decoder");
    error = decoder_start(self, self->decoder);
    if (error != 0)
        decoder_close(self);
    return error;
}

void decoder_close(struct can_source *self)
{
    if (self->decoder == NULL)
        return;
    decoder_count(self);
    signals_free(&self->decoder->signals);
    free(self->decoder->order);
    free(self->decoder->payload);
    free(self->decoder);
    self->decoder = NULL;
}

size_t decoder_pgns(const struct can_source *self, uint32_t *pgns, size_t most)
{
    const struct signals *signals = &self->decoder->signals;
    size_t count = 0;
    bool has_td = false;

    for (size_t i = 0; i < signals->asked && count < most; i++) {
        if (count == 0 || pgns[count - 1] != signals->items[i].signal.pgn)
            pgns[count++] = signals->items[i].signal.pgn;
        has_td = has_td || pgns[count - 1] == PGN_TD;
    }
    if (self->bus_clock && !has_td && count < most)
        pgns[count++] = PGN_TD;
    return count;
}

/* ------------------------------------------------------------------------------------------------------------ messages */

/* In nanoseconds since 1970; 0: it is not there, not right, or local time, as an offset of 250 has it. */
static int64_t td_read(const struct j1939_message *message)
{
    static const uint8_t least[] = {0, 0, 0, 1, 1, TD_YEAR - 1985}, most[] = {239, 59, 23, 12, 124, 250};
    const uint8_t *data = message->data;
    struct tm tm, made;
    time_t time;

    for (size_t i = 0; i < sizeof least; i++) {
        if (message->size < 8 || data[i] < least[i] || data[i] > most[i] || data[7] == 250)
            return 0;
    }
    made = tm = (struct tm){.tm_sec = data[0] / 4,
                            .tm_min = data[1],
                            .tm_hour = data[2],
                            .tm_mday = (data[4] + 3) / 4,
                            .tm_mon = data[3] - 1,
                            .tm_year = data[5] + 85};
    time = timegm(&made);
    return made.tm_mday == tm.tm_mday ? time * FMS_SECOND + data[0] % 4 * 250 * FMS_MS : 0;
}

/* One address tells the time: the tachograph, or who was first. */
static void decoder_hear_time(struct can_source *self, const struct j1939_message *message, int64_t time)
{
    struct decoder *decoder = self->decoder;
    int64_t utc = td_read(message);

    if (utc == 0 || (decoder->td_address >= 0 && decoder->td_address != message->id.source &&
                     message->id.source != TACHOGRAPH && time - decoder->td_at < TD_PATIENCE))
        return;
    decoder->td_address = message->id.source;
    decoder->td_at = time;
    fms_tell_time(self->host, utc);
}

void decoder_take(struct can_source *self, const struct frame *frame, int64_t time)
{
    struct decoder *decoder = self->decoder;
    struct j1939_message message;

    decoder->frames++;
    decoder->latest = time;
    if ((frame->flags & (FRAME_EXTENDED | FRAME_REMOTE | FRAME_ERROR | FRAME_FD)) != FRAME_EXTENDED)
        return;
    if (!j1939_take(&decoder->j1939, j1939_id_of(frame->id), frame->data, frame->size, time, &message))
        return;
    signals_take(&decoder->signals, &message, time);
    if (self->bus_clock && self->bus != NULL && message.id.pgn == PGN_TD)
        decoder_hear_time(self, &message, time);
}

static char *put(char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

#define PUT(to, literal) put(to, literal, sizeof(literal) - 1)

/* How many of the signals have a value. */
static size_t decoder_write(struct decoder *decoder, int64_t time, int64_t timestamp, struct fms_bytes *payload)
{
    char *to = PUT(decoder->payload, "{\"vehicle_id\":\"");
    size_t values = 0;

    to = put(to, decoder->vehicle, strlen(decoder->vehicle));
    to = PUT(to, "\",\"timestamp\":");
    to += snprintf(to, 24, "%lld", (long long)(timestamp / FMS_SECOND));
    for (size_t i = 0; i < decoder->count; i++) {
        const struct reading *reading = decoder->order[i];

        if (!reading_is_fresh(reading, time))
            continue;
        values++;
        to = PUT(to, ",\"");
        to = put(to, reading->signal.name, strlen(reading->signal.name));
        to = PUT(to, "\":");
        to += reading_write(reading, to);
    }
    to = PUT(to, "}");
    *to = '\0';
    *payload = fms_bytes_of(decoder->payload, (size_t)(to - decoder->payload));
    return values;
}

/* Whether the vehicle has a name. The VIN does not age: a vehicle keeps it. */
static bool decoder_is_named(struct can_source *self)
{
    struct decoder *decoder = self->decoder;

    if (decoder->vin != NULL && decoder->vin->text[0] != '\0' && strcmp(decoder->vehicle, decoder->vin->text) != 0) {
        memcpy(decoder->vehicle, decoder->vin->text, SIGNAL_TEXT);
        fms_info(self->host, "the vehicle is %s, by its VIN", decoder->vehicle);
    }
    if (decoder->vehicle[0] != '\0')
        return true;
    fms_count(self->host, COUNT_NAMELESS, 1);
    if (++decoder->nameless == NAMELESS_TOO)
        fms_warn(self->host,
                 "the bus has not told a VIN in %d intervals, and there are no samples without: set vehicle_id",
                 NAMELESS_TOO);
    return false;
}

int decoder_sample(struct can_source *self, int64_t time, int64_t timestamp)
{
    struct decoder *decoder = self->decoder;
    struct fms_bytes payload;

    decoder->latest = time;
    j1939_expire(&decoder->j1939, time);
    if (!decoder_is_named(self))
        return 0;
    if (self->is_ready)
        fms_count(self->host, COUNT_OVERTAKEN, 1);
    self->is_ready = decoder_write(decoder, time, timestamp, &payload) > 0;
    if (!self->is_ready) {
        fms_count(self->host, COUNT_EMPTY, 1);
        return 0;
    }
    self->draft = (struct fms_record){.key = fms_text(decoder->vehicle), .payload = payload, .timestamp = timestamp};
    return source_address(self);
}

/* ------------------------------------------------------------------------------------------------------------ measures */

static void decoder_add(struct can_source *self, size_t counter, uint64_t now)
{
    uint64_t *before = &self->decoder->counted[counter];

    if (now != *before)
        fms_count(self->host, counter, now - *before);
    *before = now;
}

void decoder_count(struct can_source *self)
{
    const struct decoder *decoder = self->decoder;

    if (decoder == NULL)
        return;
    decoder_add(self, COUNT_FRAMES, decoder->frames);
    for (size_t i = 0; i <= SIGNAL_OUT_OF_RANGE; i++)
        decoder_add(self, COUNT_VALUES + i, decoder->signals.states[i]);
    for (size_t i = 0; i < J1939_COUNTS; i++)
        decoder_add(self, COUNT_TRANSPORT + i, decoder->j1939.counts[i]);
}

void decoder_measure(struct can_source *self)
{
    const struct decoder *decoder = self->decoder;
    size_t fresh = 0;

    if (decoder == NULL)
        return;
    for (size_t i = 0; i < decoder->count; i++)
        fresh += reading_is_fresh(decoder->order[i], decoder->latest);
    fms_gauge(self->host, GAUGE_SIGNALS, (double)decoder->count);
    fms_gauge(self->host, GAUGE_VALUES, (double)fresh);
}
