/* floor_bridge.c - the least that a bridge from MQTT to Kafka can be with paho and librdkafka: what the framework's cost is
 * measured against.
 *
 *   floor_bridge MQTT-SERVER FILTER QOS CLIENT-ID KAFKA-BROKERS TOPIC LINGER-MS
 *
 * paho's callback produces, with the MQTT topic as key, and paho acknowledges when it returns: what is under way in librdkafka is
 * lost with the process. A full queue holds the callback up. Both libraries are set as fmspipe's plugins set them. It ends at
 * SIGTERM. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <MQTTAsync.h>
#include <librdkafka/rdkafka.h>

struct bridge {
    const char *filter;
    int qos;
    MQTTAsync mqtt;
    rd_kafka_t *kafka;
    rd_kafka_topic_t *topic;
};

static volatile sig_atomic_t must_stop;

static void on_signal(int signal)
{
    (void)signal;
    must_stop = 1;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "floor_bridge: %s: %s\n", what, why);
    exit(1);
}

/* -------------------------------------------------------------------------------------------------------------- Kafka */

static void on_report(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque)
{
    (void)kafka;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("delivery", rd_kafka_err2str(message->err));
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];

    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        die(name, error);
}

static void kafka_open(struct bridge *bridge, const char *brokers, const char *topic, const char *linger)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int is_realtime = strcmp(linger, "0") == 0;
    char error[256];

    set(conf, "bootstrap.servers", brokers);
    set(conf, "socket.nagle.disable", "true");
    set(conf, "acks", "all");
    set(conf, "enable.idempotence", "true");
    set(conf, "message.timeout.ms", "0");
    set(conf, "linger.ms", linger);
    if (!is_realtime) {
        set(conf, "batch.num.messages", "10000");
        set(conf, "compression.codec", "lz4");
    }
    set(conf, "queue.buffering.max.messages", "8000"); /* as many as fmspipe is allowed to have under way */
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    bridge->kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (bridge->kafka == NULL)
        die("librdkafka", error);
    bridge->topic = rd_kafka_topic_new(bridge->kafka, topic, NULL);
}

/* --------------------------------------------------------------------------------------------------------------- MQTT */

static int on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
{
    struct bridge *bridge = context;
    size_t key_size = topic_size > 0 ? (size_t)topic_size : strlen(topic);

    while (rd_kafka_produce(bridge->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, message->payload,
                            (size_t)message->payloadlen, topic, key_size, NULL) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(bridge->kafka, 10);
    }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void on_failed(void *context, MQTTAsync_failureData *data)
{
    (void)context;
    die("MQTT", data != NULL && data->message != NULL ? data->message : "refused");
}

/* After each connection, the library's own reconnections too. */
static void on_connected(void *context, char *cause)
{
    struct bridge *bridge = context;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;

    (void)cause;
    response.onFailure = on_failed;
    MQTTAsync_subscribe(bridge->mqtt, bridge->filter, bridge->qos, &response);
}

static void mqtt_open(struct bridge *bridge, const char *server, const char *client_id)
{
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer;
    int error;

    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR); /* halves the cost of Debian's build */
    error = MQTTAsync_create(&bridge->mqtt, server, client_id, MQTTCLIENT_PERSISTENCE_NONE, NULL);
    if (error != MQTTASYNC_SUCCESS)
        die(server, MQTTAsync_strerror(error));
    MQTTAsync_setCallbacks(bridge->mqtt, bridge, NULL, on_arrived, NULL);
    MQTTAsync_setConnected(bridge->mqtt, bridge, on_connected);
    connect.MQTTVersion = MQTTVERSION_3_1_1;
    connect.cleansession = bridge->qos == 0;
    connect.automaticReconnect = 1;
    connect.keepAliveInterval = 10;
    error = MQTTAsync_connect(bridge->mqtt, &connect);
    if (error != MQTTASYNC_SUCCESS)
        die(server, MQTTAsync_strerror(error));
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct bridge bridge = {0};

    if (argc != 8) {
        fprintf(stderr, "usage: floor_bridge MQTT-SERVER FILTER QOS CLIENT-ID KAFKA-BROKERS TOPIC LINGER-MS\n");
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    bridge.filter = argv[2];
    bridge.qos = argv[3][0] - '0';
    kafka_open(&bridge, argv[5], argv[6], argv[7]);
    mqtt_open(&bridge, argv[1], argv[4]);
    while (!must_stop)
        rd_kafka_poll(bridge.kafka, 1000);
    MQTTAsync_disconnect(bridge.mqtt, NULL);
    rd_kafka_flush(bridge.kafka, 5000);
    MQTTAsync_destroy(&bridge.mqtt);
    rd_kafka_topic_destroy(bridge.topic);
    rd_kafka_destroy(bridge.kafka);
    return 0;
}
