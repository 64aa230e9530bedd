/* address.h - where the watch listens. */
#ifndef FMS_ADDRESS_H
#define FMS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct address {
    struct sockaddr_storage socket;
    socklen_t size;
    bool is_unix;
    bool is_loopback; /* TCP that this machine alone reaches */
};

/* Reads `unix:PATH`, `127.0.0.1:PORT`, `[::1]:PORT` or `localhost:PORT`, any numbers of addresses, port 0 for any that is free. NULL,
 * or what is wrong with it. */
const char *address_parse(const char *text, struct address *address);

/* As a browser or `curl` is told: "http://127.0.0.1:9464/", "unix:/run/fmspipe/bridge.sock". */
#define ADDRESS_TEXT 128u
void address_print(const struct address *address, char text[ADDRESS_TEXT]);

/* Whether a Host header, NULL for none, names the machine itself, as those do that a browser was led to by whoever typed them. A page
 * of another name, which that name's owner has moved to a loopback address, says that name. */
bool address_is_own_host(const char *host);

#endif
