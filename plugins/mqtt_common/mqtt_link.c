/* mqtt_link.c - see mqtt_link.h. Compiled into both plugins; each has its own copy, paho is there once.
 *
 * The link's thread is a loop: connect, serve while connected, hang up, pause, again. paho's own reconnection is not
 * used: it tells nothing of the session, and counts in ticks of three seconds. Three oddities of paho 1.3 show here:
 * - With its last client paho stops its threads and frees its globals, which is not safe while another thread makes a
 *   client. So while a link has no handle, it has an anchor: a client that never connects. Only then, for paho looks at
 *   every client for every packet: a second one costs 1 to 2 % of a bridge.
 * - A client that is destroyed is quiet when MQTTAsync_destroy returns, whatever it was at. So that is how a link ends
 *   a connection, after a disconnect that may fail; only a source at QoS 2 must keep its client (keep_handle).
 * - MQTTAsync_connect writes to the client without the lock; MQTTAsync_isConnected before it waits until the callback
 *   that told of the end has left. */
#include "mqtt_link.h"

#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mqtt_tls.h"

#define CONNECT_PATIENCE    (10 * FMS_SECOND)
#define DISCONNECT_PATIENCE (2 * FMS_SECOND)
#define ANSWER_MOST         (600 * FMS_SECOND) /* for an answer, whatever comes in front of it */
#define GOOD_AFTER          (30 * FMS_SECOND) /* a connection has proved good, if the broker has also done what it was asked */
#define PACKET_MAX          (INT64_C(268435455) + 5) /* MQTT-1.5.5, MQTT-2.1.4 */
#define UNSAID_AT_QOS_2     20                       /* mosquitto's default; with 3.1.1 it just hangs up on one more */

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct mqtt_link {
    const struct mqtt_options *options;
    const struct fms_host *host;
    struct mqtt_role role;
    char client_id[MQTT_CLIENT_ID_SIZE]; /* the generated one */
    MQTTAsync anchor;
    pthread_t thread;

    /* The link's thread only. */
    MQTTAsync handle;
    size_t server; /* the one that is tried, in options->server */
    struct mqtt_url url;
    struct addrinfo *found;             /* the addresses that its name has; they serve until all were tried */
    struct addrinfo *address;           /* the one that is tried; NULL: all were */
    struct copy copies[MQTT_TLS_FILES]; /* that were found to be good */
    char *key_password;                 /* of these */
    char told[MQTT_TLS_REASON_SIZE];    /* why new files cannot be used */
    enum mqtt_version version;          /* that is tried, or spoken: not MQTT_AUTO */
    size_t asked;                       /* the server that this is about */
    uint64_t has_spoken_5;              /* ever: a bit for each server, the 65th has that of the first */
    int keepalive;                      /* seconds; of the option, the half */
    bool is_guess;      /* 3.1.1 is spoken because the broker did not answer to 5, which may have had another reason */
    bool stays;         /* the next attempt goes to the same address */
    bool has_connected; /* ever */
    bool is_reconnecting; /* since a loss, or a first attempt that failed */
    bool is_told;         /* that */
    bool is_explained;    /* the last one ended because of a message that is found */
    int64_t down_since;
    int64_t last_pause;
    unsigned attempt;
    unsigned losses; /* since a connection that has proved good */
    struct mqtt_rival rival;
    int64_t rival_pause; /* that is due after this connection; 0: none */
    struct mqtt_limits told_limits;

    _Atomic unsigned connection;
    _Atomic unsigned arrivals; /* messages, twice: odd while one is handed over; paho's thread writes it */

    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t changed;
    enum link_state state;
    bool is_paused, is_stopped, is_closing, has_ended, is_kicked;
    bool is_parting;  /* requests are still answered although the link must go */
    bool is_answered; /* the one request that link_await waits for */
    bool *was_there;  /* what it finds out of filters to unsubscribe from; NULL: nobody asks */
    size_t was_there_count;
    int answer; /* what it was answered: a QoS or a reason code; negative: paho gave it up */
    struct mqtt_limits limits;
    bool is_unreachable; /* nothing has been said: the next address is tried at once */
    bool is_unspoken;    /* the broker says that it does not speak this version */
    bool is_unanswered;  /* CONNECT: perhaps for that reason */
    bool is_wordless;    /* it ended the connection without a reason */
    bool is_taken;       /* it did so for another client has connected with our id */
    bool is_blaming;     /* it ended the connection, perhaps for a message of ours */
    char reason[256];    /* why the connection was refused or lost */
};

/* ------------------------------------------------------------------------------------------------------ small parts */

int64_t mqtt_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * FMS_SECOND + now.tv_nsec;
}

bool mqtt_link_is_5(const struct mqtt_link *link)
{
    return link->version == MQTT_5;
}

MQTTAsync mqtt_link_handle(struct mqtt_link *link)
{
    return link->handle;
}

const struct mqtt_limits *mqtt_link_limits(struct mqtt_link *link)
{
    return &link->limits;
}

static const char *link_id(const struct mqtt_link *link)
{
    return link->options->client_id != NULL ? link->options->client_id : link->client_id;
}

/* Called with the lock held. False: the deadline has come. */
static bool link_wait(struct mqtt_link *link, int64_t deadline)
{
    struct timespec until = {(time_t)(deadline / FMS_SECOND), (long)(deadline % FMS_SECOND)};

    if (deadline == FMS_NEVER)
        return pthread_cond_wait(&link->changed, &link->lock) == 0;
    return pthread_cond_timedwait(&link->changed, &link->lock, &until) != ETIMEDOUT;
}

/* Called with the lock held. */
static bool link_must_go(const struct mqtt_link *link)
{
    return link->is_paused || link->is_stopped || link->is_closing;
}

/* Called with the lock held, which it gives up. */
static void link_unlock(struct mqtt_link *link)
{
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* There is no connection, and why not; the first reason counts. */
static void link_down(struct mqtt_link *link, const char *format, ...) FMS_PRINTF(2, 3);
static void link_down(struct mqtt_link *link, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&link->lock);
    va_start(args, format);
    if (link->reason[0] == '\0')
        vsnprintf(link->reason, sizeof link->reason, format, args);
    va_end(args);
    link->state = LINK_DOWN;
    link_unlock(link);
}

static const char *paho_error(int code)
{
    const char *text = MQTTAsync_strerror(code);

    return text != NULL ? text : "unknown error";
}

/* --------------------------------------------------------------------------------- paho's callbacks, on its threads */

static void link_connected(struct mqtt_link *link, const struct mqtt_limits *limits)
{
    pthread_mutex_lock(&link->lock);
    if (link->state == LINK_CONNECTING) {
        link->limits = *limits;
        link->reason[0] = '\0';
        link->state = LINK_UP;
    }
    link_unlock(link);
}

/* A broker of 3.1.1 cannot say what it takes. */
static void on_connected(void *context, MQTTAsync_successData *data)
{
    struct mqtt_link *link = context;
    int receive_maximum = link->options->qos == 2 ? UNSAID_AT_QOS_2 : 65535;
    struct mqtt_limits limits = {
        .session_present = data->alt.connect.sessionPresent != 0,
        .receive_maximum = receive_maximum,
        .packet_size = PACKET_MAX,
        .maximum_qos = 2,
        .can_retain = true,
        .session_expiry = -1,
    };

    link_connected(link, &limits);
}

static int64_t property(const MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t absent)
{
    MQTTProperties *list = (MQTTProperties *)(uintptr_t)properties;

    return MQTTProperties_hasProperty(list, code) ? (uint32_t)MQTTProperties_getNumericValue(list, code) : absent;
}

static void on_connected_5(void *context, MQTTAsync_successData5 *data)
{
    const MQTTProperties *said = &data->properties;
    struct mqtt_limits limits = {
        .session_present = data->alt.connect.sessionPresent != 0,
        .receive_maximum = (int)property(said, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, 65535),
        .packet_size = property(said, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, PACKET_MAX),
        .maximum_qos = (int)property(said, MQTTPROPERTY_CODE_MAXIMUM_QOS, 2),
        .can_retain = property(said, MQTTPROPERTY_CODE_RETAIN_AVAILABLE, 1) != 0,
        .has_identifiers = property(said, MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIERS_AVAILABLE, 1) != 0,
        .session_expiry = property(said, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, -1),
        .keepalive = (int)property(said, MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE, 0),
    };

    link_connected(context, &limits);
}

static const char *connack_text(int code)
{
    static const char *const old[] = {
        [1] = "the broker does not speak this version of MQTT: try the other version",
        [2] = "the broker refuses the client id",
        [3] = "the broker is not available",
        [4] = "wrong user name or password",
        [5] = "not authorized: check username and password, or the client id",
    };

    if (code > 0 && code < 6)
        return old[code];
    switch (code) {
    case MQTTREASONCODE_UNSUPPORTED_PROTOCOL_VERSION:
        return old[1];
    case MQTTREASONCODE_CLIENT_IDENTIFIER_NOT_VALID:
        return old[2];
    case MQTTREASONCODE_BAD_USER_NAME_OR_PASSWORD:
        return old[4];
    case MQTTREASONCODE_NOT_AUTHORIZED:
        return old[5];
    default:
        return MQTTReasonCode_toString((enum MQTTReasonCodes)code);
    }
}

static void link_note(struct mqtt_link *link, bool *note, bool value)
{
    pthread_mutex_lock(&link->lock);
    *note = value;
    link_unlock(link);
}

/* A connection that did not come about. A reason that TLS gave stands; but paho tells it only until our side of the handshake
 * is done, and what TLS 1.3 has to say of our certificate comes later. It does not tell whether there was somebody. */
static void link_refused(struct mqtt_link *link, int code, const char *message)
{
    bool is_5 = link->options->version == MQTT_5;
    const char *hint = link->url.is_tls ? "perhaps it wants a certificate of ours, or refuses it"
                                        : "perhaps it is no MQTT broker, or wants TLS (ssl://)";

    if (code == 1 || code == MQTTREASONCODE_UNSUPPORTED_PROTOCOL_VERSION)
        link_note(link, &link->is_unspoken, true);
    if (code > 0 && connack_text(code) != NULL) {
        link_down(link, "refused: %s", connack_text(code));
    } else if (message != NULL && strcmp(message, "CONNACK return code") == 0) {
        link_note(link, &link->is_unanswered, true);
        link_down(link, "what answers there is no MQTT broker (code %d)", code);
    } else if (message != NULL && strcmp(message, "TCP connect completion failure") == 0) {
        link_note(link, &link->is_unanswered, true);
        link_down(link, "the broker closed the connection instead of an answer: %s%s", hint,
                  is_5 ? ", or does not speak MQTT 5 (version = auto)" : "");
    } else {
        link_note(link, &link->is_unreachable, true);
        link_down(link, "nobody answers there, or whoever does hangs up at once%s",
                  link->url.is_tls
                      ? ": perhaps it speaks no TLS, or the certificate is not for this host, or the broker wants a"
                        " certificate of ours, or refuses it"
                      : "");
    }
}

static void on_refused(void *context, MQTTAsync_failureData *data)
{
    link_refused(context, data->code, data->message);
}

static void on_refused_5(void *context, MQTTAsync_failureData5 *data)
{
    link_refused(context, data->code, data->message);
}

static void on_lost(void *context, char *cause)
{
    struct mqtt_link *link = context;

    (void)cause; /* paho never gives one */
    link_note(link, &link->is_wordless, true);
    link_note(link, &link->is_blaming, true);
    link_down(link, "the broker closed the connection, or went silent");
}

/* Whether DISCONNECT can be the answer to a message. */
static bool link_is_blaming(const struct mqtt_link *link, enum MQTTReasonCodes code)
{
    switch (code) {
    case MQTTREASONCODE_UNSPECIFIED_ERROR:
    case MQTTREASONCODE_MALFORMED_PACKET:
    case MQTTREASONCODE_PROTOCOL_ERROR:
    case MQTTREASONCODE_IMPLEMENTATION_SPECIFIC_ERROR:
    case MQTTREASONCODE_TOPIC_NAME_INVALID:
    case MQTTREASONCODE_PACKET_TOO_LARGE:
    case MQTTREASONCODE_PAYLOAD_FORMAT_INVALID:
    case MQTTREASONCODE_RETAIN_NOT_SUPPORTED:
    case MQTTREASONCODE_QOS_NOT_SUPPORTED:
        return true;
    case MQTTREASONCODE_NOT_AUTHORIZED:
        return !link->role.has_one_topic;
    default:
        return false;
    }
}

/* MQTT 5: the broker says why, and perhaps which server to use instead, or more in its own words. on_lost does not follow. */
static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes code)
{
    struct mqtt_link *link = context;
    const char *text = code != MQTTREASONCODE_SUCCESS ? MQTTReasonCode_toString(code) : "it says nothing of why";
    MQTTProperty *said = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_SERVER_REFERENCE);
    char shown[MQTT_SHOWN_SIZE];

    if (said == NULL)
        said = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);
    if (said != NULL)
        mqtt_show(fms_bytes_of(said->value.data.data, (size_t)said->value.data.len), shown);

    link_note(link, &link->is_blaming, link_is_blaming(link, code));
    link_note(link, &link->is_taken, code == MQTTREASONCODE_SESSION_TAKEN_OVER);
    if (code == MQTTREASONCODE_SESSION_TAKEN_OVER)
        link_down(link, "another client has connected with the client id \"%s\": give each its own", link_id(link));
    else
        link_down(link, "the broker closed the connection: %s%s%s", text != NULL ? text : "unknown reason",
                  said != NULL ? ": " : "", said != NULL ? shown : "");
}

static int on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
{
    struct mqtt_link *link = context;
    unsigned arrivals = atomic_load_explicit(&link->arrivals, memory_order_relaxed);

    atomic_store_explicit(&link->arrivals, arrivals + 1, memory_order_relaxed);
    if (link->role.arrived != NULL) {
        link->role.arrived(link->role.user, link->connection, topic,
                           topic_size > 0 ? (size_t)topic_size : strlen(topic), message);
    } else {
        MQTTAsync_freeMessage(&message);
        MQTTAsync_free(topic);
    }
    atomic_store_explicit(&link->arrivals, arrivals + 2, memory_order_relaxed);
    return 1; /* 0 would queue the message in memory, and acknowledge it all the same */
}

/* Lines of OpenSSL, the cause first: "THREAD:error:0A000086:SSL routines:FUNCTION:certificate verify failed:FILE:..." */
static int on_tls_error(const char *text, size_t size, void *context)
{
    struct mqtt_link *link = context;
    const char *code = memmem(text, size, ":error:", 7);

    pthread_mutex_lock(&link->lock);
    if (code != NULL && link->reason[0] == '\0')
        mqtt_tls_explain(strtoul(code + 7, NULL, 16), link->reason, sizeof link->reason);
    pthread_mutex_unlock(&link->lock);
    return 1;
}

/* --------------------------------------------------------------------------------- requests that wait for an answer */

static void link_answer(void *context, int answer)
{
    struct mqtt_link *link = context;

    pthread_mutex_lock(&link->lock);
    link->is_answered = true;
    link->answer = answer;
    link_unlock(link);
}

static void on_granted(void *context, MQTTAsync_successData *data)
{
    link_answer(context, data->alt.qos);
}

static void on_granted_5(void *context, MQTTAsync_successData5 *data)
{
    link_answer(context, (int)data->reasonCode);
}

static void on_done(void *context, MQTTAsync_successData *data)
{
    (void)data;
    link_answer(context, 0);
}

static void on_done_5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    link_answer(context, 0);
}

static void on_denied(void *context, MQTTAsync_failureData *data)
{
    link_answer(context, data->code);
}

static void on_denied_5(void *context, MQTTAsync_failureData5 *data)
{
    link_answer(context, data->code == 0 ? (int)data->reasonCode : data->code);
}

static MQTTAsync_responseOptions link_response(struct mqtt_link *link, bool has_qos)
{
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;

    response.context = link;
    if (mqtt_link_is_5(link)) {
        response.onSuccess5 = has_qos ? on_granted_5 : on_done_5;
        response.onFailure5 = on_denied_5;
    } else {
        response.onSuccess = has_qos ? on_granted : on_done;
        response.onFailure = on_denied;
    }
    pthread_mutex_lock(&link->lock);
    link->is_answered = false;
    pthread_mutex_unlock(&link->lock);
    return response;
}

/* Called with the lock held. Whether messages have come since `seen`, behind which the answer may stand: a broker sends what
 * a session has kept before it answers SUBSCRIBE. Then the deadline is put off. */
static bool link_is_busy(struct mqtt_link *link, unsigned *seen, int64_t patience, int64_t *deadline)
{
    unsigned before = *seen;

    *seen = link->arrivals;
    if (*seen == before && *seen % 2 == 0)
        return false;
    *deadline = mqtt_clock() + patience;
    return true;
}

/* A connection on which a request cannot be sent, or its answer is overdue, is given up: so no answer is ever taken for
 * that to another request. */
static int link_await(struct mqtt_link *link, int sent, const char *what, int64_t patience, char *reason, size_t size)
{
    int64_t deadline = mqtt_clock() + patience, last = deadline + ANSWER_MOST;
    unsigned seen = link->arrivals;
    const char *text;
    bool is_late = false;
    int result;

    if (sent != MQTTASYNC_SUCCESS)
        link_down(link, "%s cannot be sent: %s", what, paho_error(sent));
    pthread_mutex_lock(&link->lock);
    while (!link->is_answered && link->state == LINK_UP && !is_late && (link->is_parting || !link_must_go(link)))
        is_late = !link_wait(link, deadline) && (!link_is_busy(link, &seen, patience, &deadline) || deadline > last);
    is_late = is_late && !link->is_answered;
    result = link->is_answered && link->answer >= 0 ? link->answer : is_late ? -ETIMEDOUT : -ENOTCONN;
    pthread_mutex_unlock(&link->lock);
    if (is_late)
        link_down(link, "no answer to %s within %.1f s", what, (double)patience / (double)FMS_SECOND);
    if (result < 0)
        snprintf(reason, size, "%s",
                 is_late ? "no answer in time" : "the connection was lost, or is not wanted any more");
    if (result < MQTTREASONCODE_UNSPECIFIED_ERROR)
        return result;
    text = mqtt_link_is_5(link) ? MQTTReasonCode_toString((enum MQTTReasonCodes)result) : NULL;
    snprintf(reason, size, "%s", text != NULL ? text : "refused");
    return -EACCES;
}

int mqtt_link_publish(struct mqtt_link *link, const char *topic, const char *payload, int qos, bool retain,
                      int64_t patience, char *reason, size_t size)
{
    MQTTAsync_responseOptions response = link_response(link, false);

    return link_await(link, MQTTAsync_send(link->handle, topic, (int)strlen(payload), payload, qos, retain, &response),
                      "a publication", patience, reason, size);
}

static void add_property(MQTTProperties *list, enum MQTTPropertyCodes code, uint32_t value)
{
    MQTTProperty item = {.identifier = code};

    if (code == MQTTPROPERTY_CODE_RECEIVE_MAXIMUM)
        item.value.integer2 = (unsigned short)value;
    else
        item.value.integer4 = value;
    MQTTProperties_add(list, &item);
}

int mqtt_link_subscribe(struct mqtt_link *link, const char *filter, int qos, enum mqtt_retained retained,
                        uint32_t identifier, int64_t patience, char *reason, size_t size)
{
    MQTTAsync_responseOptions response = link_response(link, true);
    int sent;

    response.subscribeOptions.retainHandling = (unsigned char)retained;
    if (identifier > 0)
        add_property(&response.properties, MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER, identifier);
    sent = MQTTAsync_subscribe(link->handle, filter, qos, &response);
    MQTTProperties_free(&response.properties);
    return link_await(link, sent, "a subscription", patience, reason, size);
}

/* One filter has its code elsewhere. */
static void on_unsubscribed_5(void *context, MQTTAsync_successData5 *data)
{
    struct mqtt_link *link = context;
    size_t count = (size_t)data->alt.unsub.reasonCodeCount;

    pthread_mutex_lock(&link->lock);
    for (size_t i = 0; link->was_there != NULL && i < count && i < link->was_there_count; i++)
        link->was_there[i] = (count == 1 ? data->reasonCode : data->alt.unsub.reasonCodes[i]) == MQTTREASONCODE_SUCCESS;
    pthread_mutex_unlock(&link->lock);
    link_answer(link, 0);
}

int mqtt_link_unsubscribe(struct mqtt_link *link, char *const *filters, size_t count, bool *was_there, int64_t patience,
                          char *reason, size_t size)
{
    MQTTAsync_responseOptions response = link_response(link, false);
    int result;

    memset(was_there, 0, count * sizeof *was_there);
    if (mqtt_link_is_5(link))
        response.onSuccess5 = on_unsubscribed_5;
    pthread_mutex_lock(&link->lock);
    link->was_there = was_there;
    link->was_there_count = count;
    pthread_mutex_unlock(&link->lock);
    result = link_await(link, MQTTAsync_unsubscribeMany(link->handle, (int)count, filters, &response),
                        "an unsubscription", patience, reason, size);
    pthread_mutex_lock(&link->lock);
    link->was_there = NULL;
    pthread_mutex_unlock(&link->lock);
    return result;
}

/* ---------------------------------------------------------------------------------------------- connect, disconnect */

/* As paho's functions: MQTTASYNC_SUCCESS, or why not. */
static int link_make_anchor(struct mqtt_link *link)
{
    return MQTTAsync_createWithOptions(&link->anchor, link->url.text, link->client_id, MQTTCLIENT_PERSISTENCE_NONE,
                                       NULL, NULL);
}

static void link_drop_handle(struct mqtt_link *link)
{
    link_make_anchor(link); /* without memory for it there is none */
    MQTTAsync_destroy(&link->handle);
}

static uint64_t server_bit(const struct mqtt_link *link)
{
    return UINT64_C(1) << (link->server % 64);
}

/* Before an attempt at another address: what was found of a server's version says nothing of the next one, and a guess not even
 * of the next address. */
static void link_forget_version(struct mqtt_link *link)
{
    bool is_known = link->server == link->asked && !link->is_guess;

    link->asked = link->server;
    if (is_known || link->options->version != MQTT_AUTO || link->version == MQTT_5)
        return;
    if (link->handle != NULL)
        link_drop_handle(link); /* it is for one version */
    link->version = MQTT_5;
    link->is_guess = false;
}

/* The next address of the server's name, or the first of the next server's; for whatever is wrong with one, the others
 * shall be tried. Asks for the name here: paho would do so under its lock, and an unknown name can take long. */
static int link_next_address(struct mqtt_link *link)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    bool stays = link->stays;
    int error;

    link->stays = false;
    if (link->address != NULL && !stays)
        link->address = link->address->ai_next;
    if (link->address == NULL && !stays)
        mqtt_next_server(link->options, &link->server, &link->url);
    if (!stays)
        link_forget_version(link);
    if (link->address != NULL)
        return 0;
    if (link->found != NULL)
        freeaddrinfo(link->found);
    link->found = NULL;
    error = getaddrinfo(link->url.host, NULL, &hints, &link->found);
    if (error != 0) {
        link_down(link, "%s: %s", link->url.host, gai_strerror(error));
        return -EHOSTUNREACH;
    }
    link->address = link->found;
    if (link->url.is_tls || link->url.is_websocket) { /* paho wants the name, for what it asks for and verifies */
        freeaddrinfo(link->found);
        link->found = link->address = NULL;
    }
    return 0;
}

/* What paho is to connect to: an address, where it may be one. */
static const char *link_target(const struct mqtt_link *link, char *to, size_t size)
{
    char host[64];

    if (link->address == NULL ||
        getnameinfo(link->address->ai_addr, link->address->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
        return link->url.text;
    snprintf(to, size, strchr(host, ':') != NULL ? "tcp://[%s]:%d" : "tcp://%s:%d", host, link->url.port);
    return to;
}

/* Takes the files as they are now, with the password that goes with them, if they can be used: paho reads files whenever it connects,
 * and shall not find one that is broken or half replaced. 0, or -EINVAL, *option and `reason`. */
static int link_copy_files(struct mqtt_link *link, const char **option, char reason[MQTT_TLS_REASON_SIZE])
{
    struct copy copies[MQTT_TLS_FILES];
    SSL_CTX *tls = mqtt_tls_load(link->options, copies, option, reason);
    char *password = link->options->key_password != NULL ? strdup(link->options->key_password) : NULL;

    if (tls == NULL) {
        free(password);
        return -EINVAL;
    }
    SSL_CTX_free(tls);
    mqtt_tls_free_copies(link->copies);
    memcpy(link->copies, copies, sizeof copies);
    free(link->key_password);
    link->key_password = password;
    return 0;
}

static void link_renew_files(struct mqtt_link *link)
{
    char reason[MQTT_TLS_REASON_SIZE];
    const char *option = NULL;

    link_copy_files(link, &option, reason);
    mqtt_tls_tell(link->host, option, reason, link->told);
}

static int link_make_handle(struct mqtt_link *link)
{
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
    int error;

    create.MQTTVersion = mqtt_link_is_5(link) ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    create.maxBufferedMessages = 65535;
    error = MQTTAsync_createWithOptions(&link->handle, link->url.text, link_id(link), MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                        &create);
    if (error == MQTTASYNC_SUCCESS) {
        MQTTAsync_destroy(&link->anchor);
        MQTTAsync_setCallbacks(link->handle, link, on_lost, on_arrived, NULL);
        MQTTAsync_setDisconnected(link->handle, link, on_disconnected);
        return 0;
    }
    link_down(link, "%s", paho_error(error));
    return -EINVAL;
}

static int link_send_connect(struct mqtt_link *link)
{
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions connect_5 = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTProperties properties = MQTTProperties_initializer;
    const struct mqtt_options *options = link->options;
    char address[80];
    char *target = (char *)(uintptr_t)link_target(link, address, sizeof address);
    int sent;

    if (mqtt_link_is_5(link)) {
        connect = connect_5;
        connect.onSuccess5 = on_connected_5;
        connect.onFailure5 = on_refused_5;
        connect.cleanstart = link->role.clean_start && !link->has_connected;
        connect.connectProperties = &properties;
        if (link->role.session_expiry > 0)
            add_property(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, link->role.session_expiry);
        if (link->role.packet_maximum > 0)
            add_property(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, link->role.packet_maximum);
        if (link->role.receive_maximum > 0)
            add_property(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, (uint32_t)link->role.receive_maximum);
    } else {
        connect.MQTTVersion = MQTTVERSION_3_1_1;
        connect.onSuccess = on_connected;
        connect.onFailure = on_refused;
        connect.cleansession = link->role.clean_start;
    }
    connect.context = link;
    connect.serverURIs = &target;
    connect.serverURIcount = 1;
    connect.keepAliveInterval = link->keepalive;
    connect.connectTimeout = (int)(CONNECT_PATIENCE / FMS_SECOND);
    connect.username = options->username;
    connect.password = options->username != NULL || mqtt_link_is_5(link) ? options->password : NULL; /* MQTT-3.1.2-22 */
    will.topicName = link->role.will.topic;
    will.message = link->role.will.payload;
    will.qos = link->role.will.qos;
    will.retained = link->role.will.retain;
    connect.will = link->role.will.topic != NULL ? &will : NULL;
    tls.trustStore = copy_path(&link->copies[MQTT_TLS_CA]);
    tls.keyStore = copy_path(&link->copies[MQTT_TLS_CERT]);
    tls.privateKey = copy_path(&link->copies[MQTT_TLS_KEY]);
    tls.privateKeyPassword = link->key_password;
    tls.enableServerCertAuth = options->tls_verify;
    tls.verify = options->tls_verify;
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = link;
    connect.ssl = link->url.is_tls ? &tls : NULL;
    sent = MQTTAsync_connect(link->handle, &connect);
    MQTTProperties_free(&properties);
    return sent;
}

/* What the broker grants must do for what is asked of it. */
static bool link_suits(struct mqtt_link *link)
{
    if (link->role.publishes && link->limits.maximum_qos < link->options->qos)
        link_down(link, "the broker allows QoS %d at most, and qos = %lld", link->limits.maximum_qos,
                  (long long)link->options->qos);
    else if (link->role.needs_retain && !link->limits.can_retain)
        link_down(link, "the broker retains no messages");
    else
        return true;
    return false;
}

/* Has TCP send small packets at once: paho leaves it to collect them, which holds acknowledgements back until the broker has
 * confirmed those before (Nagle's algorithm). It shows its sockets to nobody, so this is done to all that are connected to that
 * port. False: there is none. */
static bool link_hurry(const struct mqtt_link *link)
{
    DIR *descriptors = opendir("/proc/self/fd");
    struct dirent *entry;
    bool is_there = false;
    int yes = 1;

    while (descriptors != NULL && (entry = readdir(descriptors)) != NULL) {
        union {
            struct sockaddr any;
            struct sockaddr_in in;
            struct sockaddr_in6 in6;
            struct sockaddr_storage room;
        } peer = {.any.sa_family = AF_UNSPEC};
        socklen_t size = sizeof peer;
        int fd = atoi(entry->d_name);

        if (getpeername(fd, &peer.any, &size) != 0)
            continue;
        if ((peer.any.sa_family == AF_INET && ntohs(peer.in.sin_port) == link->url.port) ||
            (peer.any.sa_family == AF_INET6 && ntohs(peer.in6.sin6_port) == link->url.port))
            is_there = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0 || is_there;
    }
    if (descriptors != NULL)
        closedir(descriptors);
    return is_there;
}

/* To the next address. 0: connected. Otherwise the reason says why not. */
static int link_try(struct mqtt_link *link, int64_t patience)
{
    int64_t deadline = mqtt_clock() + patience;
    bool is_up, is_late;
    int sent;

    pthread_mutex_lock(&link->lock);
    link->reason[0] = '\0';
    link->is_unreachable = link->is_unspoken = link->is_unanswered = link->is_wordless = link->is_blaming = false;
    link->is_taken = false;
    pthread_mutex_unlock(&link->lock);
    if (link_next_address(link) != 0 || (link->handle == NULL && link_make_handle(link) != 0))
        return -EHOSTUNREACH;
    MQTTAsync_isConnected(link->handle);
    if (link->url.is_tls)
        link_renew_files(link);
    pthread_mutex_lock(&link->lock);
    link->state = LINK_CONNECTING;
    link->connection++;
    pthread_mutex_unlock(&link->lock);
    sent = link_send_connect(link);
    if (sent != MQTTASYNC_SUCCESS)
        link_down(link, "%s", paho_error(sent));
    pthread_mutex_lock(&link->lock);
    while (link->state == LINK_CONNECTING && !link->is_stopped && !link->is_closing && link_wait(link, deadline))
        ;
    is_up = link->state == LINK_UP;
    is_late = link->state == LINK_CONNECTING;
    pthread_mutex_unlock(&link->lock);
    if (is_late && link_hurry(link)) /* or it was only the network that did not answer */
        link_note(link, &link->is_unanswered, true);
    if (!is_up)
        link_down(link, "no answer within %.1f s", (double)patience / (double)FMS_SECOND);
    is_up = is_up && link_suits(link);
    link->rival.kicks = is_up ? link->rival.kicks : 0; /* whoever is hard to reach is no broker that favours another */
    return is_up ? 0 : -EHOSTUNREACH;
}

static void on_parted(void *context, MQTTAsync_successData *data)
{
    (void)data;
    link_down(context, "disconnected");
}

static void on_parted_5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    link_down(context, "disconnected");
}

static void link_disconnect(struct mqtt_link *link, bool for_good)
{
    MQTTAsync_disconnectOptions disconnect = MQTTAsync_disconnectOptions_initializer;
    MQTTAsync_disconnectOptions disconnect_5 = MQTTAsync_disconnectOptions_initializer5;
    int64_t deadline = mqtt_clock() + DISCONNECT_PATIENCE;

    if (mqtt_link_is_5(link)) {
        disconnect = disconnect_5;
        disconnect.onSuccess5 = on_parted_5;
        if (for_good && link->role.clean_start && link->role.session_expiry > 0)
            add_property(&disconnect.properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, 0);
    } else {
        disconnect.onSuccess = on_parted;
    }
    disconnect.context = link;
    if (MQTTAsync_disconnect(link->handle, &disconnect) == MQTTASYNC_SUCCESS) {
        pthread_mutex_lock(&link->lock);
        while (link->state == LINK_UP && link_wait(link, deadline))
            ;
        pthread_mutex_unlock(&link->lock);
    }
    MQTTProperties_free(&disconnect.properties);
}

/* Afterwards nothing calls back. */
static void link_hang_up(struct mqtt_link *link, bool for_good)
{
    bool is_up, is_stuck;

    pthread_mutex_lock(&link->lock);
    is_up = link->state == LINK_UP;
    pthread_mutex_unlock(&link->lock);
    if (is_up)
        link_disconnect(link, for_good);
    if (link->handle == NULL)
        return;
    is_stuck = MQTTAsync_isConnected(link->handle);
    if (for_good || is_stuck || !link->role.keep_handle)
        link_drop_handle(link);
    pthread_mutex_lock(&link->lock);
    link->state = LINK_DOWN;
    pthread_mutex_unlock(&link->lock);
}

/* After an attempt that failed: whether the other version is to be tried, for brokers that speak 3.1.1 only say so, hang up, or
 * are silent. One that has spoken 5 must say it: to go back because of a hang-up would change what it keeps for us. */
static bool link_change_version(struct mqtt_link *link)
{
    bool is_doubted;

    pthread_mutex_lock(&link->lock);
    is_doubted = (link->is_unspoken || (link->is_unanswered && (link->has_spoken_5 & server_bit(link)) == 0)) &&
                 !link_must_go(link);
    pthread_mutex_unlock(&link->lock);
    if (!is_doubted || link->options->version != MQTT_AUTO)
        return false;
    link->version = link->version == MQTT_5 ? MQTT_3_1_1 : MQTT_5;
    link->is_guess = link->version == MQTT_3_1_1 && !link->is_unspoken;
    link->stays = link->version == MQTT_3_1_1;
    return true;
}

/* Whether another attempt is to be made at once: with the broker's keepalive (MQTT-3.1.2-21), which paho hears of only from us, once,
 * with the other version, or to the next address of the name where nobody answers at this one. */
static bool link_is_unfinished(struct mqtt_link *link, int error, bool was_up)
{
    bool is_next = link->limits.keepalive > 0 && link->limits.keepalive < link->keepalive;

    if (error == 0) {
        link->keepalive = is_next ? link->limits.keepalive : link->keepalive;
        link->stays = is_next && !was_up;
        return link->stays;
    }
    if (link_change_version(link)) {
        link_hang_up(link, true); /* a handle is for one version */
        return link->version == MQTT_3_1_1;
    }
    pthread_mutex_lock(&link->lock);
    is_next = link->is_unreachable && !link_must_go(link) && link->address != NULL && link->address->ai_next != NULL;
    pthread_mutex_unlock(&link->lock);
    return is_next;
}

/* To the next address, or the first of those behind it of the same name at which somebody answers. 0: connected. Otherwise the
 * reason says why not. */
static int link_connect(struct mqtt_link *link, int64_t patience)
{
    bool is_next, was_up = false, was_new = false;
    int error;

    do {
        error = link_try(link, patience);
        is_next = link_is_unfinished(link, error, was_up);
        was_up = was_up || error == 0;
        was_new = was_new || (error == 0 && !link->limits.session_present);
        if (is_next)
            link_hang_up(link, false);
    } while (is_next);
    if (error == 0) {
        link->limits.session_present = !was_new; /* not one from a moment ago */
        link->has_spoken_5 |= mqtt_link_is_5(link) ? server_bit(link) : 0;
        link_hurry(link);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ the link's thread */

/* What the broker does otherwise than it was asked to, as often as it changes. */
static void link_tell_limits(struct mqtt_link *link)
{
    const struct mqtt_limits *now = &link->limits, *told = &link->told_limits;

    if (now->session_expiry >= 0 && now->session_expiry < link->role.session_expiry &&
        now->session_expiry != told->session_expiry)
        fms_warn(link->host, "the broker keeps our session for %lld s only, and not for the %u s of session_expiry",
                 (long long)now->session_expiry, link->role.session_expiry);
    if (now->maximum_qos < link->options->qos && now->maximum_qos != told->maximum_qos)
        fms_warn(link->host, "the broker knows no more than QoS %d, and qos = %lld", now->maximum_qos,
                 (long long)link->options->qos);
    if (!now->can_retain && told->can_retain)
        fms_info(link->host, "the broker retains no messages");
    link->told_limits = *now;
}

static void link_tell_up(struct mqtt_link *link)
{
    const char *session = link->limits.session_present ? "with the session that the broker kept" : "with a new session";
    const char *version = mqtt_link_is_5(link) ? "5" : "3.1.1";
    double away = (double)(mqtt_clock() - link->down_since) / (double)FMS_SECOND;
    bool is_news = link->is_reconnecting && link->is_told && link->losses <= 1; /* else link_tell_lasting tells it */

    if (link->has_connected && is_news)
        fms_info(link->host, "connected to %s again after %.1f s, %s", link->url.text, away, session);
    else if (is_news)
        fms_info(link->host, "connected to %s after %.1f s, MQTT %s, %s", link->url.text, away, version, session);
    else if (!link->has_connected)
        fms_info(link->host, "connected to %s, MQTT %s, %s", link->url.text, version, session);
    if (!link->has_connected && link->options->version == MQTT_AUTO && !mqtt_link_is_5(link))
        fms_info(link->host, "MQTT 3.1.1 is spoken, because the broker did not take 5");
    link->has_connected = true;
    link->is_reconnecting = false;
    link_tell_limits(link);
}

/* Where connections before it did not last, it is told when this one has. */
static void link_tell_lasting(struct mqtt_link *link, int64_t *lasts_at)
{
    if (mqtt_clock() < *lasts_at)
        return;
    *lasts_at = FMS_NEVER;
    fms_info(link->host, "connected to %s again, and now it lasts: %u connections before did not", link->url.text,
             link->losses);
    link->losses = 0;
}

static void link_serve(struct mqtt_link *link)
{
    int64_t next, lasts_at = link->losses > 1 ? mqtt_clock() + GOOD_AFTER : FMS_NEVER;

    if (link->role.up != NULL)
        link->role.up(link->role.user);
    pthread_mutex_lock(&link->lock);
    while (link->state == LINK_UP && !link_must_go(link)) {
        link->is_kicked = false;
        pthread_mutex_unlock(&link->lock);
        link_tell_lasting(link, &lasts_at);
        next = link->role.work != NULL ? link->role.work(link->role.user) : FMS_NEVER;
        next = lasts_at < next ? lasts_at : next;
        pthread_mutex_lock(&link->lock);
        while (link->state == LINK_UP && !link_must_go(link) && !link->is_kicked && link_wait(link, next))
            ;
    }
    link->is_parting = link->state == LINK_UP && link->is_closing;
    pthread_mutex_unlock(&link->lock);
    if (link->is_parting && link->role.farewell != NULL)
        link->role.farewell(link->role.user);
}

static void link_meet_rival(struct mqtt_link *link, const char *owed, int64_t up_for)
{
    bool is_wordless, is_taken;

    pthread_mutex_lock(&link->lock);
    is_wordless = link->is_wordless && !link->is_explained && owed[0] == '\0';
    is_taken = link->is_taken;
    pthread_mutex_unlock(&link->lock);
    link->rival_pause = mqtt_rival_met(&link->rival, link->options, link_id(link), is_taken, is_wordless, up_for,
                                       link->host);
}

/* A connection that was lost. Where one after the other is, without having proved good, not each is told. */
static void link_tell_loss(struct mqtt_link *link, const char *reason, const char *owed)
{
    const char *before = owed[0] != '\0' ? ", before it had answered " : "";

    link->losses++;
    link->is_told = (link->losses & (link->losses - 1)) == 0;
    if (link->losses == 1)
        fms_warn(link->host, "connection to %s lost: %s%s%s; connecting again", link->url.text, reason, before, owed);
    else if (link->is_told)
        fms_warn(link->host, "connection to %s lost, %u times in a row now: %s%s%s; connecting again, more slowly",
                 link->url.text, link->losses, reason, before, owed);
}

/* A first attempt that failed is told once; further ones say something only when there is news, or when the loss before them
 * was not told. */
static void link_tell_failure(struct mqtt_link *link, const char *reason, const char *told)
{
    bool is_news = !link->is_told || (!link->is_unreachable && strcmp(reason, told) != 0);

    if (!link->is_reconnecting)
        fms_warn(link->host, "cannot connect to %s: %s; trying until it works", link->url.text, reason);
    else if (is_news)
        fms_warn(link->host, "still not connected to %s: %s", link->url.text, reason);
    link->is_told = true;
}

/* `owed` is NULL where there was no connection, which else was up for so long. */
static void link_tell_down(struct mqtt_link *link, const char *told, const char *owed, int64_t up_for)
{
    char reason[sizeof link->reason];
    bool is_wanted;

    pthread_mutex_lock(&link->lock);
    memcpy(reason, link->reason, sizeof reason);
    is_wanted = !link_must_go(link);
    pthread_mutex_unlock(&link->lock);
    if (!is_wanted)
        return;
    fms_link_down(link->host, "%s: %s%s%s", link->url.text, reason,
                  owed != NULL && owed[0] != '\0' ? ", before it had answered " : "", owed != NULL ? owed : "");
    if (owed != NULL) {
        link_tell_loss(link, reason, owed);
        link_meet_rival(link, owed, up_for);
    } else {
        link_tell_failure(link, reason, told);
    }
    if (!link->is_reconnecting)
        link->down_since = mqtt_clock();
    link->is_reconnecting = true;
}

static void link_pause(struct mqtt_link *link)
{
    int64_t until;

    link->last_pause = fms_backoff(link->host, link->options->reconnect_min, link->options->reconnect_max,
                                   link->attempt++);
    until = mqtt_clock() + (link->rival_pause > 0 ? link->rival_pause : link->last_pause);
    link->rival_pause = 0;
    pthread_mutex_lock(&link->lock);
    while (!link_must_go(link) && link_wait(link, until))
        ;
    pthread_mutex_unlock(&link->lock);
}

/* What came of a connection, once it is over. */
static void link_judge(struct mqtt_link *link, int64_t up_for, char *owed, size_t size)
{
    char why[sizeof link->reason];
    enum mqtt_end end = MQTT_END_GOOD;
    bool has_blamed;

    pthread_mutex_lock(&link->lock);
    has_blamed = link->is_blaming;
    memcpy(why, link->reason, sizeof why);
    pthread_mutex_unlock(&link->lock);
    if (link->role.down != NULL)
        end = link->role.down(link->role.user, has_blamed ? why : NULL, owed, size);
    link->is_explained = end == MQTT_END_EXPLAINED;
    if (link->is_explained) {
        link->attempt = link->losses = 0;
        link->stays = true; /* it is not the address that is wrong */
    }
    if (end != MQTT_END_GOOD || up_for < GOOD_AFTER || up_for < link->last_pause)
        return;
    link->attempt = link->losses = 0;
    link->server = link->options->server.count - 1;
    link->address = NULL;
}

/* Waits until a connection is wanted. False: never again. */
static bool link_is_wanted(struct mqtt_link *link)
{
    bool is_news = false, is_wanted;

    pthread_mutex_lock(&link->lock);
    while (link_must_go(link) && !link->is_closing) {
        if (link->is_stopped && !link->has_ended) {
            link->has_ended = is_news = true;
            break;
        }
        link_wait(link, FMS_NEVER);
    }
    is_wanted = !link->is_closing && !link->is_stopped;
    pthread_mutex_unlock(&link->lock);
    if (is_news)
        fms_wake(link->host);
    return is_wanted;
}

/* One connection, or one attempt. */
static void link_turn(struct mqtt_link *link)
{
    char told[sizeof link->reason], owed[128] = "";
    int64_t since, up_for;
    bool was_up, for_good, was_ours, is_doubtful;

    pthread_mutex_lock(&link->lock);
    memcpy(told, link->reason, sizeof told);
    pthread_mutex_unlock(&link->lock);
    mqtt_renew(link->host);
    was_up = link_connect(link, CONNECT_PATIENCE) == 0;
    since = mqtt_clock();
    if (was_up) {
        link_tell_up(link);
        link_serve(link);
    }
    up_for = mqtt_clock() - since;
    pthread_mutex_lock(&link->lock);
    for_good = link->is_stopped || link->is_closing;
    was_ours = link->state == LINK_UP;
    pthread_mutex_unlock(&link->lock);
    is_doubtful = was_up && !was_ours && link->is_guess;
    link_hang_up(link, for_good || is_doubtful);
    if (is_doubtful)
        link->version = MQTT_5;
    if (was_up)
        link_judge(link, up_for, owed, sizeof owed);
    if (was_ours) {
        link->stays = true; /* a pause of the pipeline's, and no fault of this address */
        return;
    }
    link_tell_down(link, told, was_up ? owed : NULL, up_for);
    link_pause(link);
}

static void *link_run(void *argument)
{
    struct mqtt_link *link = argument;

    while (link_is_wanted(link))
        link_turn(link);
    if (link->handle != NULL)
        link_drop_handle(link);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ notes to the link */

void mqtt_link_pause(struct mqtt_link *link, bool paused)
{
    link_note(link, &link->is_paused, paused);
}

void mqtt_link_stop(struct mqtt_link *link)
{
    link_note(link, &link->is_stopped, true);
}

void mqtt_link_kick(struct mqtt_link *link)
{
    link_note(link, &link->is_kicked, true);
}

bool mqtt_link_has_ended(struct mqtt_link *link)
{
    bool has_ended;

    pthread_mutex_lock(&link->lock);
    has_ended = link->has_ended;
    pthread_mutex_unlock(&link->lock);
    return has_ended;
}

void mqtt_link_break(struct mqtt_link *link, const char *reason)
{
    link_down(link, "%s", reason);
}

/* ------------------------------------------------------------------------------------------------------ open, close */

static void link_free(struct mqtt_link *link)
{
    MQTTAsync_destroy(&link->anchor);
    if (link->found != NULL)
        freeaddrinfo(link->found);
    mqtt_tls_free_copies(link->copies);
    free(link->key_password);
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    free(link);
}

/* NULL: it failed, and said why. */
static struct mqtt_link *link_new(const struct mqtt_options *options, const struct fms_host *host)
{
    struct mqtt_link *link = calloc(1, sizeof *link);
    char reason[MQTT_TLS_REASON_SIZE];
    pthread_condattr_t attributes;
    const char *option;
    int error;

    if (link == NULL) {
        fms_fail(host, -ENOMEM, "out of memory");
        return NULL;
    }
    link->options = options;
    link->host = host;
    link->version = options->version == MQTT_3_1_1 ? MQTT_3_1_1 : MQTT_5;
    /* paho can take two and a half of what it is told to give a silent connection up. */
    link->keepalive = (int)((options->keepalive + 2 * FMS_SECOND - 1) / (2 * FMS_SECOND));
    link->told_limits = (struct mqtt_limits){.maximum_qos = 2, .can_retain = true, .session_expiry = -1};
    mqtt_next_server(options, &link->server, &link->url);
    link->server = options->server.count - 1;
    mqtt_make_client_id(host, link->client_id);
    pthread_mutex_init(&link->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&link->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR); /* tracing is half of what a message costs */
    error = link_make_anchor(link);
    if (error != MQTTASYNC_SUCCESS)
        fms_fail(host, -ENOMEM, "paho: %s", paho_error(error));
    else if (link->url.is_tls && link_copy_files(link, &option, reason) != 0)
        fms_fail_option(host, option, -EINVAL, "%s", reason);
    else
        return link;
    link_free(link);
    return NULL;
}

int mqtt_link_open(struct mqtt_link **result, const struct mqtt_options *options, const struct fms_host *host,
                   const struct mqtt_role *role, bool paused)
{
    struct mqtt_link *link = link_new(options, host);
    int error;

    *result = link; /* before the thread, which hands it to the role's functions */
    if (link == NULL)
        return -EINVAL;
    link->role = *role;
    link->is_paused = paused;
    error = -pthread_create(&link->thread, NULL, link_run, link);
    if (error != 0) {
        fms_fail(host, error, "cannot start a thread: %s", strerror(-error));
        link_free(link);
    }
    return error;
}

void mqtt_link_close(struct mqtt_link *link)
{
    link_note(link, &link->is_closing, true);
    pthread_join(link->thread, NULL);
    link_free(link);
}

/* ------------------------------------------------------------------------------------------------------------ probe */

static void probe_report(struct mqtt_link *link, int64_t took)
{
    const struct mqtt_limits *limits = &link->limits;

    fms_report(link->host, "%s answers in %.1f ms, MQTT %s", link->url.text, (double)took / (double)FMS_MS,
               mqtt_link_is_5(link) ? "5" : "3.1.1");
    if (mqtt_link_is_5(link))
        fms_report(link->host, "limits: QoS %d, %d messages unconfirmed, packets of %lld bytes, %s retained messages",
                   limits->maximum_qos, limits->receive_maximum, (long long)limits->packet_size,
                   limits->can_retain ? "with" : "no");
}

/* To one of the servers. 0 or -errno, logged. */
static int probe_connect(struct mqtt_link *link, int64_t deadline)
{
    size_t count = link->options->server.count;
    int error = -EAGAIN;

    for (size_t i = 0; i < count && error != 0; i++) {
        error = link_connect(link, deadline - fms_now(link->host));
        if (error == 0)
            break;
        link_hang_up(link, true); /* now nothing writes the reason any more */
        if (i + 1 < count)
            fms_report(link->host, "%s: %s", link->url.text, link->reason);
    }
    return error == 0 ? 0 : fms_fail(link->host, error, "cannot connect to %s: %s", link->url.text, link->reason);
}

int mqtt_probe(const struct mqtt_options *options, const struct fms_host *host, int64_t deadline,
               int (*more)(void *user, struct mqtt_link *link), void *user)
{
    struct mqtt_options own = *options;
    struct mqtt_link *link;
    int64_t start = mqtt_clock();
    int error;

    own.client_id = NULL; /* not to push out the pipeline that runs */
    link = link_new(&own, host);
    if (link == NULL)
        return -EINVAL;
    link->role.clean_start = true;
    link->role.publishes = more == NULL; /* there is nothing more to ask for */
    error = probe_connect(link, deadline);
    if (error == 0) {
        probe_report(link, mqtt_clock() - start);
        error = more != NULL ? more(user, link) : 0;
        link_hang_up(link, true);
    }
    link_free(link);
    return error;
}
