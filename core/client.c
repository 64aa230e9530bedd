/* client.c - see client.h. */
#include "client.h"

#include <stdlib.h>

#include "loader.h"

int client_run(const char *command, char *const *words, size_t count, const struct client_options *options)
{
    const struct client_table *client = loader_open_own("fmspipe-client", CLIENT_ENTRY, "this command");
    struct client_host host = {command, words, count, *options, log_line, sieve_new, sieve_passes, sieve_free};

    return client != NULL ? client->run(&host) : EXIT_FAILURE;
}
