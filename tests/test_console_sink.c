/* test_console_sink.c - what stands on standard output, and when its records count as delivered.
 *
 * The sink writes to file descriptor 1, so each test puts a pipe, a file or a pseudo-terminal there. */
#include "fms_test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TELEMETRY                                                                                                      \
    "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320419,\"speed\":56.65,\"rpm\":1316,\"fuel_level\":99.65}"

static int saved = -1;       /* the real standard output */
static int reader = -1;      /* where a test reads what was printed */
static char output[1 << 20]; /* what it has read */
static size_t output_size;

static void put_on_stdout(int fd)
{
    saved = saved < 0 ? dup(STDOUT_FILENO) : saved;
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

static void restore_stdout(void)
{
    if (saved < 0)
        return;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    saved = -1;
}

static int setup(void **state)
{
    (void)state;
    fflush(stdout);
    output_size = 0;
    setenv("TZ", "UTC", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    signal(SIGPIPE, SIG_IGN); /* as the core does */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    restore_stdout();
    if (reader >= 0)
        close(reader);
    reader = -1;
    return 0;
}

static void use_pipe(void)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    reader = fds[0];
    fcntl(reader, F_SETFL, O_NONBLOCK);
    put_on_stdout(fds[1]);
}

static void use_terminal(void)
{
    int terminal;

    assert_int_equal(openpty(&reader, &terminal, NULL, NULL, NULL), 0);
    fcntl(reader, F_SETFL, O_NONBLOCK);
    put_on_stdout(terminal);
}

/* Reads what is there now; the output so far, as text. */
static const char *printed(void)
{
    ssize_t n;

    while (output_size < sizeof output - 1 &&
           (n = read(reader, output + output_size, sizeof output - 1 - output_size)) > 0)
        output_size += (size_t)n;
    output[output_size] = '\0';
    return output;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; (text = strchr(text, '\n')) != NULL; text++)
        n++;
    return n;
}

/* Prints one payload in a stage of these options, and returns the output. */
static const char *print_bytes(const char *ini, struct fms_bytes payload)
{
    struct fake *f = fake_open("console_sink", FMS_SINK, ini);
    struct fms_record record = {.topic = {"t", 1}, .payload = payload};

    fake_add_record(f, &record);
    assert_int_equal(fake_write(f), 1);
    fake_until(f, (printed(), fake_fate(f, 0) == FMS_DELIVERED));
    fake_close(f);
    return printed();
}

static const char *print(const char *ini, const char *payload)
{
    return print_bytes(ini, fms_text(payload));
}

/* -------------------------------------------------------------------------------------------------- what is printed */

static void test_bare_payload_elsewhere(void **state)
{
    (void)state;
    use_pipe();
    assert_string_equal(print("", TELEMETRY), TELEMETRY "\n");
}

static void test_json_on_a_terminal(void **state)
{
    (void)state;
    use_terminal();
    assert_string_equal(print("format = json\n", TELEMETRY), TELEMETRY "\r\n");
}

static void test_pretty_on_a_terminal(void **state)
{
    const char *text;

    (void)state;
    use_terminal();
    text = print("", TELEMETRY);
    assert_non_null(strstr(text, "TIME      VEHICLE"));
    assert_non_null(strstr(text, "\033[2m19:13:39\033[0m  \033[1mraspi-001        \033[0m"
                                 "    56.65 km/h   1316 rpm  \033[32m██████████\033[0m  99.65 %\r\n"));
}

static void test_no_color(void **state)
{
    (void)state;
    use_terminal();
    setenv("NO_COLOR", "1", 1);
    assert_null(strchr(print("", TELEMETRY), '\033'));
    assert_non_null(strstr(printed(), "raspi-001"));
    output_size = 0;
    setenv("NO_COLOR", "", 1); /* empty: as if it were not set */
    assert_non_null(strchr(print("", TELEMETRY), '\033'));
}

static void test_pretty_in_a_pipe_has_no_colour(void **state)
{
    (void)state;
    use_pipe();
    setenv("LC_ALL", "C", 1);
    assert_string_equal(print("format = pretty\n", TELEMETRY),
                        "TIME      VEHICLE                   SPEED        RPM  FUEL\n"
                        "19:13:39  raspi-001            56.65 km/h   1316 rpm  ##########  99.65 %\n");
}

/* A payload that is absent is told from one that is empty. */
static void test_tombstones(void **state)
{
    struct fms_record record = {.topic = {"t", 1}, .key = {"raspi-001\n", 10}, .timestamp = 1763320419 * FMS_SECOND};
    struct fake *f;

    (void)state;
    use_pipe();
    assert_string_equal(print_bytes("format = json\n", fms_bytes_of(NULL, 0)), "null\n");
    output_size = 0;
    assert_string_equal(print_bytes("format = json\n", fms_bytes_of("", 0)), "\n");
    output_size = 0;
    f = fake_open("console_sink", FMS_SINK, "format = pretty\n");
    fake_add_record(f, &record);
    record.timestamp = 0;
    record.key = fms_bytes_of(NULL, 0);
    fake_add_record(f, &record);
    assert_int_equal(fake_write(f), 2);
    fake_until(f, (printed(), fake_count_fate(f, FMS_DELIVERED) == 2));
    fake_close(f);
    assert_string_equal(strchr(printed(), '\n') + 1, "19:13:39  raspi-001\\n        no payload (tombstone)\n"
                                                     "--:--:--                     no payload (tombstone)\n");
}

static void test_bar_and_levels(void **state)
{
    (void)state;
    use_terminal();
    assert_non_null(strstr(print("", "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":0,\"rpm\":0,\"fuel_level\":4.5}"),
                           "\033[31m▌         \033[0m"));
    assert_non_null(strstr(print("", "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":0,\"rpm\":0,\"fuel_level\":20}"),
                           "\033[33m██        \033[0m"));
}

static void test_columns_stay_aligned(void **state)
{
    const char *line;

    (void)state;
    use_pipe();
    line = print("format = pretty\n", "{\"vehicle_id\":\"\\u001b[2Jthe-longest-id-of-all\",\"timestamp\":1.5,"
                                      "\"speed\":120,\"rpm\":3000,\"fuel_level\":100}");
    line = strchr(line, '\n') + 1;
    assert_string_equal(line, "00:00:01  \\x1b[2Jthe-longes   120.00 km/h   3000 rpm  ██████████ 100.00 %\n");
}

static void test_control_characters_are_escaped(void **state)
{
    (void)state;
    use_pipe();
    assert_string_equal(print("", "a\033]0;evil\007\r\n\tb\\"), "a\\x1b]0;evil\\x07\\r\\n\\tb\\\\\n");
    output_size = 0;
    assert_string_equal(print("", "C:\\path stays, é € 😀 too"), "C:\\path stays, é € 😀 too\n");
    output_size = 0;
    assert_string_equal(print("", "\u202ereversed\u2066 \xc2\x85"), "\\u202ereversed\\u2066 \\u0085\n");
    output_size = 0;
    assert_string_equal(print_bytes("", fms_bytes_of("a\0b\x7f", 4)), "a\\x00b\\x7f\n");
    output_size = 0;
    assert_string_equal(print("", "eight b\x7f"), "eight b\\x7f\n");
}

/* Text is looked at eight bytes at a time, and then at its end. */
static void test_one_byte_is_found_anywhere(void **state)
{
    char text[21], expected[32];

    (void)state;
    use_pipe();
    for (size_t size = 1; size < sizeof text; size++) {
        for (size_t at = 0; at < size; at++) {
            memset(text, 'x', size);
            text[at] = '\x1b';
            snprintf(expected, sizeof expected, "%.*s\\x1b%.*s\n", (int)at, text, (int)(size - at - 1), text + at + 1);
            output_size = 0;
            assert_string_equal(print_bytes("", fms_bytes_of(text, size)), expected);
        }
    }
}

static void test_broken_utf8_is_escaped(void **state)
{
    (void)state;
    use_pipe();
    assert_string_equal(print("", "\xc3"), "\\xc3\n"); /* cut */
    output_size = 0;
    assert_string_equal(
        print("", "\xc0\xaf \xe0\x80\xaf \xed\xa0\x80 \xf5 \x9bx"), /* overlong, surrogate, too large, a C1 byte */
        "\\xc0\\xaf \\xe0\\x80\\xaf \\xed\\xa0\\x80 \\xf5 \\x9bx\n");
    output_size = 0;
    setenv("LC_ALL", "C", 1);
    assert_string_equal(print("format = pretty\n", "é😀"), "\\u00e9\\U0001f600\n");
}

/* Not telemetry, however near it comes: shown as it is, and no crash. */
static void test_garbage_in_pretty(void **state)
{
    static const char *const payloads[] = {
        "",
        "x",
        "{",
        "[1,2]",
        "null",
        "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":1e400,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":NaN,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":1e300,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":1763320419000,\"speed\":1,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":-1,\"speed\":1,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":7,\"timestamp\":1,\"speed\":1,\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":\"1\",\"rpm\":1,\"fuel_level\":1}",
        "{\"vehicle_id\":\"a\",\"timestamp\":1,\"speed\":1,\"rpm\":1}",
        "{\"vehicle_id\":\"a\\u0000\",\"timestamp\":1,\"speed\":1,\"rpm\":1,\"fuel_level\":1}",
    };
    char expected[256];

    (void)state;
    use_pipe();
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        output_size = 0;
        snprintf(expected, sizeof expected, "%s\n", payloads[i]);
        assert_string_equal(print("format = pretty\n", payloads[i]), expected);
    }
}

static void test_deeply_nested(void **state)
{
    static char nested[2][60000];

    (void)state;
    use_pipe();
    memset(nested[0], '[', 10000);
    memset(nested[1], '[', sizeof nested[1] - 1); /* beyond what is parsed at all */
    for (size_t i = 0; i < 2; i++) {
        output_size = 0;
        assert_int_equal(strlen(print("format = pretty\nsummary = yes\n", nested[i])), strlen(nested[i]) + 1);
    }
}

static void test_head_is_repeated(void **state)
{
    struct fake *f;
    size_t heads = 0;

    (void)state;
    use_pipe();
    f = fake_open("console_sink", FMS_SINK, "format = pretty\n");
    for (size_t i = 0; i < 61; i++)
        fake_add(f, "t", "k", TELEMETRY);
    fake_write(f);
    fake_until(f, (printed(), fake_count_fate(f, FMS_DELIVERED) == 61));
    for (const char *at = printed(); (at = strstr(at, "TIME")) != NULL; at++)
        heads++;
    assert_int_equal(heads, 3);
    assert_int_equal(count_lines(output), 64);
    fake_close(f);
}

/* A payload of many buffers, escaped to four times its size, and as it is. */
static void test_huge_payload(void **state)
{
    static char bytes[100000];

    (void)state;
    use_pipe();
    memset(bytes, 1, sizeof bytes);
    assert_int_equal(strlen(print_bytes("", fms_bytes_of(bytes, sizeof bytes))), 4 * sizeof bytes + 1);
    output_size = 0;
    memset(bytes, 'a', sizeof bytes);
    assert_int_equal(strlen(print_bytes("", fms_bytes_of(bytes, sizeof bytes))), sizeof bytes + 1);
}

/* --------------------------------------------------------------------------------------------- when it is delivered */

static struct fake *open_with_records(const char *ini, size_t count)
{
    struct fake *f = fake_open("console_sink", FMS_SINK, ini);
    char payload[200];

    for (size_t i = 0; i < count; i++) {
        snprintf(payload, sizeof payload, "{\"n\":%06zu,\"filler\":\"%0150d\"}", i, 0);
        fake_add(f, "t", "k", payload);
    }
    return f;
}

/* Nobody reads: what does not fit the pipe stays unsettled, and write returns none the less. */
static void test_confirmed_late(void **state)
{
    struct fake *f;
    size_t in_pipe, n;

    (void)state;
    use_pipe();
    f = open_with_records("", 5000);
    assert_int_equal(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0); /* so a careless write would hang here */
    assert_in_range(fake_write(f), 1000, 2000);
    fake_poll(f, 0);
    in_pipe = fake_count_fate(f, FMS_DELIVERED);
    assert_in_range(in_pipe, 200, 400); /* 64 KiB of pipe */
    assert_int_equal(fake_waits_for(f)->fd, STDOUT_FILENO);
    assert_int_equal(fake_waits_for(f)->events, POLLOUT);
    fake_wait(f, 0);
    assert_false(fake_wait(f, 5 * FMS_MS)); /* but for the settlements themselves, nothing wakes it: no busy loop */
    n = count_lines(printed());
    assert_int_equal(n, in_pipe); /* delivered is what was written, to the line */
    fake_until(f, (printed(), fake_count_fate(f, FMS_DELIVERED) == 5000));
    assert_int_equal(count_lines(printed()), 5000);
    for (size_t i = 0; i < 5000; i++) {
        size_t number;

        assert_int_equal(sscanf(output + i * (output_size / 5000), "{\"n\":%zu", &number), 1);
        assert_int_equal(number, i);
    }
    fake_close(f);
}

static void test_never_confirmed(void **state)
{
    struct fake *f;
    size_t written;

    (void)state;
    use_pipe();
    f = open_with_records("", 600);
    fake_write(f);
    written = fake_count_fate(f, FMS_DELIVERED);
    assert_in_range(written, 200, 400);
    fake_expect_left(f, 600 - written); /* given up at close, unacknowledged */
    fake_close(f);
}

/* A stopped terminal takes nothing; the lane goes on, and the terminal's own description stays as it was. */
static void test_stopped_terminal(void **state)
{
    struct fake *f;

    (void)state;
    use_terminal();
    f = open_with_records("format = json\n", 2000);
    fake_write(f);
    assert_in_range(fake_count_fate(f, FMS_DELIVERED), 0, 1000);
    assert_int_equal(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
    fake_until(f, (printed(), fake_count_fate(f, FMS_DELIVERED) == 2000));
    fake_until(f, count_lines(printed()) == 2000);
    fake_close(f);
}

/* In a pipe of packets each read is one write. */
static void test_writes_end_with_lines(void **state)
{
    struct fake *f;
    char packet[PIPE_BUF];
    size_t lines = 0;
    int fds[2];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_DIRECT), 0);
    reader = fds[0];
    put_on_stdout(fds[1]);
    f = open_with_records("", 200);
    fake_write(f);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 200);
    while (lines < 200) {
        n = read(reader, packet, sizeof packet);
        assert_in_range(n, 1, sizeof packet);
        assert_int_equal(packet[n - 1], '\n');
        for (ssize_t i = 0; i < n; i++)
            lines += packet[i] == '\n';
        assert_true(n > PIPE_BUF - 256 || lines == 200); /* many records in each */
    }
    fake_close(f);
}

static void test_file(void **state)
{
    int fd = memfd_create("output", MFD_CLOEXEC);
    struct stat stat;
    struct fake *f;

    (void)state;
    assert_true(fd >= 0);
    reader = dup(fd);
    put_on_stdout(fd);
    f = open_with_records("", 3000);
    fake_until(f, (fake_write(f), fake_count_fate(f, FMS_DELIVERED) == 3000));
    fstat(reader, &stat);
    assert_int_equal(stat.st_size, 3000 * strlen("{\"n\":000000,\"filler\":\"\"}\n") + 3000 * 150);
    fake_close(f);
}

static void test_closed_pipe_ends_cleanly(void **state)
{
    struct fake *f;

    (void)state;
    use_pipe();
    f = open_with_records("", 10);
    close(reader);
    reader = -1;
    assert_true(fake_write(f) >= 0);
    fake_until(f, fake_finished(f));
    assert_int_equal(fake_error(f), 0);
    assert_null(fake_said(f, "error"));
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 0);
    fake_expect_left(f, 10);
    fake_close(f);
}

/* `fmspipe ... | head -1` ends although nothing more is printed. */
static void test_reader_goes_while_nothing_is_printed(void **state)
{
    struct fake *f;

    (void)state;
    use_pipe();
    f = open_with_records("", 1);
    fake_write(f);
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    fake_poll(f, 0);
    assert_false(fake_finished(f));
    close(reader);
    reader = -1;
    fake_until(f, fake_finished(f));
    assert_int_equal(fake_poll(f, 0), 0);
    assert_int_equal(fake_waits_for(f)->fd, -1); /* or it would be polled for ever */
    fake_close(f);
}

static void test_full_disk_fails(void **state)
{
    struct fake *f;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(full >= 0);
    put_on_stdout(full);
    f = open_with_records("", 1);
    assert_int_equal(fake_write(f), -ENOSPC);
    assert_non_null(fake_said(f, "error: cannot write to standard output: No space left on device"));
    fake_expect_left(f, fake_unsettled(f));
    fake_close(f);
}

static void test_no_standard_output(void **state)
{
    struct fake *f;

    (void)state;
    f = fake_check("console_sink", FMS_SINK, "");
    saved = dup(STDOUT_FILENO);
    close(STDOUT_FILENO);
    assert_int_equal(fake_start(f), -EBADF);
    restore_stdout();
    fake_close(f);
}

static void test_count(void **state)
{
    struct fake *f;

    (void)state;
    use_pipe();
    f = open_with_records("count = 3\n", 5);
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 3);
    assert_true(fake_finished(f));
    assert_int_equal(fake_write(f), 0);
    assert_int_equal(count_lines(printed()), 3);
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------- summary */

static char summary_text[300];

/* Closes the stage, and returns what it logged then. */
static const char *summary_of(struct fake *f)
{
    fake_shut(f);
    snprintf(summary_text, sizeof summary_text, "%s", fake_said(f, "info: ") + strlen("info: "));
    fake_close(f);
    return summary_text;
}

/* Whether the summary's number behind `name` is this one, to 3 %. */
static bool is_near(double expected, const char *name)
{
    double value = strtod(strstr(summary_text, name) + strlen(name), NULL);

    return value > expected * 0.97 && value < expected * 1.03;
}

static void test_summary_by_sent_ns(void **state)
{
    struct fake *f;
    char payload[200];

    (void)state;
    use_pipe();
    f = fake_open("console_sink", FMS_SINK, "summary = yes\n");
    fake_clock_set(f, 0, 1000 * FMS_SECOND);
    for (int64_t i = 1; i <= 100; i++) { /* aged 1 .. 100 ms */
        snprintf(payload, sizeof payload, "{\"vehicle_id\":\"v%d\",\"sent_ns\":%lld}", (int)i % 7,
                 (long long)(1000 * FMS_SECOND - i * FMS_MS));
        fake_add(f, "t", "k", payload);
    }
    fake_write(f);
    assert_ptr_equal(strstr(summary_of(f), "100 records from 7 vehicles, latency median "), summary_text);
    assert_non_null(strstr(summary_text, "sent_ns"));
    assert_null(strstr(summary_text, "timestamp"));
    assert_true(is_near(50, "median "));
    assert_true(is_near(99, "p99 "));
}

static void test_summary_by_timestamp(void **state)
{
    struct fms_record record = {.topic = {"t", 1}, .key = {"bus", 3}, .payload = {"x", 1}};
    struct fake *f;

    (void)state;
    use_pipe();
    f = fake_open("console_sink", FMS_SINK, "summary = yes\n");
    fake_clock_set(f, 0, 1000 * FMS_SECOND);
    record.timestamp = 998 * FMS_SECOND;
    fake_add_record(f, &record);
    fake_write(f);
    assert_ptr_equal(strstr(summary_of(f), "1 record from 1 vehicle, latency median "), summary_text);
    assert_true(is_near(2000, "median "));
    assert_non_null(strstr(summary_text, "the record's timestamp"));

    f = fake_open("console_sink", FMS_SINK, "summary = yes\n");
    assert_non_null(strstr(summary_of(f), "0 records from 0 vehicles"));
    assert_null(strstr(summary_text, "latency"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bare_payload_elsewhere),
        TEST(test_json_on_a_terminal),
        TEST(test_pretty_on_a_terminal),
        TEST(test_no_color),
        TEST(test_pretty_in_a_pipe_has_no_colour),
        TEST(test_bar_and_levels),
        TEST(test_tombstones),
        TEST(test_columns_stay_aligned),
        TEST(test_control_characters_are_escaped),
        TEST(test_one_byte_is_found_anywhere),
        TEST(test_broken_utf8_is_escaped),
        TEST(test_garbage_in_pretty),
        TEST(test_deeply_nested),
        TEST(test_head_is_repeated),
        TEST(test_huge_payload),
        TEST(test_confirmed_late),
        TEST(test_never_confirmed),
        TEST(test_stopped_terminal),
        TEST(test_writes_end_with_lines),
        TEST(test_file),
        TEST(test_closed_pipe_ends_cleanly),
        TEST(test_reader_goes_while_nothing_is_printed),
        TEST(test_full_disk_fails),
        TEST(test_no_standard_output),
        TEST(test_count),
        TEST(test_summary_by_sent_ns),
        TEST(test_summary_by_timestamp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
