/* mqtt_common.h - what the plugins that speak MQTT share: options, what is checked of them, and what MQTT calls a text. */
#ifndef MQTT_COMMON_H
#define MQTT_COMMON_H

#include "fms_plugin.h"

#define MQTT_CLIENT_ID_SIZE 24

/* The first member of each plugin's instance. */
struct mqtt_options {
    struct fms_list server; /* tried in turn */
    int version;            /* enum mqtt_version */
    const char *client_id;
    const char *username;
    const char *password;
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    const char *key_password;
    bool tls_verify;
    int64_t keepalive;
    int64_t reconnect_min;
    int64_t reconnect_max;
    int64_t takeover_pause;
    int64_t qos;
};

enum mqtt_version { MQTT_3_1_1, MQTT_5, MQTT_AUTO };

/* clang-format off */
#define MQTT_SERVER_HELP                                                                                           \
    "addresses of the broker, tried in turn: tcp:// or mqtt:// (port 1883), ssl:// or mqtts:// (8883), ws:// (80) or" \
    " wss:// (443), as in tcp://localhost:1883"
#define MQTT_OPTIONS(server_help)                                                                                  \
    FMS_OPT_LIST(struct mqtt_options, server, FMS_REQUIRED, server_help),                                          \
    FMS_OPT_CHOICE(struct mqtt_options, version, "auto", "3.1.1|5|auto",                                           \
                   "version of MQTT that is spoken; auto: 5, or 3.1.1 with a broker that does not know 5"),        \
    FMS_OPT_INTEGER(struct mqtt_options, qos, "1", 0, 2, "quality of service: 0, 1 or 2"),                         \
    FMS_OPT_UNIQUE(struct mqtt_options, client_id, NULL, "MQTT client id",                                         \
                   "name under which the broker knows us, without a like; absent: another one at each start"),     \
    FMS_OPT_STRING(struct mqtt_options, username, NULL, "user name for the broker"),                               \
    FMS_OPT_SECRET(struct mqtt_options, password, NULL, "password for the broker"),                                \
    FMS_OPT_STRING(struct mqtt_options, ca_file, NULL,                                                             \
                   "file of the authorities (PEM) that the broker's certificate comes from; absent: the system's"), \
    FMS_OPT_STRING(struct mqtt_options, cert_file, NULL, "file of our own certificate and its chain (PEM)"),       \
    FMS_OPT_STRING(struct mqtt_options, key_file, NULL, "file of its private key (PEM); absent: in cert_file"),    \
    FMS_OPT_SECRET(struct mqtt_options, key_password, NULL, "password of the private key"),                        \
    FMS_OPT_BOOLEAN(struct mqtt_options, tls_verify, "yes", "check the broker's certificate and host name"),       \
    FMS_OPT_DURATION(struct mqtt_options, keepalive, "10s", FMS_SECOND, 65535 * FMS_SECOND,                        \
                     "a silent connection is probed after this time and given up after half as long again"),       \
    FMS_OPT_DURATION(struct mqtt_options, reconnect_min, "250ms", FMS_MS, 3600 * FMS_SECOND,                       \
                     "pause before the first attempt to connect again; doubles with each"),                        \
    FMS_OPT_DURATION(struct mqtt_options, reconnect_max, "30s", FMS_MS, 3600 * FMS_SECOND,                         \
                     "longest pause between attempts to connect"),                                                 \
    FMS_OPT_DURATION(struct mqtt_options, takeover_pause, "15s", FMS_MS, 3600 * FMS_SECOND,                        \
                     "pause after another client with our client id has taken the session over; doubles with each, up" \
                     " to 10m")
/* clang-format on */

struct mqtt_url {
    char text[600]; /* with the port, as paho takes it */
    char host[256];
    int port;
    bool is_tls, is_websocket;
};

/* Returns what is wrong, to be said after the text itself, or NULL. */
const char *mqtt_url_parse(const char *text, struct mqtt_url *url);

/* Of the servers in their turn, the one after `server`, which it becomes: it begins as count - 1. mqtt_check has seen that
 * all can be parsed. */
void mqtt_next_server(const struct mqtt_options *options, size_t *server, struct mqtt_url *url);

/* What the plugins cannot express in the table. 0 or -EINVAL, logged. [control] */
int mqtt_check(const struct mqtt_options *options, const struct fms_host *host);
int mqtt_check_filters(const struct fms_list *filters, const struct fms_host *host);

/* Reads the user name and the passwords again, where they come from files. By whoever is about to connect. */
void mqtt_renew(const struct fms_host *host);

/* Whether the broker keeps a subscriber's session while it is away. */
bool mqtt_keeps_session(const struct mqtt_options *options, bool clean_start, int64_t session_expiry);

/* Warns of a subscriber's session that keeps less than its owner may think. [control] */
void mqtt_advise_session(const struct mqtt_options *options, bool clean_start, int64_t session_expiry,
                         const struct fms_host *host);

/* A client id that no other has. */
void mqtt_make_client_id(const struct fms_host *host, char id[MQTT_CLIENT_ID_SIZE]);

/* Whether it is UTF-8 without NUL, as what is received must be (MQTT-1.5.4-1, MQTT-1.5.4-2). */
bool mqtt_is_utf8(const char *text, size_t size);

/* Whether it is UTF-8 that no broker takes for malformed: without NUL, control characters and noncharacters
 * (MQTT-1.5.4), and at most 65535 bytes long. */
bool mqtt_is_text(const char *text, size_t size);

/* What is wrong with the topic of a message that came, or NULL: brokers pass on what they should not. */
const char *mqtt_topic_fault(struct fms_bytes topic);

#define MQTT_SHOWN_SIZE 256

/* Bytes as a log can say them, which escapes all but NUL itself: what is too long is cut. Returns `to`. */
const char *mqtt_show(struct fms_bytes bytes, char to[MQTT_SHOWN_SIZE]);

/* What is wrong with a topic to publish to, or NULL. */
const char *mqtt_topic_error(const char *topic, size_t size);

/* Which retained messages a source takes: MQTT 5's Retain Handling (3.8.3.1). */
enum mqtt_retained { MQTT_RETAINED_ALL, MQTT_RETAINED_NEW, MQTT_RETAINED_NONE };

#define MQTT_RETAINED_OPTION(S)                                                                                        \
    FMS_OPT_CHOICE(                                                                                                    \
        S, retained, "all", "all|new|none",                                                                            \
        "messages that the broker has retained: all at each start, only those of subscriptions that are new"           \
        " to the broker, or none")

/* Whether a message with this topic comes by the filter, which is an unshared one. */
bool mqtt_filter_matches(const char *filter, struct fms_bytes topic);

/* Whether one message can come by both, which are unshared ones. */
bool mqtt_filters_overlap(const char *a, const char *b);

/* All filters by which a message with this topic can have come, but for those in `asked`: for a session keeps subscriptions that
 * nobody asks for any more, and tells of none. Their number; 0: there are too many, or no memory. *filters is one block, to be
 * freed. Shared subscriptions cannot be found so. */
size_t mqtt_filters_of(struct fms_bytes topic, const struct fms_list *asked, char ***filters);

/* What stands behind $share/GROUP/ in a filter, or all of it. NULL: malformed (MQTT-4.8.2). */
const char *mqtt_filter_unshared(const char *filter);

/* ---------------------------------------------------------------------------------------------------- another client
 *
 * with our client id: the broker gives it our session and hangs up on us (MQTT-3.1.4-3). Who came back at once would only take it from
 * that one, and so on for ever. */

struct mqtt_rival {
    unsigned kicks;     /* connections in a row that it may have ended */
    unsigned takeovers; /* that it has ended, or seems to have */
    int64_t pause;      /* after the last of these; 0: none */
};

/* A connection of ours has ended, after `lasted`: by a takeover if the broker says so (`is_told`). Brokers of MQTT 3.1.1, and mosquitto,
 * cannot: they just hang up (`is_wordless`: although all was well), soon, and are there for the next attempt, as one that restarts is
 * not; the third time is held for one. 0: it was none. Else how long to stay away, which is logged, and shown as the reason why the link is down. */
int64_t mqtt_rival_met(struct mqtt_rival *rival, const struct mqtt_options *options, const char *client_id,
                       bool is_told, bool is_wordless, int64_t lasted, const struct fms_host *host);

/* ---------------------------------------------------------------------------------------------------------- headers
 *
 * A message's properties are a record's headers: user properties under their own names, MQTT's own under names that begin
 * with "mqtt.", which no sender can use, nor those that begin with "fms.": a user property that is called so gets "user."
 * before its name on the way in, and loses it on the way out. */

#define MQTT_HEADERS_MAX   1000u /* that a record can have */
#define MQTT_HEADERS_SPARE 3u    /* and so many more a draft, while it is looked at */

/* MQTT's own properties of a message. What it has not is NULL, -1 or false, as in mqtt_no_properties. */
struct mqtt_properties {
    struct fms_bytes content_type, response_topic, correlation_data;
    int64_t message_expiry; /* seconds */
    int payload_format;
    bool is_retained; /* the flag, which is no property, but goes the same way */
};

static const struct mqtt_properties mqtt_no_properties = {.message_expiry = -1, .payload_format = -1};

/* The headers of one message, and the memory that they need, which is used for the next one; begins as zeroes. */
struct mqtt_headers {
    struct fms_header *items;
    size_t count;
    size_t left_out; /* user properties that were too many */
    char *names;
    size_t names_used, names_room;
    char expiry[16], format[8];
};

/* Begins anew, with what `own` has; `user_size` bytes are in the names of `user_count` user properties that follow. Without
 * any of that nothing is allocated. False: no memory. */
bool mqtt_headers_begin(struct mqtt_headers *headers, const struct mqtt_properties *own, size_t user_count,
                        size_t user_size);
/* A user property. The name, which holds no NUL, is copied; the value is not. */
void mqtt_headers_add(struct mqtt_headers *headers, struct fms_bytes name, struct fms_bytes value);
/* Says that so many user properties of a message found no place. */
void mqtt_tell_left_out(const struct fms_host *host, struct fms_bytes topic, size_t count);

void mqtt_headers_free(struct mqtt_headers *headers);

/* What a header becomes in a message. */
enum mqtt_place {
    MQTT_AS_USER, /* a user property, called *name */
    MQTT_AS_OWN,  /* it has been put into *own */
    MQTT_NOWHERE, /* MQTT cannot say it: no text, too long, no response topic, no number in its range */
};
enum mqtt_place mqtt_place_header(const struct fms_header *header, struct mqtt_properties *own, const char **name);

#endif
