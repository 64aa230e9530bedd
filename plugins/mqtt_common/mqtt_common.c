/* mqtt_common.c - see mqtt_common.h. Compiled into each plugin that speaks MQTT. */
#include "mqtt_common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define OVERLAPS_CHECKED 1000 /* filters: each is held against each */
#define OVERLAPS_SIZE    600  /* bytes of those that are told */
#define FILTERS_LEVELS   7u   /* of a topic whose filters are to be found: there are 3 * 2^levels */
#define FILTERS_TOPIC    1024u

/* ----------------------------------------------------------------------------------------------------------- checks */

static const struct scheme {
    const char *name;
    bool is_tls, is_websocket;
    int port;
} schemes[] = {
    {"tcp", false, false, 1883},  {"mqtt", false, false, 1883}, {"ssl", true, false, 8883},
    {"mqtts", true, false, 8883}, {"ws", false, true, 80},      {"wss", true, true, 443},
};

static const struct scheme *scheme_of(const char *text, const char **rest)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t size = strlen(schemes[i].name);

        if (strncmp(text, schemes[i].name, size) != 0 || strncmp(text + size, "://", 3) != 0)
            continue;
        *rest = text + size + 3;
        return &schemes[i];
    }
    return NULL;
}

/* The port after the host's end; 0: none there, -1: no port. */
static int port_of(const char *text, size_t size)
{
    int port = 0;

    if (size == 0)
        return 0;
    if (text[0] != ':' || size < 2 || size > 6)
        return -1;
    for (size_t i = 1; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        port = port * 10 + text[i] - '0';
    }
    return port > 0 && port < 65536 ? port : -1;
}

const char *mqtt_url_parse(const char *text, struct mqtt_url *url)
{
    const char *rest = NULL, *host, *end;
    const struct scheme *scheme = scheme_of(text, &rest);
    size_t authority, host_size;
    int port;

    if (scheme == NULL)
        return "must begin with tcp://, mqtt://, ssl://, mqtts://, ws:// or wss://";
    authority = strcspn(rest, "/");
    if (memchr(rest, '@', authority) != NULL)
        return "must not hold a user name: use username and password";
    if (rest[authority] != '\0' && !scheme->is_websocket)
        return "must end after host and port; only ws:// and wss:// have a path";
    host = rest[0] == '[' ? rest + 1 : rest;
    end = rest[0] == '[' ? memchr(rest, ']', authority) : memchr(rest, ':', authority);
    if (end == NULL && rest[0] == '[')
        return "lacks the ] of an IPv6 address";
    host_size = end == NULL ? authority : (size_t)(end - host);
    if (host_size == 0 || host_size >= sizeof url->host || strlen(rest) > 500)
        return "has no host, or is too long";
    if (end != NULL && *end == ']')
        end++;
    port = end == NULL ? 0 : port_of(end, authority - (size_t)(end - rest));
    if (port < 0)
        return "has no port between 1 and 65535 after the host (an IPv6 address stands in [])";
    memcpy(url->host, host, host_size);
    url->host[host_size] = '\0';
    url->is_tls = scheme->is_tls;
    url->port = port != 0 ? port : scheme->port;
    url->is_websocket = scheme->is_websocket;
    snprintf(url->text, sizeof url->text, "%s://%s%s%s:%d%s", scheme->name, rest[0] == '[' ? "[" : "", url->host,
             rest[0] == '[' ? "]" : "", url->port, rest + authority);
    return NULL;
}

static int check_tls(const struct mqtt_options *options, const struct fms_host *host)
{
    const struct {
        const char *name, *value;
    } given[] = {{"ca_file", options->ca_file},
                 {"cert_file", options->cert_file},
                 {"key_file", options->key_file},
                 {"key_password", options->key_password}};

    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        if (given[i].value != NULL)
            return fms_fail_option(host, given[i].name, -EINVAL,
                                   "is for TLS, but the server's address begins with none of ssl://, mqtts://, wss://");
    }
    return 0;
}

void mqtt_next_server(const struct mqtt_options *options, size_t *server, struct mqtt_url *url)
{
    *server = (*server + 1) % options->server.count;
    mqtt_url_parse(options->server.items[*server], url);
}

/* What an address is called that is wrong. It may hold a password, or a part of one that had a comma in it: so only scheme and
 * host are shown, or what stands behind the last @ of the list, or its place in that. */
static void name_server(const struct fms_list *servers, size_t i, char *name, size_t size)
{
    const char *text = servers->items[i], *user = strrchr(text, '@'), *host = strstr(text, "://"), *rest;

    host = host != NULL ? host + 3 : text;
    host += strcspn(host, host[0] == '[' ? "]/" : ":/");
    if (user != NULL && i + 1 == servers->count)
        snprintf(name, size, "\"...%.*s\"", (int)strcspn(user, ":/"), user);
    else if (user != NULL || (i > 0 && scheme_of(text, &rest) == NULL))
        snprintf(name, size, "address %zu", i + 1);
    else
        snprintf(name, size, "\"%.*s\"", (int)(host - text), text);
}

/* All of one kind, or whoever cuts off what is safe would get us to say the password in the clear. `url` is the first. */
static int check_servers(const struct mqtt_options *options, const struct fms_host *host, struct mqtt_url *url)
{
    struct mqtt_url other = {.port = 0};
    char name[300];

    if (options->server.count == 0)
        return fms_fail_option(host, "server", -EINVAL, "names no broker");
    for (size_t i = 0; i < options->server.count; i++) {
        const char *error = mqtt_url_parse(options->server.items[i], i == 0 ? url : &other);

        name_server(&options->server, i, name, sizeof name);
        if (error != NULL)
            return fms_fail_option(host, "server", -EINVAL, "%s %s", name, error);
        if (i > 0 && (other.is_tls != url->is_tls || other.is_websocket != url->is_websocket))
            return fms_fail_option(host, "server", -EINVAL,
                                   "%s is of another kind than the first: all must use TLS or none, and all WebSockets"
                                   " or none",
                                   name);
    }
    return 0;
}

int mqtt_check(const struct mqtt_options *options, const struct fms_host *host)
{
    struct mqtt_url url = {.port = 0};

    if (check_servers(options, host, &url) != 0 || (!url.is_tls && check_tls(options, host) != 0))
        return -EINVAL;
    if (options->key_file != NULL && options->cert_file == NULL)
        return fms_fail_option(host, "key_file", -EINVAL, "needs cert_file, the certificate that it belongs to");
    if (options->password != NULL && options->username == NULL && options->version == MQTT_3_1_1)
        return fms_fail_option(host, "password", -EINVAL, "needs username with MQTT 3.1.1 (MQTT-3.1.2-22)");
    if (options->username != NULL && !mqtt_is_text(options->username, strlen(options->username)))
        return fms_fail_option(host, "username", -EINVAL, "must be a text of at most 65535 bytes");
    if (options->password != NULL && strlen(options->password) > 65535)
        return fms_fail_option(host, "password", -EINVAL, "is longer than 65535 bytes");
    if (options->client_id != NULL &&
        (options->client_id[0] == '\0' || !mqtt_is_text(options->client_id, strlen(options->client_id))))
        return fms_fail_option(host, "client_id", -EINVAL, "must be a text of 1 to 65535 bytes");
    if (options->reconnect_min > options->reconnect_max)
        return fms_fail_option(host, "reconnect_min", -EINVAL, "is greater than reconnect_max");
    if (url.is_tls && !options->tls_verify)
        fms_advise(host, "tls_verify", "whoever sits on the line can pose as the broker");
    if (!url.is_tls && options->password != NULL)
        fms_advise(host, "password", "goes over the network in the clear; use ssl:// where the line is not your own");
    return 0;
}

/* The bytes of a character and its value; 0: malformed (Unicode table 3-7). */
static size_t utf8_next(const unsigned char *text, size_t size, uint32_t *value)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = text[0] < 0x80   ? 1
               : text[0] < 0xc2 ? 0
               : text[0] < 0xe0 ? 2
               : text[0] < 0xf0 ? 3
               : text[0] < 0xf5 ? 4
                                : 0;

    if (n == 0 || n > size)
        return 0;
    *value = n == 1 ? text[0] : text[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *value = *value << 6 | (text[i] & 0x3fu);
    }
    return *value < least[n] || *value > 0x10ffff || (*value >= 0xd800 && *value < 0xe000) ? 0 : n;
}

/* ASCII but for NUL. */
static bool are_plain(const unsigned char eight[8])
{
    uint64_t bytes;

    memcpy(&bytes, eight, sizeof bytes);
    return (((bytes - UINT64_C(0x0101010101010101)) | bytes) & UINT64_C(0x8080808080808080)) == 0;
}

bool mqtt_is_utf8(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = size, n;
    uint32_t value = 0;

    for (; left >= 8 && are_plain(at); left -= 8)
        at += 8;
    if (left < 8 && size >= 8 && are_plain(at + left - 8)) /* with some of those before it */
        return true;
    for (; left > 0; at += n, left -= n) {
        n = *at < 0x80 ? *at != 0 : utf8_next(at, left, &value);
        if (n == 0)
            return false;
    }
    return true;
}

bool mqtt_is_text(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    uint32_t value = 0;
    size_t n;

    if (size > 65535)
        return false;
    for (; size > 0; at += n, size -= n) {
        n = utf8_next(at, size, &value);
        if (n == 0 || value < 0x20 || (value >= 0x7f && value < 0xa0) || (value & 0xfffe) == 0xfffe ||
            (value >= 0xfdd0 && value < 0xfdf0))
            return false;
    }
    return true;
}

const char *mqtt_topic_fault(struct fms_bytes topic)
{
    if (topic.size == 0)
        return "it has no topic";
    if (!mqtt_is_utf8(topic.data, topic.size))
        return "its topic is no UTF-8, or holds NUL";
    if (memchr(topic.data, '+', topic.size) != NULL || memchr(topic.data, '#', topic.size) != NULL)
        return "its topic holds a wildcard (+ or #)";
    return NULL;
}

const char *mqtt_show(struct fms_bytes bytes, char to[MQTT_SHOWN_SIZE])
{
    const char *from = bytes.data;
    size_t size = 0, i;

    for (i = 0; i < bytes.size && size < MQTT_SHOWN_SIZE - 8; i++) {
        if (from[i] != '\0')
            to[size++] = from[i];
        else
            size += (size_t)snprintf(to + size, 5, "\\x00");
    }
    snprintf(to + size, MQTT_SHOWN_SIZE - size, "%s", i < bytes.size ? "..." : "");
    return to;
}

const char *mqtt_topic_error(const char *topic, size_t size)
{
    if (size == 0)
        return "the topic is empty";
    if (size > 65535)
        return "the topic is longer than 65535 bytes";
    if (memchr(topic, '+', size) != NULL || memchr(topic, '#', size) != NULL)
        return "the topic holds a wildcard (+ or #), which is for subscriptions only";
    return mqtt_is_text(topic, size) ? NULL : "the topic is no UTF-8, or holds control characters";
}

/* ---------------------------------------------------------------------------------------------------------- headers */

static bool begins_with(const char *text, size_t size, const char *start)
{
    return size >= strlen(start) && memcmp(text, start, strlen(start)) == 0;
}

/* Names that are not the sender's to choose; and "user.", so that what was put before a name can be told from the name. */
static bool is_reserved(const char *name, size_t size)
{
    return begins_with(name, size, "fms.") || begins_with(name, size, "mqtt.") || begins_with(name, size, "user.");
}

static void add_own(struct mqtt_headers *headers, const char *name, struct fms_bytes value)
{
    if (value.data != NULL)
        headers->items[headers->count++] = (struct fms_header){name, value};
}

static bool has_own(const struct mqtt_properties *own)
{
    return own->content_type.data != NULL || own->response_topic.data != NULL || own->correlation_data.data != NULL ||
           own->message_expiry >= 0 || own->payload_format >= 0 || own->is_retained;
}

bool mqtt_headers_begin(struct mqtt_headers *headers, const struct mqtt_properties *own, size_t user_count,
                        size_t user_size)
{
    size_t names = user_size + user_count * sizeof "user.";

    headers->count = headers->left_out = headers->names_used = 0;
    if (user_count == 0 && !has_own(own))
        return true;
    if (headers->items == NULL)
        headers->items = calloc(MQTT_HEADERS_MAX + MQTT_HEADERS_SPARE, sizeof *headers->items);
    if (headers->items == NULL)
        return false;
    if (names > headers->names_room) {
        char *room = realloc(headers->names, names);

        if (room == NULL)
            return false;
        headers->names = room;
        headers->names_room = names;
    }
    if (own->message_expiry >= 0)
        snprintf(headers->expiry, sizeof headers->expiry, "%u", (unsigned)own->message_expiry);
    if (own->payload_format >= 0)
        snprintf(headers->format, sizeof headers->format, "%u", (unsigned)own->payload_format & 255);
    add_own(headers, "mqtt.content_type", own->content_type);
    add_own(headers, "mqtt.response_topic", own->response_topic);
    add_own(headers, "mqtt.correlation_data", own->correlation_data);
    add_own(headers, "mqtt.message_expiry", fms_text(own->message_expiry >= 0 ? headers->expiry : NULL));
    add_own(headers, "mqtt.payload_format", fms_text(own->payload_format >= 0 ? headers->format : NULL));
    add_own(headers, "mqtt.retained", fms_text(own->is_retained ? "1" : NULL));
    return true;
}

void mqtt_headers_add(struct mqtt_headers *headers, struct fms_bytes name, struct fms_bytes value)
{
    char *to = headers->names + headers->names_used;
    size_t before = is_reserved(name.data, name.size) ? strlen("user.") : 0;

    if (headers->count == MQTT_HEADERS_MAX) {
        headers->left_out++;
        return;
    }
    memcpy(to, "user.", before);
    memcpy(to + before, name.data, name.size);
    to[before + name.size] = '\0';
    headers->names_used += before + name.size + 1;
    headers->items[headers->count++] = (struct fms_header){to, value.data != NULL ? value : fms_bytes_of("", 0)};
}

void mqtt_tell_left_out(const struct fms_host *host, struct fms_bytes topic, size_t count)
{
    char text[MQTT_SHOWN_SIZE];

    fms_warn(host, "a record has room for %d headers: %zu user properties of a message on \"%s\" are left out",
             MQTT_HEADERS_MAX, count, mqtt_show(topic, text));
}

void mqtt_headers_free(struct mqtt_headers *headers)
{
    free(headers->items);
    free(headers->names);
}

/* A decimal number up to `most`; -1: it is none. */
static int64_t number_of(struct fms_bytes text, int64_t most)
{
    const char *digits = text.data;
    int64_t number = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (digits[i] < '0' || digits[i] > '9' || i == 10)
            return -1;
        number = number * 10 + digits[i] - '0';
    }
    return text.size > 0 && number <= most ? number : -1;
}

static enum mqtt_place take_bytes(struct fms_bytes *property, struct fms_bytes value, bool is_good)
{
    if (is_good)
        *property = value;
    return is_good ? MQTT_AS_OWN : MQTT_NOWHERE;
}

/* `name` is what stands behind "mqtt.". */
static enum mqtt_place place_own(const char *name, struct fms_bytes value, struct mqtt_properties *own)
{
    bool is_expiry = strcmp(name, "message_expiry") == 0;
    int64_t number = number_of(value, is_expiry ? UINT32_MAX : 1);

    if (strcmp(name, "content_type") == 0)
        return take_bytes(&own->content_type, value, mqtt_is_text(value.data, value.size));
    if (strcmp(name, "response_topic") == 0)
        return take_bytes(&own->response_topic, value, mqtt_topic_error(value.data, value.size) == NULL);
    if (strcmp(name, "correlation_data") == 0)
        return take_bytes(&own->correlation_data, value, value.size <= 65535);
    if (is_expiry)
        own->message_expiry = number;
    else if (strcmp(name, "payload_format") == 0)
        own->payload_format = (int)number;
    else if (strcmp(name, "retained") == 0)
        own->is_retained = number == 1;
    else
        return MQTT_AS_USER;
    return number >= 0 ? MQTT_AS_OWN : MQTT_NOWHERE;
}

enum mqtt_place mqtt_place_header(const struct fms_header *header, struct mqtt_properties *own, const char **name)
{
    struct fms_bytes value = header->value.data != NULL ? header->value : fms_bytes_of("", 0);
    size_t size = strlen(header->name), user = strlen("user.");
    enum mqtt_place place = MQTT_AS_USER;

    *name = header->name;
    if (begins_with(*name, size, "mqtt."))
        place = place_own(*name + strlen("mqtt."), value, own);
    else if (begins_with(*name, size, "user.") && is_reserved(*name + user, size - user))
        *name += user;
    if (place == MQTT_AS_USER && !(mqtt_is_text(*name, strlen(*name)) && mqtt_is_text(value.data, value.size)))
        place = MQTT_NOWHERE;
    return place;
}

/* ----------------------------------------------------------------------------------------------------- subscriptions */

const char *mqtt_filter_unshared(const char *filter)
{
    size_t group;

    if (strncmp(filter, "$share/", 7) != 0)
        return filter;
    group = strcspn(filter + 7, "/+#");
    return group > 0 && filter[7 + group] == '/' ? filter + 7 + group + 1 : NULL;
}

static const char *filter_error(const char *filter)
{
    const char *rest = mqtt_filter_unshared(filter);

    if (rest == NULL)
        return "is no shared subscription: write $share/GROUP/FILTER, GROUP without + and #";
    if (rest[0] == '\0')
        return "is empty";
    if (!mqtt_is_text(filter, strlen(filter)))
        return "is no UTF-8, is longer than 65535 bytes, or holds control characters";
    for (const char *at = rest; *at != '\0'; at++) {
        bool alone = (at == rest || at[-1] == '/') && (at[1] == '\0' || at[1] == '/');

        if ((*at == '+' || *at == '#') && !alone)
            return "has a + or # that does not fill a level of its own";
        if (*at == '#' && at[1] != '\0')
            return "has a # that is not the last level";
    }
    return NULL;
}

/* One level and where the next begins, NULL: it is the last. */
static struct fms_bytes level_of(const char *text, size_t size, const char **next)
{
    const char *end = memchr(text, '/', size);

    *next = end != NULL ? end + 1 : NULL;
    return fms_bytes_of(text, end != NULL ? (size_t)(end - text) : size);
}

static bool is_level(struct fms_bytes level, const char *text)
{
    return level.size == strlen(text) && memcmp(level.data, text, level.size) == 0;
}

/* MQTT-4.7.2-1: wildcards in the first level do not stand for topics that begin with $. */
static bool is_shy(const char *filter, const char *other, size_t size)
{
    return (filter[0] == '+' || filter[0] == '#') && size > 0 && other[0] == '$';
}

/* Level by level; `text` is a topic or a filter. "a/#" stands for "a" as well. */
static bool meets(const char *filter, const char *text, size_t size)
{
    const char *end = text + size, *filter_next, *text_next;

    if (is_shy(filter, text, size) || is_shy(text, filter, strlen(filter)))
        return false;
    for (;; filter = filter_next, text = text_next) {
        struct fms_bytes a = level_of(filter, strlen(filter), &filter_next);
        struct fms_bytes b = level_of(text, (size_t)(end - text), &text_next);

        if (is_level(a, "#") || is_level(b, "#"))
            return true;
        if (!is_level(a, "+") && !is_level(b, "+") && (a.size != b.size || memcmp(a.data, b.data, a.size) != 0))
            return false;
        if (filter_next == NULL || text_next == NULL)
            return filter_next == text_next || (filter_next != NULL && strcmp(filter_next, "#") == 0) ||
                   (text_next != NULL && end - text_next == 1 && *text_next == '#');
    }
}

bool mqtt_filter_matches(const char *filter, struct fms_bytes topic)
{
    return topic.size > 0 && memchr(topic.data, '+', topic.size) == NULL &&
           memchr(topic.data, '#', topic.size) == NULL && meets(filter, topic.data, topic.size);
}

bool mqtt_filters_overlap(const char *a, const char *b)
{
    return meets(a, b, strlen(b));
}

/* One more pair that overlaps. False: there is no room for it. */
static bool add_overlap(char *told, size_t size, const char *a, const char *b)
{
    size_t used = strlen(told), wanted = strlen(a) + strlen(b) + sizeof ", \"\" and \"\"";

    if (used > 0 && used + wanted > size)
        return false;
    snprintf(told + used, size - used, "%s\"%.200s\" and \"%.200s\"", used > 0 ? ", " : "", a, b);
    return true;
}

/* A message of both may come twice. */
static void advise_overlap(const struct fms_list *filters, const struct fms_host *host)
{
    size_t count = filters->count < OVERLAPS_CHECKED ? filters->count : OVERLAPS_CHECKED;
    char told[OVERLAPS_SIZE] = "";
    bool has_room = true;

    for (size_t i = 0; i < count && has_room; i++) {
        for (size_t j = i + 1; j < count && has_room; j++) {
            if (mqtt_filters_overlap(mqtt_filter_unshared(filters->items[i]), mqtt_filter_unshared(filters->items[j])))
                has_room = add_overlap(told, sizeof told, filters->items[i], filters->items[j]);
        }
    }
    if (told[0] != '\0')
        fms_advise(host, "topic", "%s%s overlap: what comes by both may come twice", told,
                   has_room ? "" : ", and others,");
}

/* The price of what looks like the easy way to more processes. */
static void advise_share(const char *filter, const struct fms_host *host)
{
    if (mqtt_filter_unshared(filter) == filter)
        return;
    fms_advise(
        host, "topic",
        "\"%.200s\" is shared: the broker deals its messages out one by one, so that a vehicle's are out of order, and"
        " what a member has in hand when it goes may be late or lost; shards keep the order: see shards in"
        " [pipeline]",
        filter);
}

int mqtt_check_filters(const struct fms_list *filters, const struct fms_host *host)
{
    for (size_t i = 0; i < filters->count; i++) {
        const char *error = filter_error(filters->items[i]);

        if (error != NULL)
            return fms_fail_option(host, "topic", -EINVAL, "\"%s\" %s", filters->items[i], error);
        advise_share(filters->items[i], host);
    }
    advise_overlap(filters, host);
    return 0;
}

/* The topic with + for each level whose bit is set in `mask`, up to `levels`, and # behind them if there are more or it is
 * wanted. How many bytes, with the NUL. */
static size_t write_filter(char *to, struct fms_bytes topic, unsigned levels, unsigned mask, bool has_hash)
{
    const char *from = topic.data, *end = from + topic.size;
    char *start = to;

    for (unsigned i = 0; i < levels; i++) {
        struct fms_bytes level = level_of(from, (size_t)(end - from), &from);

        if (i > 0)
            *to++ = '/';
        if ((mask >> i & 1) != 0)
            level = fms_text("+");
        memcpy(to, level.data, level.size);
        to += level.size;
    }
    if (has_hash && levels > 0)
        *to++ = '/';
    if (has_hash)
        *to++ = '#';
    *to++ = '\0';
    return (size_t)(to - start);
}

static bool is_in(const struct fms_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], text) == 0)
            return true;
    }
    return false;
}

size_t mqtt_filters_of(struct fms_bytes topic, const struct fms_list *asked, char ***filters)
{
    const char *bytes = topic.data;
    unsigned levels = 1;
    size_t most, count = 0;
    char *to;

    for (size_t i = 0; i < topic.size; i++)
        levels += bytes[i] == '/';
    *filters = NULL;
    if (levels > FILTERS_LEVELS || topic.size > FILTERS_TOPIC)
        return 0;
    most = (size_t)3 << levels; /* 2^levels without #, and fewer than twice that with it */
    *filters = malloc(most * (sizeof **filters + topic.size + levels + sizeof "/#")); /* an empty level grows as + */
    if (*filters == NULL)
        return 0;
    to = (char *)(*filters + most);
    for (unsigned n = 0; n <= levels; n++) {
        for (unsigned mask = 0; mask < 2u << n; mask++) {
            bool has_hash = mask < 1u << n;

            if (!has_hash && n < levels)
                break;
            (*filters)[count] = to;
            to += write_filter(to, topic, n, mask & ((1u << n) - 1), has_hash);
            if (mqtt_filter_matches((*filters)[count], topic) && !is_in(asked, (*filters)[count]))
                count++;
            else
                to = (*filters)[count];
        }
    }
    return count;
}

void mqtt_renew(const struct fms_host *host)
{
    fms_renew(host, "username");
    fms_renew(host, "password");
    fms_renew(host, "key_password");
}

bool mqtt_keeps_session(const struct mqtt_options *options, bool clean_start, int64_t session_expiry)
{
    return !clean_start && options->client_id != NULL && (options->version == MQTT_3_1_1 || session_expiry > 0);
}

void mqtt_advise_session(const struct mqtt_options *options, bool clean_start, int64_t session_expiry,
                         const struct fms_host *host)
{
    if (options->qos == 0)
        fms_advise(host, "qos",
                   "at QoS 0 the broker drops what we cannot take at once, and keeps nothing while we are away");
    if (!clean_start && options->client_id == NULL)
        fms_advise(host, "client_id",
                   "is another one at each start, so with clean_start = no each start leaves a queue at the"
                   " broker that nobody reads: set one");
    if (!clean_start && options->version != MQTT_3_1_1 && session_expiry == 0)
        fms_advise(host, "session_expiry", "is 0, so the broker forgets the session that clean_start = no asks for");
    if (clean_start && options->qos > 0)
        fms_advise(host, "clean_start",
                   "what is published while this pipeline is down is lost: set client_id and clean_start = no to have"
                   " the broker keep it");
}

/* -------------------------------------------------------------------------------------------------- another client */

#define KICKED_WITHIN (10 * FMS_SECOND)   /* a connection that ends sooner, without a word, may have been taken over */
#define KICKS         3                   /* in a row are held for a takeover */
#define RIVAL_PAUSE   (600 * FMS_SECOND)  /* the longest */
#define RIVAL_GONE    (3600 * FMS_SECOND) /* a connection that has lasted so long: what was before does not count */

int64_t mqtt_rival_met(struct mqtt_rival *rival, const struct mqtt_options *options, const char *client_id,
                       bool is_told, bool is_wordless, int64_t lasted, const struct fms_host *host)
{
    int64_t most = options->takeover_pause > RIVAL_PAUSE ? options->takeover_pause : RIVAL_PAUSE;
    int64_t soon = rival->pause > KICKED_WITHIN / 4 ? 4 * rival->pause : KICKED_WITHIN; /* it pauses, too */

    if (lasted > RIVAL_GONE)
        *rival = (struct mqtt_rival){0};
    rival->kicks = is_wordless && lasted < soon ? rival->kicks + 1 : 0;
    if (!is_told && rival->kicks < KICKS)
        return 0;
    rival->pause = fms_backoff(host, options->takeover_pause, most, rival->takeovers++);
    fms_link_down(
        host,
        "another client %s the client id \"%s\", and has taken the session over: it is left to that one for %.0f s",
        is_told ? "has" : "seems to have", client_id, (double)rival->pause / (double)FMS_SECOND);
    if (is_told)
        fms_warn(
            host,
            "another client has connected with the client id \"%s\" and has the session now: is this pipeline, or its"
            " shard, started twice? It is left to that one for %.0f s, and longer each time",
            client_id, (double)rival->pause / (double)FMS_SECOND);
    else
        fms_warn(host,
                 "the broker has closed three connections in a row without a word: does another client have the client"
                 " id \"%s\"? Each needs its own; the session is left to that one for %.0f s, and longer each time",
                 client_id, (double)rival->pause / (double)FMS_SECOND);
    return rival->pause;
}

/* ------------------------------------------------------------------------------------------------------ small parts */

void mqtt_make_client_id(const struct fms_host *host, char id[MQTT_CLIENT_ID_SIZE])
{
    unsigned char random[6] = {0};

    if (getrandom(random, sizeof random, 0) < 0)
        fms_warn(host, "no random client id: %s", strerror(errno));
    snprintf(id, MQTT_CLIENT_ID_SIZE, "fmspipe-%02x%02x%02x%02x%02x%02x", random[0], random[1], random[2], random[3],
             random[4], random[5]);
}
