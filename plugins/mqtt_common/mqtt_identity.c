/* mqtt_identity.c - see mqtt_identity.h. Compiled into each plugin that speaks MQTT. */
#include "mqtt_identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX "user." /* of names that a sender may not choose, where they are headers */

enum { SAID_ORIGIN, SAID_SEQUENCE, SAID_SKIPPED };

static const char *const names[MQTT_IDENTITY_PROPERTIES] = {
    [SAID_ORIGIN] = PREFIX "fms.origin",
    [SAID_SEQUENCE] = PREFIX "fms.sequence",
    [SAID_SKIPPED] = PREFIX "fms.skipped",
};

/* ---------------------------------------------------------------------------------------------------------- writing */

/* The bytes of the character that stands there and may stand as it is; 0: none. */
static size_t character(const char *text, size_t size)
{
    for (size_t n = 1; n <= 4 && n <= size && *text != '%'; n++) {
        if (mqtt_is_text(text, n))
            return n;
    }
    return 0;
}

static void write_origin(struct fms_bytes origin, char *to)
{
    const char *from = origin.data;
    size_t used = 0, n;

    for (size_t i = 0; i<origin.size; i += n> 0 ? n : 1) {
        n = character(from + i, origin.size - i);
        if (n > 0)
            memcpy(to + used, from + i, n);
        used += n > 0 ? n : (size_t)sprintf(to + used, "%%%02X", (unsigned char)from[i]);
    }
    to[used] = '\0';
}

void mqtt_identity_write(const struct fms_identity *identity, struct mqtt_identity_text *text)
{
    write_origin(identity->origin, text->origin);
    snprintf(text->sequence, sizeof text->sequence, "%" PRIu64, identity->sequence);
    text->skipped[0] = '\0';
    if (identity->skipped > 0)
        snprintf(text->skipped, sizeof text->skipped, "%" PRIu64, identity->skipped);
}

bool mqtt_identity_is_header(const char *name)
{
    const char *bare = strncmp(name, PREFIX, strlen(PREFIX)) == 0 ? name + strlen(PREFIX) : name;

    if (strncmp(bare, "fms.", 4) != 0)
        return false;
    for (size_t i = 0; i < MQTT_IDENTITY_PROPERTIES; i++) {
        if (strcmp(bare, names[i] + strlen(PREFIX)) == 0)
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

int mqtt_identity_check(const struct mqtt_identity *self, const struct mqtt_options *options,
                        const struct fms_host *host)
{
    const char *lone = self->origin != NULL ? "origin" : self->sequence != NULL ? "sequence" : "skipped";
    bool has_both = self->origin != NULL && self->sequence != NULL;

    if (!has_both && (self->origin != NULL || self->sequence != NULL || self->skipped != NULL))
        return fms_fail_option(host, lone, -EINVAL,
                               "tells nothing alone: write both origin and sequence, whose number it is and which, or"
                               " neither");
    if (has_both && options->qos == 0)
        fms_advise(host, "origin", "does nothing at QoS 0, at which messages have no identity: set qos = 1");
    return 0;
}

void mqtt_identity_promise(const struct mqtt_identity *self, const struct mqtt_options *options, bool has_session,
                           const struct fms_host *host)
{
    if (options->qos == 0) {
        fms_promise(host, "qos", FMS_AT_MOST_ONCE, "at QoS 0 nothing is sent again: set qos = 1");
        return;
    }
    if (!has_session)
        fms_promise(
            host, "clean_start", FMS_AT_MOST_ONCE,
            "a broker that keeps no session sends nothing again after a restart: set client_id, clean_start = no"
            " and a session_expiry");
    if (self->origin != NULL)
        fms_promise(host, "origin", FMS_EXACTLY_ONCE, "for messages that have origin and sequence");
    else if (options->version == MQTT_3_1_1)
        fms_promise(host, "version", FMS_AT_LEAST_ONCE,
                    "MQTT 3.1.1 has no place for a message's number: set version = 5, or name fields as origin and"
                    " sequence");
    else
        fms_promise(host, NULL, FMS_EXACTLY_ONCE,
                    "for messages that their publisher has numbered (user properties fms.origin and fms.sequence)");
}

bool mqtt_identity_is_wanted(const struct mqtt_identity *self, const struct mqtt_options *options, bool has_more,
                             const struct fms_host *host)
{
    if (!host->identities && (self->origin != NULL || has_more))
        fms_warn(host, "no sink of this pipeline delivers each message once, and asks who they are: %s nothing",
                 !has_more              ? "origin and sequence do"
                 : self->origin == NULL ? "redelivery does"
                                        : "origin, sequence and redelivery do");
    return host->identities && options->qos > 0;
}

/* What one large message needed is not kept for those to come. */
static void tidy(struct mqtt_identity *self)
{
    if (self->room_size <= MQTT_IDENTITY_ROOM)
        return;
    free(self->room);
    self->room = NULL;
    self->room_size = 0;
}

void mqtt_identity_begin(struct mqtt_identity *self)
{
    tidy(self);
    memset(self->said, 0, sizeof self->said);
    self->is_twice = false;
}

bool mqtt_identity_meet(struct mqtt_identity *self, struct fms_bytes name, struct fms_bytes value)
{
    if (name.size < strlen("fms.origin") || memcmp(name.data, "fms.", 4) != 0)
        return false;
    for (size_t i = 0; i < MQTT_IDENTITY_PROPERTIES; i++) {
        const char *known = names[i] + strlen(PREFIX);

        if (name.size != strlen(known) || memcmp(name.data, known, name.size) != 0)
            continue;
        self->is_twice = self->is_twice || self->said[i].data != NULL;
        self->said[i] = value.data != NULL ? value : fms_bytes_of("", 0);
        return true;
    }
    return false;
}

/* False: it is none of 0 to 2^64 - 1. */
static bool read_number(struct fms_bytes text, uint64_t *number)
{
    const char *digits = text.data;

    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint64_t digit = (uint64_t)(unsigned char)digits[i] - '0';

        if (digit > 9 || *number > (UINT64_MAX - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    return text.size > 0;
}

/* 0 to 15; 16: none. */
static unsigned hex_digit(char digit)
{
    const char *digits = "0123456789ABCDEFabcdef", *at = digit != '\0' ? strchr(digits, digit) : NULL;
    unsigned value = at != NULL ? (unsigned)(at - digits) : 22;

    return value < 16 ? value : value < 22 ? value - 6 : 16;
}

/* Undoes write_origin, in place of the text. False: a % with no two digits behind it, or more bytes than an origin has. */
static bool read_origin(struct mqtt_identity *self, struct fms_bytes *origin)
{
    const char *from = origin->data;
    size_t used = 0;

    if (memchr(from, '%', origin->size) == NULL)
        return true;
    for (size_t i = 0; i < origin->size; i++) {
        bool is_escape = from[i] == '%';
        unsigned high = is_escape && i + 2 < origin->size ? hex_digit(from[i + 1]) : 16;
        unsigned low = high < 16 ? hex_digit(from[i + 2]) : 16;

        if ((is_escape && low > 15) || used == sizeof self->origin_said)
            return false;
        self->origin_said[used++] = is_escape ? (char)(high << 4 | low) : from[i];
        i += is_escape ? 2 : 0;
    }
    *origin = fms_bytes_of(self->origin_said, used);
    return true;
}

/* What is wrong with a value. Always false. */
static bool blame(struct mqtt_identity *self, const char **why, const char *what, struct fms_bytes value,
                  const char *fault)
{
    char text[MQTT_SHOWN_SIZE];

    snprintf(self->why, sizeof self->why, "%s \"%.60s\" %s", what, mqtt_show(value, text), fault);
    *why = self->why;
    return false;
}

static bool find_numbers(struct mqtt_identity *self, const struct fms_bytes values[MQTT_IDENTITY_PROPERTIES],
                         const char *const called[MQTT_IDENTITY_PROPERTIES], struct fms_identity *identity,
                         const char **why)
{
    *identity = (struct fms_identity){.kind = FMS_NUMBERED, .origin = values[SAID_ORIGIN]};
    if (identity->origin.size == 0 || identity->origin.size > FMS_ORIGIN_MOST)
        return blame(self, why, called[SAID_ORIGIN], identity->origin, "has not 1 to 255 bytes");
    if (!read_number(values[SAID_SEQUENCE], &identity->sequence))
        return blame(self, why, called[SAID_SEQUENCE], values[SAID_SEQUENCE],
                     "is no integer of 0 to 18446744073709551615");
    if (values[SAID_SKIPPED].data != NULL &&
        (!read_number(values[SAID_SKIPPED], &identity->skipped) || identity->skipped > identity->sequence))
        return blame(self, why, called[SAID_SKIPPED], values[SAID_SKIPPED], "is no integer of 0 to the sequence");
    return true;
}

static bool find_said(struct mqtt_identity *self, struct fms_identity *identity, const char **why)
{
    static const char *const called[] = {"fms.origin", "fms.sequence", "fms.skipped"};
    struct fms_bytes values[MQTT_IDENTITY_PROPERTIES];

    memcpy(values, self->said, sizeof values);
    if (values[SAID_ORIGIN].data == NULL && values[SAID_SEQUENCE].data == NULL)
        return false;
    if (self->is_twice)
        *why = "one of its properties fms.origin, fms.sequence and fms.skipped is there twice";
    else if (values[SAID_ORIGIN].data == NULL || values[SAID_SEQUENCE].data == NULL)
        *why = "it has one of the properties fms.origin and fms.sequence without the other";
    else if (!read_origin(self, &values[SAID_ORIGIN]))
        return blame(self, why, called[SAID_ORIGIN], values[SAID_ORIGIN],
                     "has a % without two hexadecimal digits, or more than 255 bytes");
    else
        return find_numbers(self, values, called, identity, why);
    return false;
}

/* Templates may name what the message says of itself, such as ${header:user.fms.origin}; it is no header of the record's. */
static void show_said(const struct mqtt_identity *self, struct fms_record *draft, struct mqtt_headers *headers)
{
    for (size_t i = 0; i < MQTT_IDENTITY_PROPERTIES; i++) {
        if (self->said[i].data != NULL)
            headers->items[draft->header_count++] = (struct fms_header){names[i], self->said[i]};
    }
    draft->headers = headers->items;
}

static void move(struct fms_bytes *bytes, char **to)
{
    if (bytes->data == NULL)
        return;
    memcpy(*to, bytes->data, bytes->size);
    bytes->data = *to;
    *to += bytes->size;
    *(*to)++ = '\0';
}

/* Templates want a NUL byte behind each value. False: no memory. */
static bool terminate(struct mqtt_identity *self, struct fms_record *draft, struct mqtt_headers *headers)
{
    size_t size = draft->topic.size + draft->payload.size + 2;
    char *to;

    for (size_t i = 0; i < draft->header_count; i++)
        size += headers->items[i].value.size + 1;
    if (size > self->room_size) {
        free(self->room);
        self->room = malloc(size);
        self->room_size = self->room != NULL ? size : 0;
    }
    to = self->room;
    if (to == NULL)
        return false;
    move(&draft->topic, &to);
    move(&draft->payload, &to);
    for (size_t i = 0; i < draft->header_count; i++)
        move(&headers->items[i].value, &to);
    return true;
}

/* Each with ${json:...} in it reads the payload once. */
static bool find_expanded(struct mqtt_identity *self, const struct fms_host *host, const struct fms_record *draft,
                          struct fms_identity *identity, const char **why)
{
    static const char *const called[] = {"origin", "sequence", "skipped"};
    const struct fms_template *texts[MQTT_IDENTITY_PROPERTIES] = {self->origin, self->sequence, self->skipped};
    struct fms_bytes values[MQTT_IDENTITY_PROPERTIES] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

    for (size_t i = 0; i < MQTT_IDENTITY_PROPERTIES; i++) {
        if (texts[i] == NULL || fms_expand(host, texts[i], draft, &values[i]) == 0)
            continue;
        snprintf(self->why, sizeof self->why, "%s: %.*s", called[i], (int)(values[i].size < 160 ? values[i].size : 160),
                 (const char *)values[i].data);
        *why = self->why;
        return false;
    }
    return find_numbers(self, values, called, identity, why);
}

bool mqtt_identity_find(struct mqtt_identity *self, const struct fms_host *host, struct fms_record *draft,
                        struct mqtt_headers *headers, struct fms_identity *identity, const char **why)
{
    size_t count = draft->header_count;
    bool is_found = false;

    *why = NULL;
    if (self->origin == NULL)
        return find_said(self, identity, why);
    if (draft->header_count > 0 || headers->items != NULL)
        show_said(self, draft, headers);
    if (terminate(self, draft, headers))
        is_found = find_expanded(self, host, draft, identity, why);
    else
        *why = "there is no memory to look at it";
    draft->header_count = count;
    return is_found;
}

void mqtt_identity_tell(const struct fms_host *host, struct fms_bytes topic, const char *why)
{
    char text[MQTT_SHOWN_SIZE];

    fms_warn(host, "a message on \"%s\" has no identity, so that it may be delivered twice: %s", mqtt_show(topic, text),
             why);
}

void mqtt_identity_free(struct mqtt_identity *self)
{
    free(self->room);
}
