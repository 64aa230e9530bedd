/* fuzz_mqtt_packet.c - the first byte chooses the version, the rest are packets. What is read lies within the packet, user
 * properties are as many as were counted, and a PUBLISH of which less is there is the same, wants more, or has a fault. Who it says it is comes back
 * as it went. */
#include <stdlib.h>
#include <string.h>

#include "../../plugins/mqtt_common/mqtt_identity.h"
#include "../../plugins/mqtt_ingest/mqtt_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_within(struct fms_bytes inner, struct fms_bytes outer)
{
    const uint8_t *a = inner.data, *b = outer.data;

    require(inner.size == 0 || (a >= b && a + inner.size <= b + outer.size));
}

static void check_properties(const struct mqtt_packet *packet, const struct mqtt_packet_properties *properties)
{
    struct fms_bytes rest = properties->all, name, value;
    size_t count = 0, size = 0;

    require_within(properties->all, packet->body);
    require_within(properties->reason_string, packet->body);
    require_within(properties->server_reference, packet->body);
    require_within(properties->response_topic, packet->body);
    while (mqtt_packet_next_user(&rest, &name, &value)) {
        require_within(name, packet->body);
        require_within(value, packet->body);
        size += name.size;
        count++;
    }
    require(count == properties->user_count && size == properties->user_size);
    require(properties->receive_maximum > 0 && properties->maximum_packet_size > 0 && properties->maximum_qos <= 2);
    require(properties->payload_format <= 1);
}

static void require_same(const struct fms_identity *a, const struct fms_identity *b)
{
    require(a->kind == FMS_NUMBERED && a->origin.size > 0 && a->origin.size <= FMS_ORIGIN_MOST);
    require(a->origin.size == b->origin.size && memcmp(a->origin.data, b->origin.data, a->origin.size) == 0);
    require(a->sequence == b->sequence && a->skipped == b->skipped && a->skipped <= a->sequence);
}

static void check_identity(const struct mqtt_packet_properties *properties)
{
    struct fms_bytes rest = properties->all, name, value;
    struct mqtt_identity said = {0}, again = {0};
    struct mqtt_headers headers = {0};
    struct fms_record draft = {.header_count = 0};
    struct mqtt_identity_text text;
    struct fms_identity identity, back;
    const char *why;

    mqtt_identity_begin(&said);
    while (mqtt_packet_next_user(&rest, &name, &value))
        mqtt_identity_meet(&said, name, value);
    if (!mqtt_identity_find(&said, NULL, &draft, &headers, &identity, &why)) {
        require(why == NULL || *why != '\0');
        return;
    }
    mqtt_identity_write(&identity, &text);
    mqtt_identity_begin(&again);
    require(mqtt_identity_meet(&again, fms_text("fms.origin"), fms_text(text.origin)));
    require(mqtt_identity_meet(&again, fms_text("fms.sequence"), fms_text(text.sequence)));
    if (text.skipped[0] != '\0')
        require(mqtt_identity_meet(&again, fms_text("fms.skipped"), fms_text(text.skipped)));
    require(mqtt_is_text(text.origin, strlen(text.origin)));
    require(mqtt_identity_find(&again, NULL, &draft, &headers, &back, &why));
    require_same(&identity, &back);
}

static void check_publish(enum mqtt_packet_version version, const struct mqtt_packet *packet)
{
    struct mqtt_packet_publish whole, part;
    int error = mqtt_packet_read_publish(version, packet, packet->body.size, &whole);
    size_t head;

    require(error == 0);
    head = packet->body.size - whole.payload.size;
    require_within(whole.topic, packet->body);
    require_within(whole.payload, packet->body);
    require((whole.qos > 0) == (whole.id != 0) && whole.qos <= 2);
    require(whole.fault != NULL || whole.topic.size > 0 || whole.properties.topic_alias != 0);
    check_properties(packet, &whole.properties);
    check_identity(&whole.properties);
    for (size_t there = packet->body.size; there-- > 0 && there + 64 > head;) {
        error = mqtt_packet_read_publish(version, packet, there, &part);
        require(error == 0 || (error == -1 && there < head));
        if (error != 0)
            continue;
        require(part.payload.size == whole.payload.size && part.id == whole.id && part.topic.size == whole.topic.size);
        require(there < head ? part.fault != NULL : part.fault == whole.fault);
    }
}

static void check_packet(enum mqtt_packet_version version, const struct mqtt_packet *packet)
{
    union {
        struct mqtt_packet_connack connack;
        struct mqtt_packet_disconnect disconnect;
        struct mqtt_packet_suback suback;
        uint16_t id;
    } any;

    if (packet->type == MQTT_PACKET_PUBLISH)
        check_publish(version, packet);
    if (packet->type == MQTT_PACKET_CONNACK && mqtt_packet_read_connack(version, packet, &any.connack) == 0)
        check_properties(packet, &any.connack.properties);
    if (packet->type == MQTT_PACKET_PUBREL)
        mqtt_packet_read_id(packet, &any.id);
    if (packet->type == MQTT_PACKET_DISCONNECT) {
        mqtt_packet_read_disconnect(packet, &any.disconnect);
        check_properties(packet, &any.disconnect.properties);
    }
    if (packet->type == MQTT_PACKET_SUBACK && mqtt_packet_read_suback(version, packet, &any.suback) == 0)
        require_within(any.suback.reasons, packet->body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum mqtt_packet_version version = size > 0 && (data[0] & 1) != 0 ? MQTT_PACKET_5 : MQTT_PACKET_3_1_1;

    for (size_t at = 1; at < size;) {
        struct mqtt_packet packet;
        uint8_t *copy;

        if (mqtt_packet_peek(data + at, size - at, &packet) != 1 || packet.size > size - at)
            return 0;
        copy = malloc(packet.size); /* which ends where the packet ends */
        memcpy(copy, data + at, packet.size);
        require(mqtt_packet_peek(copy, packet.size, &packet) == 1);
        check_packet(version, &packet);
        free(copy);
        at += packet.size;
    }
    return 0;
}
