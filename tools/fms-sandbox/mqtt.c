/* mqtt.c - what mosquitto and Artemis share: the ports, the address, and the question whether it answers. */
#include "sandbox.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROBE_TIMEOUT_MS = 500 };

int mqtt_prepare(struct broker *broker)
{
    int client_port;

    broker->port = port_reserve(broker->wanted_port, &broker->port_fd);
    if (broker->port < 0)
        return broker->port;
    client_port = broker_client_port(broker);
    if (client_port < 0)
        return client_port;
    snprintf(broker->address, sizeof(broker->address), "tcp://%s:%d", listen_address, client_port);
    return broker->is_secured ? secure_prepare(broker, "ssl://") : 0;
}

/* A CONNECT of MQTT 3.1.1 with clean session and no client id, and the CONNACK that accepts it. */
bool mqtt_answers(const struct broker *broker)
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
