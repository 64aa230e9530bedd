/* mqtt_link.h - a link to an MQTT broker over paho that comes back by itself; for mqtt_source and mqtt_sink.
 *
 * The decision that shapes it: paho calls back under one lock for the whole process, and takes the same lock in nearly
 * every call. So nobody but the link's own thread calls paho; the lane only leaves it notes (mqtt_link_pause, _kick,
 * _stop). The lock order is paho's lock, the pipeline's lane, a plugin's lock, the link's lock; whoever holds one of
 * them never waits for one further to the left. */
#ifndef MQTT_LINK_H
#define MQTT_LINK_H

#include <MQTTAsync.h>

#include "mqtt_common.h"

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
    bool has_identifiers;   /* of subscriptions; MQTT 5 */
    int64_t session_expiry; /* seconds that it keeps the session; -1: as it was asked to */
    int keepalive;          /* seconds; 0: as it was told */
};

struct mqtt_link;

/* What came of a connection that is over. */
enum mqtt_end {
    MQTT_END_GOOD, /* the broker did all that it was asked to */
    MQTT_END_EXPLAINED, /* it ended because of a message that is found, and will not be sent for ever: it costs no longer pause */
    MQTT_END_FRUITLESS,
};

/* What a link is to do. The functions run on the link's thread, without any lock, unless a line says otherwise; they
 * may call paho. Those that are NULL are not called. */
struct mqtt_role {
    bool clean_start;
    uint32_t session_expiry; /* seconds, MQTT 5 */
    int receive_maximum;     /* MQTT 5; 0: not said */
    uint32_t packet_maximum; /* MQTT 5: larger ones the broker drops; 0: not said */
    bool keep_handle;        /* paho's handle outlives a connection: it holds our half of a session's QoS 2 */
    bool publishes;          /* with the QoS of the options, which the broker must allow */
    bool needs_retain;
    bool has_one_topic; /* to which it publishes: where it may not, that is no message's fault */
    struct mqtt_will will;
    void *user;
    void (*up)(void *user);       /* connected */
    int64_t (*work)(void *user);  /* after `up` and each mqtt_link_kick; again when the time comes that it returns */
    void (*farewell)(void *user); /* still connected, but about to disconnect for good */
    /* Disconnected; nothing from that connection comes any more. `owed` gets what the broker had not answered, or stays empty.
     * `why` is its reason to hang up, which can have been a message of ours; NULL: no message was. */
    enum mqtt_end (*down)(void *user, const char *why, char *owed, size_t size);
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

/* Publishes, or subscribes (identifier 0: none; MQTT 5), and waits for the broker's answer, which is 0 or the QoS that it grants; or a negative
 * errno with the broker's words in `reason`: -EACCES where the broker refused, -ENOTCONN, -ETIMEDOUT. */
int mqtt_link_publish(struct mqtt_link *link, const char *topic, const char *payload, int qos, bool retain,
                      int64_t patience, char *reason, size_t size);
int mqtt_link_subscribe(struct mqtt_link *link, const char *filter, int qos, enum mqtt_retained retained,
                        uint32_t identifier, int64_t patience, char *reason, size_t size);

/* Unsubscribes from all, and waits for the answer. 0, with what was there to unsubscribe from in `was_there`, which only MQTT 5
 * tells; or as those above. */
int mqtt_link_unsubscribe(struct mqtt_link *link, char *const *filters, size_t count, bool *was_there, int64_t patience,
                          char *reason, size_t size);

/* Connects once with a client id of its own, reports what it found, calls `more` while it is connected, disconnects.
 * 0 or -errno, logged. `deadline` is on fms_now's clock. [control] */
int mqtt_probe(const struct mqtt_options *options, const struct fms_host *host, int64_t deadline,
               int (*more)(void *user, struct mqtt_link *link), void *user);

#endif
