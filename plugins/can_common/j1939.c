/* j1939.c - see j1939.h.
 *
 * Who only listens can ask for nothing again, so a packet is put where its number says, whenever it comes, and what is missing is not known
 * to be lost before the pause is over or another message begins. A message is whole or not given at all. */
#include "j1939.h"

enum { CONTROL_RTS = 16, CONTROL_CTS = 17, CONTROL_END = 19, CONTROL_BAM = 32, CONTROL_ABORT = 255 };

uint32_t j1939_id_make(struct j1939_id id)
{
    bool is_addressed = (id.pgn & 0xff00) < 0xf000;
    uint32_t pgn = is_addressed ? (id.pgn & 0x3ff00) | id.destination : id.pgn & 0x3ffff;

    return (uint32_t)(id.priority & 7) << 26 | pgn << 8 | id.source;
}

static struct j1939_session *j1939_find(struct j1939 *j1939, uint8_t source, uint8_t destination)
{
    for (size_t i = 0; i < J1939_SESSIONS; i++) {
        struct j1939_session *session = &j1939->sessions[i];

        if (session->is_open && session->source == source && session->destination == destination)
            return session;
    }
    return NULL;
}

static void j1939_end(struct j1939 *j1939, struct j1939_session *session, enum j1939_count why)
{
    session->is_open = false;
    j1939->counts[why]++;
}

/* Whether packets are missing before the newest that came. */
static bool session_has_gap(const struct j1939_session *session)
{
    return session->came < session->newest;
}

/* A clock that was set back by more than the pause has not kept the message waiting; one cannot know, and it goes. */
static bool session_is_late(const struct j1939_session *session, int64_t time)
{
    int64_t pause = session->destination == J1939_GLOBAL ? J1939_BAM_PAUSE : J1939_RTS_PAUSE;
    int64_t before = time > INT64_MIN + pause ? time - pause : INT64_MIN;
    int64_t behind = time < INT64_MAX - pause ? time + pause : INT64_MAX;

    return session->last < before || session->last > behind;
}

static bool j1939_end_late(struct j1939 *j1939, struct j1939_session *session, int64_t time)
{
    if (!session_is_late(session, time))
        return false;
    j1939_end(j1939, session, session_has_gap(session) ? J1939_LOST : J1939_TIMED_OUT);
    return true;
}

void j1939_expire(struct j1939 *j1939, int64_t time)
{
    for (size_t i = 0; i < J1939_SESSIONS; i++) {
        if (j1939->sessions[i].is_open)
            j1939_end_late(j1939, &j1939->sessions[i], time);
    }
}

/* -------------------------------------------------------------------------------------------------------------- control */

static struct j1939_session *j1939_free_session(struct j1939 *j1939, int64_t time)
{
    j1939_expire(j1939, time);
    for (size_t i = 0; i < J1939_SESSIONS; i++) {
        if (!j1939->sessions[i].is_open)
            return &j1939->sessions[i];
    }
    j1939->counts[J1939_NO_ROOM]++;
    return NULL;
}

static uint32_t control_pgn(const uint8_t *data)
{
    return (uint32_t)data[5] | (uint32_t)data[6] << 8 | (uint32_t)(data[7] & 3) << 16;
}

/* BAM or RTS: a message begins. Whatever its sender had under way to the same receiver has ended. */
static void j1939_begin(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, int64_t time)
{
    struct j1939_session *session = j1939_find(j1939, id.source, id.destination);
    unsigned size = data[1] | (unsigned)data[2] << 8, packets = data[3];
    bool is_bam = data[0] == CONTROL_BAM;

    if (session != NULL && !j1939_end_late(j1939, session, time))
        j1939_end(j1939, session, session_has_gap(session) ? J1939_LOST : J1939_OVERLAPPED);
    if (size == 0 || size > J1939_SIZE || packets != (size + 6) / 7 || is_bam != (id.destination == J1939_GLOBAL)) {
        j1939->counts[J1939_BAD_SIZES]++;
        return;
    }
    session = j1939_free_session(j1939, time);
    if (session == NULL)
        return;
    session->is_open = true;
    session->has_cts = false;
    session->source = id.source;
    session->destination = id.destination;
    session->priority = id.priority;
    session->pgn = control_pgn(data);
    session->size = (uint16_t)size;
    session->packets = (uint8_t)packets;
    session->came = session->newest = 0;
    session->last = time;
    memset(session->got, 0, sizeof session->got);
}

/* What the receiver says to the sender: the session is that of the other direction. */
static void j1939_answer(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, int64_t time)
{
    struct j1939_session *session = j1939_find(j1939, id.destination, id.source);

    if (session == NULL || session->pgn != control_pgn(data))
        return;
    if (data[0] == CONTROL_END) {
        j1939_end(j1939, session, J1939_LOST);
        return;
    }
    session->has_cts = session->newest >= data[2]; /* it asks for some of them once more */
    session->last = time;
}

static void j1939_abort(struct j1939 *j1939, struct j1939_id id, const uint8_t *data)
{
    struct j1939_session *session = j1939_find(j1939, id.source, id.destination);

    if (session == NULL || session->pgn != control_pgn(data))
        session = j1939_find(j1939, id.destination, id.source);
    if (session != NULL && session->pgn == control_pgn(data))
        j1939_end(j1939, session, J1939_ABORTED);
}

static void j1939_control(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, int64_t time)
{
    if (data[0] == CONTROL_BAM || data[0] == CONTROL_RTS)
        j1939_begin(j1939, id, data, time);
    else if (data[0] == CONTROL_CTS || data[0] == CONTROL_END)
        j1939_answer(j1939, id, data, time);
    else if (data[0] == CONTROL_ABORT)
        j1939_abort(j1939, id, data);
}

/* ----------------------------------------------------------------------------------------------------------------- data */

static bool session_has(const struct j1939_session *session, unsigned packet)
{
    return (session->got[packet / 64] >> packet % 64 & 1) != 0;
}

/* One more time the same. */
static void j1939_double(struct j1939 *j1939, struct j1939_session *session, const uint8_t *place, const uint8_t *data,
                         size_t size)
{
    if (memcmp(place, data, size) != 0)
        j1939_end(j1939, session, J1939_CONFLICTS);
    else if (!session->has_cts)
        j1939->counts[J1939_DOUBLED]++;
}

/* True: the message is whole. */
static bool j1939_packet(struct j1939 *j1939, struct j1939_session *session, const uint8_t *data)
{
    unsigned number = data[0], offset = (number - 1) * 7;
    size_t size;

    if (number == 0 || number > session->packets) {
        j1939->counts[J1939_BAD_SIZES]++;
        return false;
    }
    size = session->size - offset < 7 ? session->size - offset : 7;
    if (session_has(session, number)) {
        j1939_double(j1939, session, session->data + offset, data + 1, size);
        return false;
    }
    memcpy(session->data + offset, data + 1, size);
    session->got[number / 64] |= UINT64_C(1) << number % 64;
    session->came++;
    if (number < session->newest)
        j1939->counts[J1939_REORDERED] += !session->has_cts;
    else
        session->newest = (uint8_t)number;
    return session->came == session->packets;
}

static bool j1939_data(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, int64_t time,
                       struct j1939_message *message)
{
    struct j1939_session *session = j1939_find(j1939, id.source, id.destination);

    if (session == NULL || j1939_end_late(j1939, session, time)) {
        j1939->counts[J1939_ORPHANS]++;
        return false;
    }
    session->last = time;
    if (!j1939_packet(j1939, session, data))
        return false;
    j1939_end(j1939, session, J1939_COMPLETE);
    message->id = (struct j1939_id){session->pgn, session->priority, session->source, session->destination};
    message->data = session->data;
    message->size = session->size;
    return true;
}

bool j1939_take(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, size_t size, int64_t time,
                struct j1939_message *message)
{
    if (id.pgn != J1939_PGN_CONTROL && id.pgn != J1939_PGN_DATA) {
        *message = (struct j1939_message){id, data, size};
        return true;
    }
    if (size != 8) {
        j1939->counts[J1939_BAD_SIZES]++;
        return false;
    }
    if (id.pgn == J1939_PGN_DATA)
        return j1939_data(j1939, id, data, time, message);
    j1939_control(j1939, id, data, time);
    return false;
}
