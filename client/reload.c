/* reload.c - see reload.h. What is printed is printed as it is done; a signal ends who prints, and not what is done. */
#include "reload.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "terminal.h"
#include "view.h"

#define NO_SOCKET                                                                                                      \
    "%s works over a unix socket only, since not everybody may change what runs: start fmspipe with"                   \
    " --admin=unix:/path/of/socket, and give that; see fmspipe --help"
#define TYPE "application/x-ndjson" /* of what /reload answers */

struct reload {
    const struct http *http;
    CURL *request;
    const char *path; /* that is asked for */
    const char *text; /* and what goes with it */
    size_t size;
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
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: text/plain");
    CURLcode code;
    int status;

    reload->request = http_request(reload->http, reload->path);
    if (reload->request == NULL) {
        curl_slist_free_all(headers);
        return 1;
    }
    curl_easy_setopt(reload->request, CURLOPT_POST, 1L);
    curl_easy_setopt(reload->request, CURLOPT_POSTFIELDSIZE, (long)reload->size);
    curl_easy_setopt(reload->request, CURLOPT_POSTFIELDS, reload->text);
    curl_easy_setopt(reload->request, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(reload->request, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(reload->request, CURLOPT_LOW_SPEED_TIME, (long)HTTP_PATIENCE);
    curl_easy_setopt(reload->request, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(reload->request, CURLOPT_WRITEDATA, reload);
    code = curl_easy_perform(reload->request);
    status = end(reload, code, is_dry);
    curl_easy_cleanup(reload->request);
    curl_slist_free_all(headers);
    lines_free(&reload->lines);
    return status;
}

static int run(const struct http *http, const char *path, const char *text, size_t size, bool is_dry)
{
    struct reload reload = {.http = http,
                            .path = path,
                            .text = text,
                            .size = size,
                            .lines = {.got = take_line, .user = &reload, .most = HTTP_MOST}};

    if (http->socket != NULL)
        return ask(&reload, is_dry);
    http->host->log(FMS_LOG_ERROR, NULL, NULL, NO_SOCKET, http->host->command);
    return 2;
}

/* ------------------------------------------------------------------------------------------------ a file that is given */

/* All of it, to be freed, or NULL: errno says why; EFBIG: it is larger than may be sent. */
static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *text = file != NULL ? malloc(RELOAD_TEXT + 1) : NULL;
    int error = errno;

    if (text != NULL) {
        errno = 0;
        *size = fread(text, 1, RELOAD_TEXT + 1, file);
        error = ferror(file) ? errno : *size > RELOAD_TEXT ? EFBIG : 0;
    }
    if (file != NULL)
        fclose(file);
    if (text != NULL && error == 0)
        return text;
    free(text);
    errno = error;
    return NULL;
}

/* What is asked for with a file of that name; to be freed. NULL: no memory. */
static char *path_of(const char *query, const char *file)
{
    char *escaped = curl_easy_escape(NULL, file, 0), *path = NULL;

    if (escaped == NULL || asprintf(&path, "/reload?%s=%s", query, escaped) < 0)
        path = NULL;
    curl_free(escaped);
    return path;
}

/* What cannot be sent; the exit status. */
static int refuse(const struct http *http, const char *file, int error)
{
    const struct client_host *host = http->host;

    if (error == EFBIG)
        host->log(FMS_LOG_ERROR, NULL, NULL,
                  "%s: larger than %u KiB, which a process takes of a file that is sent to it", file,
                  RELOAD_TEXT >> 10);
    else
        host->log(FMS_LOG_ERROR, NULL, NULL, "%s: cannot be read: %s", file, strerror(error));
    return 2;
}

/* `query`: what the file is for the process. Where `may_miss`, one that is not there is an empty one. */
static int run_with(const struct http *http, const char *query, const char *file, bool may_miss, bool is_dry)
{
    size_t size = 0;
    char *text = read_file(file, &size), *path;
    int status = 1;

    if (text == NULL && !(may_miss && errno == ENOENT))
        return refuse(http, file, errno);
    path = path_of(query, file);
    if (path != NULL)
        status = run(http, path, text != NULL ? text : "", size, is_dry);
    else
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "out of memory");
    free(path);
    free(text);
    return status;
}

/* With the file of --env-file, where there is one. */
static int run_own(const struct http *http, bool is_dry)
{
    const char *file = http->host->options.env_file;
    bool may_miss = file != NULL && *file == '-';

    if (file == NULL)
        return run(http, is_dry ? "/reload?dry=1" : "/reload", "", 0, is_dry);
    return run_with(http, is_dry ? "dry=1&env" : "env", file + may_miss, may_miss, is_dry);
}

int reload_run(const struct http *http)
{
    return run_own(http, http->host->options.is_dry);
}

int plan_run(const struct http *http, size_t words)
{
    const struct client_host *host = http->host;

    if (words > 1)
        host->log(FMS_LOG_ERROR, NULL, NULL, "plan takes one file, and an address, unix:/path/of/socket: what is %s?",
                  host->words[1]);
    else if (words == 1 && host->options.env_file != NULL)
        host->log(FMS_LOG_ERROR, NULL, NULL, "plan takes one file, %s or that of --env-file: ask twice",
                  host->words[0]);
    else
        return words == 1 ? run_with(http, "dry=1&file", host->words[0], false, true) : run_own(http, true);
    return 2;
}
