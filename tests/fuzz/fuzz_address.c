/* fuzz_address.c - any text as an address of the watch, and as a Host header: what is an address reads the same after it was
 * printed, and a host that is the machine's own is a loopback address, or localhost. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../admin/address.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* As it was read: http://127.0.0.1:80/ without what is about it. */
static void strip(char *text)
{
    size_t size = strlen(text);

    if (strncmp(text, "http://", 7) != 0)
        return;
    expect(text[size - 1] == '/');
    memmove(text, text + 7, size - 8);
    text[size - 8] = '\0';
}

static void check_address(const char *text)
{
    char printed[ADDRESS_TEXT];
    struct address address, again;
    const char *fault = address_parse(text, &address);

    if (fault != NULL) {
        expect(*fault != '\0');
        return;
    }
    expect(address.size > 0 && address.size <= sizeof address.socket);
    expect(!address.is_unix || !address.is_loopback);
    address_print(&address, printed);
    strip(printed);
    expect(address_parse(printed, &again) == NULL);
    expect(again.size == address.size && memcmp(&again.socket, &address.socket, address.size) == 0);
    if (!address.is_unix)
        expect(address_is_own_host(printed) == address.is_loopback);
}

static void check_host(const char *text)
{
    char with_port[256];
    struct address address;

    if (!address_is_own_host(text) || strncasecmp(text, "localhost", 9) == 0)
        return;
    snprintf(with_port, sizeof with_port, "%s", text);
    if (address_parse(with_port, &address) != NULL)
        snprintf(with_port, sizeof with_port, "%s:80", text);
    expect(address_parse(with_port, &address) == NULL && address.is_loopback);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_address(text);
    check_host(text);
    free(text);
    return 0;
}
