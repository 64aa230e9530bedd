/* transport.h - a byte stream to a broker, over TCP or TLS, that never blocks.
 *
 * A name is looked up by a thread of its own, since the system offers no other way not to wait for it; all else happens in
 * the calls below, on one thread. */
#ifndef MQTT_INGEST_TRANSPORT_H
#define MQTT_INGEST_TRANSPORT_H

#include <sys/types.h>

#include "../mqtt_common/mqtt_common.h"

struct transport;

/* Reads the certificates, as each connection does anew. 0 or a negative errno, logged. `options`, which mqtt_check has seen, and `alpn` (NULL: none)
 * outlive it. */
int transport_new(struct transport **result, const struct mqtt_options *options, const char *alpn,
                  const struct fms_host *host);
void transport_free(struct transport *transport);

/* Begins to connect, and transport_connect goes on with it: each time to the next of the addresses that a server's name has,
 * and of the servers, so that whatever is wrong with one does not keep us from the others. */
void transport_open(struct transport *transport, int64_t now);
void transport_close(struct transport *transport);
/* Nothing more will be written; the broker sees the end once it has read the rest. */
void transport_finish(struct transport *transport);
/* This connection has proved good: after it the first server is tried first again. */
void transport_prove(struct transport *transport);
/* The next attempt goes to the same address: what was wrong was not the address. */
void transport_stay(struct transport *transport);
/* All addresses of all servers were tried: the next attempt begins with the first server again. */
bool transport_is_last(const struct transport *transport);
/* The server that it is or was connected to, or tried last. */
const struct mqtt_url *transport_server(const struct transport *transport);

/* 0: connected, the handshake of TLS included. -EAGAIN: call again when `wait` says. Another negative errno: it failed,
 * and transport_reason says why. */
int transport_connect(struct transport *transport, int64_t now, struct fms_wait *wait);

/* How many bytes were read or written, at least one. -EAGAIN: none now; -EPIPE: the connection is over. */
ssize_t transport_read(struct transport *transport, void *to, size_t size);
ssize_t transport_write(struct transport *transport, const void *from, size_t size);

/* Fills in what to wait for to go on with reading, writing, or both; neither: nothing. True: do not wait, there is more to
 * be read already. */
bool transport_wait(const struct transport *transport, bool for_reading, bool for_writing, struct fms_wait *wait);

/* Why it failed or is over, in words. */
const char *transport_reason(const struct transport *transport);
/* The broker closed it and gave no reason, not even by an alert of TLS. */
bool transport_was_closed(const struct transport *transport);

#endif
