/* mqtt_identity.h - who a message is, on its way through MQTT 5: three user properties.
 *
 *   fms.origin    whose number it is; % and each byte that is no text are written as %25, %00 ... %FF
 *   fms.sequence  the number, decimal
 *   fms.skipped   so many numbers right below are no message's; absent: 0
 *
 * No header becomes one of them, whatever it is called: what a transform made of a message is not that message, and would be taken
 * for it. */
#ifndef MQTT_IDENTITY_H
#define MQTT_IDENTITY_H

#include "mqtt_common.h"

/* ---------------------------------------------------------------------------------------------------------- writing */

#define MQTT_IDENTITY_PROPERTIES 3u

/* The texts of an identity. */
struct mqtt_identity_text {
    char origin[3 * FMS_ORIGIN_MOST + 1];
    char sequence[24], skipped[24];
};

/* Writes one of FMS_NUMBERED; `skipped` is empty where it is 0, and not to be sent. */
void mqtt_identity_write(const struct fms_identity *identity, struct mqtt_identity_text *text);

/* Whether a header is called as one of the properties is, with "user." before it or not. */
bool mqtt_identity_is_header(const char *name);

/* ---------------------------------------------------------------------------------------------------------- reading */

#define MQTT_IDENTITY_ROOM 65536u /* bytes that are kept for the next message */

/* How a source finds the identities of its messages; the options are filled in, all else begins as zeroes. */
struct mqtt_identity {
    const struct fms_template *origin, *sequence,
        *skipped;                                    /* NULL, or the first two are there: they win over properties */
    struct fms_bytes said[MQTT_IDENTITY_PROPERTIES]; /* what the message says; data NULL: nothing */
    bool is_twice;                                   /* and that twice */
    char origin_said[FMS_ORIGIN_MOST];
    char *room; /* for the draft while templates look at it */
    size_t room_size;
    char why[200];
};

#define MQTT_IDENTITY_OPTION(S, f, help)                                                                               \
    {                                                                                                                  \
#f, FMS_TEMPLATE, FMS_FIELD(S, identity.f, const struct fms_template *), NULL, 0, 0, NULL, help, NULL, 0       \
    }
/* Of an instance with a member `identity`. */
#define MQTT_IDENTITY_OPTIONS(S)                                                                                       \
    MQTT_IDENTITY_OPTION(S, origin,                                                                                    \
                         "who has numbered the message, as in ${topic[1]}/${json:vehicle_id}, for sinks that deliver " \
                         "each message once; absent: what its user properties say"),                                   \
        MQTT_IDENTITY_OPTION(                                                                                          \
            S, sequence, "its number, which no other message of that origin has, as in ${json:seq}; needs origin"),    \
        MQTT_IDENTITY_OPTION(S, skipped,                                                                               \
                             "so many numbers right below are no message's, as in ${header:user.fms.skipped:-0};"      \
                             " absent: 0; needs origin")

/* 0 or -EINVAL, logged. [control] */
int mqtt_identity_check(const struct mqtt_identity *self, const struct mqtt_options *options,
                        const struct fms_host *host);
/* What a source promises with that; `has_session`: the broker keeps its session over a restart. [control] */
void mqtt_identity_promise(const struct mqtt_identity *self, const struct mqtt_options *options, bool has_session,
                           const struct fms_host *host);

/* Whether messages are to have identities, for a sink asks for them, and at QoS 0 nothing of it would hold; warns where options that tell
 * them do nothing. In open. `has_more`: of these, one that is the source's own. [control] */
bool mqtt_identity_is_wanted(const struct mqtt_identity *self, const struct mqtt_options *options, bool has_more,
                             const struct fms_host *host);

/* For each message: forgets the one before. */
void mqtt_identity_begin(struct mqtt_identity *self);

/* Whether a user property is one of the three, and so no header. It is kept: name and value live until mqtt_identity_find returns. */
bool mqtt_identity_meet(struct mqtt_identity *self, struct fms_bytes name, struct fms_bytes value);

/* The number of a message whose draft is there but for `identity`. True: *identity has it, and lives until the next message, as what
 * the draft points to must. False: it has none; *why says what is wrong, or is NULL: it does not claim to have one. `headers` are the
 * draft's, whose values, like its topic and payload, may be moved to where a NUL byte is behind them. [lane] */
bool mqtt_identity_find(struct mqtt_identity *self, const struct fms_host *host, struct fms_record *draft,
                        struct mqtt_headers *headers, struct fms_identity *identity, const char **why);

/* Says that a message has none. */
void mqtt_identity_tell(const struct fms_host *host, struct fms_bytes topic, const char *why);

void mqtt_identity_free(struct mqtt_identity *self);

#endif
