/* floor_consumer.c - the least that a consumer of Kafka can be with librdkafka: payloads, line by line, on standard output.
 *
 *   floor_consumer KAFKA-BROKERS TOPIC GROUP COUNT
 *
 * At least once: an offset is stored when its line is written, and committed every second. Set as fmspipe's kafka_source with the
 * profile `throughput`. It ends after COUNT messages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#define BATCH 256 /* messages at most before they are written */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "floor_consumer: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];

    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        die(name, error);
}

static rd_kafka_t *consumer_open(const char *brokers, const char *topic, const char *group)
{
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *kafka;
    char error[256];

    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "auto.commit.interval.ms", "1000");
    set(conf, "socket.nagle.disable", "true");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "queued.max.messages.kbytes", "65536");
    set(conf, "fetch.min.bytes", "65536");
    set(conf, "fetch.wait.max.ms", "500");
    kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    if (kafka == NULL)
        die("librdkafka", error);
    rd_kafka_poll_set_consumer(kafka);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(kafka, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return kafka;
}

static void print(const rd_kafka_message_t *message)
{
    fwrite(message->payload, 1, message->len, stdout);
    putchar('\n');
}

/* Written to the kernel, and only then done. */
static void settle(rd_kafka_message_t **batch, size_t count)
{
    if (fflush(stdout) != 0)
        die("standard output", "cannot be written");
    for (size_t i = 0; i < count; i++) {
        rd_kafka_offset_store(batch[i]->rkt, batch[i]->partition, batch[i]->offset);
        rd_kafka_message_destroy(batch[i]);
    }
}

int main(int argc, char **argv)
{
    rd_kafka_message_t *batch[BATCH];
    unsigned long long left;
    rd_kafka_t *kafka;

    if (argc != 5) {
        fprintf(stderr, "usage: floor_consumer KAFKA-BROKERS TOPIC GROUP COUNT\n");
        return 2;
    }
    left = strtoull(argv[4], NULL, 10);
    kafka = consumer_open(argv[1], argv[2], argv[3]);
    setvbuf(stdout, NULL, _IOFBF, 65536);
    while (left > 0) {
        size_t count = 0;

        while (count < BATCH && count < left) {
            rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, count == 0 ? 1000 : 0);

            if (message == NULL)
                break;
            if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                die("Kafka", rd_kafka_message_errstr(message));
            print(message);
            batch[count++] = message;
        }
        settle(batch, count);
        left -= count;
    }
    rd_kafka_consumer_close(kafka);
    rd_kafka_destroy(kafka);
    return 0;
}
