/* ingest_session - mqtt_ingest's receive path without socket and pipeline: packets of PUBLISH in, acknowledgements out.
 *
 *   ingest_session COUNT QOS      MQTT 5, 128 bytes of JSON; a COUNT of whole thousands, as many as are read at once
 *
 * The same bytes come again and again, so that making them does not count. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/mqtt_ingest/mqtt_session.h"
#include "../messages.h"

#define AT_ONCE 1000u

struct ingest {
    struct mqtt_session *session;
    uint64_t tags[AT_ONCE][2];
    size_t sent; /* bytes, since the SUBACK */
};

static void send_all(struct ingest *ingest)
{
    struct fms_bytes output;

    while ((output = mqtt_session_output(ingest->session)).size > 0) {
        ingest->sent += output.size;
        mqtt_session_sent(ingest->session, output.size, FMS_SECOND);
    }
}

/* Returns how many messages there were. */
static size_t receive(struct ingest *ingest, const void *data, size_t size)
{
    struct fms_bytes input = fms_bytes_of(data, size);
    struct mqtt_session_message message;
    enum mqtt_session_event event;
    size_t count = 0;

    mqtt_session_heard(ingest->session, FMS_SECOND);
    while ((event = mqtt_session_read(ingest->session, &input, &message)) != MQTT_SESSION_HUNGRY) {
        if (event == MQTT_SESSION_CLOSED)
            exit(1);
        if (event == MQTT_SESSION_MESSAGE) {
            memcpy(ingest->tags[count++], message.tag, sizeof message.tag);
            mqtt_session_take(ingest->session, &input, &message);
        }
    }
    return count;
}

static void settle(struct ingest *ingest, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mqtt_session_settled(ingest->session, ingest->tags[i]);
    send_all(ingest);
}

static size_t make_pubrels(uint8_t *to)
{
    for (unsigned id = 1; id <= AT_ONCE; id++) {
        memcpy(to, (uint8_t[]){0x62, 2, (uint8_t)(id >> 8), (uint8_t)id}, 4);
        to += 4;
    }
    return AT_ONCE * 4;
}

/* Writes a packet as a broker sends it that gives subscription identifiers: with the properties of our SUBSCRIBE, after their
 * length, in place of none. Its size. */
static size_t with_identifier(uint8_t *to, const uint8_t *packet, const uint8_t *properties)
{
    struct mqtt_packet whole;
    size_t head, body;

    mqtt_packet_peek(packet, 128, &whole);
    head = 2 + ((size_t)((const uint8_t *)whole.body.data)[0] << 8 | ((const uint8_t *)whole.body.data)[1]);
    head += (whole.flags & 6) != 0 ? 2 : 0;
    body = whole.body.size + properties[0];
    to[0] = packet[0];
    to[1] = (uint8_t)(body & 0x7f) | 0x80;
    to[2] = (uint8_t)(body >> 7);
    memcpy(to + 3, whole.body.data, head);
    memcpy(to + 3 + head, properties, properties[0] + 1u);
    memcpy(to + 4 + head + properties[0], (const uint8_t *)whole.body.data + head + 1, whole.body.size - head - 1);
    return 3 + body;
}

int main(int argc, char **argv)
{
    static const char *const filters[] = {"fms/+/data"};
    static struct ingest ingest;
    static struct messages messages;
    static uint8_t packets[AT_ONCE * 256], pubrels[AT_ONCE * 4], packet[256], properties[5];
    struct mqtt_session_options options = {.version = MQTT_PACKET_5,
                                           .client_id = "ingest",
                                           .keepalive = 30 * FMS_SECOND,
                                           .filters = filters,
                                           .filter_count = 1,
                                           .flights_max = 65536,
                                           .buffer_size = sizeof packets};
    size_t size = 0, pubrels_size = make_pubrels(pubrels), expected;
    uint64_t count, received = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: ingest_session COUNT QOS\n");
        return 2;
    }
    count = messages_number("COUNT", argv[1], AT_ONCE, UINT32_MAX);
    options.qos = (uint8_t)messages_number("QOS", argv[2], 0, 2);
    messages_make(&messages, 100, options.qos, 128, true, false);
    ingest.session = mqtt_session_new(&options);
    mqtt_session_begin(ingest.session, FMS_SECOND);
    send_all(&ingest);
    receive(&ingest, (uint8_t[]){0x20, 3, 0, 0, 0}, 5);
    memcpy(properties, (const uint8_t *)mqtt_session_output(ingest.session).data + 4, sizeof properties);
    for (unsigned n = 0; n < AT_ONCE; n++) {
        messages_write(&messages, n, (uint16_t)(n + 1), 1763320419000000000, packet);
        size += with_identifier(packets + size, packet, properties);
    }
    send_all(&ingest);
    receive(&ingest, (uint8_t[]){0x90, 4, 0xff, 0xff, 0, options.qos}, 6);
    ingest.sent = 0;
    while (received < count) {
        size_t taken = receive(&ingest, packets, size);

        settle(&ingest, taken);
        received += taken;
        if (options.qos == 2) {
            receive(&ingest, pubrels, pubrels_size);
            send_all(&ingest);
        }
    }
    mqtt_session_free(ingest.session);
    free(messages.packets);
    expected = (size_t)received * options.qos * 4; /* PUBACK; PUBREC and PUBCOMP */
    return received == count && ingest.sent == expected ? 0 : 1;
}
