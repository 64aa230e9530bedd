/* http.c - see http.h. */
#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "text.h"

#define NO_ADDRESS "an address is unix:/path/of/socket or host:port, not"

enum { FAILED = 1, MISUSED = 2 };

/* -------------------------------------------------------------------------------------------------------- addresses */

static bool is_port(const char *text)
{
    char *end;
    long port = strtol(text, &end, 10);

    return *text >= '0' && *text <= '9' && *end == '\0' && port > 0 && port < 65536;
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_path(const char *text)
{
    return *text == '/' || has_prefix(text, "./") || has_prefix(text, "../");
}

/* Of something that stands there, and is no socket. */
static bool is_file(const char *path)
{
    struct stat file;

    return stat(path, &file) == 0 && !S_ISSOCK(file.st_mode);
}

static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');

    return (is_path(text) && !is_file(text)) || has_prefix(text, "unix:") || has_prefix(text, "http://") ||
           (colon != NULL && colon != text && is_port(colon + 1));
}

static int misused(const struct http *http, const char *what, const char *value)
{
    http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s%s%s; see fmspipe --help", what, value != NULL ? ": " : "",
                    value != NULL ? value : "");
    return MISUSED;
}

static int out_of_memory(const struct http *http)
{
    http->host->log(FMS_LOG_ERROR, NULL, NULL, "out of memory");
    return FAILED;
}

/* host:port, http://host:port or http://host:port/ */
static int parse_tcp(struct http *http, const char *address)
{
    const char *rest = has_prefix(address, "http://") ? address + strlen("http://") : address;
    size_t n = strlen(rest);

    if (n > 0 && rest[n - 1] == '/')
        n--;
    if (n == 0 || strcspn(rest, "/@?#* ") < n)
        return misused(http, NO_ADDRESS, address);
    return asprintf(&http->base, "http://%.*s", (int)n, rest) >= 0 ? 0 : out_of_memory(http);
}

static int parse_address(struct http *http, const char *address)
{
    const char *path = has_prefix(address, "unix:") ? address + strlen("unix:") : address;

    if (path == address && !is_path(path))
        return parse_tcp(http, address);
    if (*path == '\0')
        return misused(http, NO_ADDRESS, address);
    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return misused(http, "the path of a socket has 107 bytes at most, and this more", address);
    http->socket = strdup(path);
    http->base = strdup("http://fmspipe");
    return http->socket != NULL && http->base != NULL ? 0 : out_of_memory(http);
}

/* 0, or an exit status where it is not. */
static int check_last(const struct http *http)
{
    const struct client_host *host = http->host;

    for (size_t i = 0; i + 1 < host->count; i++) {
        if (is_address(host->words[i]))
            return misused(http, "the address stands last, with nothing behind it", host->words[i + 1]);
    }
    return 0;
}

/* Where none of the words is taken for one. */
static int no_address(const struct http *http)
{
    const struct client_host *host = http->host;

    if (host->count > 0 && strcmp(host->command, "plan") == 0)
        return misused(http, "plan takes the address of a process, unix:/path/of/socket, behind", host->words[0]);
    if (host->count > 0 && strcmp(host->command, "tap") != 0)
        return misused(http, NO_ADDRESS, host->words[0]);
    return misused(http,
                   "there is no address: give that of --admin, unix:/path/of/socket or host:port, or set FMSPIPE_ADMIN",
                   NULL);
}

/* ------------------------------------------------------------------------------------------------------- the request */

/* The user's name does not matter to fmspipe. */
static int read_password(struct http *http, const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    bool is_read = file != NULL && getline(&line, &size, file) >= 0;

    if (!is_read)
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "cannot read the password in %s: %s", path,
                        errno != 0 ? strerror(errno) : "the file is empty");
    if (file != NULL)
        fclose(file);
    if (is_read) {
        line[strcspn(line, "\r\n")] = '\0';
        if (asprintf(&http->credentials, "fmspipe:%s", line) < 0)
            http->credentials = NULL;
    }
    free(line);
    return is_read ? 0 : MISUSED;
}

int http_open(struct http *http, const struct client_host *host, size_t *words)
{
    const char *password_file = host->options.password_file;
    bool is_given = host->count > 0 && is_address(host->words[host->count - 1]);
    int status;

    *http = (struct http){.host = host, .address = host->options.address};
    *words = host->count - is_given;
    if (is_given)
        http->address = host->words[host->count - 1];
    status = is_given ? 0 : check_last(http);
    if (status == 0 && http->address == NULL)
        status = no_address(http);
    if (status != 0)
        return status;
    errno = 0;
    status = parse_address(http, http->address);
    if (status == 0 && password_file != NULL)
        status = read_password(http, password_file);
    return status;
}

void http_close(struct http *http)
{
    free(http->socket);
    free(http->base);
    free(http->credentials);
}

CURL *http_request(const struct http *http, const char *path)
{
    CURL *request = curl_easy_init();
    char *url;

    if (request == NULL || asprintf(&url, "%s%s", http->base, path) < 0) {
        curl_easy_cleanup(request);
        return NULL;
    }
    curl_easy_setopt(request, CURLOPT_URL, url);
    free(url);
    if (http->socket != NULL)
        curl_easy_setopt(request, CURLOPT_UNIX_SOCKET_PATH, http->socket);
    if (http->credentials != NULL)
        curl_easy_setopt(request, CURLOPT_USERPWD, http->credentials);
    curl_easy_setopt(request, CURLOPT_PROXY, ""); /* whatever the environment says: it is near */
    curl_easy_setopt(request, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(request, CURLOPT_CONNECTTIMEOUT, (long)HTTP_PATIENCE);
    return request;
}

/* ------------------------------------------------------------------------------------------------------ the answer */

bool http_is(CURL *request, const char *type)
{
    char *what = NULL;

    curl_easy_getinfo(request, CURLINFO_CONTENT_TYPE, &what);
    return what != NULL && has_prefix(what, type);
}

static void why_not_connected(const struct http *http, CURL *request, char *text, size_t size)
{
    long error = 0;

    curl_easy_getinfo(request, CURLINFO_OS_ERRNO, &error);
    if (error == EACCES || error == EPERM)
        snprintf(text, size, "%s may not be used by you: be the user that fmspipe runs as", http->address);
    else if (http->socket != NULL && is_file(http->socket))
        snprintf(text, size, "%s is no socket: an address is what --admin says of a process", http->address);
    else
        snprintf(text, size, "nobody listens at %s: does fmspipe run, with --admin=%s%s?", http->address,
                 *http->address != '/' ? "" : "unix:", http->address);
}

void http_why(const struct http *http, CURL *request, CURLcode code, char *text, size_t size)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        why_not_connected(http, request, text, size);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        snprintf(text, size, "%s: there is no host of that name", http->address);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(text, size, "%s has not answered within %d s: it is overloaded, stopped, or no fmspipe", http->address,
                 HTTP_PATIENCE);
        break;
    case CURLE_WRITE_ERROR:
        snprintf(text, size, "what answers at %s is no fmspipe, or says more than %u MiB", http->address,
                 HTTP_MOST >> 20);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
        snprintf(text, size, "what answers at %s is no fmspipe: %s", http->address, curl_easy_strerror(code));
        break;
    default:
        snprintf(text, size, "%s: %s", http->address, curl_easy_strerror(code));
    }
}

void http_refusal(const struct http *http, long status, const char *body, char *text, size_t size)
{
    char said[800];

    text_clean(body, strcspn(body, "\r\n"), said, sizeof said);
    if (status == 200)
        *text = '\0';
    else if (status == 401)
        snprintf(text, size, "%s: %s", http->address,
                 http->credentials == NULL ? "it wants a password: give --admin-password-file"
                                           : "it does not take the password of --admin-password-file");
    else if (status == 405 || (status == 404 && *said == '\0'))
        snprintf(text, size, "what answers at %s is no fmspipe, or an older one: it does not know what was asked",
                 http->address);
    else if (*said != '\0' && (status < 500 || status == 503))
        snprintf(text, size, "%s: %s", http->address, said);
    else
        snprintf(text, size, "%s: it answers with HTTP status %ld%s%s", http->address, status,
                 *said != '\0' ? ": " : "", said);
}

struct buffer {
    struct http_answer *answer;
    size_t capacity;
};

static size_t keep(char *data, size_t size, size_t count, void *user)
{
    struct buffer *buffer = user;
    struct http_answer *answer = buffer->answer;
    size_t needed = answer->size + size * count + 1;

    if (needed > HTTP_MOST)
        return 0;
    if (needed > buffer->capacity) {
        size_t capacity = needed > 2 * buffer->capacity ? needed : 2 * buffer->capacity;
        char *grown = realloc(answer->text, capacity);

        if (grown == NULL)
            return 0;
        answer->text = grown;
        buffer->capacity = capacity;
    }
    memcpy(answer->text + answer->size, data, size * count);
    answer->size += size * count;
    answer->text[answer->size] = '\0';
    return size * count;
}

int http_get(const struct http *http, const char *path, struct http_answer *answer)
{
    CURL *request = http_request(http, path);
    struct buffer buffer = {answer, 1};
    char why[512];
    CURLcode code;

    *answer = (struct http_answer){.text = calloc(1, 1)};
    if (request == NULL || answer->text == NULL) {
        curl_easy_cleanup(request);
        return out_of_memory(http);
    }
    curl_easy_setopt(request, CURLOPT_TIMEOUT, (long)HTTP_PATIENCE);
    curl_easy_setopt(request, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(request, CURLOPT_WRITEDATA, &buffer);
    code = curl_easy_perform(request);
    if (code != CURLE_OK) {
        http_why(http, request, code, why, sizeof why);
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s", why);
    }
    curl_easy_getinfo(request, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_easy_cleanup(request);
    return code == CURLE_OK ? 0 : FAILED;
}
