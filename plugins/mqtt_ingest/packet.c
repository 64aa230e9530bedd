/* packet.c - see packet.h. */
#include "packet.h"

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

/* MQTT-1.5.5-1: four bytes at most, and the fewest that will do. */
static uint32_t read_varint(struct reader *reader)
{
    uint32_t value = 0;

    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t byte = read_byte(reader);

        value |= (uint32_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            reader->is_malformed = reader->is_malformed || (byte == 0 && shift > 0 && !reader->is_short);
            return value;
        }
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

/* MQTT-1.5.4: UTF-8 without NUL. */
static struct fms_bytes read_text(struct reader *reader)
{
    struct fms_bytes text = read_binary(reader);

    if (!mqtt_is_utf8(text.data, text.size))
        reader->is_malformed = true;
    return text;
}

int packet_peek(const uint8_t *data, size_t size, struct packet *packet)
{
    size_t length = 0;

    for (unsigned i = 1; i <= 4; i++) {
        if (size <= i)
            return 0;
        length |= (size_t)(data[i] & 0x7f) << 7 * (i - 1);
        if ((data[i] & 0x80) == 0) {
            if (data[i] == 0 && i > 1)
                return REASON_MALFORMED;
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

enum value_type { VALUE_NONE, VALUE_BYTE, VALUE_U16, VALUE_U32, VALUE_VARINT, VALUE_TEXT, VALUE_BINARY, VALUE_PAIR };

#define IN(type) (1u << (type))

#define PROPERTY_USER            0x26
#define PROPERTY_SUBSCRIPTION_ID 0x0b

/* Table 2-4, as far as a server sends it. */
static const struct {
    enum value_type type;
    unsigned packets;
} properties_table[] = {
    [0x01] = {VALUE_BYTE, IN(PACKET_PUBLISH)},                         /* payload format indicator */
    [0x02] = {VALUE_U32, IN(PACKET_PUBLISH)},                          /* message expiry interval */
    [0x03] = {VALUE_TEXT, IN(PACKET_PUBLISH)},                         /* content type */
    [0x08] = {VALUE_TEXT, IN(PACKET_PUBLISH)},                         /* response topic */
    [0x09] = {VALUE_BINARY, IN(PACKET_PUBLISH)},                       /* correlation data */
    [PROPERTY_SUBSCRIPTION_ID] = {VALUE_VARINT, IN(PACKET_PUBLISH)},   /* may occur again */
    [PROPERTY_SESSION_EXPIRY] = {VALUE_U32, IN(PACKET_CONNACK)},       /* MQTT-3.14.2-2: not in a server's DISCONNECT */
    [PROPERTY_ASSIGNED_CLIENT_ID] = {VALUE_TEXT, IN(PACKET_CONNACK)},  /* */
    [PROPERTY_SERVER_KEEP_ALIVE] = {VALUE_U16, IN(PACKET_CONNACK)},    /* */
    [0x15] = {VALUE_TEXT, IN(PACKET_CONNACK)},                         /* authentication method */
    [0x16] = {VALUE_BINARY, IN(PACKET_CONNACK)},                       /* authentication data */
    [0x1a] = {VALUE_TEXT, IN(PACKET_CONNACK)},                         /* response information */
    [0x1c] = {VALUE_TEXT, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT)}, /* server reference */
    [0x1f] = {VALUE_TEXT, IN(PACKET_CONNACK) | IN(PACKET_PUBREL) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT)},
    [0x21] = {VALUE_U16, IN(PACKET_CONNACK)},                 /* receive maximum */
    [0x22] = {VALUE_U16, IN(PACKET_CONNACK)},                 /* topic alias maximum */
    [PROPERTY_TOPIC_ALIAS] = {VALUE_U16, IN(PACKET_PUBLISH)}, /* */
    [0x24] = {VALUE_BYTE, IN(PACKET_CONNACK)},                /* maximum QoS */
    [0x25] = {VALUE_BYTE, IN(PACKET_CONNACK)},                /* retain available */
    [PROPERTY_USER] = {VALUE_PAIR, IN(PACKET_CONNACK) | IN(PACKET_PUBLISH) | IN(PACKET_PUBREL) | IN(PACKET_SUBACK) |
                                       IN(PACKET_DISCONNECT)}, /* may occur again */
    [0x27] = {VALUE_U32, IN(PACKET_CONNACK)},                  /* maximum packet size */
    [0x28] = {VALUE_BYTE, IN(PACKET_CONNACK)},                 /* wildcard subscription available */
    [0x29] = {VALUE_BYTE, IN(PACKET_CONNACK)},                 /* subscription identifiers available */
    [0x2a] = {VALUE_BYTE, IN(PACKET_CONNACK)},                 /* shared subscription available */
};

struct property {
    uint32_t identifier;
    uint32_t number;        /* VALUE_BYTE to VALUE_VARINT */
    struct fms_bytes value; /* VALUE_TEXT, VALUE_BINARY; VALUE_PAIR: its value */
    struct fms_bytes name;
};

/* False: no such identifier. */
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
    case VALUE_TEXT:
        property->value = read_text(reader);
        return true;
    case VALUE_BINARY:
        property->value = read_binary(reader);
        return true;
    case VALUE_PAIR:
        property->name = read_text(reader);
        property->value = read_text(reader);
        return true;
    default:
        return false;
    }
}

/* Keeps a property. False: a value that the standard forbids. */
static bool keep_number(struct packet_properties *into, const struct property *property)
{
    uint32_t number = property->number;

    switch (property->identifier) {
    case 0x01:
        into->payload_format = (uint8_t)number;
        return number <= 1;
    case 0x02:
        into->message_expiry = number;
        return true;
    case PROPERTY_SUBSCRIPTION_ID:
        return number != 0; /* 3.3.2.3.8 */
    case PROPERTY_SESSION_EXPIRY:
        into->session_expiry = number;
        return true;
    case PROPERTY_SERVER_KEEP_ALIVE:
        into->server_keep_alive = (uint16_t)number;
        return true;
    case 0x21:
        into->receive_maximum = (uint16_t)number;
        return number != 0; /* 3.2.2.3.3 */
    case 0x22:
        into->topic_alias_maximum = (uint16_t)number;
        return true;
    case PROPERTY_TOPIC_ALIAS:
        into->topic_alias = (uint16_t)number;
        return true;
    case 0x24:
        into->maximum_qos = (uint8_t)number;
        return number <= 1; /* 3.2.2.3.4 */
    case 0x25:
        into->retain_available = number != 0;
        return number <= 1;
    case 0x27:
        into->maximum_packet_size = number;
        return number != 0; /* 3.2.2.3.6 */
    case 0x28:
        into->wildcards_available = number != 0;
        return number <= 1;
    case 0x29:
        into->subscription_ids_available = number != 0;
        return number <= 1;
    case 0x2a:
        into->shared_available = number != 0;
        return number <= 1;
    default:
        return true;
    }
}

static void keep_value(struct packet_properties *into, const struct property *property)
{
    switch (property->identifier) {
    case 0x03:
        into->content_type = property->value;
        break;
    case 0x08:
        into->response_topic = property->value;
        break;
    case 0x09:
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
        into->user_size += property->name.size + property->value.size;
        break;
    default:
        break;
    }
}

static bool may_repeat(uint32_t identifier)
{
    return identifier == PROPERTY_USER || identifier == PROPERTY_SUBSCRIPTION_ID;
}

/* 2.2.2. An identifier that the packet cannot have is malformed, one that it has twice a protocol error. */
static int read_each_property(struct reader list, enum packet_type type, struct packet_properties *into)
{
    while (reader_left(&list) > 0) {
        struct property property;

        if (!read_property(&list, &property) || is_wrong(&list) ||
            (properties_table[property.identifier].packets & IN(type)) == 0)
            return REASON_MALFORMED;
        if ((into->present >> property.identifier & 1) != 0 && !may_repeat(property.identifier))
            return REASON_PROTOCOL_ERROR;
        into->present |= UINT64_C(1) << property.identifier;
        if (!keep_number(into, &property))
            return REASON_PROTOCOL_ERROR;
        keep_value(into, &property);
    }
    return 0;
}

static const struct packet_properties no_properties = {
    .receive_maximum = 65535,
    .maximum_packet_size = PACKET_SIZE_MAX,
    .maximum_qos = 2,
    .retain_available = true,
    .wildcards_available = true,
    .subscription_ids_available = true,
    .shared_available = true,
};

static int read_properties(struct reader *reader, enum packet_type type, struct packet_properties *into)
{
    size_t size = read_varint(reader);
    const uint8_t *data = read_bytes(reader, size);

    *into = no_properties;
    if (is_wrong(reader))
        return REASON_MALFORMED;
    if (size == 0)
        return 0;
    into->all = fms_bytes_of(data, size);
    return read_each_property(reader_of(into->all), type, into);
}

bool packet_next_user(struct fms_bytes *rest, struct fms_bytes *name, struct fms_bytes *value)
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
    unsigned packets; /* in which a server may send it: table 2-6 */
    const char *text;
} reasons[] = {
    {0x00, IN(PACKET_CONNACK) | IN(PACKET_PUBREL) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "success"},
    {0x01, IN(PACKET_SUBACK), "granted QoS 1"},
    {0x02, IN(PACKET_SUBACK), "granted QoS 2"},
    {0x80, IN(PACKET_CONNACK) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "unspecified error"},
    {0x81, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "malformed packet"},
    {0x82, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "protocol error"},
    {0x83, IN(PACKET_CONNACK) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "implementation specific error"},
    {0x84, IN(PACKET_CONNACK), "the broker does not speak this version of MQTT: try the other version"},
    {0x85, IN(PACKET_CONNACK), "the broker refuses the client id"},
    {0x86, IN(PACKET_CONNACK), "wrong user name or password"},
    {0x87, IN(PACKET_CONNACK) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "not authorized"},
    {0x88, IN(PACKET_CONNACK), "the broker is not available"},
    {0x89, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "the broker is busy"},
    {0x8a, IN(PACKET_CONNACK), "banned"},
    {0x8b, IN(PACKET_DISCONNECT), "the broker is shutting down"},
    {0x8c, IN(PACKET_CONNACK), "bad authentication method"},
    {0x8d, IN(PACKET_DISCONNECT), "keep alive timeout"},
    {0x8e, IN(PACKET_DISCONNECT), "another client has connected with this client id: give each its own"},
    {0x8f, IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "topic filter invalid"},
    {0x90, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "topic name invalid"},
    {0x91, IN(PACKET_SUBACK), "packet identifier in use"},
    {0x92, IN(PACKET_PUBREL), "packet identifier not found"},
    {0x93, IN(PACKET_DISCONNECT), "receive maximum exceeded"},
    {0x94, IN(PACKET_DISCONNECT), "topic alias invalid"},
    {0x95, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "packet too large"},
    {0x96, IN(PACKET_DISCONNECT), "message rate too high"},
    {0x97, IN(PACKET_CONNACK) | IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "quota exceeded"},
    {0x98, IN(PACKET_DISCONNECT), "administrative action"},
    {0x99, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "payload format invalid"},
    {0x9a, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "retain not supported"},
    {0x9b, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "QoS not supported"},
    {0x9c, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "use another server"},
    {0x9d, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "server moved"},
    {0x9e, IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "shared subscriptions not supported"},
    {0x9f, IN(PACKET_CONNACK) | IN(PACKET_DISCONNECT), "connection rate exceeded"},
    {0xa0, IN(PACKET_DISCONNECT), "maximum connect time"},
    {0xa1, IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "subscription identifiers not supported"},
    {0xa2, IN(PACKET_SUBACK) | IN(PACKET_DISCONNECT), "wildcard subscriptions not supported"},
};

/* MQTT-3.2.2-8 and its like: a code that is not in the packet's table is malformed. */
static bool is_reason(enum packet_type type, uint8_t code)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].code == code)
            return (reasons[i].packets & IN(type)) != 0;
    }
    return false;
}

const char *packet_reason_text(enum packet_version version, int reason)
{
    static const uint8_t return_codes[] = {0x00, 0x84, 0x85, 0x88, 0x86, 0x87}; /* 3.1.1, table 3.1 */

    if (version == PACKET_3_1_1 && reason >= 0 && (size_t)reason < sizeof return_codes)
        reason = return_codes[reason];
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].code == reason)
            return reasons[i].text;
    }
    return "unknown reason";
}

/* ---------------------------------------------------------------------------------------------------------- packets */

int packet_read_connack(enum packet_version version, const struct packet *packet, struct packet_connack *connack)
{
    struct reader reader = reader_of(packet->body);
    uint8_t flags = read_byte(&reader);
    int error = 0;

    connack->session_present = (flags & 1) != 0;
    connack->reason = read_byte(&reader);
    connack->properties = no_properties;
    if (packet->flags != 0 || (flags & 0xfe) != 0) /* MQTT-2.1.3-1, MQTT-3.2.2-1 */
        return REASON_MALFORMED;
    if (version == PACKET_5 && !is_wrong(&reader))
        error = read_properties(&reader, PACKET_CONNACK, &connack->properties);
    if (error != 0)
        return error;
    if (is_wrong(&reader) || reader_left(&reader) > 0 ||
        (version == PACKET_5 ? !is_reason(PACKET_CONNACK, connack->reason) : connack->reason > 5))
        return REASON_MALFORMED;
    return connack->session_present && connack->reason != 0 ? REASON_PROTOCOL_ERROR : 0; /* MQTT-3.2.2-6 */
}

/* MQTT-3.3.2-2, MQTT-3.3.2-14 */
static bool has_wildcard(struct fms_bytes text)
{
    return text.size > 0 && (memchr(text.data, '+', text.size) != NULL || memchr(text.data, '#', text.size) != NULL);
}

/* 4.7: at least one character, and no wildcards (MQTT-4.7.3-1). */
static int check_topic(const struct packet_publish *publish)
{
    const struct fms_bytes *topic = &publish->topic;

    if (topic->size == 0)
        return packet_has(&publish->properties, PROPERTY_TOPIC_ALIAS) ? 0 : REASON_PROTOCOL_ERROR;
    return has_wildcard(*topic) ? REASON_MALFORMED : 0;
}

static int read_publish(enum packet_version version, struct reader *reader, struct packet_publish *publish)
{
    int error;

    publish->topic = read_text(reader);
    publish->id = publish->qos > 0 ? read_u16(reader) : 0;
    if (is_wrong(reader))
        return REASON_MALFORMED;
    error = version == PACKET_5 ? read_properties(reader, PACKET_PUBLISH, &publish->properties) : 0;
    if (error != 0)
        return error;
    if (publish->qos > 0 && publish->id == 0) /* MQTT-2.2.1-4 */
        return REASON_PROTOCOL_ERROR;
    if (packet_has(&publish->properties, PROPERTY_TOPIC_ALIAS) && publish->properties.topic_alias == 0)
        return REASON_TOPIC_ALIAS_INVALID; /* MQTT-3.3.2-8 */
    if (has_wildcard(publish->properties.response_topic))
        return REASON_PROTOCOL_ERROR;
    return check_topic(publish);
}

int packet_read_publish(enum packet_version version, const struct packet *packet, size_t there,
                        struct packet_publish *publish)
{
    struct reader reader = reader_of(fms_bytes_of(packet->body.data, there));
    int error;

    publish->dup = (packet->flags & 8) != 0;
    publish->qos = packet->flags >> 1 & 3;
    publish->retain = (packet->flags & 1) != 0;
    publish->properties = no_properties;
    if (publish->qos == 3 || (publish->qos == 0 && publish->dup)) /* MQTT-3.3.1-4, MQTT-3.3.1-2 */
        return REASON_MALFORMED;
    error = read_publish(version, &reader, publish);
    publish->payload = fms_bytes_of(reader.at, packet->body.size - (there - reader_left(&reader)));
    return reader.is_short && !reader.is_malformed && there < packet->body.size ? -1 : error;
}

int packet_read_pubrel(enum packet_version version, const struct packet *packet, struct packet_ack *ack)
{
    struct reader reader = reader_of(packet->body);
    int error;

    ack->id = read_u16(&reader);
    ack->reason = 0;
    ack->properties = no_properties;
    if (packet->flags != 2 || reader.is_short) /* MQTT-3.6.1-1 */
        return REASON_MALFORMED;
    if (version == PACKET_5 && reader_left(&reader) > 0) { /* 3.6.2.1: both may be left out */
        ack->reason = read_byte(&reader);
        error = reader_left(&reader) > 0 ? read_properties(&reader, PACKET_PUBREL, &ack->properties) : 0;
        if (error != 0)
            return error;
    }
    if (reader_left(&reader) > 0 || !is_reason(PACKET_PUBREL, ack->reason))
        return REASON_MALFORMED;
    return ack->id == 0 ? REASON_PROTOCOL_ERROR : 0;
}

int packet_read_suback(enum packet_version version, const struct packet *packet, struct packet_suback *suback)
{
    struct reader reader = reader_of(packet->body);
    const uint8_t *codes;
    int error;

    suback->id = read_u16(&reader);
    suback->properties = no_properties;
    if (packet->flags != 0 || reader.is_short)
        return REASON_MALFORMED;
    if (version == PACKET_5) {
        error = read_properties(&reader, PACKET_SUBACK, &suback->properties);
        if (error != 0)
            return error;
    }
    suback->reasons = fms_bytes_of(reader.at, reader_left(&reader));
    codes = suback->reasons.data;
    for (size_t i = 0; i < suback->reasons.size; i++) {
        if (version == PACKET_5 ? !is_reason(PACKET_SUBACK, codes[i]) : codes[i] > 2 && codes[i] != 0x80)
            return REASON_MALFORMED; /* MQTT-3.9.3-2 */
    }
    if (suback->reasons.size == 0)
        return REASON_MALFORMED;
    return suback->id == 0 ? REASON_PROTOCOL_ERROR : 0;
}

int packet_read_pingresp(const struct packet *packet)
{
    return packet->flags != 0 || packet->body.size != 0 ? REASON_MALFORMED : 0;
}

int packet_read_disconnect(const struct packet *packet, struct packet_ack *disconnect)
{
    struct reader reader = reader_of(packet->body);
    int error = 0;

    *disconnect = (struct packet_ack){.properties = no_properties};
    if (packet->flags != 0) /* MQTT-3.14.1-1 */
        return REASON_MALFORMED;
    if (reader_left(&reader) > 0)
        disconnect->reason = read_byte(&reader);
    if (reader_left(&reader) > 0)
        error = read_properties(&reader, PACKET_DISCONNECT, &disconnect->properties);
    if (error != 0)
        return error;
    return reader_left(&reader) > 0 || !is_reason(PACKET_DISCONNECT, disconnect->reason) ? REASON_MALFORMED : 0;
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
    const struct packet_connect *connect = fields;

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
    const struct packet_connect *connect = fields;

    write_text(writer, "MQTT");
    write_byte(writer, connect->version);
    write_byte(writer, (connect->username != NULL ? 0x80 : 0) | (connect->password != NULL ? 0x40 : 0) |
                           (connect->clean_start ? 0x02 : 0));
    write_u16(writer, connect->keep_alive);
    if (connect->version == PACKET_5)
        write_list(writer, write_connect_properties, connect);
    write_text(writer, connect->client_id);
    if (connect->username != NULL)
        write_text(writer, connect->username);
    if (connect->password != NULL)
        write_text(writer, connect->password);
}

size_t packet_write_connect(uint8_t *to, size_t room, const struct packet_connect *connect)
{
    return write_packet(to, room, PACKET_CONNECT << 4, write_connect, connect);
}

static void write_subscribe(struct writer *writer, const void *fields)
{
    const struct packet_subscribe *subscribe = fields;

    write_u16(writer, subscribe->id);
    if (subscribe->version == PACKET_5)
        write_varint(writer, 0);
    write_text(writer, subscribe->filter);
    write_byte(writer,
               subscribe->qos | (subscribe->version == PACKET_5 ? (unsigned)subscribe->retain_handling << 4 : 0u));
}

size_t packet_write_subscribe(uint8_t *to, size_t room, const struct packet_subscribe *subscribe)
{
    return write_packet(to, room, PACKET_SUBSCRIBE << 4 | 2, write_subscribe, subscribe);
}

size_t packet_write_ack(uint8_t *to, size_t room, enum packet_version version, enum packet_type type, uint16_t id,
                        uint8_t reason)
{
    bool has_reason = version == PACKET_5 && reason != REASON_SUCCESS;
    struct writer writer = {to, room, 0};

    write_byte(&writer, (unsigned)type << 4);
    write_byte(&writer, has_reason ? 3 : 2);
    write_u16(&writer, id);
    if (has_reason)
        write_byte(&writer, reason);
    return writer.size;
}

size_t packet_write_pingreq(uint8_t *to, size_t room)
{
    struct writer writer = {to, room, 0};

    write_byte(&writer, PACKET_PINGREQ << 4);
    write_byte(&writer, 0);
    return writer.size;
}

size_t packet_write_disconnect(uint8_t *to, size_t room, enum packet_version version, uint8_t reason,
                               int64_t session_expiry)
{
    bool has_expiry = version == PACKET_5 && session_expiry >= 0;
    bool has_reason = version == PACKET_5 && (reason != REASON_SUCCESS || has_expiry);
    struct writer writer = {to, room, 0};

    write_byte(&writer, PACKET_DISCONNECT << 4);
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
