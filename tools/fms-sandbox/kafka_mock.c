/* kafka_mock.c - librdkafka's mock cluster, in the sandbox's own process.
 *
 * It costs nothing to start, and that is what it is for. It keeps some 5 MiB a partition and then drops silently, so
 * what counts deliveries takes the real Kafka. It is never destroyed but ends with the process: librdkafka 2.0 would
 * take a second for it. */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

enum { ALL_BROKERS = -1 };

static int mock_prepare(struct broker *broker)
{
    rd_kafka_t *client = kafka_client_new(NULL);
    rd_kafka_mock_cluster_t *cluster;
    const char *servers;
    size_t length;

    if (client == NULL)
        return fail(-ENOMEM, "the mock Kafka: librdkafka gives no client");
    cluster = rd_kafka_mock_cluster_new(client, broker->node_count);
    if (cluster == NULL) {
        rd_kafka_destroy(client);
        return fail(-EIO, "the mock Kafka: librdkafka gives no mock cluster of %d brokers", broker->node_count);
    }
    broker->mock = cluster;
    if (broker->topic != NULL && rd_kafka_mock_topic_create(cluster, broker->topic, 1, 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(-EINVAL, "the mock Kafka: it makes no topic %s", broker->topic);
    servers = rd_kafka_mock_cluster_bootstraps(cluster);
    length = strlen(servers);
    if (length >= sizeof(broker->address))
        return fail(-ENAMETOOLONG, "the mock Kafka: the list of its %d brokers is too long", broker->node_count);
    memcpy(broker->address, servers, length + 1);
    broker->port = atoi(strchr(servers, ':') + 1);
    return 0;
}

static int mock_start(struct broker *broker)
{
    rd_kafka_resp_err_t error = rd_kafka_mock_broker_set_up(broker->mock, ALL_BROKERS);

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(-EIO, "the mock Kafka at %s cannot be started: %s", broker->address, rd_kafka_err2str(error));
    return 0;
}

static int mock_stop(struct broker *broker)
{
    rd_kafka_resp_err_t error = rd_kafka_mock_broker_set_down(broker->mock, ALL_BROKERS);

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(-EIO, "the mock Kafka at %s cannot be stopped: %s", broker->address, rd_kafka_err2str(error));
    broker->state = BROKER_STOPPED;
    return 0;
}

const struct broker_kind kafka_mock_kind = {
    .title = "the mock Kafka",
    .process = false,
    .start_limit_ms = 10000,
    .stop_limit_ms = 10000,
    .prepare = mock_prepare,
    .start = mock_start,
    .stop = mock_stop,
    .answers = kafka_answers,
};
