/* reload.c - see reload.h. What is printed is printed as it is done; a signal ends who prints, and not what is done. */
#include "reload.h"

#include <jansson.h>
#include <string.h>

#include "lines.h"
#include "terminal.h"

#define TYPE "application/x-ndjson" /* of what /reload answers */

struct reload {
    const struct http *http;
    CURL *request;
    struct lines lines;
    char said[1024]; /* what an answer that is no stream says */
    char result[16]; /* "": not yet */
};

static bool take_line(void *user, const char *line, size_t size)
{
    struct reload *reload = user;
    json_t *told = size > 0 ? json_loadb(line, size, JSON_ALLOW_NUL, NULL) : NULL;
    const json_t *text = json_object_get(told, "line"), *result = json_object_get(told, "result");

    if (json_is_string(text)) {
        terminal_print(json_string_value(text), json_string_length(text));
        putchar('\n');
    }
    if (json_is_string(result))
        snprintf(reload->result, sizeof reload->result, "%s", json_string_value(result));
    json_decref(told);
    return true;
}

static size_t take(char *data, size_t size, size_t count, void *user)
{
    struct reload *reload = user;
    size_t n = strlen(reload->said);
    long status = 0;
    bool is_good;

    curl_easy_getinfo(reload->request, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        snprintf(reload->said + n, sizeof reload->said - n, "%.*s", (int)(size * count), data);
        return size * count;
    }
    is_good = http_is(reload->request, TYPE) && lines_feed(&reload->lines, data, size * count);
    fflush(stdout); /* as it goes on */
    return is_good && !ferror(stdout) ? size * count : 0;
}

/* Where the process has not told how it ended. */
static int say_why(const struct reload *reload, CURLcode code)
{
    const struct http *http = reload->http;
    char why[1024] = "";
    long status = 0;

    curl_easy_getinfo(reload->request, CURLINFO_RESPONSE_CODE, &status);
    if (status != 0 && status != 200)
        http_refusal(http, status, reload->said, why, sizeof why);
    else if (status == 0 || code == CURLE_WRITE_ERROR || code == CURLE_OPERATION_TIMEDOUT)
        http_why(http, reload->request, code, why, sizeof why);
    else
        snprintf(why, sizeof why,
                 "%s: the connection has ended before the outcome was told; the log of the process has it",
                 http->address);
    if (!ferror(stdout)) /* which is for main to judge */
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s", why);
    return 1;
}

static int end(const struct reload *reload, CURLcode code, bool is_dry)
{
    if (strcmp(reload->result, "done") == 0) {
        if (!is_dry)
            puts("reloaded");
        return 0;
    }
    if (strcmp(reload->result, "bad") == 0)
        return 2;
    return *reload->result != '\0' ? 1 : say_why(reload, code);
}

/* While there is nothing to tell the process sends empty lines. */
static int ask(struct reload *reload, bool is_dry)
{
    CURLcode code;
    int status;

    reload->request = http_request(reload->http, is_dry ? "/reload?dry=1" : "/reload");
    if (reload->request == NULL)
        return 1;
    curl_easy_setopt(reload->request, CURLOPT_POST, 1L);
    curl_easy_setopt(reload->request, CURLOPT_POSTFIELDSIZE, 0L);
    curl_easy_setopt(reload->request, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(reload->request, CURLOPT_LOW_SPEED_TIME, (long)HTTP_PATIENCE);
    curl_easy_setopt(reload->request, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(reload->request, CURLOPT_WRITEDATA, reload);
    code = curl_easy_perform(reload->request);
    status = end(reload, code, is_dry);
    curl_easy_cleanup(reload->request);
    lines_free(&reload->lines);
    return status;
}

int reload_run(const struct http *http)
{
    const struct client_host *host = http->host;
    struct reload reload = {.http = http, .lines = {.got = take_line, .user = &reload, .most = HTTP_MOST}};

    if (http->socket == NULL) {
        host->log(FMS_LOG_ERROR, NULL, NULL,
                  "%s works over a unix socket only, since not everybody may change what runs: start fmspipe with"
                  " --admin=unix:/path/of/socket, and give that; see fmspipe --help",
                  host->command);
        return 2;
    }
    return ask(&reload, host->options.is_dry || strcmp(host->command, "plan") == 0);
}
