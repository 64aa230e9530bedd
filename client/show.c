/* show.c - see show.h. */
#include "show.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lines.h"
#include "passing.h"
#include "terminal.h"
#include "text.h"

#define COLUMNS 132u                   /* where it cannot be told */
#define TYPE    "application/x-ndjson" /* of what /tap answers */

struct show {
    const struct http *http;
    CURL *request;
    struct lines lines;
    char said[1024]; /* what an answer that is no stream says */
    struct sieve *sieve;
    bool is_json;
    struct passing passing;
    uint64_t shown, dropped, large;
    unsigned silence; /* seconds without a word; while nothing passes the process sends an empty line each second */
    bool has_all;
};

/* --------------------------------------------------------------------------------------------------------- signals */

/* The first signal ends it well, also where what reads standard output does not go on; a second one ends it at once. */
static volatile sig_atomic_t is_interrupted;
static int interrupted_fd;

static void interrupt(int signal)
{
    uint64_t one = 1;
    int before = errno;

    (void)signal;
    is_interrupted = 1;
    if (write(interrupted_fd, &one, sizeof one) < 0)
        is_interrupted = 2; /* an eventfd that cannot count to 2^64 */
    errno = before;
}

/* The descriptor that is readable when one has come. SIGHUP that is ignored, as by nohup, stays so. */
static int catch_signals(void)
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction before, action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};

    interrupted_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] != SIGHUP || (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN))
            sigaction(all[i], &action, NULL);
    }
    return interrupted_fd;
}

/* ---------------------------------------------------------------------------------------------------------- a line */

static void print_text(const struct show *show)
{
    size_t columns = terminal_columns();
    char *text = passing_text(&show->passing, columns > 0 ? columns : COLUMNS);

    if (text != NULL)
        puts(text);
    free(text);
}

/* Of a large payload only the beginning came, which is no JSON any more. */
static bool is_wanted(struct show *show)
{
    const struct client_host *host = show->http->host;
    bool passes = show->sieve == NULL || host->sieve_passes(show->sieve, &show->passing.record);

    show->large += !passes && show->passing.payload_size > show->passing.record.payload.size;
    return passes;
}

static void take_record(struct show *show, const json_t *record, const char *line, size_t size)
{
    int64_t limit = show->http->host->options.limit;

    if (passing_read(&show->passing, record) && is_wanted(show)) {
        if (show->is_json) {
            terminal_print(line, size);
            putchar('\n');
        } else {
            print_text(show);
        }
        show->shown++;
        show->has_all = limit > 0 && show->shown >= (uint64_t)limit;
    }
    passing_clear(&show->passing);
}

/* An empty line says that nothing passes, {"dropped":n} how many were so far. */
static bool take_line(void *user, const char *line, size_t size)
{
    struct show *show = user;
    json_t *record = size > 0 ? json_loadb(line, size, JSON_ALLOW_NUL, NULL) : NULL;
    const json_t *dropped = json_object_get(record, "dropped");

    if (json_is_integer(dropped))
        show->dropped = (uint64_t)json_integer_value(dropped);
    else if (record != NULL)
        take_record(show, record, line, size);
    json_decref(record);
    return !show->has_all && !is_interrupted;
}

static size_t take(char *data, size_t size, size_t count, void *user)
{
    struct show *show = user;
    long status = 0;
    size_t n = strlen(show->said);
    bool is_good;

    if (show->silence >= HTTP_PATIENCE)
        show->http->host->log(FMS_LOG_INFO, NULL, NULL, "%s is heard again", show->http->address);
    show->silence = 0;
    curl_easy_getinfo(show->request, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        snprintf(show->said + n, sizeof show->said - n, "%.*s", (int)(size * count), data);
        return size * count;
    }
    is_good = http_is(show->request, TYPE) && lines_feed(&show->lines, data, size * count);
    if (!is_interrupted)
        fflush(stdout); /* as they pass */
    return is_good && !ferror(stdout) ? size * count : 0;
}

/* ------------------------------------------------------------------------------------------------------- the request */

static int misused(const struct http *http, const char *what)
{
    http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s; see fmspipe --help", what);
    return 2;
}

/* "sink kafka" may stand there as two words. To be freed. */
static char *stage_of(const struct client_host *host, size_t words)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        return NULL;
    for (size_t i = 0; i < words; i++)
        fprintf(to, "%s%s", i > 0 ? " " : "", host->words[i]);
    return fclose(to) == 0 ? text : NULL;
}

/* Which records are to be shown is for us to say, so the limit is ours, too, where there is a condition. */
static char *path_of(const struct client_host *host, size_t words)
{
    const struct client_options *options = &host->options;
    char *stage = stage_of(host, words), *escaped = curl_easy_escape(NULL, stage, 0), *path = NULL;
    char *pipeline = options->pipeline != NULL ? curl_easy_escape(NULL, options->pipeline, 0) : NULL;
    int64_t limit = options->where == NULL ? options->limit : 0;

    if (asprintf(&path, "/tap?stage=%s&point=%s&limit=%lld&rate=%lld%s%s", escaped != NULL ? escaped : "",
                 options->is_dead  ? "dead"
                 : options->is_out ? "out"
                                   : "in",
                 (long long)limit, (long long)options->rate, pipeline != NULL ? "&pipeline=" : "",
                 pipeline != NULL ? pipeline : "") < 0)
        path = NULL;
    curl_free(escaped);
    curl_free(pipeline);
    free(stage);
    return path;
}

/* However its connection ends, a stream that has begun ends with its pipeline. The exit status: whether there was what was asked for. */
static int judge_end(const struct show *show, CURLcode code)
{
    const struct client_host *host = show->http->host;
    char why[1024] = "";
    long status = 0;

    curl_easy_getinfo(show->request, CURLINFO_RESPONSE_CODE, &status);
    if (show->has_all)
        return 0;
    if (status != 0 && status != 200)
        http_refusal(show->http, status, show->said, why, sizeof why);
    else if (status == 0 || code == CURLE_WRITE_ERROR || !http_is(show->request, TYPE))
        http_why(show->http, show->request, status == 0 ? code : CURLE_WRITE_ERROR, why, sizeof why);
    else if (host->options.limit > 0 && show->shown < (uint64_t)host->options.limit)
        snprintf(why, sizeof why, "%s: the stream has ended before that many records had passed", show->http->address);
    if (*why != '\0')
        host->log(FMS_LOG_ERROR, NULL, NULL, "%s", why);
    else
        host->log(FMS_LOG_INFO, NULL, NULL, "%s: %s", show->http->address,
                  code == CURLE_OK ? "the pipeline has ended"
                                   : "the connection has ended: the process has, or did not wait for a slow reader");
    return *why != '\0';
}

static void tell(const struct show *show)
{
    void (*log)(enum fms_level, const char *, const char *, const char *, ...) FMS_PRINTF(4, 5) = show->http->host->log;

    if (show->large > 0)
        log(FMS_LOG_WARN, NULL, NULL,
            "--where saw only the first 64 KiB of %llu payloads, and did not hold: what is cut is no JSON any more",
            (unsigned long long)show->large);
    log(FMS_LOG_INFO, NULL, NULL, "records shown: %llu; dropped by then, since what reads them was too slow: %llu",
        (unsigned long long)show->shown, (unsigned long long)show->dropped);
}

/* Who has not begun to answer is given up; who does not go on may do so later. False: there is nothing to wait for. */
static bool wait_on(struct show *show)
{
    const struct http *http = show->http;
    long status = 0;
    char why[512];

    if (++show->silence != HTTP_PATIENCE)
        return true;
    curl_easy_getinfo(show->request, CURLINFO_RESPONSE_CODE, &status);
    if (status == 0) {
        http_why(http, show->request, CURLE_OPERATION_TIMEDOUT, why, sizeof why);
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s", why);
    } else {
        http->host->log(FMS_LOG_WARN, NULL, NULL, "%s has said nothing for %d s: it is overloaded or stopped",
                        http->address, HTTP_PATIENCE);
    }
    return status != 0;
}

/* Until it ends, or a signal comes. */
static int follow(struct show *show, int signals)
{
    struct curl_waitfd others = {signals, CURL_WAIT_POLLIN, 0};
    CURLM *multi = curl_multi_init();
    CURLMsg *message = NULL;
    int running, left, ready, status = 0;

    curl_multi_add_handle(multi, show->request);
    while (status == 0 && !is_interrupted) {
        curl_multi_perform(multi, &running);
        message = curl_multi_info_read(multi, &left);
        if (message != NULL)
            break;
        curl_multi_poll(multi, &others, 1, 1000, &ready);
        status = ready > 0 || wait_on(show) ? 0 : 1;
    }
    if (message != NULL && !is_interrupted) /* standard output is for main to judge */
        status = ferror(stdout) ? 1 : judge_end(show, message->data.result);
    curl_multi_remove_handle(multi, show->request);
    curl_multi_cleanup(multi);
    return status;
}

static int show_all(struct show *show, size_t words)
{
    char *path = path_of(show->http->host, words);
    int signals = catch_signals(), status = 1;

    show->request = path != NULL ? http_request(show->http, path) : NULL;
    if (show->request != NULL && signals >= 0) {
        curl_easy_setopt(show->request, CURLOPT_WRITEFUNCTION, take);
        curl_easy_setopt(show->request, CURLOPT_WRITEDATA, show);
        status = follow(show, signals);
        if ((status == 0 || show->shown > 0) && !ferror(stdout))
            tell(show);
    }
    curl_easy_cleanup(show->request);
    lines_free(&show->lines);
    close(signals);
    free(path);
    return status;
}

int show_run(const struct http *http, size_t words)
{
    const struct client_host *host = http->host;
    const char *const sieve[] = {"condition", host->options.where, "on_bad_json", "drop", NULL};
    struct show *show;
    int status;

    if (words == 0)
        return misused(http, "tap needs a STAGE, as in fmspipe tap \"sink kafka\" unix:/run/fmspipe/bridge.sock");
    if (host->options.is_out && host->options.is_dead)
        return misused(http, "tap shows what comes --out, or what was rejected (--dead), not both");
    if (http->socket == NULL)
        return misused(http, "tap works over a unix socket only, since it shows data: start fmspipe with"
                             " --admin=unix:/path/of/socket, and give that");
    show = calloc(1, sizeof *show);
    if (show == NULL)
        return 1;
    show->http = http;
    show->is_json = host->options.is_json || !isatty(STDOUT_FILENO);
    show->lines = (struct lines){.got = take_line, .user = show, .most = HTTP_MOST};
    if (host->options.where != NULL)
        show->sieve = host->sieve_new("--where", "filter", sieve);
    status = host->options.where != NULL && show->sieve == NULL ? 2 : show_all(show, words);
    host->sieve_free(show->sieve);
    free(show);
    return status;
}
