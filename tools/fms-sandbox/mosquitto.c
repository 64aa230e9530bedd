/* mosquitto.c - the MQTT broker that starts at once.
 *
 * Queues are unlimited and persistent: a test that restarts the broker asks whether fmspipe loses messages, so the
 * broker itself must not. (Killed with SIGKILL mosquitto does lose what it had not saved; stopped it does not.) */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int mosquitto_prepare(struct broker *broker)
{
    char path[PATH_MAX + 32], secure[128] = "";
    int rc = mqtt_prepare(broker);

    if (rc != 0)
        return rc;
    if (broker->is_secured)
        snprintf(secure, sizeof(secure), "listener %d 127.0.0.1\ncertfile server.pem\nkeyfile server.key\n",
                 broker->secure_port);
    snprintf(path, sizeof(path), "%s/mosquitto.conf", broker->directory);
    /* Started by root it would become the user 'mosquitto': that user could not write here, and the change would take
     * the parent-death signal away. */
    return file_write(path,
                      "listener %d %s\n"
                      "allow_anonymous true\n"
                      "max_queued_messages 0\n"
                      "set_tcp_nodelay true\n"
                      "persistence true\n"
                      "persistence_location %s/\n"
                      "log_dest stderr\n"
                      "log_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S\n"
                      "%s%s",
                      broker->port, listen_address, broker->directory, geteuid() == 0 ? "user root\n" : "", secure);
}

static int mosquitto_start(struct broker *broker)
{
    char program[PATH_MAX];
    char option[] = "-c";
    char configuration[] = "mosquitto.conf";
    char *argv[] = {program, option, configuration, NULL};
    struct process process = {
        .argv = argv, .directory = broker->directory, .log = broker->log, .death_signal = 9, .broker = true};

    if (program_find("mosquitto", program) != 0)
        return fail(-ENOENT,
                    "mosquitto is neither in $PATH nor in /usr/sbin: install it, set FMS_TEST_MQTT to a broker of "
                    "your own (tcp://HOST:PORT), or use --mqtt=none");
    broker->pid = process_start(&process);
    if (broker->pid < 0)
        return fail(broker->pid, "%s: cannot start: %s", program, strerror(-broker->pid));
    return 0;
}

const struct broker_kind mosquitto_kind = {
    .title = "mosquitto",
    .process = true,
    .start_limit_ms = 15000,
    .stop_limit_ms = 15000,
    .prepare = mosquitto_prepare,
    .start = mosquitto_start,
    .answers = mqtt_answers,
};
