/* test_log.c - what a log line looks like, and how often.
 *
 * Lines are read back from stderr, which is a temporary file meanwhile. */
#include "log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <cmocka.h>

static FILE *captured;
static int real_stderr;
static char text[1 << 17];

static int setup(void **state)
{
    (void)state;
    captured = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    dup2(fileno(captured), STDERR_FILENO);
    log_setup(LOG_TEXT, FMS_LOG_INFO);
    log_redirect(NULL, NULL); /* forgets repetitions too */
    return captured == NULL;
}

static int teardown(void **state)
{
    (void)state;
    log_flush(60 * FMS_SECOND);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    fclose(captured);
    return 0;
}

/* All that was logged since the test began. */
static const char *logged(void)
{
    ssize_t n;

    log_flush(60 * FMS_SECOND);
    n = pread(fileno(captured), text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static size_t count_lines(void)
{
    size_t n = 0;

    for (const char *c = logged(); *c != '\0'; c++)
        n += *c == '\n';
    return n;
}

static void assert_line_ends(const char *end)
{
    const char *line = logged();

    assert_int_equal(count_lines(), 1);
    assert_true(strlen(line) > strlen(end));
    assert_string_equal(line + strlen(line) - strlen(end), end);
}

/* ------------------------------------------------------------------------------------------------------------- text */

static void a_line_has_time_level_pipeline_and_stage(void **state)
{
    struct tm tm;
    const char *rest;

    (void)state;
    log_line(FMS_LOG_WARN, "bridge", "sink kafka", "%d things", 3);
    rest = strptime(logged(), "%Y-%m-%dT%H:%M:%S", &tm);
    assert_non_null(rest);
    assert_int_equal(rest[0], '.');
    assert_int_equal(rest[4], 'Z');
    assert_string_equal(rest + 5, " warn  bridge, sink kafka: 3 things\n");
}

static void pipeline_and_stage_may_be_absent(void **state)
{
    (void)state;
    log_line(FMS_LOG_INFO, NULL, NULL, "hello");
    assert_line_ends("Z info  hello\n");
}

static void a_configuration_error_names_its_place(void **state)
{
    (void)state;
    log_config(FMS_LOG_ERROR, "a.ini", 12, "no %s", "good");
    assert_line_ends("Z error a.ini:12: no good\n");
}

static void a_place_may_have_no_line(void **state)
{
    (void)state;
    log_config(FMS_LOG_ERROR, "a.ini", 0, "no good");
    assert_line_ends("Z error a.ini: no good\n");
}

static void levels_are_filtered(void **state)
{
    (void)state;
    log_line(FMS_LOG_DEBUG, NULL, NULL, "not this");
    log_setup(LOG_TEXT, FMS_LOG_ERROR);
    log_line(FMS_LOG_WARN, NULL, NULL, "nor this");
    log_config(FMS_LOG_WARN, "a.ini", 1, "nor this");
    assert_int_equal(count_lines(), 0);
    log_setup(LOG_TEXT, FMS_LOG_DEBUG);
    log_line(FMS_LOG_DEBUG, NULL, NULL, "but this");
    assert_int_equal(count_lines(), 1);
}

/* One line, whatever comes from outside: no escape sequence reaches a terminal, no newline forges a line. */
static void control_characters_are_escaped(void **state)
{
    (void)state;
    log_line(FMS_LOG_INFO, NULL, NULL, "%s", "a\nb\x1b[31mc\x7f\xff z\xc3\xa4\xc2\x9b");
    assert_line_ends("a\\x0ab\\x1b[31mc\\x7f\\xff z\xc3\xa4\\x9b\n");
}

/* Nor does a text turn round or hide what stands beside it. */
static void characters_that_deceive_are_escaped(void **state)
{
    (void)state;
    log_line(FMS_LOG_INFO, NULL, NULL, "%s", "a\u202eb\u2028c\u200bd\u2066e\ufefff\U000e0041g \u00e4\u4e2d\U0001f69a");
    assert_line_ends("a\\u202eb\\u2028c\\u200bd\\u2066e\\ufefff\\U000e0041g \u00e4\u4e2d\U0001f69a\n");
}

static void passwords_of_urls_are_hidden(void **state)
{
    static const char *const texts[][2] = {
        {"tcp://user:secret@host:1883: no", "tcp://user:***@host:1883: no"},
        {"\"tcp://user:se/cr:et@x@host\" and ssl://a:b@c", "\"tcp://user:***@host\" and ssl://a:*@c"},
        {"tcp://user:a secret@host", "tcp://user:***@host"},
        {"tcp://user:1883@[::1]:1883", "tcp://user:***@[::1]:1883"},
        {"wss://host/mqtt?token=secret failed", "wss://host/mqtt?*** failed"},
        {"tcp://user:secret@host/?token=secret", "tcp://user:***@host/?***"},
        {"tcp://user@host:1883", "tcp://user@host:1883"},
        {"tcp://host:1883: ask a@b", "tcp://host:1883: ask a@b"},
        {"tcp://[::1]:1883, a@b", "tcp://[::1]:1883, a@b"},
        {"tcp://host:18x83 has no port", "tcp://host:18x83 has no port"},
        {"does tcp://host speak MQTT 5? ://", "does tcp://host speak MQTT 5? ://"},
        {"a:b@c", "a:b@c"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char shown[128];

        snprintf(shown, sizeof shown, "%s", texts[i][0]);
        log_redact(shown);
        assert_string_equal(shown, texts[i][1]);
    }
    log_config(FMS_LOG_ERROR, "a.ini", 1, "\"%s\" must begin with tcp://", "user:secret@host:1883, a:secret@b");
    assert_non_null(strstr(logged(), "a.ini:1: \"user:***@host:1883, a:***@b\" must begin with tcp://\n"));
    log_line(FMS_LOG_INFO, "p", "s", "connected to %s", texts[0][0]);
    log_config(FMS_LOG_ERROR, "a.ini", 1, "server: %s", texts[0][0]);
    assert_int_equal(count_lines(), 3);
    assert_null(strstr(logged(), "secret"));
}

static void a_long_line_is_whole(void **state)
{
    static char big[100001];

    (void)state;
    memset(big, 'x', sizeof big - 1);
    log_line(FMS_LOG_INFO, "p", NULL, "%s!", big);
    assert_int_equal(count_lines(), 1);
    assert_non_null(strstr(logged(), "x!\n"));
    assert_true(strlen(logged()) > 100000);
}

/* ------------------------------------------------------------------------------------------------------------- JSON */

static json_t *parsed(void)
{
    json_error_t error;
    json_t *line = json_loads(logged(), 0, &error);

    if (line == NULL)
        print_error("%s in: %s\n", error.text, logged());
    assert_non_null(line);
    return line;
}

static void assert_field(json_t *line, const char *name, const char *value)
{
    assert_non_null(json_object_get(line, name));
    assert_string_equal(json_string_value(json_object_get(line, name)), value);
}

static void a_json_line_has_all_fields(void **state)
{
    json_t *line;

    (void)state;
    log_setup(LOG_JSON, FMS_LOG_INFO);
    log_line(FMS_LOG_ERROR, "bridge", "sink \"kafka\"", "a \\ and\ta tab, \x01, \xc3\xa4 and \"%d\"", 7);
    line = parsed();
    assert_int_equal(json_object_size(line), 5);
    assert_field(line, "level", "error");
    assert_field(line, "pipeline", "bridge");
    assert_field(line, "stage", "sink \"kafka\"");
    assert_field(line, "message", "a \\ and\ta tab, \x01, \xc3\xa4 and \"7\"");
    assert_int_equal(strlen(json_string_value(json_object_get(line, "time"))), strlen("2026-01-01T00:00:00.000Z"));
    json_decref(line);
}

static void json_has_no_character_that_deceives(void **state)
{
    json_t *line;

    (void)state;
    log_setup(LOG_JSON, FMS_LOG_INFO);
    log_line(FMS_LOG_INFO, NULL, NULL, "%s", "a\u202eb\u2028c\U000e0041");
    assert_non_null(strstr(logged(), "\"a\\u202eb\\u2028c\\udb40\\udc41\""));
    line = parsed();
    assert_field(line, "message", "a\u202eb\u2028c\U000e0041");
    json_decref(line);
}

static void a_json_line_without_pipeline(void **state)
{
    json_t *line;

    (void)state;
    log_setup(LOG_JSON, FMS_LOG_INFO);
    log_config(FMS_LOG_WARN, "a.ini", 3, "hm");
    line = parsed();
    assert_int_equal(json_object_size(line), 3);
    assert_field(line, "message", "a.ini:3: hm");
    json_decref(line);
}

/* Bytes that are no UTF-8 would make the line no JSON. */
static void json_is_utf8_whatever_comes(void **state)
{
    static const char *const bad[] = {"\xff",     "\xc3", "\xc0\x80",        "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "\x80", "\xf0\x8f\x80\x80"};
    static const char *const good[] = {"\xc2\xa0", "\xe2\x82\xac", "\xf0\x9f\x9a\x9a", "\xf4\x8f\xbf\xbf"};

    log_setup(LOG_JSON, FMS_LOG_INFO);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        log_line(FMS_LOG_INFO, NULL, NULL, "<%s>", bad[i]);
        json_decref(parsed());
        teardown(state);
        setup(state);
        log_setup(LOG_JSON, FMS_LOG_INFO);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        json_t *line;

        log_line(FMS_LOG_INFO, NULL, NULL, "%s", good[i]);
        line = parsed();
        assert_field(line, "message", good[i]);
        json_decref(line);
        teardown(state);
        setup(state);
        log_setup(LOG_JSON, FMS_LOG_INFO);
    }
}

/* ------------------------------------------------------------------------------------------------------ repetitions */

static void warn(const char *stage, int number)
{
    log_line(FMS_LOG_WARN, "p", stage, "thing %d", number);
}

static void repetitions_are_held_back(void **state)
{
    static const char a[] = "sink a", b[] = "sink b";

    (void)state;
    for (int i = 0; i < 1000; i++)
        warn(a, i);
    assert_int_equal(count_lines(), 1);
    warn(b, 0); /* another stage */
    assert_int_equal(count_lines(), 2);
    log_line(FMS_LOG_WARN, "p", a, "another text");
    assert_int_equal(count_lines(), 3);
    for (int i = 0; i < 10; i++)
        log_line(FMS_LOG_INFO, "p", a, "no warning");
    assert_int_equal(count_lines(), 13);
    for (int i = 0; i < 10; i++)
        log_config(FMS_LOG_ERROR, "a.ini", i + 1, "bad");
    assert_int_equal(count_lines(), 23);
}

static void pipelines_do_not_hold_each_other_back(void **state)
{
    static const char one[] = "one", two[] = "two";

    (void)state;
    for (int i = 0; i < 2; i++)
        log_line(FMS_LOG_WARN, i == 0 ? one : two, NULL, "the same");
    assert_int_equal(count_lines(), 2);
}

static void reject(const char *reason)
{
    static const char stage[] = "sink";

    log_line(FMS_LOG_WARN, "p", stage, "record goes to dead letters: %s", reason);
}

/* A thousand of one fault, each with another number, name and place, do not hide the one of another. */
static void the_first_of_each_kind_is_told(void **state)
{
    static const char *const others[] = {"key: the field is missing", "no JSON: , expected at byte 7",
                                         "no JSON: } expected at byte 7", "the topic \"a\" is gone"};
    char reason[128];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(reason, sizeof reason, "of %d bytes, on \"fms/%c/%d\" of veh%da: too large", i, 'a' + i % 26, i, i);
        reject(reason);
    }
    assert_int_equal(count_lines(), 1);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        reject(others[i]);
        reject(others[i]);
        assert_int_equal(count_lines(), i + 2);
        assert_non_null(strstr(logged(), others[i]));
    }
    reject("of 5 bytes, on \"\" of veh5: too large");
    reject("the topic \"b and no more");
    assert_int_equal(count_lines(), 6); /* the latter is of a kind of its own */
}

/* Who chooses what a reason says does not choose how much is logged. */
static void kinds_have_a_bound(void **state)
{
    char reason[64];

    (void)state;
    for (int i = 0; i < 26 * 26 * 26; i++) {
        snprintf(reason, sizeof reason, "no such word: %c%c%c", 'a' + i / 676, 'a' + i / 26 % 26, 'a' + i % 26);
        reject(reason);
    }
    assert_in_range(count_lines(), 10, 25); /* the latter for a slow machine */
}

static void a_repetition_says_how_many_were_held_back(void **state)
{
    static const char stage[] = "sink";
    struct timespec pause = {0, 5000000};
    time_t deadline = time(NULL) + 30;
    char expected[64];
    int n = 0;

    (void)state;
    for (; count_lines() < 2; n++) {
        assert_true(time(NULL) < deadline);
        warn(stage, 1);
        nanosleep(&pause, NULL);
    }
    snprintf(expected, sizeof expected, "thing 1 (and %d more like it)\n", n - 2);
    assert_non_null(strstr(logged(), expected));
}

static void what_comes_now_and_then_is_held_back_too(void **state)
{
    struct log_pause pause = {.next = 0};
    unsigned held_back, said = 0, kept = 0;

    (void)state;
    for (int64_t now = 0; now < 600 * FMS_SECOND; now += 4 * FMS_SECOND) {
        if (log_pause_over(&pause, now, &held_back)) {
            said++;
            kept += held_back;
        }
    }
    assert_in_range(said, 2, 16);
    assert_int_equal(said + kept + pause.held_back, 150);
    assert_true(log_pause_over(&pause, 1000 * FMS_SECOND, &held_back));
    assert_int_equal(pause.length, FMS_SECOND);
}

/* ------------------------------------------------------------------------------------------- a reader that does not */

#define MANY 20000

static int pipe_ends[2];
static char received[8 << 20];

/* stderr becomes a pipe that is full of dots. */
static int setup_full_pipe(void **state)
{
    static char dots[4096];

    memset(dots, '.', sizeof dots);
    if (setup(state) != 0 || pipe(pipe_ends) != 0)
        return 1;
    fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK);
    while (write(pipe_ends[1], dots, sizeof dots) > 0)
        continue;
    fcntl(pipe_ends[1], F_SETFL, 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    alarm(120); /* instead of waiting for ever */
    return 0;
}

static int teardown_full_pipe(void **state)
{
    alarm(0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return teardown(state);
}

/* Reads on until the text has come; all that was ever read. */
static const char *received_until(const char *end)
{
    static size_t size;
    ssize_t n = 1;

    for (received[size] = '\0'; n > 0 && strstr(received, end) == NULL; received[size] = '\0') {
        n = read(pipe_ends[0], received + size, sizeof received - 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    assert_true(n > 0);
    return received;
}

/* Not even while the write has yet to begin. The first test: so it begins with a thread that is still to be made. */
static void a_flush_does_not_wait_for_nobody(void **state)
{
    (void)state;
    log_line(FMS_LOG_INFO, NULL, NULL, "one of which nobody reads");
    log_flush(FMS_NEVER);
    received_until("one of which nobody reads");
    log_line(FMS_LOG_INFO, NULL, NULL,
             "one that is read"); /* so that no later flush meets that old write, in its last moments */
    received_until("one that is read");
}

static void who_logs_never_waits_and_what_was_dropped_is_counted(void **state)
{
    const char *lines, *told;
    unsigned long came = 0, dropped;

    (void)state;
    for (int i = 0; i < MANY; i++)
        log_line(FMS_LOG_INFO, NULL, NULL, "line %d of many, each as long as those of a pipeline often are", i);
    log_flush(FMS_NEVER); /* not even this one */

    lines = received_until("log lines were dropped");
    while (strstr(lines, " info  line ") != NULL) {
        lines = strstr(lines, " info  line ") + strlen(" info  line ");
        assert_int_equal(strtoul(lines, NULL, 10), came++); /* in order, and none is missing before the gap */
    }
    told = strstr(received, " warn  ");
    assert_true(told > lines);
    dropped = strtoul(told + strlen(" warn  "), NULL, 10);
    assert_int_equal(came + dropped, MANY);
    assert_true(dropped > 0 && came > 0);

    log_line(FMS_LOG_INFO, NULL, NULL, "the last");
    assert_true(strstr(received_until("the last"), "the last") > told);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_flush_does_not_wait_for_nobody, setup_full_pipe, teardown_full_pipe),
        CASE(a_line_has_time_level_pipeline_and_stage),
        CASE(pipeline_and_stage_may_be_absent),
        CASE(a_configuration_error_names_its_place),
        CASE(a_place_may_have_no_line),
        CASE(levels_are_filtered),
        CASE(control_characters_are_escaped),
        CASE(characters_that_deceive_are_escaped),
        CASE(passwords_of_urls_are_hidden),
        CASE(a_long_line_is_whole),
        CASE(a_json_line_has_all_fields),
        CASE(json_has_no_character_that_deceives),
        CASE(a_json_line_without_pipeline),
        CASE(json_is_utf8_whatever_comes),
        CASE(repetitions_are_held_back),
        CASE(pipelines_do_not_hold_each_other_back),
        CASE(the_first_of_each_kind_is_told),
        CASE(kinds_have_a_bound),
        CASE(a_repetition_says_how_many_were_held_back),
        CASE(what_comes_now_and_then_is_held_back_too),
        cmocka_unit_test_setup_teardown(who_logs_never_waits_and_what_was_dropped_is_counted, setup_full_pipe,
                                        teardown_full_pipe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
