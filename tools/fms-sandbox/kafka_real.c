/* kafka_real.c - Apache Kafka in KRaft mode, one node, run by java from a folder of jars.
 *
 * The storage is formatted by writing meta.properties ourselves, which saves a second start of the JVM: with a static
 * quorum (controller.quorum.voters) Kafka 3.7 and later needs no more than that, adds directory.id itself, and takes
 * the newest metadata version of its release. */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FMS_KAFKA_VERSION
#error "FMS_KAFKA_VERSION is to be the version in tests/kafka/pom.xml: see CMakeLists.txt"
#endif

static const struct jars kafka_jars = {
    .product = "Apache Kafka",
    .name = "kafka",
    .variable = "FMS_KAFKA_JARS",
    .folder = "kafka-" FMS_KAFKA_VERSION,
    .pattern = "kafka_2.1*.jar",
    .instead = "FMS_TEST_KAFKA to a broker of your own (HOST:PORT), or use --kafka=mock",
};

/* Small offsets and transaction topics, no wait for more members of a group: a test starts at once. What a transaction that timed out
 * holds back is looked for often. After SIGKILL the
 * controller admits the broker again only once its old session is over, hence the short one. */
static int properties_write(struct broker *broker)
{
    char path[PATH_MAX + 32], secure[KAFKA_SECURE_SIZE] = "", listener[64] = "";
    int rc = broker->is_secured ? kafka_secure_prepare(broker, secure) : 0;

    if (rc != 0)
        return rc;
    if (broker->is_secured)
        snprintf(listener, sizeof(listener), ",SECURE://127.0.0.1:%d", broker->secure_port);
    snprintf(path, sizeof(path), "%s/server.properties", broker->directory);
    return file_write(path,
                      "process.roles=broker,controller\n"
                      "node.id=1\n"
                      "controller.quorum.voters=1@%s:%d\n"
                      "listeners=CLIENT://%s:%d,CONTROLLER://%s:%d%s\n"
                      "advertised.listeners=CLIENT://%s%s\n"
                      "inter.broker.listener.name=CLIENT\n"
                      "controller.listener.names=CONTROLLER\n"
                      "listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL\n"
                      "log.dirs=%s/data\n"
                      "auto.create.topics.enable=true\n"
                      "num.partitions=1\n"
                      "offsets.topic.num.partitions=1\n"
                      "offsets.topic.replication.factor=1\n"
                      "transaction.state.log.num.partitions=1\n"
                      "transaction.state.log.replication.factor=1\n"
                      "transaction.state.log.min.isr=1\n"
                      "transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n"
                      "group.initial.rebalance.delay.ms=0\n"
                      "group.min.session.timeout.ms=1000\n"
                      "broker.session.timeout.ms=3000\n"
                      "broker.heartbeat.interval.ms=500\n"
                      "%s",
                      listen_address, broker->controller_port, listen_address, broker->port, listen_address,
                      broker->controller_port, listener, broker->address, listener, broker->directory, secure);
}

static int storage_format(const struct broker *broker)
{
    char path[PATH_MAX + 32];
    int rc;

    snprintf(path, sizeof(path), "%s/data", broker->directory);
    rc = directory_make(path);
    if (rc != 0)
        return rc;
    snprintf(path, sizeof(path), "%s/data/meta.properties", broker->directory);
    /* A cluster id is a UUID in base64; this one spells 'fmspipe-sandbox-'. */
    return file_write(path, "version=1\ncluster.id=Zm1zcGlwZS1zYW5kYm94LQ\nnode.id=1\n");
}

static int logging_write(const struct broker *broker)
{
    char path[PATH_MAX + 32];

    snprintf(path, sizeof(path), "%s/log4j.properties", broker->directory);
    return file_write(path, "log4j.rootLogger=INFO, out\n"
                            "log4j.appender.out=org.apache.log4j.ConsoleAppender\n"
                            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
                            "log4j.appender.out.layout.ConversionPattern=%%d{ISO8601} %%p %%m (%%c)%%n\n");
}

static int real_prepare(struct broker *broker)
{
    char folder[PATH_MAX];
    int client_port;
    int rc = jars_find(&kafka_jars, folder);

    if (rc != 0)
        return rc;
    setenv("FMS_KAFKA_JARS", folder, 1); /* for a command that needs Kafka's own tools */
    broker->port = port_reserve(broker->wanted_port, &broker->port_fd);
    if (broker->port < 0)
        return broker->port;
    broker->controller_port = port_reserve(0, &broker->controller_fd);
    if (broker->controller_port < 0)
        return broker->controller_port;
    client_port = broker_client_port(broker);
    if (client_port < 0)
        return client_port;
    snprintf(broker->address, sizeof(broker->address), "%s:%d", listen_address, client_port);
    rc = properties_write(broker);
    if (rc == 0)
        rc = storage_format(broker);
    return rc != 0 ? rc : logging_write(broker);
}

static int real_start(struct broker *broker)
{
    static const char *const arguments[] = {"-Dlog4j.configuration=file:log4j.properties", "kafka.Kafka",
                                            "server.properties", NULL};

    return java_start(broker, &kafka_jars, arguments);
}

const struct broker_kind kafka_real_kind = {
    .title = "Apache Kafka " FMS_KAFKA_VERSION,
    .process = true,
    .start_limit_ms = 120000, /* 2 s on an idle machine, 30 s seen on a busy one */
    .stop_limit_ms = 30000,
    .prepare = real_prepare,
    .start = real_start,
    .answers = kafka_answers,
};
