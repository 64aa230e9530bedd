/* test_file.c - the file's two faces: what stands in the file, what comes out of it, and what is remembered.
 *
 * Times are the fake host's; a file's own time is compared with them where it counts. */
#include "fms_test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail

#define NOBODY 65534
#define START  INT64_C(1000000000000) /* where the fake clocks begin */

static char folder[] = "/tmp/fms-file-XXXXXX";
static char place[64];

static void limit_file_size(rlim_t size)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Each test has a folder of its own. */
static int fresh(void **state)
{
    static int n;

    (void)state;
    limit_file_size(RLIM_INFINITY);
    snprintf(place, sizeof place, "%s/%d", folder, n++);
    return mkdir(place, 0755);
}

/* ------------------------------------------------------------------------------------------------------------- helpers */

/* The path of a file in the folder of the test; valid for a few calls. */
static const char *at(const char *name)
{
    static char paths[8][128];
    static unsigned n;
    char *path = paths[n++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    return path;
}

static void put(const char *name, const char *mode, struct fms_bytes bytes)
{
    FILE *file = fopen(at(name), mode);

    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    put(name, "w", fms_text(text));
}

static void append_text(const char *name, const char *text)
{
    put(name, "a", fms_text(text));
}

/* All of a file, with a NUL byte behind it. */
static struct fms_bytes content(const char *name)
{
    static char buffer[1 << 20];
    FILE *file = fopen(at(name), "r");
    size_t size;

    assert_non_null(file);
    size = fread(buffer, 1, sizeof buffer - 1, file);
    fclose(file);
    buffer[size] = '\0';
    return fms_bytes_of(buffer, size);
}

#define assert_content(name, text) assert_string_equal(content(name).data, text)

static bool is_there(const char *name)
{
    return access(at(name), F_OK) == 0;
}

/* `more` may say @ for the folder. */
static const char *ini(const char *path, const char *more)
{
    static char text[1024];
    size_t used = (size_t)snprintf(text, sizeof text, "path = %s\n", path);

    for (; *more != '\0' && used + sizeof place < sizeof text; more++) {
        if (*more == '@')
            used += (size_t)snprintf(text + used, sizeof text - used, "%s", place);
        else
            text[used++] = *more;
    }
    text[used] = '\0';
    return text;
}

static struct fake *sink(const char *more)
{
    return fake_open("file", FMS_SINK, ini(at("file"), more));
}

/* With clocks that stand still, long before the files were written to. */
static struct fake *source(const char *more)
{
    struct fake *f = fake_check("file", FMS_SOURCE, ini(at("file"), more));

    fake_clock_set(f, START, START);
    if (fake_start(f) != 0)
        print_error("%s\n", fake_said(f, "error: "));
    assert_int_equal(fake_error(f), 0);
    return f;
}

/* Whether it is refused, with that text. */
static void assert_refused(enum fms_role role, const char *path, const char *more, int error, const char *said)
{
    struct fake *f = fake_check("file", role, ini(path, more));

    assert_int_equal(fake_start(f), error);
    if (fake_said(f, said) == NULL)
        print_error("not said: %s, but: %s\n", said, fake_said(f, ""));
    assert_non_null(fake_said(f, said));
    fake_close(f);
}

static struct fms_bytes payload(struct fake *f, size_t i)
{
    return fake_record(f, i)->payload;
}

static void assert_bytes(struct fms_bytes is, struct fms_bytes was)
{
    assert_int_equal(is.data == NULL, was.data == NULL);
    assert_int_equal(is.size, was.size);
    if (was.size > 0)
        assert_memory_equal(is.data, was.data, was.size);
}

/* The payloads from `first` on, each followed by a blank. */
static void assert_payloads(struct fake *f, size_t first, const char *expected)
{
    char text[1024] = "";

    for (size_t i = first; i < fake_emitted(f); i++) {
        strcat(text, payload(f, i).data);
        strcat(text, " ");
    }
    assert_string_equal(text, expected);
}

/* Polls as long as something comes. */
static void poll_all(struct fake *f)
{
    size_t before;

    do {
        before = fake_emitted(f);
        assert_true(fake_poll(f, 100) >= 0);
    } while (fake_emitted(f) > before && !fake_ended(f));
}

static void close_in_flight(struct fake *f)
{
    fake_stop(f);
    fake_close(f);
}

/* Opens a source, takes in all, settles it, closes; what came is compared. */
static void read_all(const char *more, const char *expected)
{
    struct fake *f = source(more);

    fake_settle_auto(f, FMS_DELIVERED);
    poll_all(f);
    assert_payloads(f, 0, expected);
    close_in_flight(f);
}

static void as_nobody(bool yes)
{
    if (getuid() == 0)
        assert_int_equal(seteuid(yes ? NOBODY : 0), 0);
}

/* ---------------------------------------------------------------------------------------------------- what is written */

static void test_payload_lines(void **state)
{
    struct fake *f = sink("");
    struct fms_record draft = {.payload = {"a\0b\r", 4}};

    (void)state;
    fake_add(f, "t", "k", "{\"speed\":1}");
    fake_add(f, "t", NULL, "");
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 3);
    fake_close(f);
    assert_bytes(content("file"), fms_bytes_of("{\"speed\":1}\n\na\0b\r\n", 18));
    f = source("");
    poll_all(f);
    assert_true(fake_ended(f));
    assert_int_equal(fake_emitted(f), 3);
    assert_bytes(payload(f, 0), fms_text("{\"speed\":1}"));
    assert_bytes(payload(f, 1), fms_text(""));
    assert_bytes(payload(f, 2), draft.payload);
    fake_close(f);
}

static void test_append_or_not(void **state)
{
    (void)state;
    write_text("file", "old\n");
    for (int i = 0; i < 2; i++) {
        struct fake *f = sink(i == 0 ? "" : "append = no\n");

        fake_measure(f);
        assert_true(fake_gauge(f, "size_bytes") == (i == 0 ? 4 : 0));
        fake_add(f, "t", NULL, "new");
        assert_int_equal(fake_write(f), 1);
        fake_measure(f);
        assert_true(fake_gauge(f, "size_bytes") == (i == 0 ? 8 : 4));
        fake_close(f);
        assert_content("file", i == 0 ? "old\nnew\n" : "new\n");
    }
}

/* A line feed would make two records of one; an absent payload would come back as an empty one. */
static void test_what_is_no_line_is_rejected(void **state)
{
    struct fake *f = sink("");

    (void)state;
    fake_add(f, "t", NULL, "1");
    fake_add(f, "t", NULL, "2\n");
    fake_add(f, "t", NULL, NULL);
    fake_add(f, "t", NULL, "3");
    assert_int_equal(fake_write(f), 4);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 1), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 1), "line feed in it; format = record"));
    assert_int_equal(fake_fate(f, 2), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 2), "format = record"));
    assert_int_equal(fake_fate(f, 3), FMS_DELIVERED);
    fake_add(f, "t", NULL, "\n");
    assert_int_equal(fake_write(f), 1);
    fake_close(f);
    assert_content("file", "1\n3\n");
}

static void test_record_lines(void **state)
{
    struct fms_header headers[] = {{"trace", fms_text("abc")}, {"absent", {NULL, 0}}, {"\xff", {"\0", 1}}};
    struct fms_record drafts[] = {
        {.topic = fms_text("fms/data"), .key = fms_text("r\"\n"), .payload = fms_text("grün"), .timestamp = 17},
        {.topic = {"", 0}, .payload = {"\xff\x00", 2}, .headers = headers, .header_count = 3, .timestamp = -1},
    };
    struct fake *f = sink("format = record\n");

    (void)state;
    fake_add_record(f, &drafts[0]);
    fake_add_record(f, &drafts[1]);
    assert_int_equal(fake_write(f), 2);
    fake_close(f);
    assert_content("file", "{\"topic\":\"fms/data\",\"key\":\"r\\\"\\n\",\"timestamp_ns\":17,\"payload\":\"grün\"}\n"
                           "{\"topic\":\"\",\"timestamp_ns\":-1,\"headers\":[[\"trace\",\"abc\"],[\"absent\",null],"
                           "[{\"base64\":\"/w==\"},\"\\u0000\"]],\"payload\":{\"base64\":\"/wA=\"}}\n");
}

static void assert_same_record(const struct fms_record *is, const struct fms_record *was)
{
    assert_bytes(is->topic, was->topic);
    assert_bytes(is->key, was->key);
    assert_bytes(is->payload, was->payload);
    assert_int_equal(is->timestamp, was->timestamp);
    assert_int_equal(is->header_count, was->header_count);
    for (size_t i = 0; i < was->header_count; i++) {
        assert_string_equal(is->headers[i].name, was->headers[i].name);
        assert_bytes(is->headers[i].value, was->headers[i].value);
    }
}

/* Each byte beside each of several that begin or end a UTF-8 sequence, in every length of base64, and absent and empty in
 * every place. */
static void make_draft(size_t n, unsigned char *bytes, struct fms_record *draft)
{
    static const unsigned char beside[] = {0x00, 'a', 0x7f, 0x80, 0xbf, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xff};
    static const struct fms_header headers[] = {{"", {"", 0}}, {"\xfe\"", {NULL, 0}}, {"n", {"v\0\xff", 3}}};
    size_t i = n / 256, k = n % 256;

    assert_true(i < sizeof beside);
    memcpy(bytes, (unsigned char[]){(unsigned char)k, beside[i], (unsigned char)k, 0xbf}, 4);
    *draft = (struct fms_record){.payload = {bytes, 1 + k % 4}, .timestamp = (int64_t)(k * k * k) - 1000};
    draft->topic = i % 3 == 0 ? fms_bytes_of(NULL, 0) : fms_bytes_of(bytes, i % 3 - 1);
    draft->key = i % 2 == 0 ? fms_bytes_of(NULL, 0) : fms_bytes_of(bytes, k % 4);
    draft->headers = headers;
    draft->header_count = k % 4;
}

static void test_round_trip_of_every_byte(void **state)
{
    const struct fms_record extremes[] = {{.timestamp = INT64_MIN}, {.timestamp = INT64_MAX}, {.payload = {"", 0}}};
    struct fake *f = sink("format = record\n");
    const size_t count = (size_t)12 * 256;
    unsigned char bytes[4];
    struct fms_record draft;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        make_draft(i, bytes, &draft);
        fake_add_record(f, &draft);
    }
    for (size_t i = 0; i < 3; i++)
        fake_add_record(f, &extremes[i]);
    assert_int_equal(fake_write(f), count + 3);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), count + 3);
    fake_close(f);
    f = source("format = record\n");
    poll_all(f);
    assert_int_equal(fake_emitted(f), count + 3);
    for (size_t i = 0; i < count; i++) {
        make_draft(i, bytes, &draft);
        assert_same_record(fake_record(f, i), &draft);
    }
    for (size_t i = 0; i < 3; i++)
        assert_same_record(fake_record(f, count + i), &extremes[i]);
    fake_close(f);
}

static void test_large_records_are_taken_in_parts(void **state)
{
    static char large[300 * 1024];
    struct fake *f = sink("sync = always\n");
    struct stat stat_of;

    (void)state;
    memset(large, 'x', sizeof large);
    for (int i = 0; i < 20; i++) {
        struct fms_record draft = {.payload = {large, sizeof large}};

        fake_add_record(f, &draft);
    }
    fake_until(f, fake_write(f) >= 0 && fake_count_fate(f, FMS_DELIVERED) == 20);
    fake_close(f);
    assert_int_equal(stat(at("file"), &stat_of), 0);
    assert_int_equal(stat_of.st_size, 20 * (sizeof large + 1));
}

/* ----------------------------------------------------------------------------------------------- when it can't be written */

/* What the limit cuts off in the middle is taken back whole, and written whole later, each line once. */
static void test_full_disk(void **state)
{
    struct fake *f = sink("");
    struct stat stat_of;

    (void)state;
    fake_add(f, "t", NULL, "before");
    assert_int_equal(fake_write(f), 1);
    limit_file_size(20);
    for (int i = 0; i < 3; i++)
        fake_add(f, "t", "k", "0123456789");
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_count_fate(f, FMS_RETRY), 3);
    assert_non_null(strstr(fake_reason(f, 1), "/file: cannot be written to: File too large; rotate_size, or a higher"));
    assert_int_equal(fake_counter(f, "write_errors"), 1);
    assert_content("file", "before\n");
    assert_int_equal(fake_write(f), 3); /* again in vain */
    assert_content("file", "before\n");
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 4);
    fake_close(f);
    assert_content("file", "before\n0123456789\n0123456789\n0123456789\n");
    assert_int_equal(stat(at("file"), &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0111, 0);
}

/* A stream cannot be cut back: the pipeline fails. */
static void test_stream_that_fails(void **state)
{
    struct fake *f = fake_open("file", FMS_SINK, "path = /dev/full\n");

    (void)state;
    fake_add(f, "t", NULL, "1");
    assert_int_equal(fake_write(f), -ENOSPC);
    assert_non_null(fake_said(f, "error: /dev/full: cannot be written to: No space left on device"));
    fake_close(f);
}

static void test_unfinished_line_is_finished(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "whole\ncut");
    f = sink("");
    assert_non_null(fake_said(f, "warning: "));
    fake_add(f, "t", NULL, "new");
    fake_write(f);
    fake_close(f);
    assert_content("file", "whole\ncut\nnew\n");
}

static void test_second_sink_is_refused(void **state)
{
    struct fake *f = sink("");

    (void)state;
    fake_add(f, "t", NULL, "1");
    fake_write(f);
    assert_refused(FMS_SINK, at("file"), "append = no\n", -EWOULDBLOCK, "another sink writes this file");
    assert_content("file", "1\n");
    fake_close(f);
    fake_close(sink(""));
}

/* Others may rename it, as logrotate does, or delete it: what is delivered then stands under the name. */
static void test_moved_and_deleted_by_others(void **state)
{
    struct fake *f = sink("");

    (void)state;
    fake_add(f, "t", NULL, "1");
    fake_write(f);
    assert_int_equal(rename(at("file"), at("old")), 0);
    fake_add(f, "t", NULL, "2");
    fake_write(f);
    assert_content("old", "1\n");
    assert_content("file", "2\n");
    assert_int_equal(unlink(at("file")), 0);
    fake_add(f, "t", NULL, "3");
    fake_write(f);
    assert_content("file", "3\n");
    assert_int_equal(unlink(at("file")), 0);
    assert_int_equal(mkdir(at("file"), 0755), 0);
    fake_add(f, "t", NULL, "4");
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_fate(f, 3), FMS_RETRY);
    assert_non_null(strstr(fake_reason(f, 3), "/file: cannot be opened: Is a directory"));
    assert_int_equal(rmdir(at("file")), 0);
    fake_write(f);
    assert_int_equal(fake_fate(f, 3), FMS_DELIVERED);
    fake_close(f);
    assert_content("file", "4\n");
}

/* --------------------------------------------------------------------------------------------------- the sink's rotation */

/* A batch for each text. */
static void write_each(struct fake *f, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fake_add(f, "t", NULL, texts[i]);
        assert_int_equal(fake_write(f), 1);
    }
}

static void test_rotation(void **state)
{
    static const char *const texts[] = {"1234", "567", "8", "9", "a line that is longer than that", "10", "11"};
    struct fake *f = sink("rotate_size = 10\nrotate_keep = 2\n");

    (void)state;
    write_each(f, texts, 2);
    assert_content("file", "1234\n567\n");
    assert_false(is_there("file.1"));
    write_each(f, texts + 2, 2);
    assert_content("file.1", "1234\n567\n");
    assert_content("file", "8\n9\n");
    write_each(f, texts + 4, 1);
    assert_content("file.2", "1234\n567\n");
    assert_content("file.1", "8\n9\n");
    assert_content("file", "a line that is longer than that\n");
    write_each(f, texts + 5, 2);
    assert_content("file.2", "8\n9\n");
    assert_content("file.1", "a line that is longer than that\n");
    assert_content("file", "10\n11\n");
    assert_false(is_there("file.3"));
    assert_int_equal(fake_counter(f, "rotations"), 3);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 7);
    fake_close(f);
}

/* Many records at once do not make a file larger than it may be. */
static void test_rotation_within_a_batch(void **state)
{
    struct fake *f = sink("rotate_size = 10\nrotate_keep = 5\n");

    (void)state;
    for (int i = 0; i < 6; i++)
        fake_add(f, "t", NULL, "12345");
    fake_until(f, fake_write(f) >= 0 && fake_count_fate(f, FMS_DELIVERED) == 6);
    fake_close(f);
    assert_content("file", "12345\n");
    assert_content("file.5", "12345\n");
}

/* It is tried again, and what was renamed already is not renamed twice. */
static void test_rotation_that_fails(void **state)
{
    static const char *const texts[] = {"12345", "67890"};
    struct fake *f = sink("rotate_size = 6\nrotate_keep = 1\n");

    (void)state;
    write_each(f, texts, 1);
    assert_int_equal(mkdir(at("file.1"), 0755), 0);
    write_each(f, texts + 1, 1);
    assert_int_equal(fake_fate(f, 1), FMS_RETRY);
    assert_non_null(strstr(fake_reason(f, 1), "/file: cannot be rotated: Is a directory"));
    assert_content("file", "12345\n");
    assert_int_equal(rmdir(at("file.1")), 0);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    fake_close(f);
    assert_content("file.1", "12345\n");
    assert_content("file", "67890\n");
}

/* ---------------------------------------------------------------------------------------------------- pipes and terminals */

/* A slow reader: what is not written is not delivered. */
static void test_slow_pipe(void **state)
{
    static char line[1000];
    char got[65536];
    struct fake *f;
    ssize_t total = 0, n;
    int reader;

    (void)state;
    memset(line, 'x', sizeof line - 1);
    assert_int_equal(mkfifo(at("file"), 0600), 0);
    assert_refused(FMS_SINK, at("file"), "", -ENXIO, "nobody reads this pipe; start its reader first");
    reader = open(at("file"), O_RDONLY | O_NONBLOCK);
    f = sink("");
    for (int i = 0; i < 200; i++)
        fake_add(f, "t", NULL, line);
    assert_int_equal(fake_write(f), 200);
    assert_in_range(fake_count_fate(f, FMS_DELIVERED), 1, 199);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED) + fake_unsettled(f), 200);
    fake_add(f, "t", NULL, line);
    assert_int_equal(fake_write(f), 0); /* one batch at a time */
    while (total < 201 * 1000) {
        if ((n = read(reader, got, sizeof got)) > 0)
            total += n;
        fake_turn(f, fake_realclock() + FAKE_PATIENCE, "room in the pipe");
        if (fake_unsettled(f) == 0)
            fake_write(f);
    }
    assert_int_equal(total, 201 * 1000);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 201);
    fake_close(f);
    close(reader);
}

static void test_reader_goes(void **state)
{
    struct fake *f;
    int reader;

    (void)state;
    assert_int_equal(mkfifo(at("file"), 0600), 0);
    reader = open(at("file"), O_RDONLY | O_NONBLOCK);
    f = sink("");
    fake_add(f, "t", NULL, "1");
    assert_int_equal(fake_write(f), 1);
    close(reader);
    fake_add(f, "t", NULL, "2");
    assert_int_equal(fake_write(f), 1);
    assert_true(fake_finished(f));
    assert_int_equal(fake_fate(f, 1), 0);
    fake_expect_left(f, 1);
    fake_close(f);
    reader = open(at("file"), O_RDONLY | O_NONBLOCK);
    f = sink("");
    fake_poll(f, 0);
    close(reader);
    fake_until(f, fake_finished(f)); /* without a write */
    fake_close(f);
}

static void test_standard_output(void **state)
{
    int saved = dup(STDOUT_FILENO), out = open(at("out"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    struct fake *f;

    (void)state;
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    f = fake_open("file", FMS_SINK, "path = -\n");
    fake_add(f, "t", NULL, "1");
    fake_write(f);
    fake_shut(f);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(out);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    fake_close(f);
    assert_content("out", "1\n");
}

/* ------------------------------------------------------------------------------------------------------- what is read */

static void test_reading(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "");
    read_all("", "");
    write_text("file", "a\n\nb\r\nlast");
    f = source("topic = fms/data\nkey = k\n");
    fake_settle_auto(f, FMS_DELIVERED);
    poll_all(f);
    assert_true(fake_ended(f));
    assert_payloads(f, 0, "a  b\r last ");
    assert_bytes(fake_record(f, 0)->topic, fms_text("fms/data"));
    assert_bytes(fake_record(f, 3)->key, fms_text("k"));
    assert_int_equal(fake_record(f, 0)->timestamp, START);
    fake_close(f);
    f = source("");
    poll_all(f);
    assert_bytes(fake_record(f, 0)->topic, fms_text(""));
    assert_null(fake_record(f, 0)->key.data);
    fake_close(f);
}

static void test_line_of_max_line(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "12345\n123456\n1234\n12345");
    f = source("max_line = 5\non_bad_line = stop\n");
    fake_settle_auto(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 100), -EBADMSG);
    assert_payloads(f, 0, "12345 ");
    assert_non_null(fake_said(f, "/file: line 2 is bad: it is longer than max_line (on_bad_line = stop)"));
    fake_close(f);
    f = source("max_line = 5\n");
    poll_all(f);
    assert_int_equal(fake_emitted(f), 4);
    assert_non_null(strstr(fake_rejected(f, 1), "/file: line 2 is bad: it is longer than max_line"));
    assert_null(payload(f, 1).data);
    for (size_t i = 0; i < 4; i++)
        assert_true(i == 1 || fake_rejected(f, i) == NULL);
    fake_close(f);
    read_all("max_line = 5\non_bad_line = skip\n", "12345 1234 12345 ");
    write_text("file", "123456");
    read_all("max_line = 5\non_bad_line = skip\n", "");
}

/* The carriage return is of the end, in one line as in the next without one, and counts for nothing. */
static void test_crlf(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "a\r\n\r\nb\nc\rd\r\r\nlast\r");
    read_all("crlf = yes\n", "a  b c\rd\r last ");
    write_text("file", "12345\r\n123456\r\n12345\r\n123456\n12345\r");
    read_all("crlf = yes\nmax_line = 5\non_bad_line = skip\n", "12345 12345 12345 ");
    write_text("file", "12345\r");
    f = source("crlf = yes\nmax_line = 5\nfollow = yes\non_bad_line = stop\n");
    fake_settle_auto(f, FMS_DELIVERED);
    assert_true(fake_poll(f, 100) >= 0);
    assert_int_equal(fake_emitted(f), 0);
    append_text("file", "\n1234567\r");
    assert_int_equal(fake_poll(f, 100), -EBADMSG); /* the second is too long, whatever comes */
    assert_payloads(f, 0, "12345 ");
    fake_close(f);
}

/* A line larger than the buffer is dropped piece by piece, and counted once. */
static void test_very_long_line(void **state)
{
    static char large[900000];
    struct fake *f;

    (void)state;
    memset(large, 'x', sizeof large);
    write_text("file", "a\n");
    for (int i = 0; i < 10; i++)
        put("file", "a", fms_bytes_of(large, sizeof large));
    append_text("file", "\nb\n");
    f = source("max_line = 1KiB\non_bad_line = skip\nposition = @/pos\n");
    fake_settle_auto(f, FMS_DELIVERED);
    for (int i = 0; i < 10 && !fake_ended(f); i++)
        assert_true(fake_poll(f, 100) >= 0);
    assert_true(fake_ended(f));
    assert_payloads(f, 0, "a b ");
    assert_int_equal(fake_counter(f, "bad_lines"), 1);
    assert_non_null(fake_said(f, "warning: "));
    fake_close(f);
    append_text("file", "c\n");
    read_all("position = @/pos\n", "c ");
}

static void test_bad_lines(void **state)
{
    static const char *const bad[][2] = {
        {"", "no JSON"},
        {"x", "no JSON"},
        {"{\"payload\":\"a\"", "no JSON"},
        {"{\"payload\":\"a\"}x", "no JSON"},
        {"{\"payload\":\"\xff\"}", "no JSON"},
        {"{\"payload\":\"a\",\"payload\":\"b\"}", "duplicate"},
        {"[]", "Expected object"},
        {"{\"payloat\":\"a\"}", "payloat; a record has topic, key, timestamp_ns, headers and payload"},
        {"{\"payload\":1}", "\"payload\" is neither text nor"},
        {"{\"topic\":[]}", "\"topic\" is neither text nor"},
        {"{\"key\":{\"base64\":\"/w==\",\"more\":1}}", "\"key\" is neither text nor"},
        {"{\"payload\":{\"base64\":1}}", "\"payload\" is neither"},
        {"{\"payload\":{\"base64\":\"/w=\"}}", "\"payload\" is neither"},
        {"{\"payload\":{\"base64\":\"/w!=\"}}", "\"payload\" is neither"},
        {"{\"payload\":{\"base64\":\"/x==\"}}", "\"payload\" is neither"},
        {"{\"payload\":{\"base64\":\"=w==\"}}", "\"payload\" is neither"},
        {"{\"payload\":{\"base64\":\"/w==/w==\"}}", "\"payload\" is neither"},
        {"{\"timestamp_ns\":1.5}", "\"timestamp_ns\" is no integer"},
        {"{\"timestamp_ns\":92233720368547758070}", "no JSON: too big integer"},
        {"{\"headers\":{}}", "\"headers\" is no array"},
        {"{\"headers\":[[\"a\"]]}", "a header is not [name, value]"},
        {"{\"headers\":[[\"a\",1]]}", "a header is not [name, value]"},
        {"{\"headers\":[[null,\"a\"]]}", "the name of a header is absent or has a NUL in it"},
        {"{\"headers\":[[\"a\\u0000\",\"a\"]]}", "the name of a header is absent or has a NUL in it"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fake *f;

        write_text("file", "{\"payload\":\"1\"}\n");
        append_text("file", bad[i][0]);
        append_text("file", "\n{\"payload\":\"2\"}\n");
        f = source("format = record\n");
        poll_all(f);
        assert_int_equal(fake_emitted(f), 3);
        assert_non_null(strstr(fake_rejected(f, 1), "/file: line 2 is bad: "));
        assert_non_null(strstr(fake_rejected(f, 1), bad[i][1]));
        assert_bytes(payload(f, 1), fms_text(bad[i][0]));
        assert_true(fake_rejected(f, 0) == NULL && fake_rejected(f, 2) == NULL);
        assert_int_equal(fake_counter(f, "bad_lines"), 1);
        fake_close(f);
        f = source("format = record\non_bad_line = stop\n");
        assert_int_equal(fake_poll(f, 100), -EBADMSG);
        assert_payloads(f, 0, "1 ");
        assert_non_null(fake_said(f, "/file: line 2 is bad: "));
        if (fake_said(f, bad[i][1]) == NULL)
            print_error("%s: %s\n", bad[i][0], fake_said(f, "is bad"));
        assert_non_null(fake_said(f, bad[i][1]));
        fake_close(f);
        f = source("format = record\non_bad_line = skip\n");
        poll_all(f);
        assert_payloads(f, 0, "1 2 ");
        assert_int_equal(fake_counter(f, "bad_lines"), 1);
        fake_close(f);
    }
}

static void test_thousand_headers(void **state)
{
    struct fake *f;

    (void)state;
    for (int headers = 1000; headers <= 1001; headers++) {
        write_text("file", "{\"headers\":[");
        for (int i = 0; i < headers; i++)
            append_text("file", i == 0 ? "[\"a\",\"b\"]" : ",[\"a\",\"b\"]");
        append_text("file", "]}\n");
        f = source("format = record\n");
        poll_all(f);
        assert_int_equal(fake_emitted(f), 1);
        assert_int_equal(fake_rejected(f, 0) == NULL, headers == 1000);
        fake_close(f);
    }
}

static void test_null_is_absent_and_time_is_now(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "{\"topic\":null,\"key\":null,\"payload\":null,\"headers\":null}\n{\"timestamp_ns\":0}\n{}");
    f = source("format = record\n");
    poll_all(f);
    assert_int_equal(fake_emitted(f), 3);
    assert_same_record(fake_record(f, 0), &(struct fms_record){.timestamp = START});
    assert_same_record(fake_record(f, 1), &(struct fms_record){.timestamp = 0});
    assert_same_record(fake_record(f, 2), &(struct fms_record){.timestamp = START});
    fake_close(f);
}

static void test_reading_a_pipe(void **state)
{
    struct fake *f;
    int writer;

    (void)state;
    assert_int_equal(mkfifo(at("file"), 0600), 0);
    f = source("");
    assert_int_equal(fake_poll(f, 10), 0); /* nobody has opened it yet */
    writer = open(at("file"), O_WRONLY);
    assert_int_equal(write(writer, "1\n2", 3), 3);
    fake_until(f, fake_emitted(f) == 1);
    assert_int_equal(fake_poll(f, 10), 0);
    assert_int_equal(fake_emitted(f), 1);
    close(writer);
    fake_until(f, fake_ended(f));
    assert_payloads(f, 0, "1 2 ");
    fake_close(f);
    assert_refused(FMS_SOURCE, at("file"), "follow = yes\n", -EINVAL, "follow: ");
    assert_refused(FMS_SOURCE, at("file"), "position = pos\n", -EINVAL, "position: ");
}

static void test_standard_input(void **state)
{
    int saved = dup(STDIN_FILENO), ends[2];
    struct fake *f;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    dup2(ends[0], STDIN_FILENO);
    f = fake_open("file", FMS_SOURCE, "path = -\n");
    assert_int_equal(fake_poll(f, 10), 0);
    assert_int_equal(write(ends[1], "1\n2\n", 4), 4);
    fake_until(f, fake_emitted(f) == 2);
    close(ends[1]);
    fake_until(f, fake_ended(f));
    fake_close(f);
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(ends[0]);
}

/* ------------------------------------------------------------------------------------------------ settling, positions */

static void test_refused_comes_again(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n4\n5\n");
    f = source("");
    fake_capacity(f, 2);
    assert_int_equal(fake_poll(f, 100), 0);
    assert_int_equal(fake_poll(f, 100), 0);
    assert_payloads(f, 0, "1 2 ");
    fake_settle_all(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 100), 0);
    fake_settle_all(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 100), FMS_END);
    assert_payloads(f, 0, "1 2 3 4 5 ");
    fake_close(f);
}

static void check_position(struct fake *f, int64_t position, int64_t unread)
{
    fake_measure(f);
    assert_int_equal((int64_t)fake_gauge(f, "position_bytes"), position);
    assert_int_equal((int64_t)fake_gauge(f, "unread_bytes"), unread);
}

static void test_measures(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n22\n333\n4444\n");
    f = source("follow = yes\n");
    check_position(f, 0, 14);
    assert_int_equal(fake_poll(f, 2), 0);
    check_position(f, 0, 9);
    fake_settle(f, 1, FMS_DELIVERED); /* not the first */
    check_position(f, 0, 9);
    fake_settle(f, 0, FMS_DELIVERED);
    check_position(f, 5, 9);
    fake_until(f, fake_emitted(f) == 4);
    fake_settle_all(f, FMS_DELIVERED);
    check_position(f, 14, 0);
    append_text("file", "5\n");
    check_position(f, 14, 2);
    fake_close(f);
}

static void test_stopped_with_records_in_flight(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n4\n");
    f = source("position = @/pos\n");
    assert_int_equal(fake_poll(f, 3), 0);
    fake_stop(f);
    assert_int_equal(fake_poll(f, 0), FMS_END);
    fake_settle(f, 0, FMS_DELIVERED);
    fake_settle(f, 1, FMS_REJECTED); /* as on_reject = drop */
    fake_close(f);
    read_all("position = @/pos\n", "3 4 ");
    read_all("position = @/pos\n", "");
}

static void test_settled_out_of_order(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n4\n");
    f = source("position = @/pos\n");
    poll_all(f);
    fake_settle(f, 3, FMS_DELIVERED);
    fake_settle(f, 1, FMS_DELIVERED);
    fake_settle(f, 0, FMS_DELIVERED);
    close_in_flight(f);
    f = source("position = @/pos\n");
    poll_all(f);
    assert_payloads(f, 0, "3 4 ");
    fake_settle(f, 1, FMS_DELIVERED);
    close_in_flight(f);
    read_all("position = @/pos\n", "3 4 ");
}

/* What was settled after the position was written comes again; nothing is left out. */
static void test_killed_before_the_position_is_written(void **state)
{
    struct fake *f;
    char saved[256];

    (void)state;
    write_text("file", "1\n2\n3\n4\n");
    f = source("position = @/pos\nfollow = yes\n");
    poll_all(f);
    fake_settle(f, 0, FMS_DELIVERED);
    assert_false(is_there("pos"));
    fake_clock_step(f, FMS_SECOND);
    assert_int_equal(fake_poll(f, 0), 0);
    snprintf(saved, sizeof saved, "%.255s", (const char *)content("pos").data);
    assert_false(is_there("pos.new"));
    fake_settle_all(f, FMS_DELIVERED);
    close_in_flight(f);
    assert_string_not_equal(content("pos").data, saved);
    write_text("pos", saved);
    read_all("position = @/pos\n", "2 3 4 ");
}

/* It is written when it is time, and only then, and not when nothing has changed. */
static void test_position_interval(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n");
    f = source("position = @/pos\nposition_interval = 10s\nfollow = yes\n");
    poll_all(f);
    fake_clock_step(f, 10 * FMS_SECOND);
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    assert_int_equal(unlink(at("pos")), 0);
    fake_settle(f, 0, FMS_DELIVERED);
    assert_int_equal(fake_woken(f), 1);
    fake_settle(f, 1, FMS_DELIVERED);
    assert_int_equal(fake_woken(f), 1);
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, START + 20 * FMS_SECOND);
    fake_clock_step(f, 10 * FMS_SECOND - 1);
    fake_poll(f, 0);
    assert_false(is_there("pos"));
    fake_clock_step(f, 1);
    fake_poll(f, 0);
    assert_true(is_there("pos"));
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    close_in_flight(f);
    read_all("position = @/pos\n", "3 ");
}

static void test_position_that_cannot_be_written(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    f = source("position = @/nowhere/pos\nfollow = yes\n");
    poll_all(f);
    fake_settle_all(f, FMS_DELIVERED);
    fake_clock_step(f, FMS_SECOND);
    assert_int_equal(fake_poll(f, 0), 0);
    assert_non_null(fake_said(f, "/nowhere/pos: cannot be written: No such file or directory; until it is"));
    assert_int_equal(mkdir(at("nowhere"), 0755), 0);
    fake_clock_step(f, FMS_SECOND);
    assert_int_equal(fake_poll(f, 0), 0);
    assert_true(is_there("nowhere/pos"));
    close_in_flight(f);
}

/* Neither what a crash left nor a link that somebody put there is written to. */
static void test_a_position_is_written_to_a_file_of_its_own(void **state)
{
    struct stat stat;
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    write_text("victim", "precious\n");
    assert_int_equal(chmod(at("victim"), 0644), 0);
    assert_int_equal(symlink("victim", at("pos.new")), 0);
    f = source("position = @/pos\nfollow = yes\n");
    poll_all(f);
    fake_settle_all(f, FMS_DELIVERED);
    fake_clock_step(f, FMS_SECOND);
    assert_int_equal(fake_poll(f, 0), 0);
    assert_int_equal(lstat(at("pos"), &stat), 0);
    assert_true(S_ISREG(stat.st_mode));
    assert_int_equal(stat.st_mode & 0777, 0600);
    assert_int_equal(lstat(at("victim"), &stat), 0);
    assert_int_equal(stat.st_size, strlen("precious\n"));
    close_in_flight(f);
}

static void test_damaged_positions_are_refused(void **state)
{
    static const char *const bad[] = {"", "x", "{}", "{\"device\":1,\"inode\":1,\"head\":1,\"offset\":-1,\"line\":1}",
                                      "{\"device\":1,\"inode\":1,\"head\":1,\"offset\":1,\"line\":1,\"more\":1}"};

    (void)state;
    write_text("file", "1\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("pos", bad[i]);
        assert_refused(FMS_SOURCE, at("file"), "position = @/pos\n", -EBADMSG, "/pos: is no position: ");
    }
    assert_refused(FMS_SOURCE, at("file"), "position = @\n", -EBADMSG, "is no position: ");
    write_text("pos", "precious");
    assert_refused(FMS_SOURCE, at("file"), "position = @/pos\n", -EBADMSG,
                   "is no position: it is no JSON object of device, inode, head, offset and line; delete it");
    assert_int_equal(symlink(at("pos"), at("link")), 0);
    assert_refused(FMS_SOURCE, at("file"), "position = @/link\n", -ELOOP, "is no position: it is a symbolic link; ");
}

/* Line numbers are right after a restart, too. */
static void test_line_numbers_go_on(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "{}\n{}\n{}\nx\n");
    f = source("format = record\nposition = @/pos\non_bad_line = stop\n");
    fake_settle_auto(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 100), -EBADMSG);
    assert_non_null(fake_said(f, "line 4 is bad"));
    close_in_flight(f);
    f = source("format = record\nposition = @/pos\non_bad_line = stop\n");
    assert_int_equal(fake_poll(f, 100), -EBADMSG);
    assert_int_equal(fake_emitted(f), 0);
    assert_non_null(fake_said(f, "line 4 is bad"));
    close_in_flight(f);
}

/* One late record stops the source before what is settled behind it takes memory without bound. */
static void test_one_late_record(void **state)
{
    char text[2048] = "";
    struct fake *f;

    (void)state;
    for (int i = 0; i < 500; i++)
        strcat(text, "x\n");
    write_text("file", text);
    f = source("");
    fake_capacity(f, 10);
    for (int round = 0; round < 30; round++) {
        fake_poll(f, 100);
        for (size_t i = 1; i < fake_emitted(f); i++) {
            if (round * 9 < (int)i && (int)i <= round * 9 + 9)
                fake_settle(f, i, FMS_DELIVERED);
        }
    }
    assert_int_equal(fake_emitted(f), 41);
    assert_int_equal(fake_in_flight(f), 1);
    fake_settle(f, 0, FMS_DELIVERED);
    assert_int_equal(fake_woken(f), 1);
    assert_int_equal(fake_poll(f, 100), 0);
    assert_int_equal(fake_emitted(f), 51);
    close_in_flight(f);
}

/* ------------------------------------------------------------------------------------------------------------ following */

/* Whether the kernel's notice wakes the source now. */
static bool has_notice(struct fake *f)
{
    struct pollfd notices = {fake_waits_for(f)->fd, fake_waits_for(f)->events, 0};

    assert_true(notices.fd >= 0);
    return poll(&notices, 1, 0) == 1;
}

static void test_follow(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2");
    f = source("follow = yes\n");
    poll_all(f);
    assert_payloads(f, 0, "1 ");
    assert_false(has_notice(f));
    append_text("file", "3\n4\n");
    assert_true(has_notice(f));
    fake_until(f, fake_emitted(f) == 3);
    assert_payloads(f, 0, "1 23 4 ");
    close_in_flight(f);
}

static void test_file_that_comes_later(void **state)
{
    struct fake *f;

    (void)state;
    assert_refused(FMS_SOURCE, at("file"), "", -ENOENT, "follow = yes waits until it is there");
    f = source("follow = yes\nstart = end\nposition = @/pos\n");
    fake_settle_auto(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 10), 0);
    assert_false(has_notice(f));
    write_text("file", "1\n");
    assert_true(has_notice(f));
    fake_until(f, fake_emitted(f) == 1);
    close_in_flight(f);
    append_text("file", "2\n");
    read_all("position = @/pos\n", "2 ");
}

/* A line that was begun before and ends after the start is read whole. */
static void test_start_at_the_end(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\nthree");
    f = source("follow = yes\nstart = end\nposition = @/pos\nformat = record\non_bad_line = skip\n");
    poll_all(f);
    append_text("file", "!\n{}\n");
    fake_until(f, fake_emitted(f) == 1);
    assert_non_null(fake_said(f, "the line at byte 4 is bad"));
    close_in_flight(f);
    read_all("position = @/pos\non_bad_line = skip\n", "{} "); /* not from the end again: nothing is left out */
    write_text("file", "1\n2\n");
    f = source("follow = yes\nstart = end\n");
    poll_all(f);
    assert_int_equal(fake_emitted(f), 0);
    close_in_flight(f);
}

static void test_truncation(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\nhal");
    f = source("follow = yes\nposition = @/pos\n");
    poll_all(f);
    assert_int_equal(truncate(at("file"), 0), 0);
    append_text("file", "4\n");
    poll_all(f);
    assert_payloads(f, 0, "1 2 3 "); /* until these are settled: a position has one file */
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 4);
    assert_non_null(fake_said(f, "info: "));
    assert_payloads(f, 3, "4 ");
    fake_settle_all(f, FMS_DELIVERED);
    close_in_flight(f);
    append_text("file", "5\n");
    read_all("position = @/pos\n", "5 ");
}

/* While the source is away. */
static void test_truncated_meanwhile(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n");
    read_all("position = @/pos\n", "1 2 3 ");
    assert_int_equal(truncate(at("file"), 0), 0);
    append_text("file", "4\n");
    f = source("position = @/pos\n");
    assert_non_null(fake_said(f, "warning: "));
    fake_settle_auto(f, FMS_DELIVERED);
    poll_all(f);
    assert_payloads(f, 0, "4 ");
    fake_close(f);
    assert_int_equal(truncate(at("file"), 0), 0);
    append_text("file", "another beginning\n5\n"); /* longer than it was: only the hash tells */
    read_all("position = @/pos\n", "another beginning 5 ");
}

/* file.N to file.N+1, file to file.1. */
static void rotate(int upto)
{
    char from[16], to[16];

    for (int i = upto; i > 0; i--) {
        snprintf(to, sizeof to, "file.%d", i);
        snprintf(from, sizeof from, i > 1 ? "file.%d" : "file", i - 1);
        assert_int_equal(rename(at(from), at(to)), 0);
    }
}

static void test_rotated_while_following(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    f = source("follow = yes\nposition = @/pos\n");
    poll_all(f);
    rotate(1);
    append_text("file.1", "2\nlast"); /* who has it open may write on */
    poll_all(f);
    assert_payloads(f, 0, "1 2 ");
    write_text("file", "3\n");
    poll_all(f);
    fake_clock_set(f, START, START + 50 * 365 * 86400 * FMS_SECOND); /* a clock that is set makes no file old */
    poll_all(f);
    assert_payloads(f, 0, "1 2 ");
    fake_clock_step(f, FMS_SECOND);
    poll_all(f);
    assert_payloads(f, 0, "1 2 last ");
    fake_settle_all(f, FMS_DELIVERED);
    poll_all(f);
    assert_payloads(f, 0, "1 2 last 3 ");
    append_text("file", "4\n");
    fake_until(f, fake_emitted(f) == 5);
    fake_settle_all(f, FMS_DELIVERED);
    close_in_flight(f);
    append_text("file", "5\n");
    read_all("position = @/pos\n", "5 ");
}

/* In a pipeline whose sink asks for them. */
static struct fake *numbered(const char *more)
{
    struct fake *f = fake_check("file", FMS_SOURCE, ini(at("file"), more));

    fake_host(f)->identities = true;
    fake_clock_set(f, START, START);
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* Whether record i has the number of a line's last byte, and the same origin as another. */
static void check_number(struct fake *f, size_t i, uint64_t sequence, uint64_t skipped)
{
    const struct fms_identity *identity = fake_record(f, i)->identity;

    assert_int_equal(identity->kind, FMS_NUMBERED);
    assert_int_equal(identity->sequence, sequence);
    assert_int_equal(identity->skipped, skipped);
}

static const char *origin(struct fake *f, size_t i)
{
    return fake_record(f, i)->identity->origin.data;
}

/* Without gaps, whatever a line is. */
static void test_lines_are_numbered(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n22\n\n{\n123456789\n{}\nlast");
    f = numbered("position = @/pos\nmax_line = 8\n");
    poll_all(f);
    assert_int_equal(fake_emitted(f), 7);
    check_number(f, 0, 1, 1);
    check_number(f, 1, 4, 2);
    check_number(f, 2, 5, 0);
    check_number(f, 3, 7, 1);
    check_number(f, 4, 8, 0); /* too long: its end is not known */
    check_number(f, 5, 20, 11);
    check_number(f, 6, 24, 3);
    for (size_t i = 1; i < 7; i++)
        assert_string_equal(origin(f, i), origin(f, 0));
    assert_memory_equal(origin(f, 0), "file:", 5);
    close_in_flight(f);
    f = numbered("");
    poll_all(f);
    assert_null(fake_record(f, 0)->identity); /* nothing would tell after a restart whose they are */
    close_in_flight(f);
}

static void test_lines_that_are_left_out_are_skipped(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "{\"payload\":\"1\"}\nx\ny\n{\"payload\":\"2\"}\n");
    f = numbered("position = @/pos\nformat = record\non_bad_line = skip\n");
    poll_all(f);
    check_number(f, 0, 15, 15);
    check_number(f, 1, 35, 19);
    close_in_flight(f);
}

/* The position is there before the first number is given, so that a crash at any moment keeps them. */
static void test_numbers_outlive_a_crash(void **state)
{
    char was[128], saved[256];
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n3\n");
    f = numbered("position = @/pos\nfollow = yes\n");
    poll_all(f);
    snprintf(was, sizeof was, "%s", origin(f, 0));
    fake_settle_all(f, FMS_DELIVERED);
    snprintf(saved, sizeof saved, "%.255s", (const char *)content("pos").data);
    fake_close(f);
    write_text("pos", saved); /* as it was when it was killed */
    append_text("file", "4\n");
    f = numbered("position = @/pos\n");
    poll_all(f);
    assert_payloads(f, 0, "1 2 3 4 ");
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(origin(f, i), was);
        check_number(f, i, 2 * i + 1, 1);
    }
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
    f = source("position = @/pos\n"); /* nobody asks: it is kept for who does */
    poll_all(f);
    close_in_flight(f);
    append_text("file", "5\n");
    f = numbered("position = @/pos\n");
    poll_all(f);
    assert_string_equal(origin(f, 0), was);
    check_number(f, 0, 9, 1);
    close_in_flight(f);
}

/* What stands at a place once the content was replaced is another line. */
static void test_replaced_content_has_another_origin(void **state)
{
    char was[5][128], saved[256];
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n");
    f = numbered("follow = yes\nposition = @/pos\n");
    poll_all(f);
    snprintf(was[0], sizeof was[0], "%s", origin(f, 1));
    fake_settle_all(f, FMS_DELIVERED);
    assert_int_equal(truncate(at("file"), 0), 0);
    poll_all(f);
    append_text("file", "3\n");
    fake_until(f, fake_emitted(f) == 3);
    snprintf(was[1], sizeof was[1], "%s", origin(f, 2));
    check_number(f, 2, 1, 1);
    snprintf(saved, sizeof saved, "%.255s", (const char *)content("pos").data);
    assert_int_equal(rename(at("file"), at("file.1")), 0);
    write_text("file", "4\n");
    fake_settle_all(f, FMS_DELIVERED);
    poll_all(f);
    fake_clock_step(f, FMS_SECOND);
    fake_until(f, fake_emitted(f) == 4);
    snprintf(was[2], sizeof was[2], "%s", origin(f, 3));
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
    assert_int_equal(rename(at("file.1"), at("file")), 0);
    write_text("pos", saved); /* that of its second content, of which nothing was settled, ... */
    write_text("file", "5\n6\n");
    f = numbered("position = @/pos\n");
    poll_all(f);
    assert_payloads(f, 0, "5 6 ");
    snprintf(was[3], sizeof was[3], "%s", origin(f, 0)); /* ... is none for the third */
    close_in_flight(f);
    assert_int_equal(unlink(at("pos")), 0);
    f = numbered("position = @/pos\n"); /* it is to be read anew */
    poll_all(f);
    snprintf(was[4], sizeof was[4], "%s", origin(f, 0));
    close_in_flight(f);
    for (size_t i = 0; i < 5; i++) {
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(was[i], was[k]);
    }
}

/* A position of an older fmspipe, or of a pipeline in which nobody asked. */
static void test_a_position_without_an_origin_gets_one(void **state)
{
    char was[128];
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n");
    read_all("position = @/pos\n", "1 2 ");
    assert_null(strstr(content("pos").data, "origin"));
    append_text("file", "3\n");
    f = numbered("position = @/pos\n");
    poll_all(f);
    check_number(f, 0, 5, 5);
    assert_non_null(strstr(content("pos").data, "origin"));
    snprintf(was, sizeof was, "%s", origin(f, 0));
    close_in_flight(f);
    f = numbered("position = @/pos\n");
    poll_all(f);
    assert_string_equal(origin(f, 0), was);
    close_in_flight(f);
}

/* An old file that has not been quiet for a second is not left, unless a younger one was rotated, too. */
static void test_rotated_file_must_be_quiet(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    f = source("follow = yes\n");
    fake_settle_auto(f, FMS_DELIVERED);
    rotate(1);
    write_text("file", "2\n");
    rotate(2);
    write_text("file", "3\n");
    poll_all(f);
    assert_payloads(f, 0, "1 2 ");
    fake_clock_step(f, FMS_SECOND - 1);
    poll_all(f);
    assert_payloads(f, 0, "1 2 ");
    fake_clock_step(f, 1);
    poll_all(f);
    assert_payloads(f, 0, "1 2 3 ");
    close_in_flight(f);
}

/* Rotated several times between two looks. */
static void test_rotated_thrice(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    f = source("follow = yes\n");
    fake_settle_auto(f, FMS_DELIVERED);
    poll_all(f);
    for (int i = 1; i <= 3; i++) {
        char text[8];

        rotate(i);
        snprintf(text, sizeof text, "%d\n", i + 1);
        write_text("file", text);
    }
    fake_until(f, fake_emitted(f) == 4);
    assert_payloads(f, 0, "1 2 3 4 ");
    close_in_flight(f);
}

/* While the source is away; with and without following, the rest of the old file comes first. */
static void test_rotated_meanwhile(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n2\n");
    f = source("position = @/pos\n");
    poll_all(f);
    fake_settle(f, 0, FMS_DELIVERED);
    close_in_flight(f);
    rotate(1);
    write_text("file", "3\n");
    rotate(2);
    write_text("file", "4\n");
    f = source("position = @/pos\n");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_ended(f));
    assert_payloads(f, 0, "2 3 4 ");
    fake_close(f);
    rotate(1);
    f = source("position = @/pos\n"); /* and nobody has made the new one yet */
    poll_all(f);
    assert_true(fake_ended(f));
    assert_int_equal(fake_emitted(f), 0);
    fake_close(f);
}

/* The old file is gone: that is told. */
static void test_rotated_away(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    read_all("position = @/pos\n", "1 ");
    rotate(1);
    write_text("file", "2\n");
    assert_int_equal(unlink(at("file.1")), 0);
    f = source("position = @/pos\n");
    assert_non_null(fake_said(f, "is neither there nor among those rotated away"));
    poll_all(f);
    assert_payloads(f, 0, "2 ");
    close_in_flight(f);
    write_text("pos", "{\"device\":1,\"inode\":2,\"head\":3,\"offset\":4,\"line\":5}");
    assert_int_equal(unlink(at("file")), 0);
    assert_refused(FMS_SOURCE, at("file"), "position = @/pos\n", -ENOENT, "path: ");
}

/* One face writes and rotates, the other follows. */
static void test_both_faces(void **state)
{
    struct fake *w = sink("rotate_size = 100\nrotate_keep = 1000\nformat = record\n");
    struct fake *r = source("follow = yes\nformat = record\nposition = @/pos\n");
    char text[8];

    (void)state;
    fake_settle_auto(r, FMS_DELIVERED);
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "%d", i);
        fake_add(w, "t", "k", text);
        assert_int_equal(fake_write(w), 1);
        if (i % 7 == 0)
            fake_until(r, fake_emitted(r) == (size_t)i + 1);
    }
    fake_until(r, fake_emitted(r) == 50);
    for (int i = 0; i < 50; i++)
        assert_int_equal(atoi(payload(r, (size_t)i).data), i);
    assert_true(fake_counter(w, "rotations") > 10);
    close_in_flight(r);
    fake_close(w);
}

/* -------------------------------------------------------------------------------------------------------------- replaying */

/* Times in milliseconds after the first; 0 stands for an unknown one. */
static void write_times(const int *times, size_t count)
{
    char line[128];

    write_text("file", "");
    for (size_t i = 0; i < count; i++) {
        int64_t time = times[i] == 0 ? 0 : INT64_C(1763320419123000000) + times[i] * FMS_MS;

        snprintf(line, sizeof line, "{\"timestamp_ns\":%" PRId64 ",\"payload\":\"%zu\"}\n", time, i);
        append_text("file", line);
    }
}

/* Each is emitted at that many milliseconds after the start, and not a nanosecond earlier. */
static void assert_times(const char *more, const int *expected, size_t count)
{
    struct fake *f = source(more);
    int64_t now = START;

    for (size_t i = 0; i < count; i++) {
        int64_t due = START + expected[i] * FMS_MS;

        if (due > now) {
            fake_clock_step(f, due - 1 - now);
            fake_poll(f, 100);
            assert_int_equal(fake_emitted(f), i);
            assert_int_equal(fake_waits_for(f)->deadline, due);
            fake_clock_step(f, 1);
            now = due;
        }
        assert_true(fake_poll(f, 1) >= 0);
        assert_int_equal(fake_emitted(f), i + 1);
    }
    assert_int_equal(fake_poll(f, 100), FMS_END);
    fake_close(f);
}

static void test_speed(void **state)
{
    static const int times[] = {1, 101, 301, 301, 1301};

    (void)state;
    write_times(times, 5);
    assert_times("format = record\nspeed = 1\n", (int[]){0, 100, 300, 300, 1300}, 5);
    assert_times("format = record\nspeed = 10\n", (int[]){0, 10, 30, 30, 130}, 5);
    assert_times("format = record\nspeed = 0.5\n", (int[]){0, 200, 600, 600, 2600}, 5);
    assert_times("format = record\nspeed = 1\nmax_gap = 150ms\n", (int[]){0, 100, 250, 250, 400}, 5);
    assert_times("format = record\nspeed = 10\nmax_gap = 50ms\n", (int[]){0, 10, 30, 30, 80}, 5);
    assert_times("format = record\n", (int[]){0, 0, 0, 0, 0}, 5);
}

/* What is older than one before it, and what has no time, goes at once and moves nothing. */
static void test_speed_with_odd_times(void **state)
{
    static const int times[] = {0, 101, 1, 201, 0, 150, 301};

    (void)state;
    write_times(times, 7);
    assert_times("format = record\nspeed = 1\n", (int[]){0, 0, 0, 100, 100, 100, 200}, 7);
    write_text("file", "{\"timestamp_ns\":-9223372036854775808}\n{\"timestamp_ns\":9223372036854775807}\n");
    assert_times("format = record\nspeed = 1000000\nmax_gap = 1s\n", (int[]){0, 1000}, 2);
}

/* Whole numbers are exact. */
static void test_time_of_a_payload(void **state)
{
    static const struct {
        const char *line;
        int64_t time; /* 0: a bad line, and */
        const char *said;
    } lines[] = {
        {"{\"a\":{\"t\":1763320419}}", INT64_C(1763320419000000000), NULL},
        {"{\"a\":{\"t\":1763320419.5}}", INT64_C(1763320419500000000), NULL},
        {"{\"a\":{\"t\":1763320419123}}", INT64_C(1763320419123000000), NULL},
        {"{\"a\":{\"t\":1763320419123456}}", INT64_C(1763320419123456000), NULL},
        {"{\"a\":{\"t\":1763320419123456789}}", INT64_C(1763320419123456789), NULL},
        {"{\"a\":{\"t\":1763320419123.5}}", INT64_C(1763320419123500000), NULL},
        {"{\"a\":{\"t\":1763320419.1}}", INT64_C(1763320419100000000), NULL},
        {"{\"a\":{\"t\":9223372036.854775807}}", INT64_MAX, NULL},
        {"{\"a\":{\"t\":\"2025-11-16T20:13:39.25+01:00\"}}", INT64_C(1763320419250000000), NULL},
        {"{\"a\":{\"t\":\"1763320419\"}}", INT64_C(1763320419000000000), NULL},
        {"{\"a\":{\"t\":-1}}", 0, "its field \"a.t\" is no time from 1970 to 2262"},
        {"{\"a\":{\"t\":9223372036.854775808}}", 0, "its field \"a.t\" is no time from 1970 to 2262"},
        {"{\"a\":{\"t\":99999999999}}", 0, "its field \"a.t\" is no time from 1970 to 2262"},
        {"{\"a\":{\"t\":1e30}}", 0, "its field \"a.t\" is no time: it is no Unix time, in whatever unit"},
        {"{\"a\":{\"t\":\"2025-02-29T00:00:00Z\"}}", 0, "is no time: February 2025 has no day 29"},
        {"{\"a\":{\"t\":true}}", 0, "its field \"a.t\" is no time"},
        {"{\"a\":{}}", 0, "its field \"a.t\" is missing"},
        {"{\"a\":1}", 0, "its field \"a.t\" is missing"},
        {"[1]", 0, "no JSON object: it is an array: split it first"},
        {"x", 0, "no JSON object: { or [ expected at byte 0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct fake *f;

        write_text("file", lines[i].line);
        f = source("time = a.t\n");
        assert_int_equal(fake_poll(f, 10), FMS_END);
        assert_int_equal(fake_record(f, 0)->timestamp, lines[i].time);
        assert_bytes(payload(f, 0), fms_text(lines[i].line));
        if (lines[i].time == 0)
            assert_non_null(strstr(fake_rejected(f, 0), lines[i].said));
        else
            assert_null(fake_rejected(f, 0));
        fake_close(f);
    }
    write_text("file", "{\"t\":1763320419}\n{\"t\":1763320421}\n");
    assert_times("time = t\nspeed = 2\n", (int[]){0, 1000}, 2);
}

/* A stall is made up for: the schedule stays what it was. */
static void test_speed_after_a_stall(void **state)
{
    static const int times[] = {1, 101, 201, 301};
    struct fake *f;

    (void)state;
    write_times(times, 4);
    f = source("format = record\nspeed = 1\n");
    fake_capacity(f, 1);
    fake_poll(f, 100);
    fake_clock_step(f, 250 * FMS_MS);
    fake_poll(f, 100);
    assert_int_equal(fake_emitted(f), 1);
    fake_settle_all(f, FMS_DELIVERED);
    fake_capacity(f, 100);
    fake_poll(f, 100);
    assert_int_equal(fake_emitted(f), 3);
    assert_int_equal(fake_waits_for(f)->deadline, START + 300 * FMS_MS);
    close_in_flight(f);
}

/* -------------------------------------------------------------------------------------------------------- configuration */

static void test_bad_configuration(void **state)
{
    static const struct {
        enum fms_role role;
        const char *path, *more, *said;
    } bad[] = {
        {FMS_SOURCE, "-", "follow = yes\n", "error: follow: does not go with path = -"},
        {FMS_SOURCE, "-", "position = p\n", "error: position: does not go with path = -"},
        {FMS_SOURCE, "p", "position = p\n", "error: position: is the file that is read"},
        {FMS_SOURCE, "p", "start = end\n", "error: start: end needs follow = yes"},
        {FMS_SOURCE, "p", "speed = 1\n", "error: speed: needs the records' times: format = record, or `time`"},
        {FMS_SOURCE, "p", "time = a..b\n", "error: time: \"a..b\" is no path"},
        {FMS_SOURCE, "p", "format = record\ntime = t\n", "error: time: is for format = payload"},
        {FMS_SOURCE, "p", "speed = fast\nformat = record\n", "error: speed: \"fast\" is no speed; accepted are"},
        {FMS_SOURCE, "p", "speed = -1\nformat = record\n", "error: speed: "},
        {FMS_SOURCE, "p", "speed = 1e3\nformat = record\n", "error: speed: "},
        {FMS_SOURCE, "p", "speed = .\nformat = record\n", "error: speed: "},
        {FMS_SOURCE, "p", "speed = 1000001\nformat = record\n", "error: speed: "},
        {FMS_SOURCE, "p", "format = record\ntopic = t\n", "error: topic: is for format = payload"},
        {FMS_SOURCE, "p", "format = record\nkey = t\n", "error: key: is for format = payload"},
        {FMS_SINK, "-", "rotate_size = 1MiB\n", "error: rotate_size: does not go with path = -"},
        {FMS_SINK, "-", "sync = always\n", "error: sync: always does not go with path = -"},
        {FMS_SINK, "-", "append = no\n", "error: append: no does not go with path = -"},
        {FMS_DEAD_LETTER, "p", "format = payload\n", "error: format: payload is not for dead letters"},
        {FMS_SINK, "/dev/null", "sync = always\n", "error: sync: /dev/null is no regular file"},
        {FMS_SINK, "/dev/null", "rotate_size = 1\n", "error: rotate_size: /dev/null is no regular file"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i].role, bad[i].path, bad[i].more, -EINVAL, bad[i].said);
}

/* An environment variable sets the speed of a file that says what the longest pause is. */
static void test_max_gap_without_pauses(void **state)
{
    struct fake *f;

    (void)state;
    write_text("file", "1\n");
    f = source("max_gap = 1m\nspeed = 0\n");
    assert_non_null(fake_said(f, "advice: max_gap: does nothing at speed = 0"));
    assert_int_equal(fake_poll(f, 10), FMS_END);
    assert_int_equal(fake_emitted(f), 1);
    close_in_flight(f);
}

static void test_directories_and_rights(void **state)
{
    struct fake *f;

    (void)state;
    assert_refused(FMS_SOURCE, place, "", -EISDIR, "error: path: ");
    assert_refused(FMS_SINK, place, "", -EISDIR, "cannot be opened: Is a directory");
    assert_refused(FMS_SINK, at("no/file"), "", -ENOENT, "cannot be opened: No such file or directory");
    write_text("file", "1\n");
    assert_int_equal(chmod(at("file"), 0), 0);
    as_nobody(true);
    assert_refused(FMS_SOURCE, at("file"), "", -EACCES, "cannot be read: Permission denied");
    assert_refused(FMS_SOURCE, at("file"), "follow = yes\n", -EACCES, "cannot be read: Permission denied");
    assert_refused(FMS_SINK, at("file"), "", -EACCES, "cannot be opened: Permission denied");
    as_nobody(false);
    assert_int_equal(chmod(at("file"), 0600), 0);
    f = fake_open("file", FMS_DEAD_LETTER, ini(at("file"), "format = record\n"));
    fake_close(f);
}

static void test_check_and_probe(void **state)
{
    struct fake *f = fake_check("file", FMS_SOURCE, ini(at("file"), "follow = yes\n"));

    (void)state;
    assert_non_null(fake_said(f, "advice: follow: without `position` nothing is remembered"));
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: "));
    assert_non_null(fake_said(f, "is not there yet"));
    fake_close(f);
    f = fake_check("file", FMS_SOURCE, ini(at("file"), ""));
    assert_int_equal(fake_probe(f, FMS_SECOND), -ENOENT);
    fake_close(f);
    write_text("file", "1\n");
    f = fake_check("file", FMS_SINK, ini(at("file"), ""));
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "/file has 2 bytes"));
    fake_close(f);
}

static int make_folder(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the core does */
    signal(SIGXFSZ, SIG_IGN); /* the limit of a file's size is to be an error */
    return mkdtemp(folder) != NULL ? chmod(folder, 0755) : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_payload_lines),
        TEST(test_append_or_not),
        TEST(test_what_is_no_line_is_rejected),
        TEST(test_record_lines),
        TEST(test_round_trip_of_every_byte),
        TEST(test_large_records_are_taken_in_parts),
        TEST(test_full_disk),
        TEST(test_stream_that_fails),
        TEST(test_unfinished_line_is_finished),
        TEST(test_second_sink_is_refused),
        TEST(test_moved_and_deleted_by_others),
        TEST(test_rotation),
        TEST(test_rotation_within_a_batch),
        TEST(test_rotation_that_fails),
        TEST(test_slow_pipe),
        TEST(test_reader_goes),
        TEST(test_standard_output),
        TEST(test_reading),
        TEST(test_line_of_max_line),
        TEST(test_crlf),
        TEST(test_very_long_line),
        TEST(test_bad_lines),
        TEST(test_thousand_headers),
        TEST(test_null_is_absent_and_time_is_now),
        TEST(test_reading_a_pipe),
        TEST(test_standard_input),
        TEST(test_refused_comes_again),
        TEST(test_measures),
        TEST(test_stopped_with_records_in_flight),
        TEST(test_settled_out_of_order),
        TEST(test_killed_before_the_position_is_written),
        TEST(test_position_interval),
        TEST(test_position_that_cannot_be_written),
        TEST(test_a_position_is_written_to_a_file_of_its_own),
        TEST(test_damaged_positions_are_refused),
        TEST(test_line_numbers_go_on),
        TEST(test_one_late_record),
        TEST(test_follow),
        TEST(test_file_that_comes_later),
        TEST(test_start_at_the_end),
        TEST(test_truncation),
        TEST(test_truncated_meanwhile),
        TEST(test_lines_are_numbered),
        TEST(test_lines_that_are_left_out_are_skipped),
        TEST(test_numbers_outlive_a_crash),
        TEST(test_replaced_content_has_another_origin),
        TEST(test_a_position_without_an_origin_gets_one),
        TEST(test_rotated_while_following),
        TEST(test_rotated_file_must_be_quiet),
        TEST(test_rotated_thrice),
        TEST(test_rotated_meanwhile),
        TEST(test_rotated_away),
        TEST(test_both_faces),
        TEST(test_speed),
        TEST(test_speed_with_odd_times),
        TEST(test_time_of_a_payload),
        TEST(test_speed_after_a_stall),
        TEST(test_bad_configuration),
        TEST(test_max_gap_without_pauses),
        TEST(test_directories_and_rights),
        TEST(test_check_and_probe),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
