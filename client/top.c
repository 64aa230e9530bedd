/* top.c - see top.h.
 *
 * One thread, one poll: the stream of events, keys, and signals, which come through a descriptor, so that whatever ends it the screen is
 * given back. Nothing that is not heard any more looks as if all were well. */
#include "top.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "draw.h"
#include "lines.h"
#include "terminal.h"
#include "text.h"

#define SILENCE 5.0 /* seconds without an event until the process is taken for lost; it sends one each second */
#define RETRY   1.0
#define TYPE    "text/event-stream"

struct top {
    const struct http *http;
    CURLM *multi;
    CURL *request; /* NULL: none is under way */
    struct lines lines;
    char said[256]; /* what an answer that is no stream says */
    bool is_drawn;  /* on a terminal; else lines are printed */
    int signals;

    json_t *document; /* the latest; NULL: there was none */
    bool is_lost;
    double heard_at, retry_at, lost_at; /* on `now` */
    char why[800];

    bool is_taken; /* the screen */
    bool is_paused, must_draw, must_end;
    double drawn_at;
    size_t first; /* the line that stands on top */
    int status;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---------------------------------------------------------------------------------------------------------- printing */

/* What it shows can be seen no more. */
static void end_unseen(struct top *top)
{
    snprintf(top->why, sizeof top->why, "standard output is not there any more");
    top->must_end = true;
    top->status = 1;
}

/* Where there is no terminal: a line a pipeline. */
static void print_lines(struct top *top)
{
    const json_t *pipelines = json_object_get(top->document, "pipelines"), *pipeline;
    char when[16];
    size_t i;

    draw_time((double)time(NULL), when, sizeof when);
    json_array_foreach(pipelines, i, pipeline)
    {
        struct drawing drawing = {0};

        draw_text(&drawing, STYLE_PLAIN, 0, "%s %s: %s", when, draw_string(pipeline, "name"),
                  draw_string(pipeline, "sentence"));
        if (drawing.count > 0)
            puts(drawing.lines[0].text);
        draw_free(&drawing);
    }
    if (fflush(stdout) != 0)
        end_unseen(top);
}

static void draw_head(const struct top *top, struct drawing *drawing, size_t columns)
{
    double started = json_number_value(json_object_get(top->document, "started"));
    double at = json_number_value(json_object_get(top->document, "time"));
    char up[32], since[16], lost[32];

    draw_duration(at - started, up, sizeof up);
    draw_text(drawing, STYLE_STRONG, 0, "fmspipe %s, process %lld, up %s, at %s%s",
              draw_string(top->document, "fmspipe"),
              (long long)json_integer_value(json_object_get(top->document, "pid")), up, top->http->address,
              top->is_paused ? " - PAUSED" : "");
    if (top->is_lost) {
        draw_time((double)time(NULL) - (now() - top->lost_at), since, sizeof since);
        draw_duration(now() - top->lost_at, lost, sizeof lost);
        draw_text(drawing, STYLE_BAD, columns, "NOTHING IS HEARD since %s, for %s: %s", since, lost, top->why);
        draw_text(drawing, STYLE_BAD, columns, "It is tried again each second; what stands below was heard last.");
    }
    draw_text(drawing, STYLE_PLAIN, 0, "%s", "");
}

static void draw_screen(struct top *top)
{
    struct drawing drawing = {0};
    size_t columns, rows, head;

    terminal_size(&columns, &rows);
    draw_head(top, &drawing, columns);
    head = drawing.count;
    draw_status(&drawing, top->document, columns);
    for (size_t i = head; i < drawing.count && top->is_lost; i++)
        drawing.lines[i].style = STYLE_FAINT;
    if (top->first + rows > drawing.count + 1)
        top->first = drawing.count + 1 > rows ? drawing.count + 1 - rows : 0;
    if (!terminal_draw(&drawing, top->first, "q: quit   p: pause   arrows, j, k: up and down"))
        end_unseen(top);
    draw_free(&drawing);
    top->must_draw = false;
    top->drawn_at = now();
}

/* ------------------------------------------------------------------------------------------------------- the stream */

static void lose(struct top *top, const char *why)
{
    char when[16];

    snprintf(top->why, sizeof top->why, "%s", why);
    top->must_draw = true;
    if (top->is_lost)
        return;
    top->is_lost = true;
    top->lost_at = now();
    if (top->is_drawn || top->document == NULL)
        return;
    draw_time((double)time(NULL), when, sizeof when);
    printf("%s nothing is heard: %s; it is tried again each second\n", when, why);
    fflush(stdout);
}

static void hear_status(struct top *top, const char *data, size_t size)
{
    char why[256], whole[800];
    json_t *document = draw_parse(data, size, why, sizeof why);

    if (document == NULL) {
        snprintf(whole, sizeof whole, "%s: %s", top->http->address, why);
        lose(top, whole);
        return;
    }
    top->heard_at = now();
    top->must_draw = top->must_draw || !top->is_paused || top->is_lost;
    top->is_lost = false;
    if (top->is_paused && top->document != NULL) {
        json_decref(document);
        return;
    }
    json_decref(top->document);
    top->document = document;
    if (!top->is_drawn)
        print_lines(top);
}

/* A line of the stream, in which the data of an event is one. */
static bool hear(void *user, const char *line, size_t size)
{
    static const char name[] = "data:";
    size_t n = strlen(name);

    if (size > n && memcmp(line, name, n) == 0)
        hear_status(user, line + n, size - n);
    return true;
}

static size_t take(char *data, size_t size, size_t count, void *user)
{
    struct top *top = user;
    long status = 0;
    size_t n = strlen(top->said);

    curl_easy_getinfo(top->request, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        return http_is(top->request, TYPE) && lines_feed(&top->lines, data, size * count) ? size * count : 0;
    snprintf(top->said + n, sizeof top->said - n, "%.*s", (int)(size * count), data);
    return size * count;
}

static void begin(struct top *top)
{
    top->request = http_request(top->http, "/events");
    if (top->request == NULL)
        return;
    top->lines.size = 0;
    top->said[0] = '\0';
    top->heard_at = now();
    curl_easy_setopt(top->request, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(top->request, CURLOPT_WRITEDATA, top);
    curl_multi_add_handle(top->multi, top->request);
}

static void give_up(struct top *top)
{
    curl_multi_remove_handle(top->multi, top->request);
    curl_easy_cleanup(top->request);
    top->request = NULL;
    top->retry_at = now() + RETRY;
}

/* The stream has ended, or could not begin: for good where there never was an event. */
static void look_for_end(struct top *top)
{
    CURLMsg *message;
    long status = 0;
    int left;

    while ((message = curl_multi_info_read(top->multi, &left)) != NULL) {
        char why[512];

        curl_easy_getinfo(top->request, CURLINFO_RESPONSE_CODE, &status);
        if (message->data.result != CURLE_OK && status != 200)
            http_why(top->http, top->request, message->data.result, why, sizeof why);
        else if (status != 200)
            http_refusal(top->http, status, top->said, why, sizeof why);
        else if (message->data.result == CURLE_WRITE_ERROR || !http_is(top->request, TYPE))
            http_why(top->http, top->request, CURLE_WRITE_ERROR, why, sizeof why);
        else
            snprintf(why, sizeof why, "%s: the connection has ended", top->http->address);
        give_up(top);
        lose(top, why);
    }
}

static void look_for_silence(struct top *top)
{
    char why[512];

    if (top->request == NULL || now() - top->heard_at < SILENCE)
        return;
    snprintf(why, sizeof why, "%s has said nothing for %.0f s: it is overloaded or stopped", top->http->address,
             SILENCE);
    give_up(top);
    lose(top, why);
}

/* ---------------------------------------------------------------------------------------------------- keys, signals */

static void take_keys(struct top *top)
{
    int key;

    while ((key = terminal_key()) >= 0) {
        top->must_end = top->must_end || key == 'q' || key == 'Q';
        top->is_paused = key == 'p' || key == 'P' ? !top->is_paused : top->is_paused;
        top->first += key == KEY_DOWN || key == 'j';
        top->first -= (key == KEY_UP || key == 'k') && top->first > 0;
        top->must_draw = true;
    }
}

/* Ctrl-Z: the shell gets its screen, until it wakes us. */
static void stop_for_a_while(struct top *top)
{
    if (top->is_taken)
        terminal_close();
    raise(SIGSTOP);
    if (top->is_taken)
        terminal_open();
    top->heard_at = now();
}

static void take_signals(struct top *top)
{
    struct signalfd_siginfo info;

    while (read(top->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTSTP)
            stop_for_a_while(top);
        else if (info.ssi_signo != SIGWINCH)
            top->must_end = true;
        top->must_draw = true;
    }
}

static int catch_signals(void)
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* ---------------------------------------------------------------------------------------------------------- the loop */

static void turn(struct top *top)
{
    struct curl_waitfd others[] = {{top->signals, CURL_WAIT_POLLIN, 0}, {STDIN_FILENO, CURL_WAIT_POLLIN, 0}};
    int running;

    if (top->request == NULL && now() >= top->retry_at)
        begin(top);
    curl_multi_poll(top->multi, others, top->is_drawn && isatty(STDIN_FILENO) ? 2 : 1, 250, NULL);
    curl_multi_perform(top->multi, &running);
    look_for_end(top);
    look_for_silence(top);
    take_signals(top);
    if (top->document == NULL && top->is_lost) { /* there is nothing to look at, and may never be */
        top->must_end = true;
        top->status = 1;
    }
    if (!top->is_drawn || top->document == NULL)
        return;
    if (!top->is_taken)
        terminal_open();
    top->is_taken = true;
    take_keys(top);
    if (top->must_draw || (top->is_lost && now() - top->drawn_at >= 1))
        draw_screen(top);
}

int top_run(const struct http *http)
{
    struct top top = {.http = http, .is_drawn = terminal_is_one(), .signals = catch_signals()};

    top.multi = curl_multi_init();
    top.lines = (struct lines){.got = hear, .user = &top, .most = HTTP_MOST};
    while (!top.must_end)
        turn(&top);
    if (top.is_taken)
        terminal_close();
    if (top.status != 0 && !ferror(stdout)) /* which main tells */
        http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s", top.why);
    if (top.request != NULL)
        give_up(&top);
    curl_multi_cleanup(top.multi);
    lines_free(&top.lines);
    json_decref(top.document);
    close(top.signals);
    return top.status;
}
