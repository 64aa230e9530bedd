/* mqtt_packet.c - see mqtt_packet.h. */
#include "mqtt_packet.h"

#include "../mqtt_common/mqtt_common.h"

/* ---------------------------------------------------------------------------------------------------------- reading */

/* What is left of a packet's body. What reads beyond its end gives zeros, and what is no value of its type is kept in
 * mind, so that one look at the end will do. */
struct reader {
    const uint8_t *at, *end;
    bool is_short, is_malformed;
};

static struct reader reader_of(struct fms_bytes bytes)
{
    const uint8_t *data = bytes.data;

    return (struct reader){data, data + bytes.size, false, false};
}

static bool is_wrong(const struct reader *reader)
{
    return reader->is_short || reader->is_malformed;
}

static size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static const uint8_t *read_bytes(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->at;

    if (reader_left(reader) < size) {
        reader->is_short = true;
        reader->at = reader->end;
        return NULL;
    }
    reader->at += size;
    return at;
}

static uint8_t read_byte(struct reader *reader)
{
    const uint8_t *at = read_bytes(reader, 1);

    return at != NULL ? at[0] : 0;
}

static uint16_t read_u16(struct reader *reader)
{
    const uint8_t *at = read_bytes(reader, 2);

    if (at == NULL)
        return 0;
    return (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

static uint32_t read_u32(struct reader *reader)
{
    uint32_t high = read_u16(reader);

    return high << 16 | read_u16(reader);
}

/* 1.5.5: four bytes at most. */
static uint32_t read_varint(struct reader *reader)
{
    uint32_t value = 0;

    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t byte = read_byte(reader);

        value |= (uint32_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    reader->is_malformed = true;
    return 0;
}

/* Two bytes of length, and as many bytes. */
static struct fms_bytes read_binary(struct reader *reader)
{
    size_t size = read_u16(reader);
    const uint8_t *at = read_bytes(reader, size);

    return fms_bytes_of(at, at != NULL ? size : 0);
}

int mqtt_packet_peek(const uint8_t *data, size_t size, struct mqtt_packet *packet)
{
    size_t length = 0;

    for (unsigned i = 1; i <= 4; i++) {
        if (size <= i)
            return 0;
        length |= (size_t)(data[i] & 0x7f) << 7 * (i - 1);
        if ((data[i] & 0x80) == 0) {
            packet->type = data[0] >> 4;
            packet->flags = data[0] & 0xf;
            packet->size = 1 + i + length;
            packet->body = fms_bytes_of(data + 1 + i, length);
            return 1;
        }
    }
    return REASON_MALFORMED;
}

/* ------------------------------------------------------------------------------------------------------- properties */

enum value_type { VALUE_NONE, VALUE_BYTE, VALUE_U16, VALUE_U32, VALUE_VARINT, VALUE_BINARY, VALUE_PAIR };

#define IN(type) (1u << (type))

/* Table 2-4, as far as a server sends it. */
static const struct {
    enum value_type type;
    unsigned packets;
} properties_table[] = {
    [0x01] = {VALUE_BYTE, IN(MQTT_PACKET_PUBLISH)},                       /* payload format indicator */
    [0x02] = {VALUE_U32, IN(MQTT_PACKET_PUBLISH)},                        /* message expiry interval */
    [0x03] = {VALUE_BINARY, IN(MQTT_PACKET_PUBLISH)},                     /* content type */
    [0x08] = {VALUE_BINARY, IN(MQTT_PACKET_PUBLISH)},                     /* response topic */
    [0x09] = {VALUE_BINARY, IN(MQTT_PACKET_PUBLISH)},                     /* correlation data */
    [PROPERTY_SUBSCRIPTION_ID] = {VALUE_VARINT, IN(MQTT_PACKET_PUBLISH)}, /* may occur again */
    [PROPERTY_SESSION_EXPIRY] = {VALUE_U32, IN(MQTT_PACKET_CONNACK)}, /* MQTT-3.14.2-2: not in a server's DISCONNECT */
    [PROPERTY_ASSIGNED_CLIENT_ID] = {VALUE_BINARY, IN(MQTT_PACKET_CONNACK)},       /* */
    [PROPERTY_SERVER_KEEP_ALIVE] = {VALUE_U16, IN(MQTT_PACKET_CONNACK)},           /* */
    [0x15] = {VALUE_BINARY, IN(MQTT_PACKET_CONNACK)},                              /* authentication method */
    [0x16] = {VALUE_BINARY, IN(MQTT_PACKET_CONNACK)},                              /* authentication data */
    [0x1a] = {VALUE_BINARY, IN(MQTT_PACKET_CONNACK)},                              /* response information */
    [0x1c] = {VALUE_BINARY, IN(MQTT_PACKET_CONNACK) | IN(MQTT_PACKET_DISCONNECT)}, /* server reference */
    [0x1f] = {VALUE_BINARY,
              IN(MQTT_PACKET_CONNACK) | IN(MQTT_PACKET_PUBREL) | IN(MQTT_PACKET_SUBACK) | IN(MQTT_PACKET_DISCONNECT)},
    [0x21] = {VALUE_U16, IN(MQTT_PACKET_CONNACK)},                 /* receive maximum */
    [0x22] = {VALUE_U16, IN(MQTT_PACKET_CONNACK)},                 /* topic alias maximum */
    [PROPERTY_TOPIC_ALIAS] = {VALUE_U16, IN(MQTT_PACKET_PUBLISH)}, /* */
    [0x24] = {VALUE_BYTE, IN(MQTT_PACKET_CONNACK)},                /* maximum QoS */
    [0x25] = {VALUE_BYTE, IN(MQTT_PACKET_CONNACK)},                /* retain available */
    [PROPERTY_USER] = {VALUE_PAIR, IN(MQTT_PACKET_CONNACK) | IN(MQTT_PACKET_PUBLISH) | IN(MQTT_PACKET_PUBREL) |
                                       IN(MQTT_PACKET_SUBACK) | IN(MQTT_PACKET_DISCONNECT)}, /* may occur again */
    [0x27] = {VALUE_U32, IN(MQTT_PACKET_CONNACK)},                                           /* maximum packet size */
    [0x28] = {VALUE_BYTE, IN(MQTT_PACKET_CONNACK)}, /* wildcard subscription available */
    [0x29] = {VALUE_BYTE, IN(MQTT_PACKET_CONNACK)}, /* subscription identifiers available */
    [0x2a] = {VALUE_BYTE, IN(MQTT_PACKET_CONNACK)}, /* shared subscription available */
};

struct property {
    uint32_t identifier;
    uint32_t number;        /* VALUE_BYTE to VALUE_VARINT */
    struct fms_bytes value; /* VALUE_BINARY; VALUE_PAIR: its value */
    struct fms_bytes name;
};

/* False: no such identifier, so that nobody knows how long it is. */
static bool read_property(struct reader *reader, struct property *property)
{
    uint32_t identifier = read_varint(reader);

    *property = (struct property){.identifier = identifier};
    if (identifier >= sizeof properties_table / sizeof properties_table[0])
        return false;
    switch (properties_table[identifier].type) {
    case VALUE_BYTE:
        property->number = read_byte(reader);
        return true;
    case VALUE_U16:
        property->number = read_u16(reader);
        return true;
    case VALUE_U32:
        property->number = read_u32(reader);
        return true;
    case VALUE_VARINT:
        property->number = read_varint(reader);
        return true;
    case VALUE_BINARY:
        property->value = read_binary(reader);
        return true;
    case VALUE_PAIR:
        property->name = read_binary(reader);
        property->value = read_binary(reader);
        return true;
    default:
        return false;
    }
}

/* MQTT-3.3.2-2, MQTT-3.3.2-14 */
static bool has_wildcard(struct fms_bytes text)
{
    return text.size > 0 && (memchr(text.data, '+', text.size) != NULL || memchr(text.data, '#', text.size) != NULL);
}

/* MQTT-1.5.4: UTF-8 without NUL. */
static bool is_text(struct fms_bytes text)
{
    return mqtt_is_utf8(text.data, text.size);
}

/* Whether the standard allows the value. */
static bool is_allowed(const struct property *property)
{
    switch (property->identifier) {
    case PROPERTY_PAYLOAD_FORMAT:
    case PROPERTY_MAXIMUM_QOS:
    case 0x25:
    case 0x28:
    case 0x29:
    case 0x2a:
        return property->number <= 1;
    case PROPERTY_SUBSCRIPTION_ID: /* 3.3.2.3.8 */
    case 0x21:                     /* 3.2.2.3.3 */
    case 0x27:                     /* 3.2.2.3.6 */
        return property->number != 0;
    case PROPERTY_CONTENT_TYPE:
        return is_text(property->value);
    case PROPERTY_RESPONSE_TOPIC:
        return property->value.size > 0 && is_text(property->value) && !has_wildcard(property->value);
    default:
        return true;
    }
}

static void keep_number(struct mqtt_packet_properties *into, const struct property *property)
{
    uint32_t number = property->number;

    switch (property->identifier) {
    case PROPERTY_PAYLOAD_FORMAT:
        into->payload_format = (uint8_t)number;
        break;
    case PROPERTY_MESSAGE_EXPIRY:
        into->message_expiry = number;
        break;
    case PROPERTY_SUBSCRIPTION_ID:
        if (into->subscription_id == 0)
            into->subscription_id = number;
        else if (into->subscription_id != number)
            into->has_other_ids = true;
        break;
    case PROPERTY_SESSION_EXPIRY:
        into->session_expiry = number;
        break;
    case PROPERTY_SERVER_KEEP_ALIVE:
        into->server_keep_alive = (uint16_t)number;
        break;
    case 0x21:
        into->receive_maximum = (uint16_t)number;
        break;
    case 0x22:
        into->topic_alias_maximum = (uint16_t)number;
        break;
    case PROPERTY_TOPIC_ALIAS:
        into->topic_alias = (uint16_t)number;
        break;
    case PROPERTY_MAXIMUM_QOS:
        into->maximum_qos = (uint8_t)number;
        break;
    case 0x25:
        into->retain_available = number != 0;
        break;
    case 0x27:
        into->maximum_packet_size = number;
        break;
    case 0x28:
        into->wildcards_available = number != 0;
        break;
    case 0x29:
        into->subscription_ids_available = number != 0;
        break;
    case 0x2a:
        into->shared_available = number != 0;
        break;
    default:
        break;
    }
}

static void keep_value(struct mqtt_packet_properties *into, const struct property *property)
{
    switch (property->identifier) {
    case PROPERTY_CONTENT_TYPE:
        into->content_type = property->value;
        break;
    case PROPERTY_RESPONSE_TOPIC:
        into->response_topic = property->value;
        break;
    case PROPERTY_CORRELATION_DATA:
        into->correlation_data = property->value;
        break;
    case PROPERTY_ASSIGNED_CLIENT_ID:
        into->assigned_client_id = property->value;
        break;
    case 0x1c:
        into->server_reference = property->value;
        break;
    case 0x1f:
        into->reason_string = property->value;
        break;
    case PROPERTY_USER:
        into->user_count++;
        into->user_size += property->name.size;
        into->has_bad_name = into->has_bad_name || !is_text(property->name);
        break;
    default:
        break;
    }
}

static bool may_repeat(uint32_t identifier)
{
    return identifier == PROPERTY_USER || identifier == PROPERTY_SUBSCRIPTION_ID;
}

static void read_each_property(struct reader list, enum mqtt_packet_type type, struct mqtt_packet_properties *into)
{
    while (reader_left(&list) > 0) {
        struct property property;

        if (!read_property(&list, &property) || is_wrong(&list)) {
            into->is_unreadable = true;
            return;
        }
        if ((properties_table[property.identifier].packets & IN(type)) == 0 || !is_allowed(&property) ||
            ((into->present >> property.identifier & 1) != 0 && !may_repeat(property.identifier))) {
            into->ignored++;
            continue;
        }
        into->present |= UINT64_C(1) << property.identifier;
        keep_number(into, &property);
        keep_value(into, &property);
    }
}

static const struct mqtt_packet_properties no_properties = {
    .receive_maximum = 65535,
    .maximum_packet_size = MQTT_PACKET_SIZE_MAX,
    .maximum_qos = 2,
    .retain_available = true,
    .wildcards_available = true,
    .subscription_ids_available = true,
    .shared_available = true,
};

/* What most messages have, read without detours: a subscription identifier and nothing else. False: it is not that. */
static bool read_subscription_id(const uint8_t *data, size_t size, struct mqtt_packet_properties *into)
{
    uint32_t value = 0;

    if (size > 5 || data[0] != PROPERTY_SUBSCRIPTION_ID || (data[size - 1] & 0x80) != 0)
        return false;
    for (size_t i = size - 1; i > 0; i--) {
        if (i < size - 1 && (data[i] & 0x80) == 0)
            return false;
        value = value << 7 | (data[i] & 0x7f);
    }
    if (value == 0)
        return false;
    into->present = UINT64_C(1) << PROPERTY_SUBSCRIPTION_ID;
    into->subscription_id = value;
    return true;
}

/* Of `*into`, which has none yet. */
static int read_properties(struct reader *reader, enum mqtt_packet_type type, struct mqtt_packet_properties *into)
{
    size_t size = read_varint(reader);
    const uint8_t *data = read_bytes(reader, size);

    if (is_wrong(reader))
        return REASON_MALFORMED;
    if (size > 0) {
        into->all = fms_bytes_of(data, size);
        if (type != MQTT_PACKET_PUBLISH || !read_subscription_id(data, size, into))
            read_each_property(reader_of(into->all), type, into);
    }
    return 0;
}

bool mqtt_packet_next_user(struct fms_bytes *rest, struct fms_bytes *name, struct fms_bytes *value)
{
    struct reader reader;
    struct property property;

    if (rest->size == 0)
        return false;
    for (reader = reader_of(*rest); reader_left(&reader) > 0;) {
        if (!read_property(&reader, &property) || is_wrong(&reader))
            return false;
        if (property.identifier == PROPERTY_USER) {
            *rest = fms_bytes_of(reader.at, reader_left(&reader));
            *name = property.name;
            *value = property.value;
            return true;
        }
    }
    return false;
}

/* ----------------------------------------------------------------------------------------------------- reason codes */

static const struct {
    uint8_t code;
    const char *text;
} reasons[] = {
    {0x00, "success"},
    {0x01, "granted QoS 1"},
    {0x02, "granted QoS 2"},
    {0x11, "no subscription existed"},
    {0x80, "unspecified error"},
    {0x81, "malformed packet"},
    {0x82, "protocol error"},
    {0x83, "implementation specific error"},
    {0x84, "the broker does not speak this version of MQTT: try the other version"},
    {0x85, "the broker refuses the client id"},
    {0x86, "wrong user name or password"},
    {0x87, "not authorized"},
    {0x88, "the broker is not available"},
    {0x89, "the broker is busy"},
    {0x8a, "banned"},
    {0x8b, "the broker is shutting down"},
    {0x8c, "bad authentication method"},
    {0x8d, "keep alive timeout"},
    {0x8e, "another client has connected with this client id: give each its own"},
    {0x8f, "topic filter invalid"},
    {0x90, "topic name invalid"},
    {0x91, "packet identifier in use"},
    {0x92, "packet identifier not found"},
    {0x93, "receive maximum exceeded"},
    {0x94, "topic alias invalid"},
    {0x95, "packet too large"},
    {0x96, "message rate too high"},
    {0x97, "quota exceeded"},
    {0x98, "administrative action"},
    {0x99, "payload format invalid"},
    {0x9a, "retain not supported"},
    {0x9b, "QoS not supported"},
    {0x9c, "use another server"},
    {0x9d, "server moved"},
    {0x9e, "shared subscriptions not supported"},
    {0x9f, "connection rate exceeded"},
    {0xa0, "maximum connect time"},
    {0xa1, "subscription identifiers not supported"},
    {0xa2, "wildcard subscriptions not supported"},
};

const char *mqtt_packet_reason_text(enum mqtt_packet_version version, int reason)
{
    static const uint8_t return_codes[] = {0x00, 0x84, 0x85, 0x88, 0x86, 0x87}; /* 3.1.1, table 3.1 */

    if (version == MQTT_PACKET_3_1_1 && reason >= 0 && (size_t)reason < sizeof return_codes)
        reason = return_codes[reason];
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].code == reason)
            return reasons[i].text;
    }
    return "unknown reason";
}

/* ---------------------------------------------------------------------------------------------------------- packets */

int mqtt_packet_read_connack(enum mqtt_packet_version version, const struct mqtt_packet *packet,
                             struct mqtt_packet_connack *connack)
{
    struct reader reader = reader_of(packet->body);

    connack->session_present = (read_byte(&reader) & 1) != 0;
    connack->reason = read_byte(&reader);
    connack->properties = no_properties;
    if (is_wrong(&reader))
        return REASON_MALFORMED;
    if (version == MQTT_PACKET_3_1_1 || (reader_left(&reader) == 0 && connack->reason >= REASON_UNSPECIFIED))
        return 0; /* who refuses us may spare the length of no properties, as in other packets */
    return read_properties(&reader, MQTT_PACKET_CONNACK, &connack->properties);
}

/* A topic is no filter (MQTT-4.7.3-1), and a header has a name. */
static const char *fault_of(const struct mqtt_packet_publish *publish)
{
    const struct mqtt_packet_properties *properties = &publish->properties;

    if (properties->is_unreadable)
        return "its properties cannot be told apart";
    if (properties->has_bad_name)
        return "the name of a user property is no UTF-8, or holds NUL";
    return publish->topic.size == 0 && properties->topic_alias != 0 ? NULL : mqtt_topic_fault(publish->topic);
}

/* Where the properties are not all there, `left` bytes of the packet are, from their length on. What stands behind a length that
 * is none, or is larger than the packet, is taken for the payload. -1: more bytes are needed. */
static int read_publish_properties(struct reader *reader, size_t left, struct mqtt_packet_publish *publish)
{
    struct reader ahead;
    size_t size, head;

    if (reader_left(reader) > 0 &&
        *reader->at == 0) { /* as of most messages; and a copy of *reader would wait for its halves */
        reader->at++;
        return 0;
    }
    ahead = *reader;
    size = read_varint(&ahead);
    head = (size_t)(ahead.at - reader->at);
    if (ahead.is_short && reader_left(reader) < left)
        return -1;
    if (is_wrong(&ahead) || size > left - head) {
        publish->fault = "its properties cannot be told apart";
        publish->payload = fms_bytes_of(ahead.at, left - head);
        return 0;
    }
    if (size <= reader_left(&ahead))
        return read_properties(reader, MQTT_PACKET_PUBLISH, &publish->properties);
    read_each_property(ahead, MQTT_PACKET_PUBLISH,
                       &publish->properties); /* the alias may be among those that are there */
    publish->fault = "its properties are larger than what can be held";
    publish->payload = fms_bytes_of(NULL, left - head - size);
    return 0;
}

/* What can be known of a message whose topic or identifier does not fit into its packet, or of QoS 3 (MQTT-3.3.1-4). Nobody knows
 * how to acknowledge that, so it is one of QoS 0. */
static void read_broken_publish(const struct reader *reader, size_t left, const struct mqtt_packet *packet,
                                struct mqtt_packet_publish *publish)
{
    size_t size = packet->body.size;

    if (size < 2 || publish->topic.data == NULL) {
        publish->fault = "its topic is longer than its packet";
        publish->topic = fms_bytes_of((const uint8_t *)packet->body.data + (size > 2 ? 2 : 0), size > 2 ? size - 2 : 0);
    } else {
        publish->fault = publish->qos == 3 ? "its QoS is 3, which there is not"
                                           : "its packet ends before the packet identifier";
    }
    publish->payload = fms_bytes_of(reader->at, left);
    publish->id = 0;
    publish->qos = 0;
}

int mqtt_packet_read_publish(enum mqtt_packet_version version, const struct mqtt_packet *packet, size_t there,
                             struct mqtt_packet_publish *publish)
{
    struct reader reader = reader_of(fms_bytes_of(packet->body.data, there));
    size_t left;
    int error = 0;

    *publish = (struct mqtt_packet_publish){
        .qos = packet->flags >> 1 & 3,
        .dup = (packet->flags & 8) != 0,
        .retain = (packet->flags & 1) != 0,
        .properties = no_properties,
    };
    publish->topic = read_binary(&reader);
    publish->id = publish->qos == 1 || publish->qos == 2 ? read_u16(&reader) : 0;
    left = packet->body.size - (there - reader_left(&reader));
    if (reader.is_short && there < packet->body.size)
        return -1;
    if (reader.is_short || publish->qos == 3) {
        read_broken_publish(&reader, left, packet, publish);
        return 0;
    }
    if (publish->id == 0) /* MQTT-2.2.1-4: there is no acknowledgement without it */
        publish->qos = 0;
    if (version == MQTT_PACKET_5)
        error = read_publish_properties(&reader, left, publish);
    if (error != 0 || publish->fault != NULL)
        return error;
    publish->payload = fms_bytes_of(reader.at, packet->body.size - (there - reader_left(&reader)));
    publish->fault = fault_of(publish);
    return 0;
}

int mqtt_packet_read_id(const struct mqtt_packet *packet, uint16_t *id)
{
    struct reader reader = reader_of(packet->body);

    *id = read_u16(&reader);
    return reader.is_short ? REASON_MALFORMED : 0;
}

int mqtt_packet_read_suback(enum mqtt_packet_version version, const struct mqtt_packet *packet,
                            struct mqtt_packet_suback *suback)
{
    struct reader reader = reader_of(packet->body);
    int error = 0;

    suback->id = read_u16(&reader);
    suback->properties = no_properties;
    if (reader.is_short)
        return REASON_MALFORMED;
    if (version == MQTT_PACKET_5)
        error = read_properties(&reader, MQTT_PACKET_SUBACK, &suback->properties);
    suback->reasons = fms_bytes_of(reader.at, reader_left(&reader));
    return error;
}

/* Nothing hangs on what cannot be read of it. */
void mqtt_packet_read_disconnect(const struct mqtt_packet *packet, struct mqtt_packet_disconnect *disconnect)
{
    struct reader reader = reader_of(packet->body);

    disconnect->properties = no_properties;
    disconnect->reason = reader_left(&reader) > 0 ? read_byte(&reader) : 0;
    if (reader_left(&reader) > 0)
        read_properties(&reader, MQTT_PACKET_DISCONNECT, &disconnect->properties);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

/* Counts, and writes what fits. */
struct writer {
    uint8_t *to;
    size_t room, size;
};

static void write_byte(struct writer *writer, unsigned value)
{
    if (writer->size < writer->room)
        writer->to[writer->size] = (uint8_t)value;
    writer->size++;
}

static void write_u16(struct writer *writer, uint16_t value)
{
    write_byte(writer, value >> 8);
    write_byte(writer, value & 0xff);
}

static void write_u32(struct writer *writer, uint32_t value)
{
    write_u16(writer, (uint16_t)(value >> 16));
    write_u16(writer, (uint16_t)value);
}

static void write_varint(struct writer *writer, size_t value)
{
    do {
        write_byte(writer, (value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
}

static void write_text(struct writer *writer, const char *text)
{
    size_t size = strlen(text);

    write_u16(writer, (uint16_t)size);
    for (size_t i = 0; i < size; i++)
        write_byte(writer, (uint8_t)text[i]);
}

/* The fixed header, and then `body`, which first tells its size. */
static size_t write_packet(uint8_t *to, size_t room, unsigned first_byte,
                           void (*body)(struct writer *writer, const void *fields), const void *fields)
{
    struct writer count = {NULL, 0, 0}, writer = {to, room, 0};

    body(&count, fields);
    write_byte(&writer, first_byte);
    write_varint(&writer, count.size);
    body(&writer, fields);
    return writer.size;
}

/* A list of properties, after its length. */
static void write_list(struct writer *writer, void (*list)(struct writer *writer, const void *fields),
                       const void *fields)
{
    struct writer count = {NULL, 0, 0};

    list(&count, fields);
    write_varint(writer, count.size);
    list(writer, fields);
}

static void write_connect_properties(struct writer *writer, const void *fields)
{
    const struct mqtt_packet_connect *connect = fields;

    if (connect->session_expiry > 0) {
        write_byte(writer, 0x11);
        write_u32(writer, connect->session_expiry);
    }
    if (connect->receive_maximum > 0) {
        write_byte(writer, 0x21);
        write_u16(writer, connect->receive_maximum);
    }
    if (connect->maximum_packet_size > 0) {
        write_byte(writer, 0x27);
        write_u32(writer, connect->maximum_packet_size);
    }
    if (connect->topic_alias_maximum > 0) {
        write_byte(writer, 0x22);
        write_u16(writer, connect->topic_alias_maximum);
    }
}

static void write_connect(struct writer *writer, const void *fields)
{
    const struct mqtt_packet_connect *connect = fields;

    write_text(writer, "MQTT");
    write_byte(writer, connect->version);
    write_byte(writer, (connect->username != NULL ? 0x80 : 0) | (connect->password != NULL ? 0x40 : 0) |
                           (connect->clean_start ? 0x02 : 0));
    write_u16(writer, connect->keep_alive);
    if (connect->version == MQTT_PACKET_5)
        write_list(writer, write_connect_properties, connect);
    write_text(writer, connect->client_id);
    if (connect->username != NULL)
        write_text(writer, connect->username);
    if (connect->password != NULL)
        write_text(writer, connect->password);
}

size_t mqtt_packet_write_connect(uint8_t *to, size_t room, const struct mqtt_packet_connect *connect)
{
    return write_packet(to, room, MQTT_PACKET_CONNECT << 4, write_connect, connect);
}

static void write_subscription_id(struct writer *writer, const void *fields)
{
    const struct mqtt_packet_subscribe *subscribe = fields;

    if (subscribe->subscription_id == 0)
        return;
    write_byte(writer, PROPERTY_SUBSCRIPTION_ID);
    write_varint(writer, subscribe->subscription_id);
}

static void write_subscribe(struct writer *writer, const void *fields)
{
    const struct mqtt_packet_subscribe *subscribe = fields;

    write_u16(writer, subscribe->id);
    if (subscribe->version == MQTT_PACKET_5)
        write_list(writer, write_subscription_id, subscribe);
    write_text(writer, subscribe->filter);
    write_byte(writer,
               subscribe->qos | (subscribe->version == MQTT_PACKET_5 ? (unsigned)subscribe->retain_handling << 4 : 0u));
}

size_t mqtt_packet_write_subscribe(uint8_t *to, size_t room, const struct mqtt_packet_subscribe *subscribe)
{
    return write_packet(to, room, MQTT_PACKET_SUBSCRIBE << 4 | 2, write_subscribe, subscribe);
}

static void write_unsubscribe(struct writer *writer, const void *fields)
{
    const struct mqtt_packet_unsubscribe *unsubscribe = fields;

    write_u16(writer, unsubscribe->id);
    if (unsubscribe->version == MQTT_PACKET_5)
        write_varint(writer, 0);
    for (size_t i = 0; i < unsubscribe->count; i++)
        write_text(writer, unsubscribe->filters[i]);
}

size_t mqtt_packet_write_unsubscribe(uint8_t *to, size_t room, const struct mqtt_packet_unsubscribe *unsubscribe)
{
    return write_packet(to, room, MQTT_PACKET_UNSUBSCRIBE << 4 | 2, write_unsubscribe, unsubscribe);
}

size_t mqtt_packet_write_ack(uint8_t *to, size_t room, enum mqtt_packet_version version, enum mqtt_packet_type type,
                             uint16_t id, uint8_t reason)
{
    bool has_reason = version == MQTT_PACKET_5 && reason != REASON_SUCCESS;
    struct writer writer = {to, room, 0};

    write_byte(&writer, (unsigned)type << 4);
    write_byte(&writer, has_reason ? 3 : 2);
    write_u16(&writer, id);
    if (has_reason)
        write_byte(&writer, reason);
    return writer.size;
}

size_t mqtt_packet_write_pingreq(uint8_t *to, size_t room)
{
    struct writer writer = {to, room, 0};

    write_byte(&writer, MQTT_PACKET_PINGREQ << 4);
    write_byte(&writer, 0);
    return writer.size;
}

size_t mqtt_packet_write_disconnect(uint8_t *to, size_t room, enum mqtt_packet_version version, uint8_t reason,
                                    int64_t session_expiry)
{
    bool has_expiry = version == MQTT_PACKET_5 && session_expiry >= 0;
    bool has_reason = version == MQTT_PACKET_5 && (reason != REASON_SUCCESS || has_expiry);
    struct writer writer = {to, room, 0};

    write_byte(&writer, MQTT_PACKET_DISCONNECT << 4);
    write_byte(&writer, has_expiry ? 7 : has_reason ? 1 : 0);
    if (has_reason)
        write_byte(&writer, reason);
    if (has_expiry) {
        write_byte(&writer, 5);
        write_byte(&writer, 0x11);
        write_u32(&writer, (uint32_t)session_expiry);
    }
    return writer.size;
}
