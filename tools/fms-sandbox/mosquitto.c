/* mosquitto.c - the MQTT broker.
 *
 * Queues are unlimited and persistent: a test that restarts the broker asks whether fmspipe loses messages, so the
 * broker itself must not. (Killed with SIGKILL mosquitto does lose what it had not saved; stopped it does not.) */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROBE_TIMEOUT_MS = 500 };

static int mosquitto_prepare(struct broker *broker)
{
    char path[PATH_MAX + 32];
    int client_port;

    broker->port = port_reserve(broker->wanted_port, &broker->port_fd);
    if (broker->port < 0)
        return broker->port;
    client_port = broker_client_port(broker);
    if (client_port < 0)
        return client_port;
    snprintf(broker->address, sizeof(broker->address), "tcp://127.0.0.1:%d", client_port);
    snprintf(path, sizeof(path), "%s/mosquitto.conf", broker->directory);
    /* Started by root it would become the user 'mosquitto': that user could not write here, and the change would take
     * the parent-death signal away. */
    return file_write(path,
                      "listener %d 127.0.0.1\n"
                      "allow_anonymous true\n"
                      "max_queued_messages 0\n"
                      "set_tcp_nodelay true\n"
                      "persistence true\n"
                      "persistence_location %s/\n"
                      "log_dest stderr\n"
                      "log_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S\n"
                      "%s",
                      broker->port, broker->directory, geteuid() == 0 ? "user root\n" : "");
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

/* A CONNECT of MQTT 3.1.1 with clean session and no client id, and the CONNACK that accepts it. */
static bool mosquitto_answers(const struct broker *broker)
{
    static const unsigned char connect_packet[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x02, 0, 10, 0, 0};
    static const unsigned char connack[] = {0x20, 2, 0, 0};
    static const unsigned char disconnect[] = {0xe0, 0};
    unsigned char answer[sizeof(connack)];
    bool accepted;
    int fd = port_connect(broker->port, PROBE_TIMEOUT_MS);

    if (fd < 0)
        return false;
    accepted = send(fd, connect_packet, sizeof(connect_packet), MSG_NOSIGNAL) == sizeof(connect_packet) &&
               recv(fd, answer, sizeof(answer), MSG_WAITALL) == sizeof(answer) &&
               memcmp(answer, connack, sizeof(connack)) == 0;
    if (accepted)
        send(fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL);
    close(fd);
    return accepted;
}

const struct broker_kind mosquitto_kind = {
    .title = "mosquitto",
    .process = true,
    .start_limit_ms = 15000,
    .stop_limit_ms = 15000,
    .prepare = mosquitto_prepare,
    .start = mosquitto_start,
    .answers = mosquitto_answers,
};
