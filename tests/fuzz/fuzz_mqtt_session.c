/* fuzz_mqtt_session.c - a broker, a sink and a clock that do whatever the input says. The first byte chooses version, QoS and
 * limits; then follow steps: a byte that says what happens, and what it needs.
 *
 * Whatever happens, PUBACKs come in the order of receipt, each for a message of this connection that was settled; a PUBREC is
 * for a message that was; no subscription that was asked for is ended; and all that is sent is whole packets that a client may
 * send, of which no more wait than a bound. */
#include <stdlib.h>
#include <string.h>

#include "../../plugins/mqtt_ingest/mqtt_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TAKEN_MAX   512
#define OUTPUT_MOST (16384u + 16384u) /* and an UNSUBSCRIBE, and some SUBSCRIBEs */

static const char *const filters[] = {"a/#", "b", "$share/g/c"};

struct taken {
    uint64_t tag[2];
    uint16_t id;
    uint8_t qos;
    bool is_settled, is_acknowledged;
    unsigned connection;
};

struct world {
    struct mqtt_session *session;
    enum mqtt_packet_version version;
    size_t filter_count;
    const uint8_t *data;
    size_t size;
    int64_t now;
    uint8_t *input; /* what was received and not used up, in memory of its size */
    size_t received;
    struct taken taken[TAKEN_MAX];
    size_t count, acknowledged; /* those before `acknowledged` are, or are of an earlier connection */
    unsigned connection;
    bool has_delivered[65536]; /* at QoS 2, by identifier */
    uint8_t output[131072];    /* what was sent of a packet that is not whole */
    size_t sent;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint8_t next_byte(struct world *world)
{
    if (world->size == 0)
        return 0;
    world->size--;
    return *world->data++;
}

/* ------------------------------------------------------------------------------------------------- what the broker hears */

static void hear_puback(struct world *world, uint16_t id)
{
    struct taken *taken;

    while (world->acknowledged < world->count && (world->taken[world->acknowledged].qos != 1 ||
                                                  world->taken[world->acknowledged].connection != world->connection))
        world->acknowledged++;
    require(world->acknowledged < world->count);
    taken = &world->taken[world->acknowledged++];
    require(taken->id == id && taken->is_settled && !taken->is_acknowledged);
    taken->is_acknowledged = true;
}

static void hear_unsubscribe(const struct world *world, const struct mqtt_packet *packet)
{
    const uint8_t *at = packet->body.data, *end = at + packet->body.size;

    for (at += world->version == MQTT_PACKET_5 ? 3 : 2; at < end;) {
        size_t size = (size_t)at[0] << 8 | at[1];

        require(size > 0 && at + 2 + size <= end);
        for (size_t i = 0; i < world->filter_count; i++)
            require(size != strlen(filters[i]) || memcmp(at + 2, filters[i], size) != 0);
        at += 2 + size;
    }
}

static void hear_packet(struct world *world, const struct mqtt_packet *packet)
{
    const uint8_t *body = packet->body.data;
    uint16_t id = packet->body.size >= 2 ? (uint16_t)((unsigned)body[0] << 8 | body[1]) : 0;

    switch (packet->type) {
    case MQTT_PACKET_PUBACK:
        hear_puback(world, id);
        break;
    case MQTT_PACKET_PUBREC:
        require(world->has_delivered[id]);
        break;
    case MQTT_PACKET_PUBCOMP:
        require(id != 0);
        break;
    case MQTT_PACKET_UNSUBSCRIBE:
        hear_unsubscribe(world, packet);
        break;
    case MQTT_PACKET_CONNECT:
    case MQTT_PACKET_SUBSCRIBE:
    case MQTT_PACKET_PINGREQ:
    case MQTT_PACKET_DISCONNECT:
        break;
    default:
        abort();
    }
}

static void hear(struct world *world, struct fms_bytes bytes)
{
    struct mqtt_packet packet;
    size_t at = 0;

    require(world->sent + bytes.size <= sizeof world->output);
    if (bytes.size > 0)
        memcpy(world->output + world->sent, bytes.data, bytes.size);
    world->sent += bytes.size;
    while (mqtt_packet_peek(world->output + at, world->sent - at, &packet) == 1 && packet.size <= world->sent - at) {
        hear_packet(world, &packet);
        at += packet.size;
    }
    memmove(world->output, world->output + at, world->sent - at);
    world->sent -= at;
}

/* --------------------------------------------------------------------------------------------------------------- steps */

static void step_send(struct world *world)
{
    struct fms_bytes output = mqtt_session_output(world->session);
    size_t part = next_byte(world);

    require(output.size < OUTPUT_MOST);
    if (part < output.size && part > 0)
        output.size = part;
    hear(world, output);
    if (output.size > 0)
        mqtt_session_sent(world->session, output.size, world->now);
}

static void keep_input(struct world *world, struct fms_bytes left)
{
    uint8_t *copy = malloc(left.size > 0 ? left.size : 1);

    if (left.size > 0)
        memcpy(copy, left.data, left.size);
    free(world->input);
    world->input = copy;
    world->received = left.size;
}

static void take(struct world *world, struct fms_bytes *input, const struct mqtt_session_message *message)
{
    struct taken *taken = &world->taken[world->count++];
    volatile uint8_t sum = 0;

    for (size_t i = 0; i < message->topic.size; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)message->topic.data)[i]);
    for (size_t i = 0; i < message->payload.size && !message->is_cut; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)message->payload.data)[i]);
    *taken = (struct taken){.tag = {message->tag[0], message->tag[1]},
                            .id = (uint16_t)message->tag[1],
                            .qos = message->qos,
                            .connection = world->connection};
    mqtt_session_take(world->session, input, message);
}

static void step_receive(struct world *world)
{
    size_t more = next_byte(world) % 64u;
    size_t part = more < world->size ? more : world->size;
    uint8_t *input = malloc(world->received + part + 1);
    struct fms_bytes left;
    struct mqtt_session_message message;
    enum mqtt_session_event event;

    memcpy(input, world->input, world->received);
    memcpy(input + world->received, world->data, part);
    world->data += part;
    world->size -= part;
    free(world->input);
    world->input = input;
    left = fms_bytes_of(input, world->received + part);
    mqtt_session_heard(world->session, world->now);
    while ((event = mqtt_session_read(world->session, &left, &message)) != MQTT_SESSION_HUNGRY) {
        if (event == MQTT_SESSION_SWEPT || event == MQTT_SESSION_STRAY)
            require(message.topic.size > 0);
        if (event == MQTT_SESSION_CLOSED)
            require(mqtt_session_reason(world->session)[0] != '\0');
        if (event == MQTT_SESSION_CLOSED || (event == MQTT_SESSION_MESSAGE && world->count == TAKEN_MAX))
            break;
        if (event == MQTT_SESSION_MESSAGE)
            take(world, &left, &message);
    }
    keep_input(world, left);
}

static void step_settle(struct world *world)
{
    struct taken *taken = world->count > 0 ? &world->taken[next_byte(world) % world->count] : NULL;

    if (taken == NULL || taken->is_settled)
        return;
    taken->is_settled = true;
    if (taken->qos == 2)
        world->has_delivered[taken->id] = true;
    mqtt_session_settled(world->session, taken->tag);
}

static void step_reconnect(struct world *world)
{
    mqtt_session_end(world->session);
    world->connection++;
    world->sent = 0;
    keep_input(world, fms_bytes_of(NULL, 0));
    mqtt_session_begin(world->session, world->now);
}

static void step_tick(struct world *world)
{
    world->now += next_byte(world) * FMS_SECOND / 8;
    mqtt_session_tick(world->session, world->now, (next_byte(world) & 1) != 0);
    require(mqtt_session_deadline(world->session) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    uint8_t choice = size > 0 ? data[0] : 0;
    struct mqtt_session_options options = {
        .version = (choice & 1) != 0 ? MQTT_PACKET_5 : MQTT_PACKET_3_1_1,
        .client_id = "c",
        .clean_start = (choice & 2) != 0,
        .session_expiry = 60,
        .keepalive = 10 * FMS_SECOND,
        .filters = filters,
        .filter_count = 1 + choice % 3,
        .qos = 2,
        .topic_alias_maximum = (choice & 4) != 0 ? 3 : 0,
        .maximum_packet_size = (choice & 8) != 0 ? 300 : 0,
        .flights_max = 65536,
        .buffer_size = (choice & 16) != 0 ? 64 : 4096, /* smaller than mqtt_session.h asks for */
    };

    memset(&world, 0, sizeof world);
    world.session = mqtt_session_new(&options);
    world.version = options.version;
    world.filter_count = options.filter_count;
    world.data = size > 0 ? data + 1 : data;
    world.size = size > 0 ? size - 1 : 0;
    world.now = 1000 * FMS_SECOND;
    step_reconnect(&world);
    while (world.size > 0) {
        switch (next_byte(&world) % 8) {
        case 0:
            step_settle(&world);
            break;
        case 1:
            step_reconnect(&world);
            break;
        case 2:
            step_tick(&world);
            break;
        case 3:
            mqtt_session_subscribe(world.session, world.now);
            break;
        case 4:
            if ((next_byte(&world) & 3) == 0) { /* between two connections */
                step_reconnect(&world);
                break;
            }
            mqtt_session_part(world.session, (next_byte(&world) & 1) != 0);
            break;
        case 5:
            step_send(&world);
            break;
        default:
            step_receive(&world);
            break;
        }
    }
    step_send(&world);
    mqtt_session_free(world.session);
    free(world.input);
    return 0;
}
