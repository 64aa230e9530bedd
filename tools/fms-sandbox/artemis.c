/* artemis.c - Apache ActiveMQ Artemis, an MQTT broker that java runs from a folder of jars.
 *
 * As with mosquitto, the broker itself must lose nothing: a full memory goes to the disk, a full disk stops nobody, and no
 * number of deliveries is the last. It confirms what is written to its journal, at once and without waiting for the disk: so
 * that outlives SIGKILL, though not a power cut, and a busy disk does not set the pace. */
#include "sandbox.h"

#include <stdio.h>

#ifndef FMS_ARTEMIS_VERSION
#error "FMS_ARTEMIS_VERSION is to be the version in tests/artemis/pom.xml: see CMakeLists.txt"
#endif

static const struct jars artemis_jars = {
    .product = "Apache ActiveMQ Artemis",
    .name = "artemis",
    .variable = "FMS_ARTEMIS_JARS",
    .folder = "artemis-" FMS_ARTEMIS_VERSION,
    .pattern = "artemis-mqtt-protocol-*.jar",
    .instead = "FMS_TEST_MQTT to a broker of your own (tcp://HOST:PORT), or use --mqtt=mosquitto",
};

static int configuration_write(const struct broker *broker)
{
    char path[PATH_MAX + 32], secure[256] = "";
    int rc;

    if (broker->is_secured)
        snprintf(secure, sizeof(secure),
                 "<acceptor name=\"secure\">tcp://127.0.0.1:%d?protocols=MQTT;sslEnabled=true;keyStoreType=PEM;"
                 "keyStorePath=keystore.pem</acceptor>",
                 broker->secure_port);
    snprintf(path, sizeof(path), "%s/etc", broker->directory);
    rc = directory_make(path);
    if (rc != 0)
        return rc;
    snprintf(path, sizeof(path), "%s/etc/broker.xml", broker->directory);
    return file_write(path,
                      "<configuration xmlns=\"urn:activemq\"><core xmlns=\"urn:activemq:core\">\n"
                      "<security-enabled>false</security-enabled>\n"
                      "<journal-type>NIO</journal-type>\n"
                      "<journal-datasync>false</journal-datasync>\n"
                      "<journal-buffer-timeout>0</journal-buffer-timeout>\n"
                      "<max-disk-usage>100</max-disk-usage>\n"
                      "<acceptors>\n"
                      "<acceptor name=\"plain\">tcp://%s:%d?protocols=MQTT</acceptor>%s\n"
                      "</acceptors>\n"
                      "<address-settings><address-setting match=\"#\">\n"
                      "<address-full-policy>PAGE</address-full-policy>\n"
                      "<max-delivery-attempts>-1</max-delivery-attempts>\n"
                      "</address-setting></address-settings>\n"
                      "</core></configuration>\n",
                      listen_address, broker->port, secure);
}

static int artemis_prepare(struct broker *broker)
{
    char folder[PATH_MAX];
    int rc = jars_find(&artemis_jars, folder);

    if (rc == 0)
        rc = mqtt_prepare(broker);
    return rc != 0 ? rc : configuration_write(broker);
}

static int artemis_start(struct broker *broker)
{
    /* It would log each call of its own interfaces ('audit'). */
    static const char *const arguments[] = {"-Dorg.slf4j.simpleLogger.log.org.apache.activemq.audit=off",
                                            "-Dorg.slf4j.simpleLogger.showDateTime=true",
                                            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
                                            "org.apache.activemq.artemis.core.server.embedded.Main",
                                            ".",
                                            NULL};

    return java_start(broker, &artemis_jars, arguments);
}

const struct broker_kind artemis_kind = {
    .title = "Artemis " FMS_ARTEMIS_VERSION,
    .process = true,
    .start_limit_ms = 120000,
    .stop_limit_ms = 30000,
    .prepare = artemis_prepare,
    .start = artemis_start,
    .answers = mqtt_answers,
};
