/* address.c - see address.h. Names are not looked up but for localhost: what a name server says today is no place to listen at. */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#define TCP_FORMS "write 127.0.0.1:9464, [::1]:9464, 0.0.0.0:9464 or unix:/run/fmspipe/bridge.sock"

static const char *parse_unix(const char *path, struct address *address)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address->socket;

    if (*path == '\0')
        return "the path of the socket is missing; write unix:/run/fmspipe/bridge.sock";
    if (strlen(path) >= sizeof un->sun_path)
        return "the path of the socket is longer than 107 bytes, which is the most that the system takes";
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
    address->is_unix = true;
    return NULL;
}

/* Up to 65535, in digits and nothing else. */
static bool parse_port(const char *text, in_port_t *port)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value = digits > 0 && digits <= 5 && text[digits] == '\0' ? strtoul(text, NULL, 10)
                                                                            : UINT16_MAX + 1ul;

    *port = htons((uint16_t)value);
    return value <= UINT16_MAX;
}

static bool parse_ip4(const char *host, struct address *address, in_port_t port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&address->socket;

    if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
        return false;
    in->sin_family = AF_INET;
    in->sin_port = port;
    address->size = sizeof *in;
    address->is_loopback = ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return true;
}

static bool parse_ip6(const char *host, struct address *address, in_port_t port)
{
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&address->socket;

    if (inet_pton(AF_INET6, host, &in->sin6_addr) != 1)
        return false;
    in->sin6_family = AF_INET6;
    in->sin6_port = port;
    address->size = sizeof *in;
    address->is_loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr) ||
                           (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr) && in->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
    return true;
}

/* Takes the brackets off, and NUL in the place of the second; whether there were any. */
static bool strip_brackets(char **host)
{
    size_t size = strlen(*host);
    bool has_brackets = size > 1 && (*host)[0] == '[' && (*host)[size - 1] == ']';

    if (has_brackets) {
        (*host)[size - 1] = '\0';
        ++*host;
    }
    return has_brackets;
}

const char *address_parse(const char *text, struct address *address)
{
    const char *colon = strrchr(text, ':');
    char buffer[INET6_ADDRSTRLEN + 2], *host = buffer;
    in_port_t port;
    bool is_good;

    *address = (struct address){.size = 0};
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, address);
    if (strstr(text, "://") != NULL)
        return "an address has no scheme but unix:; " TCP_FORMS;
    if (colon == NULL)
        return "the port is missing; " TCP_FORMS;
    if (!parse_port(colon + 1, &port))
        return "the port is no number from 0 to 65535; " TCP_FORMS;
    if ((size_t)(colon - text) >= sizeof buffer)
        return "the host is no IP address; " TCP_FORMS;
    memcpy(buffer, text, (size_t)(colon - text));
    buffer[colon - text] = '\0';
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    is_good = strip_brackets(&host) ? parse_ip6(host, address, port) : parse_ip4(host, address, port);
    return is_good ? NULL : "the host is neither an IP address nor localhost; " TCP_FORMS;
}

void address_print(const struct address *address, char text[ADDRESS_TEXT])
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->socket;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->socket;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->socket;
    char host[INET6_ADDRSTRLEN];

    if (address->is_unix)
        snprintf(text, ADDRESS_TEXT, "unix:%s", un->sun_path);
    else if (address->socket.ss_family == AF_INET)
        snprintf(text, ADDRESS_TEXT, "http://%s:%u/", inet_ntop(AF_INET, &in->sin_addr, host, sizeof host),
                 ntohs(in->sin_port));
    else
        snprintf(text, ADDRESS_TEXT, "http://[%s]:%u/", inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host),
                 ntohs(in6->sin6_port));
}

bool address_is_own_host(const char *host)
{
    char buffer[INET6_ADDRSTRLEN + 2 + sizeof ":65535"], *name = buffer, *colon;
    struct address address;
    in_port_t port;

    if (host == NULL)
        return true;
    if (strlen(host) >= sizeof buffer)
        return false;
    memcpy(buffer, host, strlen(host) + 1);
    colon = strrchr(buffer, ':');
    if (colon != NULL && strchr(colon, ']') == NULL) {
        if (!parse_port(colon + 1, &port))
            return false;
        *colon = '\0';
    }
    if (strcasecmp(name, "localhost") == 0)
        return true;
    return (strip_brackets(&name) ? parse_ip6(name, &address, 0) : parse_ip4(name, &address, 0)) && address.is_loopback;
}
