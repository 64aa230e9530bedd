/* mqtt_transport.h - a byte stream to a broker, over TCP or TLS, that never blocks.
 *
 * A name is looked up by a thread of its own, since the system offers no other way not to wait for it; all else happens in
 * the calls below, on one thread. */
#ifndef MQTT_INGEST_TRANSPORT_H
#define MQTT_INGEST_TRANSPORT_H

#include <sys/types.h>

#include "../mqtt_common/mqtt_common.h"

struct mqtt_transport;

/* Reads the certificates, as each connection does anew. 0 or a negative errno, logged. `options`, which mqtt_check has seen, and `alpn` (NULL: none)
 * outlive it. */
int mqtt_transport_new(struct mqtt_transport **result, const struct mqtt_options *options, const char *alpn,
                       const struct fms_host *host);
void mqtt_transport_free(struct mqtt_transport *transport);

/* Begins to connect, and mqtt_transport_connect goes on with it: each time to the next of the addresses that a server's name has,
 * and of the servers, so that whatever is wrong with one does not keep us from the others. */
void mqtt_transport_open(struct mqtt_transport *transport, int64_t now);
void mqtt_transport_close(struct mqtt_transport *transport);
/* Nothing more will be written; the broker sees the end once it has read the rest. */
void mqtt_transport_finish(struct mqtt_transport *transport);
/* This connection has proved good: after it the first server is tried first again. */
void mqtt_transport_prove(struct mqtt_transport *transport);
/* The next attempt goes to the same address: what was wrong was not the address. */
void mqtt_transport_stay(struct mqtt_transport *transport);
/* All addresses of all servers were tried: the next attempt begins with the first server again. */
bool mqtt_transport_is_last(const struct mqtt_transport *transport);
/* The server that it is or was connected to, or tried last. */
const struct mqtt_url *mqtt_transport_server(const struct mqtt_transport *transport);

/* 0: connected, the handshake of TLS included. -EAGAIN: call again when `wait` says. Another negative errno: it failed,
 * and mqtt_transport_reason says why. */
int mqtt_transport_connect(struct mqtt_transport *transport, int64_t now, struct fms_wait *wait);

/* How many bytes were read or written, at least one. -EAGAIN: none now; -EPIPE: the connection is over. */
ssize_t mqtt_transport_read(struct mqtt_transport *transport, void *to, size_t size);
ssize_t mqtt_transport_write(struct mqtt_transport *transport, const void *from, size_t size);

/* Fills in what to wait for to go on with reading, writing, or both; neither: nothing. True: do not wait, there is more to
 * be read already. */
bool mqtt_transport_wait(const struct mqtt_transport *transport, bool for_reading, bool for_writing,
                         struct fms_wait *wait);

/* Why it failed or is over, in words. */
const char *mqtt_transport_reason(const struct mqtt_transport *transport);
/* The broker closed it and gave no reason, not even by an alert of TLS. */
bool mqtt_transport_was_closed(const struct mqtt_transport *transport);

#endif
