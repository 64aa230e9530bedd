/* mqtt_common.h - what mqtt_source and mqtt_sink share: options, and a link to a broker that comes back by itself.
 *
 * The decision that shapes it: paho calls back under one lock for the whole process, and takes the same lock in nearly
 * every call. So nobody but the link's own thread calls paho; the lane only leaves it notes (mqtt_link_pause, _kick,
 * _stop). The lock order is paho's lock, the pipeline's lane, a plugin's lock, the link's lock; whoever holds one of
 * them never waits for one further to the left. */
#ifndef MQTT_COMMON_H
#define MQTT_COMMON_H

#include <MQTTAsync.h>

#include "fms_plugin.h"

/* The first member of both plugins' instances. */
struct mqtt_options {
    const char *server;
    int version; /* enum mqtt_version */
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
    int64_t qos;
};

enum mqtt_version { MQTT_3_1_1, MQTT_5 };

/* clang-format off */
#define MQTT_OPTIONS                                                                                               \
    FMS_OPT_STRING(struct mqtt_options, server, FMS_REQUIRED,                                                      \
                   "address of the broker: tcp:// or mqtt:// (port 1883), ssl:// or mqtts:// (8883), ws:// (80)"   \
                   " or wss:// (443), as in tcp://localhost:1883"),                                                \
    FMS_OPT_CHOICE(struct mqtt_options, version, "5", "3.1.1|5", "version of MQTT that is spoken"),                \
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
    FMS_OPT_DURATION(struct mqtt_options, keepalive, "15s", FMS_SECOND, 65535 * FMS_SECOND,                        \
                     "a silent connection is probed after this time and given up after half as long again"),       \
    FMS_OPT_DURATION(struct mqtt_options, reconnect_min, "250ms", FMS_MS, 3600 * FMS_SECOND,                       \
                     "pause before the first attempt to connect again; doubles with each"),                        \
    FMS_OPT_DURATION(struct mqtt_options, reconnect_max, "30s", FMS_MS, 3600 * FMS_SECOND,                         \
                     "longest pause between attempts to connect")
/* clang-format on */

/* What the two cannot express in the table. 0 or -EINVAL, logged. [control] */
int mqtt_check(const struct mqtt_options *options, const struct fms_host *host);

/* Whether it is UTF-8 that no broker takes for malformed: without NUL, control characters and noncharacters
 * (MQTT-1.5.4), and at most 65535 bytes long. */
bool mqtt_is_text(const char *text, size_t size);

/* What is wrong with a topic to publish to, or NULL. */
const char *mqtt_topic_error(const char *topic, size_t size);

/* The clock of the link's deadlines: monotonic and real, whatever the host's clock is. */
int64_t mqtt_clock(void);

struct mqtt_will {
    const char *topic; /* NULL: none */
    const char *payload;
    int qos;
    bool retain;
};

/* What the broker said of itself in CONNACK. */
struct mqtt_limits {
    bool session_present;
    int receive_maximum;
    int64_t packet_size; /* largest packet that it takes */
    int maximum_qos;
    bool can_retain;
};

struct mqtt_link;

/* What a link is to do. The functions run on the link's thread, without any lock, unless a line says otherwise; they
 * may call paho. Those that are NULL are not called. */
struct mqtt_role {
    bool clean_start;
    uint32_t session_expiry; /* seconds, MQTT 5 */
    int receive_maximum;     /* MQTT 5; 0: not said */
    uint32_t packet_maximum; /* MQTT 5: larger ones the broker drops; 0: not said */
    bool keep_handle;        /* paho's handle outlives a connection: it holds our half of a session's QoS 2 */
    bool needs_retain;
    struct mqtt_will will;
    void *user;
    void (*up)(void *user);       /* connected */
    int64_t (*work)(void *user);  /* after `up` and each mqtt_link_kick; again when the time comes that it returns */
    void (*farewell)(void *user); /* still connected, but about to disconnect for good */
    void (*down)(void *user);     /* disconnected; nothing from that connection comes any more */
    /* paho's thread, under paho's lock. When it returns, paho acknowledges. `connection` counts connections. */
    void (*arrived)(void *user, unsigned connection, char *topic, size_t topic_size, MQTTAsync_message *message);
};

/* Starts the link's thread, which connects at once, or with `paused` after mqtt_link_pause(link, false). 0 or -errno,
 * logged. `options`, `host` and what `role` points to outlive the link. [control] */
int mqtt_link_open(struct mqtt_link **link, const struct mqtt_options *options, const struct fms_host *host,
                   const struct mqtt_role *role, bool paused);

/* Disconnects, waits until nothing calls back any more, and frees the link. [control] */
void mqtt_link_close(struct mqtt_link *link);

/* Disconnects and stays away, or comes back. Does not wait. [any] */
void mqtt_link_pause(struct mqtt_link *link, bool paused);

/* Disconnects for good; fms_wake(host) follows, once mqtt_link_has_ended. Does not wait. [any] */
void mqtt_link_stop(struct mqtt_link *link);
bool mqtt_link_has_ended(struct mqtt_link *link);

/* Has `work` called soon. [any] */
void mqtt_link_kick(struct mqtt_link *link);

/* Gives the connection up as if the broker had closed it. [link's thread] */
void mqtt_link_break(struct mqtt_link *link, const char *reason);

/* The rest is for the link's thread, and for paho's within `arrived`. */
MQTTAsync mqtt_link_handle(struct mqtt_link *link);
const struct mqtt_limits *mqtt_link_limits(struct mqtt_link *link);
bool mqtt_link_is_5(const struct mqtt_link *link);

/* Publishes, or subscribes, and waits for the broker's answer, which is 0 or the QoS that it grants; or a negative
 * errno with the broker's words in `reason`: -EACCES where the broker refused, -ENOTCONN, -ETIMEDOUT. */
int mqtt_link_publish(struct mqtt_link *link, const char *topic, const char *payload, int qos, bool retain,
                      int64_t patience, char *reason, size_t size);
int mqtt_link_subscribe(struct mqtt_link *link, const char *filter, int qos, bool no_retained, int64_t patience,
                        char *reason, size_t size);

/* Connects once with a client id of its own, reports what it found, calls `more` while it is connected, disconnects.
 * 0 or -errno, logged. `deadline` is on fms_now's clock. [control] */
int mqtt_probe(const struct mqtt_options *options, const struct fms_host *host, int64_t deadline,
               int (*more)(void *user, struct mqtt_link *link), void *user);

#endif
