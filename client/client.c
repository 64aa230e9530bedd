/* client.c - see core/client.h. */
#include "client.h"

#include <string.h>

#include "http.h"
#include "reload.h"
#include "show.h"
#include "status.h"
#include "text.h"
#include "top.h"

static const struct {
    const char *name;
    int (*run)(const struct http *http);
} commands[] = {{"health", health_run}, {"status", status_run}, {"top", top_run}, {"reload", reload_run}};

static int dispatch(const struct http *http, size_t words)
{
    const struct client_host *host = http->host;
    int status = 2;

    if (strcmp(host->command, "tap") == 0)
        return show_run(http, words);
    if (strcmp(host->command, "plan") == 0)
        return plan_run(http, words);
    if (words > 0) {
        host->log(FMS_LOG_ERROR, NULL, NULL, "%s takes an address, unix:/path/of/socket or host:port, and not: %s%s",
                  host->command, host->words[0],
                  strcmp(host->command, "reload") == 0
                      ? "; the process reads its own files, and fmspipe plan FILE ADDRESS"
                        " tells what another one would change"
                      : "");
        return status;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, host->command) == 0)
            status = commands[i].run(http);
    }
    return status;
}

static int client_main(const struct client_host *host)
{
    struct http http;
    size_t words;
    int status;

    text_setup();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = http_open(&http, host, &words);
    if (status == 0)
        status = dispatch(&http, words);
    http_close(&http);
    curl_global_cleanup();
    return status;
}

__attribute__((visibility("default"))) const struct client_table *fmspipe_client(void);
const struct client_table *fmspipe_client(void)
{
    static const struct client_table table = {FMS_VERSION, client_main};

    return &table;
}
