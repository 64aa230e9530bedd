/* kafka.c - what the mock and the real Kafka share: the question whether it answers.
 *
 * Each try takes a client of its own: a client that has met a closed port waits longer and longer before it looks
 * again, and tells nothing new meanwhile. */
#include "sandbox.h"

#include <unistd.h>

#include <librdkafka/rdkafka.h>

enum { PROBE_TIMEOUT_MS = 1000 };

static void log_nothing(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    (void)client;
    (void)level;
    (void)facility;
    (void)text;
}

rd_kafka_t *kafka_client_new(const char *servers)
{
    char error[256];
    rd_kafka_conf_t *configuration = rd_kafka_conf_new();
    rd_kafka_t *client = NULL;

    rd_kafka_conf_set_log_cb(configuration, log_nothing);
    if (servers == NULL ||
        rd_kafka_conf_set(configuration, "bootstrap.servers", servers, error, sizeof(error)) == RD_KAFKA_CONF_OK)
        client = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, error, sizeof(error));
    if (client == NULL)
        rd_kafka_conf_destroy(configuration);
    return client;
}

/* As many brokers as there should be, and a leader for each partition. */
static bool metadata_is_complete(const struct rd_kafka_metadata *metadata, int node_count)
{
    if (metadata->broker_cnt < node_count)
        return false;
    for (int t = 0; t < metadata->topic_cnt; t++)
        for (int p = 0; p < metadata->topics[t].partition_cnt; p++)
            if (metadata->topics[t].partitions[p].leader < 0)
                return false;
    return true;
}

static bool metadata_ask(const char *servers, int node_count)
{
    rd_kafka_t *client = kafka_client_new(servers);
    const struct rd_kafka_metadata *metadata;
    bool complete = false;

    if (client == NULL)
        return false;
    if (rd_kafka_metadata(client, 1, NULL, &metadata, PROBE_TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        complete = metadata_is_complete(metadata, node_count);
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_destroy(client);
    return complete;
}

bool kafka_answers(const struct broker *broker)
{
    int fd = port_connect(broker->port, PROBE_TIMEOUT_MS);

    if (fd < 0)
        return false;
    close(fd);
    return metadata_ask(broker->address, broker->node_count);
}
