/* test_admin.c - the watch over HTTP, in this process, over a host that makes up what it shows. */
#include "server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "address.h"
#include "guard.h"

#define PATIENCE (30 * FMS_SECOND)
#define MANY     100 /* pipelines, for a document that no socket's buffer takes */

/* --------------------------------------------------------------------------------------------------------- the host */

static struct {
    pthread_mutex_t lock;
    size_t count;
    uint64_t first;              /* number; 0: their place, from 1 */
    uint64_t gone;               /* this one has, between the list and the look */
    _Atomic int64_t now, jumped; /* the clock of the day, from the other */
    int64_t step;                /* 0: the system's clock; else it moves by `step` at each look */
    bool is_silent;              /* the lanes */
    size_t shape;                /* which stages there are between source and sink: 0: none */
    uint64_t emitted;            /* of each pipeline, at the last look; 100 more at each */
    struct histogram_view total;
    size_t in_flight;
    int64_t oldest_at;
    _Atomic unsigned looks;
    log_sink observer;
    void *observer_user;
    char log[8192]; /* all lines */
    struct {
        const char *const
            *lines; /* to come; NULL ends them, and then comes `result`, or, with `is_slow`, nothing yet */
        enum reload_result result;
        _Atomic bool is_slow;
        int error; /* of a start */
        bool is_dry;
        char given[64]; /* the name of what was given, and how it begins */
        size_t size;
        _Atomic unsigned starts, closes;
    } reload;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char names[MANY][64];

static uint64_t *fake_pipelines(void *user, size_t *count)
{
    uint64_t *numbers = calloc(fake.count + 1, sizeof *numbers);

    (void)user;
    assert_non_null(numbers);
    *count = fake.count;
    for (size_t i = 0; i < fake.count; i++)
        numbers[i] = (fake.first != 0 ? fake.first : 1) + i;
    return numbers;
}

static int64_t fake_now(void)
{
    struct timespec now;

    if (fake.now != 0)
        return fake.now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * FMS_SECOND + now.tv_nsec;
}

static int64_t fake_realtime(void)
{
    return INT64_C(1800000000) * FMS_SECOND + fake.jumped + fake_now();
}

#define FAKE_SHAPES 4u

static int fake_look(void *user, uint64_t number, struct pipeline_view *to, int64_t patience)
{
    size_t i = (size_t)number - 1;
    static const struct fms_plugin table = {.name = "made_up", .version = "1", .summary = "Nothing"};
    static const struct fms_plugin other = {.name = "another", .version = "1", .summary = "Nothing"};
    struct stage_view *stages;
    size_t n = 1;

    (void)user, (void)patience;
    if (number == fake.gone)
        return -ENOENT;
    stages = calloc(2 + FAKE_SHAPES, sizeof *stages);
    assert_non_null(stages);
    if (!fake.is_silent) {
        fake.now += fake.step;
        fake.emitted += i == 0 ? 100 : 0;
    }
    fake.looks++;
    stages[0] = (struct stage_view){.name = "source", .role = FMS_SOURCE, .table = &table, .records_out = fake.emitted};
    if (fake.shape == 1 || fake.shape == 2) /* of the same name, but another plugin's, and counted anew */
        stages[n++] = (struct stage_view){.name = "transform check",
                                          .role = FMS_TRANSFORM,
                                          .table = fake.shape == 1 ? &table : &other,
                                          .records_in = fake.shape == 1 ? fake.emitted : 3};
    if (fake.shape == 2 || fake.shape == 3)
        stages[n++] = (struct stage_view){.name = "sink near", .role = FMS_SINK, .table = &table, .records_in = 7};
    stages[n++] = (struct stage_view){.name = "sink far",
                                      .role = FMS_SINK,
                                      .table = &table,
                                      .records_in = fake.emitted,
                                      .oldest_at = fake.oldest_at,
                                      .oldest_number = 1};
    stages[n - 1].queue.counts[0] = fake.emitted;
    *to = (struct pipeline_view){.name = names[i],
                                 .file = "made_up.ini",
                                 .shown_at = fake_now(),
                                 .started_at = 1,
                                 .stall_after = 30 * FMS_SECOND,
                                 .counts = {.emitted = fake.emitted, .delivered = fake.emitted / 2},
                                 .total = fake.total,
                                 .in_flight = fake.in_flight,
                                 .oldest_at = fake.oldest_at,
                                 .stages = stages,
                                 .stage_count = n};
    return !fake.is_silent;
}

static void fake_forget(struct pipeline_view *view)
{
    free(view->stages);
}

static void fake_log(enum fms_level level, const char *pipeline, const char *stage, const char *format, ...)
{
    char line[1024];
    size_t used;
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    pthread_mutex_lock(&fake.lock);
    used = strlen(fake.log);
    snprintf(fake.log + used, sizeof fake.log - used, "%s\n", line);
    if (fake.observer != NULL)
        fake.observer(fake.observer_user, level, pipeline, stage, line);
    pthread_mutex_unlock(&fake.lock);
}

static void fake_observe_log(log_sink observer, void *user)
{
    pthread_mutex_lock(&fake.lock);
    fake.observer = observer;
    fake.observer_user = user;
    pthread_mutex_unlock(&fake.lock);
}

static int fake_reload_start(const struct reload_wish *wish, struct reloading **reloading)
{
    *reloading = NULL;
    snprintf(fake.reload.given, sizeof fake.reload.given, "%s: %.*s", wish->name != NULL ? wish->name : "",
             (int)wish->size, wish->text);
    fake.reload.size = wish->size;
    fake.reload.starts += fake.reload.error == 0;
    fake.reload.is_dry = wish->is_dry;
    return fake.reload.error;
}

static int fake_reload_read(struct reloading *reloading, char **line, enum reload_result *result)
{
    (void)reloading;
    *line = NULL;
    if (*fake.reload.lines != NULL)
        *line = strdup(*fake.reload.lines++);
    *result = fake.reload.result;
    return *line != NULL ? 1 : fake.reload.is_slow ? 0 : -ENODATA;
}

static void fake_reload_close(struct reloading *reloading)
{
    (void)reloading;
    fake.reload.closes++;
}

static struct reload_view fake_reload_look(void)
{
    return (struct reload_view){.is_last_good = true};
}

static const struct admin_host host = {.pipelines = fake_pipelines,
                                       .look = fake_look,
                                       .forget = fake_forget,
                                       .now = fake_now,
                                       .realtime = fake_realtime,
                                       .log = fake_log,
                                       .observe_log = fake_observe_log,
                                       .reload_start = fake_reload_start,
                                       .reload_read = fake_reload_read,
                                       .reload_close = fake_reload_close,
                                       .reload_look = fake_reload_look};

/* ---------------------------------------------------------------------------------------------------------- the rig */

struct rig {
    char folder[32], socket[64], address[80], password[64];
    struct server *server;
    in_port_t port;
};

static int set_up(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    strcpy(rig->folder, "/tmp/fmsadminXXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->socket, sizeof rig->socket, "%s/socket", rig->folder);
    snprintf(rig->address, sizeof rig->address, "unix:%s", rig->socket);
    snprintf(rig->password, sizeof rig->password, "%s/password", rig->folder);
    fake.count = 1;
    fake.now = fake.step = 0;
    fake.is_silent = false;
    fake.shape = 0;
    fake.oldest_at = 0;
    fake.emitted = 0;
    fake.total = (struct histogram_view){.sum = 0};
    fake.looks = 0;
    fake.reload.error = 0;
    fake.reload.is_slow = false;
    fake.reload.starts = fake.reload.closes = 0;
    *fake.log = '\0';
    for (size_t i = 0; i < MANY; i++)
        snprintf(names[i], sizeof names[i], i == 0 ? "bridge" : "bridge%zu", i);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    if (rig->server != NULL)
        server_stop(rig->server);
    unlink(rig->socket);
    unlink(rig->password);
    assert_int_equal(rmdir(rig->folder), 0);
    free(rig);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void start(struct rig *rig, const char *tcp, bool has_password)
{
    struct admin_options options = {{rig->address, tcp}, 2, has_password ? rig->password : NULL};
    const char *url;

    assert_int_equal(server_start(&host, &options, &rig->server), 0);
    url = strstr(fake.log, "http://");
    assert_non_null(url);
    url = strchr(url + 7, *(url + 7) == '[' ? ']' : ':');
    rig->port = htons((uint16_t)strtoul(url + (*url == ']' ? 2 : 1), NULL, 10));
    assert_int_not_equal(rig->port, 0);
}

static int dial(const struct rig *rig, bool is_unix)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = rig->port};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(un.sun_path, rig->socket, sizeof rig->socket);
    assert_int_equal(
        connect(fd, is_unix ? (struct sockaddr *)&un : (struct sockaddr *)&in, is_unix ? sizeof un : sizeof in), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until `end` has come (NULL: until the other has hung up); from malloc. */
static char *take(int fd, const char *end)
{
    size_t size = 0, room = 1 << 16;
    char *text = calloc(1, room);
    int64_t deadline = fake_now() + PATIENCE;

    for (;;) {
        struct pollfd input = {fd, POLLIN, 0};
        ssize_t n;

        assert_non_null(text);
        assert_true(fake.now != 0 || fake_now() < deadline);
        if (poll(&input, 1, 1000) <= 0)
            continue;
        n = recv(fd, text + size, room - size - 1, 0);
        if (n <= 0)
            break;
        size += (size_t)n;
        text[size] = '\0';
        if (end != NULL &&
            strstr(text + (size - (size_t)n > strlen(end) ? size - (size_t)n - strlen(end) : 0), end) != NULL)
            break;
        if (room - size < room / 2) {
            room *= 2;
            text = realloc(text, room);
        }
    }
    return text;
}

/* All of the answer to one request, by a connection of its own. */
static char *ask(const struct rig *rig, bool is_unix, const char *request, const char *more)
{
    int fd = dial(rig, is_unix);
    char text[1024];
    char *answer;

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nConnection: close\r\n%s\r\n", request, more);
    put(fd, text);
    answer = take(fd, NULL);
    close(fd);
    return answer;
}

#define OWN "Host: localhost\r\n"

static void assert_says(char *answer, const char *status, const char *words)
{
    if (strncmp(answer, status, strlen(status)) != 0 || strstr(answer, words) == NULL)
        fail_msg("neither %s nor \"%s\" in: %s", status, words, answer);
    free(answer);
}

static void assert_answer(const struct rig *rig, bool is_unix, const char *request, const char *more,
                          const char *status, const char *words)
{
    assert_says(ask(rig, is_unix, request, more), status, words);
}

/* -------------------------------------------------------------------------------------------------------- addresses */

static void addresses_are_read(void **state)
{
    static const struct {
        const char *text, *printed;
        bool is_unix, is_loopback;
    } good[] = {
        {"unix:/run/fmspipe/bridge.sock", "unix:/run/fmspipe/bridge.sock", true, false},
        {"unix:a:b", "unix:a:b", true, false},
        {"127.0.0.1:9464", "http://127.0.0.1:9464/", false, true},
        {"127.9.9.9:0", "http://127.9.9.9:0/", false, true},
        {"localhost:65535", "http://127.0.0.1:65535/", false, true},
        {"[::1]:80", "http://[::1]:80/", false, true},
        {"0.0.0.0:9464", "http://0.0.0.0:9464/", false, false},
        {"[::ffff:127.0.0.1]:80", "http://[::ffff:127.0.0.1]:80/", false, true},
        {"[::]:9464", "http://[::]:9464/", false, false},
        {"[2001:db8::17]:9464", "http://[2001:db8::17]:9464/", false, false},
    };
    static const char *const bad[][2] = {
        {"", "port is missing"},
        {"9464", "port is missing"},
        {"unix:", "path of the socket is missing"},
        {"127.0.0.1", "port is missing"},
        {"127.0.0.1:", "no number from 0 to 65535"},
        {"127.0.0.1:65536", "no number"},
        {"127.0.0.1:+1", "no number"},
        {"127.0.0.1:1 ", "no number"},
        {"127.0.0.1:000080", "no number"},
        {"127.1:80", "neither an IP address nor localhost"},
        {"::1:80", "neither an IP address nor localhost"},
        {"[::1]80", "no number"},
        {"[127.0.0.1]:80", "neither an IP address"},
        {"[]:80", "neither an IP address"},
        {":80", "neither an IP address"},
        {"example.com:80", "neither an IP address"},
        {"http://127.0.0.1:80", "no scheme but unix:"},
        {"0123456789.0123456789.0123456789.0123456789.0123456789:80", "no IP address"},
    };
    char text[ADDRESS_TEXT], longest[5 + 108 + 1] = "unix:";
    struct address address;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_null(address_parse(good[i].text, &address));
        address_print(&address, text);
        assert_string_equal(text, good[i].printed);
        assert_int_equal(address.is_unix, good[i].is_unix);
        assert_int_equal(address.is_loopback, good[i].is_loopback);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *fault = address_parse(bad[i][0], &address);

        if (fault == NULL || strstr(fault, bad[i][1]) == NULL)
            fail_msg("%s: %s", bad[i][0], fault != NULL ? fault : "is read");
    }
    memset(longest + 5, 'x', 108);
    assert_non_null(strstr(address_parse(longest, &address), "longer than 107 bytes"));
    longest[5 + 107] = '\0';
    assert_null(address_parse(longest, &address));
}

static void a_host_is_the_machine_s_own_or_another_s(void **state)
{
    static const char *const own[] = {NULL,        "localhost", "LOCALHOST:9464", "127.0.0.1:1",
                                      "127.1.2.3", "[::1]",     "[::1]:9464"};
    static const char *const others[] = {"",
                                         "example.com",
                                         "localhost.example.com",
                                         "127.0.0.1.example.com:80",
                                         "10.0.0.1:80",
                                         "[2001:db8::1]:80",
                                         "::1",
                                         "localhost:x",
                                         "localhost:80:80",
                                         "user@localhost",
                                         "[::1",
                                         "0123456789012345678901234567890123456789012345678901234567890123456789"};

    (void)state;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        assert_true(address_is_own_host(own[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (address_is_own_host(others[i]))
            fail_msg("%s is taken for the machine's own", others[i]);
    }
}

static void assert_password(const struct rig *rig, const char *text, const char *fault, bool is_bad)
{
    struct password password;
    const char *found;
    bool was_bad;

    write_file(rig->password, text);
    found = password_read(rig->password, &password, &was_bad);
    assert_int_equal(was_bad, is_bad);
    if (fault == NULL)
        assert_null(found);
    else
        assert_non_null(strstr(found, fault));
}

static void a_password_is_the_first_line_of_its_file(void **state)
{
    const struct rig *rig = *state;
    char most[PASSWORD_MOST + 4];
    struct password password;
    bool is_bad;

    memset(most, 'x', sizeof most);
    strcpy(most + PASSWORD_MOST, "\r\n");
    assert_password(rig, most, NULL, false);
    strcpy(most + PASSWORD_MOST, "x\n");
    assert_password(rig, most, "longer than 255 bytes", true);
    assert_password(rig, "", "first line is empty", true);
    assert_password(rig, "\nsecret\n", "first line is empty", true);
    assert_password(rig, " se cret\nmore\n", NULL, false);
    assert_null(password_read(rig->password, &password, &is_bad));
    assert_true(password_is(&password, " se cret"));
    assert_false(password_is(&password, " se cre"));
    assert_false(password_is(&password, " se cret1"));
    assert_false(password_is(&password, ""));
    assert_false(password_is(&password, NULL));
    unlink(rig->password);
    assert_string_equal(password_read(rig->password, &password, &is_bad), "No such file or directory");
    assert_false(is_bad);
}

/* --------------------------------------------------------------------------------------------------- what is observed */

static void a_quantile_lies_within_its_bucket(void **state)
{
    struct histogram_view before = {.sum = 0}, now = {.sum = 0};

    (void)state;
    assert_true(isnan(histogram_quantile(&now, NULL, 0.5)));
    now.counts[0] = 10; /* up to 100 us */
    assert_true(fabs(histogram_quantile(&now, NULL, 0.5) - 50e-6) < 1e-9);
    assert_true(isnan(histogram_quantile(&now, &now, 0.5)));
    before = now;
    now.counts[3] = 4; /* 500 us to 1 ms */
    assert_true(fabs(histogram_quantile(&now, &before, 0.25) - 625e-6) < 1e-9);
    assert_true(fabs(histogram_quantile(&now, &before, 1) - 1e-3) < 1e-9);
    assert_true(fabs(histogram_quantile(&now, NULL, 0.5) - 70e-6) < 1e-9);
    now.counts[HISTOGRAM_BUCKETS - 1] = 1000; /* above 100 s */
    assert_true(fabs(histogram_quantile(&now, NULL, 0.99) - 100) < 1e-9);
}

static void rates_are_told_by_the_lane_s_clock(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct observer *observer;
    struct observation *seen;
    int64_t answered_at;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = FMS_SECOND / 2;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    seen = observer_latest(observer);
    assert_true(seen->pipelines[0].received_rate == 0); /* of one look there is none */
    observation_unref(seen);

    observer_look(observer);
    seen = observer_latest(observer);
    assert_true(fabs(seen->pipelines[0].received_rate - 200) < 1e-9);
    assert_true(fabs(seen->pipelines[0].delivered_rate - 100) < 1e-9);
    assert_true(fabs(seen->pipelines[0].rates[0].records_out - 200) < 1e-9);
    assert_true(seen->pipelines[0].has_answered);
    answered_at = seen->pipelines[0].answered_at;
    assert_int_equal(answered_at, fake.now);

    fake.is_silent = true;
    observer_look(observer);
    assert_int_equal(seen->pipelines[0].view.counts.emitted, 200); /* what was seen stays as it was */
    observation_unref(seen);
    seen = observer_latest(observer);
    assert_false(seen->pipelines[0].has_answered);
    assert_int_equal(seen->pipelines[0].answered_at, answered_at);
    assert_true(seen->pipelines[0].received_rate == 0);
    observation_unref(seen);
    observer_free(observer);
    close(fd);
}

static void the_last_quarter_of_an_hour_is_kept(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    static struct history history;
    struct observer *observer;
    struct observation *seen;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = HISTORY_STEP;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    assert_false(observer_history(observer, "nobody", &history));
    assert_true(observer_history(observer, "bridge", &history));
    assert_int_equal(history.count, 0);
    for (size_t i = 0; i < HISTORY_STEPS + 7; i++) {
        fake.total.counts[0] = i < 3 ? 0 : 10 * i;
        observer_look(observer);
        assert_true(observer_history(observer, "bridge", &history));
        assert_int_equal(history.count, i < HISTORY_STEPS ? i + 1 : HISTORY_STEPS);
        assert_int_equal(history.next, (i + 1) % HISTORY_STEPS);
        assert_true(i > 3 ? fabs(history.points[i % HISTORY_STEPS].p99 - 99e-6) < 1e-9
                          : i == 3 || isnan(history.points[i].p99));
    }
    assert_true(fabs(history.points[0].received - 20) < 1e-9);
    seen = observer_latest(observer);
    assert_int_equal(seen->pipelines[0].view.total.counts[0] - seen->pipelines[0].earlier.total.counts[0], 10 * 12);
    observation_unref(seen);
    observer_free(observer);
    close(fd);
}

/* What is known of a stage follows it, wherever it stands; of one that is new nothing is known. */
static void stages_come_and_go_while_they_are_looked_at(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct observer *observer;
    int64_t moved_at = 0;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = HISTORY_STEP;
    fake.oldest_at = 1;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    for (size_t i = 1; i < 60; i++) {
        struct observation *seen;
        const struct observed *pipeline;
        size_t far;

        fake.shape = i % FAKE_SHAPES;
        observer_look(observer);
        seen = observer_latest(observer);
        pipeline = &seen->pipelines[0];
        far = pipeline->view.stage_count - 1;
        assert_true(fabs(pipeline->rates[far].records_in - 20) < 1e-9);
        for (size_t k = 1; k < far; k++)
            assert_true(pipeline->rates[k].records_in == 0);
        if (i > 1)
            assert_int_equal(pipeline->health.stages[far].moved_at, moved_at);
        moved_at = pipeline->health.stages[far].moved_at;
        if (i > 13)
            assert_int_equal(pipeline->view.stages[far].queue.counts[0] - pipeline->earlier.stages[far].queue.counts[0],
                             100 * 12);
        observation_unref(seen);
    }
    observer_free(observer);
    close(fd);
}

/* Of one that has gone nothing is told any more, and what comes under its name begins anew; the others stay as they are. */
static void pipelines_come_and_go_while_they_are_looked_at(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    static struct history history;
    struct observer *observer;
    struct observation *held, *seen;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = HISTORY_STEP;
    fake.count = 3;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    for (size_t i = 0; i < 20; i++)
        observer_look(observer);
    held = observer_latest(observer);
    assert_int_equal(held->count, 3);

    fake.first = 2; /* the first has gone, another has come */
    observer_look(observer);
    seen = observer_latest(observer);
    assert_int_equal(seen->count, 3);
    assert_string_equal(seen->pipelines[0].view.name, names[1]);
    assert_string_equal(seen->pipelines[2].view.name, names[3]);
    observation_unref(seen);
    assert_false(observer_history(observer, names[0], &history));
    assert_true(observer_history(observer, names[1], &history));
    assert_int_equal(history.count, 21);
    assert_true(observer_history(observer, names[3], &history));
    assert_int_equal(history.count, 1);
    assert_string_equal(held->pipelines[0].view.name, names[0]); /* what was seen stays as it was */
    observation_unref(held);

    fake.gone = 3;
    observer_look(observer);
    seen = observer_latest(observer);
    assert_int_equal(seen->count, 2);
    assert_string_equal(seen->pipelines[1].view.name, names[3]);
    observation_unref(seen);
    fake.gone = 0;
    fake.first = 1;
    observer_look(observer);
    assert_true(observer_history(observer, names[0], &history));
    assert_int_equal(history.count, 1);
    assert_true(observer_history(observer, names[1], &history));
    assert_int_equal(history.count, 23);

    fake.count = 0;
    observer_look(observer);
    seen = observer_latest(observer);
    assert_int_equal(seen->count, 0);
    observation_unref(seen);
    observer_free(observer);
    close(fd);
}

/* What is over when a step ends has been all the same. */
static void a_step_keeps_the_most_of_its_time(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    static struct history history;
    struct observer *observer;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = HISTORY_STEP / 5;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    for (size_t i = 0; i < 10; i++) {
        fake.in_flight = i == 2 ? 700 : 3;
        fake.oldest_at = i == 2 ? FMS_SECOND : 0;
        observer_look(observer);
    }
    fake.in_flight = 0;
    assert_true(observer_history(observer, "bridge", &history));
    assert_int_equal(history.count, 2);
    assert_true(fabs(history.points[0].in_flight - 700) < 1e-9);
    assert_true(history.points[0].oldest > 1);
    assert_true(fabs(history.points[1].in_flight - 3) < 1e-9);
    assert_true(history.points[1].oldest == 0);
    observer_free(observer);
    close(fd);
}

/* Nothing has lasted for 50 years because somebody has set the clock. */
static void a_process_is_as_old_as_it_is_whatever_the_clock_does(void **state)
{
    static const int64_t jumps[] = {0, 50, -3, 0};
    const int64_t year = 365 * 86400 * FMS_SECOND;
    int fd = eventfd(0, EFD_CLOEXEC);
    struct observer *observer;
    struct observation *seen;

    (void)state;
    fake.now = FMS_SECOND;
    fake.step = FMS_SECOND;
    observer = observer_new(&host, fd);
    assert_non_null(observer);
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        int64_t before = fake.now;

        fake.jumped = jumps[i] * year;
        observer_look(observer);
        seen = observer_latest(observer);
        assert_int_equal(seen->realtime - seen->started, before - FMS_SECOND);
        observation_unref(seen);
    }
    observer_free(observer);
    close(fd);
}

static void the_last_warnings_are_kept_and_all_lines_counted(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    char longest[2000];
    struct observer *observer = observer_new(&host, fd);
    struct observation *seen;

    (void)state;
    assert_non_null(observer);
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (int i = 0; i < 60; i++)
        fake_log(FMS_LOG_WARN, "bridge", i % 2 == 0 ? "sink far" : NULL, "warning %d", i);
    fake_log(FMS_LOG_INFO, NULL, NULL, "this is none");
    fake_log(FMS_LOG_ERROR, longest, longest, "%s", longest);
    observer_look(observer);
    seen = observer_latest(observer);
    assert_int_equal(seen->line_count, OBSERVED_LINES);
    assert_string_equal(seen->lines[0].text, "warning 11");
    assert_string_equal(seen->lines[OBSERVED_LINES - 2].text, "warning 59");
    assert_string_equal(seen->lines[OBSERVED_LINES - 2].stage, "");
    assert_string_equal(seen->lines[OBSERVED_LINES - 2].pipeline, "bridge");
    assert_int_equal(strlen(seen->lines[OBSERVED_LINES - 1].text), sizeof seen->lines[0].text - 1);
    assert_int_equal(strlen(seen->lines[OBSERVED_LINES - 1].stage), sizeof seen->lines[0].stage - 1);
    assert_int_equal(seen->lines[OBSERVED_LINES - 1].level, FMS_LOG_ERROR);
    assert_int_equal(seen->log_counts[FMS_LOG_WARN], 60);
    assert_int_equal(seen->log_counts[FMS_LOG_INFO], 1);
    assert_int_equal(seen->log_counts[FMS_LOG_ERROR], 1);
    observation_unref(seen);
    observer_free(observer);
    assert_null(fake.observer);
    close(fd);
}

/* ---------------------------------------------------------------------------------------------------------- answers */

static void each_path_has_its_answer(void **state)
{
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        assert_answer(rig, is_unix, "GET /", OWN, "HTTP/1.1 200", "text/html");
        assert_answer(rig, is_unix, "GET /status", OWN, "HTTP/1.1 200", "\"name\":\"bridge\"");
        assert_answer(rig, is_unix, "GET /metrics", OWN, "HTTP/1.1 200", "text/plain; version=0.0.4");
        assert_answer(rig, is_unix, "GET /metrics", OWN "Accept: application/openmetrics-text; version=1.0.0\r\n",
                      "HTTP/1.1 200", "# EOF");
        assert_answer(rig, is_unix, "GET /livez", OWN, "HTTP/1.1 200", "\r\n\r\nok\n");
        assert_answer(rig, is_unix, "GET /livez?verbose", OWN, "HTTP/1.1 200", "[+]bridge ok\nlivez check passed\n");
        assert_answer(rig, is_unix, "GET /history?pipeline=bridge", OWN, "HTTP/1.1 200", "{\"step\":5,\"time\":[");
        assert_answer(rig, is_unix, "GET /history", OWN, "HTTP/1.1 400", "?pipeline=NAME");
        assert_answer(rig, is_unix, "GET /history?pipeline=bridg", OWN, "HTTP/1.1 404", "no pipeline of that name");
        assert_answer(rig, is_unix, "GET /vehicles?pipeline=bridge&limit=-1", OWN, "HTTP/1.1 400", "a whole number");
        assert_answer(rig, is_unix, "GET /nothing", OWN, "HTTP/1.1 404", "nothing by that name");
        assert_answer(rig, is_unix, "GET /status/", OWN, "HTTP/1.1 404", "nothing by that name");
        assert_answer(rig, is_unix, "POST /status", OWN "Content-Length: 3\r\n", "HTTP/1.1 405", "Allow: GET, HEAD");
        assert_answer(rig, is_unix, "DELETE /status", OWN, "HTTP/1.1 405", "GET or HEAD");
        assert_answer(rig, is_unix, "OPTIONS *", OWN, "HTTP/1.1 405", "GET or HEAD");
    }
}

static void a_reload_is_told_as_it_goes_on(void **state)
{
    static const char *const lines[] = {"a: sink x: \"y\" -> 2: reopened", "error: \xFF", NULL};
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    for (enum reload_result i = RELOAD_DONE; i <= RELOAD_BAD; i++) {
        static const char *const results[] = {"done", "kept", "bad"};
        char words[256];

        fake.reload.lines = lines;
        fake.reload.result = i;
        snprintf(words, sizeof words, "{\"result\":\"%s\"}\n", results[i]);
        assert_answer(rig, true, "POST /reload", OWN "Content-Length: 0\r\n", "HTTP/1.1 200", words);
        assert_false(fake.reload.is_dry);
        fake.reload.lines = lines;
        assert_answer(rig, true, i > 0 ? "POST /reload?dry=1" : "POST /reload?dry", OWN, "HTTP/1.1 200",
                      "{\"line\":\"a: sink x: \\\"y\\\" -> 2: reopened\"}\n");
        assert_true(fake.reload.is_dry);
        fake.reload.lines = lines;
        assert_answer(rig, true, "POST /reload", OWN, "HTTP/1.1 200", "{\"line\":\"error: \xEF\xBF\xBD\"}\n");
    }
    while (fake.reload.closes < 9)
        usleep(1000);
    assert_int_equal(fake.reload.starts, 9);
}

/* Sends a request, and then what comes with it, in two pieces. */
static char *ask_with(const struct rig *rig, const char *request, const char *content, size_t size)
{
    int fd = dial(rig, true);
    size_t sent = size / 2;
    char text[512], *answer;

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nConnection: close\r\n" OWN "Content-Length: %zu\r\n\r\n", request,
             size);
    put(fd, text);
    assert_int_equal(send(fd, content, sent, MSG_NOSIGNAL), sent);
    usleep(20000); /* so that it does not come at once: either way is right */
    while (sent < size) {
        ssize_t n = send(fd, content + sent, size - sent, MSG_NOSIGNAL);

        assert_true(n > 0);
        sent += (size_t)n;
    }
    answer = take(fd, NULL);
    close(fd);
    return answer;
}

static void a_file_that_is_given_is_planned(void **state)
{
    static const char *const lines[] = {NULL};
    static char most[RELOAD_TEXT];
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    fake.reload.lines = lines;
    fake.reload.result = RELOAD_DONE;
    assert_says(ask_with(rig, "POST /reload?dry=1&file=a%20b/c.ini", "[source]\nplugin = x\n", 20), "HTTP/1.1 200",
                "done");
    assert_string_equal(fake.reload.given, "a b/c.ini: [source]\nplugin = x\n");
    assert_true(fake.reload.is_dry);
    memset(most, ';', sizeof most);
    assert_says(ask_with(rig, "POST /reload?dry=1&file=c.ini", most, sizeof most), "HTTP/1.1 200", "done");
    assert_int_equal(fake.reload.size, RELOAD_TEXT);
    assert_answer(rig, true, "POST /reload?dry=1&file=c.ini", OWN, "HTTP/1.1 200", "done"); /* an empty one */
    assert_int_equal(fake.reload.size, 0);
    while (fake.reload.closes < 3)
        usleep(1000);

    /* What is not taken is not waited for, where that can be told before it comes. */
    assert_answer(rig, true, "POST /reload?dry=1&file=c.ini", OWN "Content-Length: 262145\r\n", "HTTP/1.1 413",
                  "has 262144 bytes at most, and this 262145");
    assert_answer(rig, true, "POST /reload?dry=1&file=c.ini", OWN "Transfer-Encoding: chunked\r\n", "HTTP/1.1 411",
                  "Content-Length");
    assert_answer(rig, false, "POST /reload?dry=1&file=c.ini", OWN "Content-Length: 3\r\n", "HTTP/1.1 403",
                  "over unix sockets only");
    assert_says(ask_with(rig, "POST /reload?file=c.ini", "x", 1), "HTTP/1.1 400", "can be planned only");
    assert_says(ask_with(rig, "POST /reload?dry=1", "x", 1), "HTTP/1.1 400", "has no name");
    assert_says(ask_with(rig, "POST /reload", "x", 1), "HTTP/1.1 400", "has no name");
    assert_answer(rig, true, "POST /reload?dry=1&file=", OWN, "HTTP/1.1 400", "the name of what comes");
    assert_int_equal(fake.reload.starts, 3);
}

static void a_reload_is_for_who_comes_over_a_unix_socket_and_posts(void **state)
{
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    assert_answer(rig, false, "POST /reload", OWN, "HTTP/1.1 403", "over unix sockets only");
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        assert_answer(rig, is_unix, "GET /reload", OWN, "HTTP/1.1 405", "Allow: POST");
        assert_answer(rig, is_unix, "HEAD /reload", OWN, "HTTP/1.1 405", "Allow: POST");
    }
    fake.reload.error = -EBUSY;
    assert_answer(rig, true, "POST /reload", OWN, "HTTP/1.1 409", "come again");
    fake.reload.error = -ESHUTDOWN;
    assert_answer(rig, true, "POST /reload", OWN, "HTTP/1.1 503", "not reloaded");
    assert_int_equal(fake.reload.starts, 0);
}

/* And holds up nobody. */
static void a_reload_whose_reader_has_gone_is_read_no_more(void **state)
{
    static const char *const lines[] = {"begun", NULL};
    struct rig *rig = *state;
    char *text;
    int fd;

    start(rig, "127.0.0.1:0", false);
    fake.reload.lines = lines;
    fake.reload.is_slow = true;
    fd = dial(rig, true);
    put(fd, "POST /reload HTTP/1.1\r\n" OWN "\r\n");
    text = take(fd, "begun");
    free(text);
    assert_answer(rig, true, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    assert_int_equal(fake.reload.closes, 0);
    close(fd);
    while (fake.reload.closes == 0)
        usleep(1000);
}

static void head_is_an_answer_without_its_text(void **state)
{
    static const char *const paths[] = {"/", "/status", "/metrics", "/livez", "/readyz", "/events"};
    struct rig *rig = *state;
    char text[64];

    start(rig, "[::1]:0", false);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *answer, *end;

        snprintf(text, sizeof text, "HEAD %s", paths[i]);
        answer = ask(rig, true, text, OWN);
        assert_true(i < 5 || strstr(answer, "text/event-stream") != NULL);
        end = strstr(answer, "\r\n\r\n");
        assert_true(strncmp(answer, "HTTP/1.1 200", 12) == 0 || strcmp(paths[i], "/readyz") == 0);
        assert_non_null(end);
        assert_string_equal(end, "\r\n\r\n");
        free(answer);
    }
}

static void no_answer_is_good_for_anything_else(void **state)
{
    static const char *const headers[] = {"Cache-Control: no-store\r\n", "X-Content-Type-Options: nosniff\r\n",
                                          "Referrer-Policy: no-referrer\r\n",
                                          "Content-Security-Policy: default-src 'none'"};
    static const char *const asked[] = {"GET /", "GET /status", "GET /metrics", "GET /livez", "GET /no", "POST /"};
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        char *answer = ask(rig, false, asked[i], OWN "Origin: http://example.com\r\n");

        for (size_t k = 0; k < sizeof headers / sizeof headers[0]; k++)
            assert_non_null(strstr(answer, headers[k]));
        assert_null(strstr(answer, "Access-Control"));
        assert_null(strstr(answer, "\r\nServer:"));
        free(answer);
    }
}

static void a_connection_serves_one_request_after_the_other(void **state)
{
    struct rig *rig = *state;
    int fd;

    start(rig, "127.0.0.1:0", false);
    fd = dial(rig, false);
    for (int i = 0; i < 3; i++) {
        put(fd, "GET /livez HTTP/1.1\r\n" OWN "\r\n");
        free(take(fd, "\r\n\r\nok\n"));
    }
    close(fd);
}

static void a_page_of_another_name_reads_nothing(void **state)
{
    struct rig *rig = *state;

    start(rig, "127.0.0.1:0", false);
    assert_answer(rig, false, "GET /status", "Host: example.com\r\n", "HTTP/1.1 403",
                  "so that no page of another name");
    assert_answer(rig, false, "GET /livez", "Host: 10.0.0.1\r\n", "HTTP/1.1 403", "localhost");
    assert_answer(rig, false, "POST /status", "Host: example.com\r\n", "HTTP/1.1 403", "localhost");
    assert_answer(rig, false, "GET /status", "Host: 127.0.0.1:9464\r\n", "HTTP/1.1 200", "bridge");
    assert_answer(rig, true, "GET /status", "Host: example.com\r\n", "HTTP/1.1 200", "bridge");
}

/* YTpzZWNyZXQ= is "a:secret", Ong= is ":x". */
static void a_password_is_asked_for(void **state)
{
    struct rig *rig = *state;

    write_file(rig->password, "secret\n");
    start(rig, "127.0.0.1:0", true);
    assert_answer(rig, false, "GET /status", OWN, "HTTP/1.1 401", "WWW-Authenticate: Basic realm=\"fmspipe\"");
    assert_answer(rig, false, "GET /status", OWN "Authorization: Basic Ong=\r\n", "HTTP/1.1 401", "password");
    assert_answer(rig, false, "GET /status", OWN "Authorization: Basic ????\r\n", "HTTP/1.1 401", "password");
    assert_answer(rig, false, "GET /status", OWN "Authorization: Bearer secret\r\n", "HTTP/1.1 401", "password");
    assert_answer(rig, false, "GET /status", OWN "Authorization: Basic YTpzZWNyZXQ=\r\n", "HTTP/1.1 200", "bridge");
    assert_answer(rig, false, "GET /status", "Host: example.com\r\nAuthorization: Basic YTpzZWNyZXQ=\r\n",
                  "HTTP/1.1 200", "bridge");
    assert_answer(rig, false, "GET /livez?verbose", OWN, "HTTP/1.1 200", "\r\n\r\nok\n"); /* and no more of it */
    assert_answer(rig, false, "GET /livez?verbose", OWN "Authorization: Basic YTpzZWNyZXQ=\r\n", "HTTP/1.1 200",
                  "[+]bridge ok");
    assert_answer(rig, true, "GET /status", OWN, "HTTP/1.1 200", "bridge");
}

static void who_stands_open_to_all_is_warned(void **state)
{
    struct rig *rig = *state;

    start(rig, "0.0.0.0:0", false);
    assert_non_null(strstr(fake.log, "whoever reaches 0.0.0.0:0 can watch this process"));
    assert_answer(rig, false, "GET /status", "Host: example.com\r\n", "HTTP/1.1 200", "bridge");
}

/* ---------------------------------------------------------------------------------------------------- unix sockets */

static int try_to_start(const char *address)
{
    struct admin_options options = {{address}, 1, NULL};
    struct server *server = NULL;
    int error = server_start(&host, &options, &server);

    if (error == 0)
        server_stop(server);
    return error;
}

static void a_socket_is_its_owner_s_and_goes_with_him(void **state)
{
    struct rig *rig = *state;
    struct stat file;

    start(rig, "127.0.0.1:0", false);
    assert_int_equal(lstat(rig->socket, &file), 0);
    assert_true(S_ISSOCK(file.st_mode));
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(try_to_start(rig->address), -EADDRNOTAVAIL);
    assert_non_null(strstr(fake.log, rig->socket));
    assert_non_null(strstr(fake.log, "another process listens there"));
    assert_answer(rig, true, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    server_stop(rig->server);
    rig->server = NULL;
    assert_int_equal(lstat(rig->socket, &file), -1);
}

/* Also where somebody else holds the lock of its folder, and goes on to. */
static void a_socket_left_behind_is_replaced(void **state)
{
    const struct rig *rig = *state;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int folder = open(rig->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(flock(folder, LOCK_EX), 0);

    memcpy(un.sun_path, rig->socket, sizeof rig->socket);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd);
    assert_int_equal(try_to_start(rig->address), 0);
    close(folder);
}

static void a_file_in_the_way_is_left_alone(void **state)
{
    const struct rig *rig = *state;
    struct stat file;

    write_file(rig->socket, "precious");
    assert_int_equal(try_to_start(rig->address), -EADDRNOTAVAIL);
    assert_non_null(strstr(fake.log, "which is no socket"));
    assert_int_equal(lstat(rig->socket, &file), 0);
    assert_int_equal(file.st_size, 8);
}

static void what_cannot_be_listened_at_is_named(void **state)
{
    struct rig *rig = *state;
    char taken[32];

    assert_int_equal(try_to_start("example.com:80"), -EINVAL);
    assert_non_null(strstr(fake.log, "--admin=example.com:80: the host is neither"));
    assert_int_equal(try_to_start("unix:/nowhere/at/all"), -EADDRNOTAVAIL);
    assert_non_null(strstr(fake.log, "cannot listen at unix:/nowhere/at/all for --admin: No such file or directory"));
    start(rig, "127.0.0.1:0", false);
    snprintf(taken, sizeof taken, "127.0.0.1:%u", ntohs(rig->port));
    assert_int_equal(try_to_start(taken), -EADDRNOTAVAIL);
    assert_non_null(strstr(fake.log, taken));
    assert_non_null(strstr(fake.log, "another process listens there"));
}

/* ---------------------------------------------------------------------------------------------------------- streams */

static int listen_to_events(const struct rig *rig, bool is_unix, int buffer)
{
    int fd = dial(rig, is_unix);

    if (buffer > 0)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), 0);
    put(fd, "GET /events HTTP/1.0\r\n" OWN "\r\n");
    return fd;
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;

    for (text = strstr(text, word); text != NULL; text = strstr(text + 1, word))
        count++;
    return count;
}

static void who_listens_hears_each_observation(void **state)
{
    struct rig *rig = *state;
    char *text;
    int fd;

    start(rig, "127.0.0.1:0", false);
    fd = listen_to_events(rig, false, 0);
    text = take(fd, "data: {");
    assert_non_null(strstr(text, "Content-Type: text/event-stream"));
    free(text);
    free(take(fd, "event: status\ndata: {"));
    text = take(fd, "event: status\ndata: {");
    assert_int_equal(count_of(text, "event: status"), 1);
    free(text);
    server_stop(rig->server); /* while it listens */
    rig->server = NULL;
    text = take(fd, NULL);
    assert_null(strstr(text, "event"));
    free(text);
    close(fd);
}

/* What the first pipeline has received, in an event. */
static unsigned long received_in(const char *event)
{
    const char *found = strstr(event, "\"counts\":{\"received\":");

    assert_non_null(found);
    return strtoul(found + strlen("\"counts\":{\"received\":"), NULL, 10);
}

/* One that has as much to read as no buffer takes, and does not, while another is told. */
static void who_reads_slowly_misses_what_came_meanwhile(void **state)
{
    struct rig *rig = *state;
    unsigned long first;
    unsigned seen;
    int slow, fast;
    char *text;

    fake.count = MANY;
    start(rig, "127.0.0.1:0", false);
    slow = listen_to_events(rig, false, 4096);
    fast = listen_to_events(rig, false, 0);
    seen = fake.looks / MANY;
    while (fake.looks / MANY < seen + 3)
        free(take(fast, "event: status"));
    assert_int_equal(setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &(int){1 << 20}, sizeof(int)), 0);
    text = take(slow, "\n\nevent: status\ndata: {");
    assert_int_equal(count_of(text, "event: status"), 2);
    first = received_in(text);
    free(text);
    text = take(slow, "\"rates\":");
    assert_true(received_in(text) >= first + 300); /* of each observation there are 100 more */
    free(text);
    close(slow);
    close(fast);
}

static void there_is_room_for_some_streams_and_for_others_beside_them(void **state)
{
    struct rig *rig = *state;
    int fds[24];

    start(rig, "127.0.0.1:0", false);
    for (size_t i = 0; i < 24; i++) {
        fds[i] = listen_to_events(rig, false, 0);
        free(take(fds[i], "event: status"));
    }
    assert_answer(rig, false, "GET /events", OWN, "HTTP/1.1 503", "as many are watching");
    assert_answer(rig, false, "GET /status", OWN, "HTTP/1.1 200", "bridge");
    assert_answer(rig, true, "HEAD /events", OWN, "HTTP/1.1 200", "text/event-stream");
    for (size_t i = 0; i < 24; i++)
        close(fds[i]);
}

/* ----------------------------------------------------------------------------------------------------------- crowds */

static size_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* Pages that are this process's alone; 0 where a sanitizer's are among them. */
static long own_memory(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    FILE *file = fopen("/proc/self/statm", "re");
    long size, resident, shared;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld %ld", &size, &resident, &shared), 3);
    fclose(file);
    return resident - shared;
#endif
}

#define CROWD 1000

/* What each of them says; they then wait. */
static void say_something_odd(int fd, size_t i)
{
    static const char *const words[] = {
        "",
        "GET /status",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nX",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
        "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\nx"};
    static char oversized[40000];

    if (i % 8 == 7) {
        memset(oversized, 'x', sizeof oversized);
        memcpy(oversized, "GET / HTTP/1.1\r\nX: ", 19);
        (void)!send(fd, oversized, sizeof oversized, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        (void)!send(fd, words[i % 8], strlen(words[i % 8]), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

/* A crowd that comes by TCP, and stays; while it comes, the probe is answered at both doors. */
static void besiege(const struct rig *rig)
{
    static int fds[CROWD];

    for (size_t i = 0; i < CROWD; i++) {
        fds[i] = dial(rig, false);
        say_something_odd(fds[i], i);
        if (i % 50 == 0) {
            assert_answer(rig, true, "GET /livez", OWN, "HTTP/1.1 200", "ok");
            assert_answer(rig, false, "GET /livez", OWN, "HTTP/1.1 200", "ok");
        }
    }
    for (size_t i = 0; i < CROWD; i++)
        close(fds[i]);
}

static void a_crowd_leaves_nothing_behind(void **state)
{
    struct rig *rig = *state;
    struct rlimit limit;
    int64_t deadline = fake_now() + PATIENCE;
    size_t before;
    long memory;
    int watcher;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < CROWD + 200)
        skip();
    start(rig, "127.0.0.1:0", false);
    watcher = listen_to_events(rig, false, 0);
    free(take(watcher, "event: status"));
    before = count_descriptors();
    besiege(rig);
    memory = own_memory();
    besiege(rig);
    besiege(rig);
    assert_true(own_memory() - memory < 128); /* pages */
    free(take(watcher, "event: status"));     /* who was there before still is */
    while (count_descriptors() > before + 2 && fake_now() < deadline)
        free(take(watcher, "event: status"));
    assert_true(count_descriptors() <= before + 2);
    close(watcher);
}

#define ROOM 64 /* at an address */

/* A crowd that says nothing, where there are few descriptors: those who come by another door find some, and so does the rest of us. */
static void who_watches_takes_a_share_of_few_descriptors(void **state)
{
    struct rig *rig = *state;
    struct rlimit limit;
    rlim_t usual;
    size_t before;
    int fds[50];

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    usual = limit.rlim_cur;
    limit.rlim_cur = 120;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    start(rig, "127.0.0.1:0", false);
    before = count_descriptors();
    for (size_t i = 0; i < 50; i++)
        fds[i] = dial(rig, false);
    assert_answer(rig, false, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    assert_answer(rig, true, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    assert_true(count_descriptors() <= before + 50 + 120 / 3);
    for (size_t i = 0; i < 50; i++)
        close(fds[i]);
    limit.rlim_cur = usual;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* They have asked for as much as no buffer takes. */
static void who_does_not_read_makes_way_after_a_while(void **state)
{
    struct rig *rig = *state;
    int fds[ROOM], one_more;
    char *text;

    fake.count = MANY;
    fake.now = FMS_SECOND;
    start(rig, "127.0.0.1:0", false);
    for (size_t i = 0; i < ROOM; i++) {
        fds[i] = dial(rig, false);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)), 0);
        put(fds[i], "GET /metrics HTTP/1.1\r\n" OWN "\r\n");
        free(take(fds[i], "HTTP/1.1 200"));
    }
    one_more = dial(rig, false);
    text = take(one_more, NULL);
    assert_string_equal(text, "");
    free(text);
    close(one_more);
    assert_answer(rig, true, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    fake.now += 11 * FMS_SECOND;
    assert_answer(rig, false, "GET /livez", OWN, "HTTP/1.1 200", "ok");
    for (size_t i = 0; i < ROOM; i++)
        close(fds[i]);
}

static void a_request_has_a_bound(void **state)
{
    struct rig *rig = *state;
    char *text = malloc(60000), *answer;
    int fd;

    start(rig, "127.0.0.1:0", false);
    assert_non_null(text);
    memset(text, 'x', 60000);
    memcpy(text, "GET /status HTTP/1.1\r\n" OWN "X: ", strlen("GET /status HTTP/1.1\r\n" OWN "X: "));
    fd = dial(rig, false);
    (void)!send(fd, text, 60000, MSG_NOSIGNAL);
    answer = take(fd, NULL);
    assert_true(*answer == '\0' || strncmp(answer, "HTTP/1.1 431", 12) == 0 ||
                strncmp(answer, "HTTP/1.1 413", 12) == 0);
    free(answer);
    free(text);
    close(fd);
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read),
        cmocka_unit_test(a_host_is_the_machine_s_own_or_another_s),
        SERVED(a_password_is_the_first_line_of_its_file),
        cmocka_unit_test(a_quantile_lies_within_its_bucket),
        SERVED(rates_are_told_by_the_lane_s_clock),
        SERVED(the_last_quarter_of_an_hour_is_kept),
        SERVED(stages_come_and_go_while_they_are_looked_at),
        SERVED(pipelines_come_and_go_while_they_are_looked_at),
        SERVED(a_step_keeps_the_most_of_its_time),
        SERVED(a_process_is_as_old_as_it_is_whatever_the_clock_does),
        SERVED(the_last_warnings_are_kept_and_all_lines_counted),
        SERVED(each_path_has_its_answer),
        SERVED(a_reload_is_told_as_it_goes_on),
        SERVED(a_file_that_is_given_is_planned),
        SERVED(a_reload_is_for_who_comes_over_a_unix_socket_and_posts),
        SERVED(a_reload_whose_reader_has_gone_is_read_no_more),
        SERVED(head_is_an_answer_without_its_text),
        SERVED(no_answer_is_good_for_anything_else),
        SERVED(a_connection_serves_one_request_after_the_other),
        SERVED(a_page_of_another_name_reads_nothing),
        SERVED(a_password_is_asked_for),
        SERVED(who_stands_open_to_all_is_warned),
        SERVED(a_socket_is_its_owner_s_and_goes_with_him),
        SERVED(a_socket_left_behind_is_replaced),
        SERVED(a_file_in_the_way_is_left_alone),
        SERVED(what_cannot_be_listened_at_is_named),
        SERVED(who_listens_hears_each_observation),
        SERVED(who_reads_slowly_misses_what_came_meanwhile),
        SERVED(there_is_room_for_some_streams_and_for_others_beside_them),
        SERVED(a_crowd_leaves_nothing_behind),
        SERVED(who_watches_takes_a_share_of_few_descriptors),
        SERVED(who_does_not_read_makes_way_after_a_while),
        SERVED(a_request_has_a_bound),
    };

    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
