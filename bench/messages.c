/* messages.c - see messages.h. */
#include "messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEQUENCE_WIDTH 10
#define SENT_WIDTH     19

#define USER_PROPERTY   0x26 /* MQTT 5, 2.2.2.2 */
#define PROPERTIES_ROOM 128

static unsigned next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* The payload, and where in it what changes stands. */
static void make_payload(struct messages *messages, unsigned vehicle, char *to)
{
    uint32_t state = 2463534242u + vehicle;
    int head = sprintf(to, "{\"vehicle_id\":\"v%05u\",\"speed\":%.2f,\"rpm\":%u,\"fuel_level\":%.2f,\"seq\":", vehicle,
                       10 + next_random(&state) % 9000 / 100.0, 1000 + next_random(&state) % 2000,
                       10 + next_random(&state) % 9000 / 100.0);
    size_t at = (size_t)head;

    messages->sequence_at = at;
    at += (size_t)sprintf(to + at, "%*s,\"sent_ns\":", SEQUENCE_WIDTH, "");
    messages->sent_at = at;
    at += (size_t)sprintf(to + at, "%*s,\"pad\":\"", SENT_WIDTH, "");
    while (at < messages->payload - 2)
        to[at++] = "0123456789abcdef"[next_random(&state) >> 28];
    memcpy(to + at, "\"}", 2);
}

size_t messages_write_length(unsigned char *to, size_t length)
{
    size_t n = 0;

    do {
        to[n] = (unsigned char)(length & 0x7f);
        length >>= 7;
        to[n++] |= length > 0 ? 0x80 : 0;
    } while (length > 0);
    return n;
}

static size_t write_text(unsigned char *to, const char *text)
{
    size_t size = strlen(text);

    to[0] = 0;
    to[1] = (unsigned char)size;
    memcpy(to + 2, text, size);
    return 2 + size;
}

/* With an origin as long as a spool's. Returns the size, with that of the length before them. */
static size_t make_properties(struct messages *messages, unsigned vehicle, bool is_numbered, unsigned char *to)
{
    char origin[32];
    size_t size = 1;

    messages->number_at = 0;
    sprintf(origin, "bench-%014u", vehicle);
    if (is_numbered) {
        to[size++] = USER_PROPERTY;
        size += write_text(to + size, "fms.origin");
        size += write_text(to + size, origin);
        to[size++] = USER_PROPERTY;
        size += write_text(to + size, "fms.sequence");
        messages->number_at = size + 2;
        size += write_text(to + size, "0000000000");
    }
    to[0] = (unsigned char)(size - 1);
    return size;
}

static void make_packet(struct messages *messages, unsigned vehicle, bool is_5, bool is_numbered, unsigned char *packet)
{
    char topic[32];
    unsigned char properties[PROPERTIES_ROOM];
    size_t topic_size = (size_t)sprintf(topic, "fms/v%05u/data", vehicle), size = 1;
    size_t properties_size = is_5 ? make_properties(messages, vehicle, is_numbered, properties) : 0;

    packet[0] = (unsigned char)(0x30 | messages->qos << 1);
    size += messages_write_length(packet + 1,
                                  2 + topic_size + (messages->qos > 0 ? 2 : 0) + properties_size + messages->payload);
    packet[size++] = 0;
    packet[size++] = (unsigned char)topic_size;
    memcpy(packet + size, topic, topic_size);
    size += topic_size;
    messages->id_at = size;
    size += messages->qos > 0 ? 2 : 0;
    memcpy(packet + size, properties, properties_size);
    messages->number_at += messages->number_at > 0 ? size : 0;
    size += properties_size;
    make_payload(messages, vehicle, (char *)packet + size);
    messages->sequence_at += size;
    messages->sent_at += size;
    messages->packet_size = size + messages->payload;
}

void messages_make(struct messages *messages, unsigned vehicles, unsigned qos, size_t payload, bool is_5,
                   bool is_numbered)
{
    size_t room = payload + 64 + PROPERTIES_ROOM;
    unsigned char *packet = malloc(room);

    free(messages->packets);
    *messages = (struct messages){.vehicles = vehicles, .qos = qos, .payload = payload};
    messages->packets = malloc(vehicles * room);
    if (packet == NULL || messages->packets == NULL) {
        fprintf(stderr, "no memory for the messages of %u vehicles\n", vehicles);
        exit(1);
    }
    for (unsigned i = 0; i < vehicles; i++) {
        make_packet(messages, i, is_5, is_numbered, packet);
        memcpy(messages->packets + i * messages->packet_size, packet, messages->packet_size);
    }
    free(packet);
}

/* Right-aligned, behind the blanks that stand there. */
static void write_decimal(unsigned char *to, unsigned width, uint64_t value)
{
    do
        to[--width] = (unsigned char)('0' + value % 10);
    while ((value /= 10) > 0);
}

void messages_write(const struct messages *messages, uint64_t n, uint16_t id, int64_t sent, unsigned char *to)
{
    memcpy(to, messages->packets + n % messages->vehicles * messages->packet_size, messages->packet_size);
    if (messages->qos > 0) {
        to[messages->id_at] = (unsigned char)(id >> 8);
        to[messages->id_at + 1] = (unsigned char)id;
    }
    if (messages->number_at > 0)
        write_decimal(to + messages->number_at, SEQUENCE_WIDTH, n / messages->vehicles + 1);
    write_decimal(to + messages->sequence_at, SEQUENCE_WIDTH, n / messages->vehicles + 1);
    write_decimal(to + messages->sent_at, SENT_WIDTH, (uint64_t)sent);
}

uint64_t messages_of(const struct messages *messages, unsigned vehicle, uint64_t count)
{
    return count / messages->vehicles + (vehicle < count % messages->vehicles);
}

int64_t messages_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

uint64_t messages_number(const char *name, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= least && value <= most)
        return value;
    fprintf(stderr, "%s: \"%s\" is no number from %llu to %llu\n", name, text, (unsigned long long)least,
            (unsigned long long)most);
    exit(2);
}
