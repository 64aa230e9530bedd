/* test_decompress.c - what comes out of what zlib and zstd have compressed, and what becomes of anything else. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "fms_test.h"

#define MISSION "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320419,\"speed\":56.65}"

enum { GZIP, ZLIB, ZSTD, FORMATS };

static const char *const formats[] = {"gzip", "zlib", "zstd"};

struct data {
    char *bytes;
    size_t size;
};

static void deflated(struct data *to, struct fms_bytes from, int window)
{
    z_stream stream = {0};

    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)from.data;
    stream.avail_in = (uInt)from.size;
    stream.next_out = (Bytef *)to->bytes;
    stream.avail_out = (uInt)to->size;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    to->size = stream.total_out;
    deflateEnd(&stream);
}

/* Of that size and no more, so that what is read behind it is seen. */
static struct data compressed(int format, const void *bytes, size_t size)
{
    struct data to = {malloc(size + size / 8 + 1024), size + size / 8 + 1024};

    assert_non_null(to.bytes);
    if (format == ZSTD)
        to.size = ZSTD_compress(to.bytes, to.size, bytes, size, 3);
    else
        deflated(&to, fms_bytes_of(bytes, size), format == GZIP ? 15 + 16 : 15);
    to.bytes = realloc(to.bytes, to.size);
    return to;
}

static struct data compressed_text(int format, const char *text)
{
    return compressed(format, text, strlen(text));
}

static void append(struct data *data, const void *bytes, size_t size)
{
    data->bytes = realloc(data->bytes, data->size + size);
    assert_non_null(data->bytes);
    memcpy(data->bytes + data->size, bytes, size);
    data->size += size;
}

static void append_data(struct data *data, struct data more)
{
    append(data, more.bytes, more.size);
    free(more.bytes);
}

static char said[4096];

/* The payload that comes out, "passed", or why it was rejected. */
static const char *decompressed(const char *ini, struct fms_bytes payload)
{
    struct fms_record draft = {.topic = {"t", 1}, .payload = payload};
    struct fake *f = fake_open("decompress", FMS_TRANSFORM, ini);

    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    if (fake_fate(f, 0) == FAKE_PASSED)
        snprintf(said, sizeof said, "passed");
    else if (fake_fate(f, 0) == FMS_REJECTED)
        snprintf(said, sizeof said, "%s", fake_reason(f, 0));
    else
        snprintf(said, sizeof said, "%.*s", (int)fake_record(f, 0)->payload.size,
                 (const char *)fake_record(f, 0)->payload.data);
    assert_int_equal(fake_emitted(f), fake_fate(f, 0) != FMS_REJECTED);
    assert_int_equal(fake_counter(f, "decompressed"), fake_fate(f, 0) == FMS_DELIVERED);
    assert_int_equal(fake_counter(f, "passed"), fake_fate(f, 0) == FAKE_PASSED);
    if (fake_fate(f, 0) == FMS_REJECTED) {
        bool is_format = strncmp(said, "the ", 4) ==
                         0; /* payload is not compressed, header names none; else the codec's */

        assert_int_equal(fake_counter(f, "rejected_format"), is_format);
        assert_int_equal(fake_counter(f, "rejected_data"), !is_format);
    }
    fake_close(f);
    return said;
}

#define ASSERT_DATA(ini, data, expected)                                                                               \
    assert_string_equal(decompressed(ini, fms_bytes_of((data).bytes, (data).size)), expected)

/* Rejected, as data of that format, for this reason; what it says of a place ends with `at`, unless that is SIZE_MAX. */
static void assert_refused(const char *ini, int format, struct data data, const char *reason, size_t at)
{
    char expected[128];
    int n = snprintf(expected, sizeof expected, "%s: %s", formats[format], reason);

    if (at != SIZE_MAX)
        snprintf(expected + n, sizeof expected - (size_t)n, " at byte %zu", at);
    ASSERT_DATA(ini, data, expected);
}

static void assert_too_large(int format, struct data data, size_t most)
{
    char ini[64], reason[64];

    snprintf(ini, sizeof ini, "max_size = %zu\n", most);
    snprintf(reason, sizeof reason, "it is more than max_size = %zu bytes", most);
    assert_refused(ini, format, data, reason, SIZE_MAX);
}

static void test_each_format(void **state)
{
    char ini[64];

    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        struct data data = compressed_text(i, MISSION), empty = compressed_text(i, "");

        snprintf(ini, sizeof ini, "format = %s\n", formats[i]);
        ASSERT_DATA("", data, MISSION);
        ASSERT_DATA(ini, data, MISSION);
        ASSERT_DATA("", empty, "");
        free(data.bytes);
        free(empty.bytes);
    }
}

/* As large as it may be, and one byte larger; twice, for nothing of one may be left in the next. */
static void test_sizes(void **state)
{
    enum { MOST = 100000 };
    char *bytes = malloc(MOST + 1);
    struct fake *f = fake_open("decompress", FMS_TRANSFORM, "max_size = 100000\n");
    struct fms_record draft = {.topic = {"t", 1}};
    char reason[128];

    (void)state;
    assert_non_null(bytes);
    srand(1);
    for (size_t i = 0; i <= MOST; i++)
        bytes[i] = (char)(rand() % 16);
    for (int i = 0; i < 2 * FORMATS; i++)
        for (size_t size = MOST; size <= MOST + 1; size++) {
            struct data data = compressed(i % FORMATS, bytes, size);

            draft.payload = fms_bytes_of(data.bytes, data.size);
            fake_add_record(f, &draft);
            free(data.bytes);
        }
    assert_int_equal(fake_write(f), 4 * FORMATS);
    assert_int_equal(fake_emitted(f), 2 * FORMATS);
    for (size_t i = 0; i < 2 * FORMATS; i++) {
        assert_int_equal(fake_record(f, i)->payload.size, MOST);
        assert_memory_equal(fake_record(f, i)->payload.data, bytes, MOST);
        snprintf(reason, sizeof reason, "%s: it is more than max_size = 100000 bytes", formats[i % FORMATS]);
        assert_string_equal(fake_reason(f, 2 * i + 1), reason);
    }
    fake_close(f);
    free(bytes);
}

/* 64 MiB in some kilobytes. */
static void test_bombs(void **state)
{
    size_t size = 64 * 1024 * 1024;
    char *zeros = calloc(1, size);

    (void)state;
    assert_non_null(zeros);
    for (int i = 0; i < FORMATS; i++) {
        struct data data = compressed(i, zeros, size);

        assert_true(data.size < 100000);
        assert_too_large(i, data, 100000);
        free(data.bytes);
    }
    free(zeros);
}

/* Of pieces that become nothing there are no more than time allows. */
static void test_much_of_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i += ZSTD) {
        struct data piece = compressed_text(i, ""), data = {NULL, 0};

        while (data.size + piece.size <= 1000 + 4096)
            append(&data, piece.bytes, piece.size);
        ASSERT_DATA("max_size = 1000\n", data, "");
        append(&data, piece.bytes, piece.size);
        assert_too_large(i, data, 1000);
        free(data.bytes);
        free(piece.bytes);
    }
}

/* A frame that asks for a window of 128 MiB gets none: its content needs some bytes. */
static void test_a_claimed_window_is_not_believed(void **state)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    char bytes[1024];
    ZSTD_outBuffer to = {bytes, sizeof bytes, 0};
    ZSTD_inBuffer from = {MISSION, strlen(MISSION), 0};
    struct data data = {bytes, 0};

    (void)state;
    assert_non_null(zstd);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, 27);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
    assert_int_equal(ZSTD_compressStream2(zstd, &to, &from, ZSTD_e_flush), 0); /* it does not know the size yet */
    assert_int_equal(ZSTD_compressStream2(zstd, &to, &from, ZSTD_e_end), 0);
    data.size = to.pos;
    assert_int_equal((unsigned char)bytes[5], (27 - 10) << 3); /* the window, as it stands in the frame */
    ASSERT_DATA("max_size = 1000\n", data, MISSION);
    ZSTD_freeCCtx(zstd);
}

static void test_several_members(void **state)
{
    struct data data = compressed_text(GZIP, "{\"a\":");

    (void)state;
    append_data(&data, compressed_text(GZIP, ""));
    append_data(&data, compressed_text(GZIP, "1}"));
    ASSERT_DATA("", data, "{\"a\":1}");
    assert_too_large(GZIP, data, 6);
    free(data.bytes);
    data = compressed_text(ZSTD, "{\"a\":");
    append(&data, "\x50\x2a\x4d\x18\x03\x00\x00\x00xyz", 11); /* a frame to be skipped */
    append_data(&data, compressed_text(ZSTD, "1}"));
    ASSERT_DATA("", data, "{\"a\":1}");
    assert_too_large(ZSTD, data, 6);
    free(data.bytes);
}

/* -------------------------------------------------------------------------------------------------------------- broken */

static void test_every_truncation(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        struct data data = compressed_text(i, MISSION);

        for (size_t size = i == ZSTD ? 4 : 2; size < data.size; size++) {
            struct data part = {malloc(size), size};

            memcpy(part.bytes, data.bytes, size);
            assert_refused("", i, part, "it ends too early,", size);
            free(part.bytes);
        }
        free(data.bytes);
    }
}

static void test_what_stands_behind(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        struct data data = compressed_text(i, MISSION);
        size_t end = data.size;

        append(&data, "\0", 1);
        assert_refused("", i, data, "something else stands behind it,", end);
        append(&data, MISSION, 20);
        assert_refused("", i, data, "something else stands behind it,", end);
        free(data.bytes);
    }
}

/* Each byte changed in turn: the checksums see it, unless it is one that says nothing of the content. */
static void test_every_corruption(void **state)
{
    size_t rejected = 0, same = 0;

    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        struct data data = compressed_text(i, MISSION);
        const char *ini = i == GZIP ? "format = gzip\n" : i == ZLIB ? "format = zlib\n" : "format = zstd\n";

        for (size_t at = 0; at < data.size; at++) {
            const char *result;

            data.bytes[at] = (char)~data.bytes[at];
            result = decompressed(ini, fms_bytes_of(data.bytes, data.size));
            same += strcmp(result, MISSION) == 0;
            rejected += strstr(result, formats[i]) != NULL &&
                        (strstr(result, "at byte") || strstr(result, "max_size") || strstr(result, "not compressed"));
            data.bytes[at] = (char)~data.bytes[at];
        }
        free(data.bytes);
    }
    assert_true(rejected > 100);
    assert_true(same < 10); /* gzip's time, flags and system */
}

static void test_what_is_wrong_is_named(void **state)
{
    struct data data = compressed_text(GZIP, MISSION);

    (void)state;
    data.bytes[data.size - 8] = (char)~data.bytes[data.size - 8];
    assert_refused("", GZIP, data, "incorrect data check", data.size - 4);
    free(data.bytes);
    data = compressed_text(ZSTD, MISSION);
    data.bytes[4] |= 0x08; /* reserved: has to be 0 */
    assert_refused("", ZSTD, data, "Unsupported frame parameter", 0);
    free(data.bytes);
    assert_string_equal(decompressed("format = zlib\n", fms_bytes_of("\x78\xbb\x00\x00\x00\x01xx", 8)),
                        "zlib: it needs a dictionary at byte 6");
    assert_string_equal(decompressed("", fms_bytes_of("\x28\xb5\x2f\xfd\x01\x00\x07\x00", 8)),
                        "zstd: it ends too early, at byte 8");
}

/* ------------------------------------------------------------------------------------------------- what is not compressed */

static void test_not_compressed(void **state)
{
    static const char *const payloads[] = {"",     "{\"a\":1}",    "x",        "x^", "XG is no zlib",
                                           "\x1f", "\x28\xb5\x2f", " \x1f\x8b"};

    (void)state;
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        if (strcmp(payloads[i], "x^") == 0)
            continue; /* that is how zlib begins */
        assert_string_equal(decompressed("", fms_text(payloads[i])),
                            "the payload is not compressed: it is neither gzip, zlib nor zstd data");
        assert_string_equal(decompressed("otherwise = pass\n", fms_text(payloads[i])), "passed");
    }
    assert_string_equal(decompressed("", fms_bytes_of(NULL, 0)),
                        "the payload is not compressed: it is absent (a tombstone)");
    assert_string_equal(decompressed("otherwise = pass\n", fms_bytes_of(NULL, 0)), "passed");
    assert_string_equal(decompressed("format = gzip\n", fms_text("{}")),
                        "the payload is not compressed: it is no gzip data");
    assert_string_equal(decompressed("format = zlib\n", fms_text("{}")),
                        "the payload is not compressed: it is no zlib data");
    assert_string_equal(decompressed("format = zstd\n", fms_text("{}")),
                        "the payload is not compressed: it is no zstd data");
    assert_string_equal(decompressed("format = zstd\notherwise = pass\n", fms_text("\x1f\x8b")), "passed");
}

/* A window smaller than 32 KiB is taken for zlib only where zlib is asked for. */
static void test_small_windows(void **state)
{
    struct data data = {malloc(1024), 1024};

    (void)state;
    deflated(&data, fms_text(MISSION), 9);
    assert_int_equal(data.bytes[0], 0x18);
    ASSERT_DATA("format = zlib\n", data, MISSION);
    ASSERT_DATA("otherwise = pass\n", data, "passed");
    free(data.bytes);
}

/* -------------------------------------------------------------------------------------------------------------- header */

static const char *with_header(const char *ini, const char *name, struct fms_bytes value, struct data data)
{
    struct fms_header headers[] = {{"a", {"1", 1}}, {name, value}, {"b", {NULL, 0}}};
    struct fms_record draft = {.topic = {"t", 1},
                               .key = {"k", 1},
                               .payload = {data.bytes, data.size},
                               .headers = headers,
                               .header_count = 3,
                               .timestamp = 7};
    struct fake *f = fake_open("decompress", FMS_TRANSFORM, ini);
    const struct fms_record *record;
    int used = 0;

    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    if (fake_fate(f, 0) == FMS_REJECTED) {
        snprintf(said, sizeof said, "%s", fake_reason(f, 0));
        fake_close(f);
        return said;
    }
    record = fake_record(f, 0);
    assert_string_equal(record->topic.data, "t");
    assert_string_equal(record->key.data, "k");
    assert_int_equal(record->timestamp, 7);
    for (size_t i = 0; i < record->header_count; i++)
        used += snprintf(said + used, sizeof said - (size_t)used, "%s,", record->headers[i].name);
    snprintf(said + used, sizeof said - (size_t)used, " %.*s", (int)record->payload.size,
             record->payload.data != NULL ? (const char *)record->payload.data : "");
    fake_close(f);
    return said;
}

static void test_header(void **state)
{
    static const char coding[] = "content-encoding";
    struct data none = {NULL, 0}, plain = {(char *)(uintptr_t) "{}", 2}, data[FORMATS];
    const struct {
        const char *ini, *name, *value;
        struct data *payload;
        const char *expected;
    } cases[] = {
        {"", coding, "gzip", &data[GZIP], "a,b, " MISSION},
        {"", "Content-Encoding", "X-GZip", &data[GZIP], "a,b, " MISSION},
        {"", coding, "deflate", &data[ZLIB], "a,b, " MISSION},
        {"", coding, "zstd", &data[ZSTD], "a,b, " MISSION},
        {"format = gzip\n", coding, "br", &data[GZIP], "a,b, " MISSION},
        {"header = coding\n", "coding", "gzip", &data[GZIP], "a,b, " MISSION},
        {"header =\n", coding, "br", &data[GZIP], "a,content-encoding,b, " MISSION},
        {"otherwise = pass\n", coding, "identity", &plain, "a,content-encoding,b, {}"},
        {"otherwise = pass\n", coding, NULL, &plain, "a,content-encoding,b, {}"},
        {"otherwise = pass\n", coding, "br", &plain,
         "the header content-encoding is \"br\", which is none of gzip, deflate, zstd and identity"},
        {"otherwise = pass\n", coding, "gzip", &none, "a,content-encoding,b, "},
        {"otherwise = pass\n", coding, "gzip", &plain, "gzip: incorrect header check at byte 2"},
        {"", coding, "identity", &data[GZIP], "the payload is not compressed: its header content-encoding says so"},
    };

    (void)state;
    for (int i = 0; i < FORMATS; i++)
        data[i] = compressed_text(i, MISSION);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(with_header(cases[i].ini, cases[i].name, fms_text(cases[i].value), *cases[i].payload),
                            cases[i].expected);
    for (int i = 0; i < FORMATS; i++)
        free(data[i].bytes);
}

/* --------------------------------------------------------------------------------------------------------------- room */

static void add_text(struct fake *f, int format, const char *text)
{
    struct data data = compressed_text(format, text);

    fake_add_record(f, &(struct fms_record){.topic = {"t", 1}, .payload = {data.bytes, data.size}});
    free(data.bytes);
}

/* With two records, and no room for what becomes of the first. */
static struct fake *open_without_room(void)
{
    struct fake *f = fake_open("decompress", FMS_TRANSFORM, "");

    add_text(f, GZIP, MISSION);
    add_text(f, ZSTD, "{}");
    fake_capacity(f, 0);
    assert_int_equal(fake_write(f), 0);
    return f;
}

static void test_no_room(void **state)
{
    struct fake *f = open_without_room();

    (void)state;
    assert_int_equal(fake_write(f), 0);
    fake_capacity(f, 1);
    assert_int_equal(fake_write(f), 1);
    fake_capacity(f, 2);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_emitted(f), 2);
    assert_string_equal(fake_record(f, 0)->payload.data, MISSION);
    assert_string_equal(fake_record(f, 1)->payload.data, "{}");
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 2);
    fake_close(f);
}

/* What waited for room that never came is not what the next record becomes. */
static void test_never_any_room(void **state)
{
    struct fake *f = open_without_room();

    (void)state;
    fake_capacity(f, 1);
    fake_largest(f, 2);
    assert_int_equal(fake_write(f), 2);
    assert_string_equal(fake_reason(f, 0), "with the 63 bytes that it becomes it does not fit max_in_flight_bytes");
    assert_string_equal(fake_record(f, 0)->payload.data, "{}");
    assert_int_equal(fake_parent(f, 0), 1);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_format),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_much_of_nothing),
        cmocka_unit_test(test_a_claimed_window_is_not_believed),
        cmocka_unit_test(test_several_members),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_what_stands_behind),
        cmocka_unit_test(test_every_corruption),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_not_compressed),
        cmocka_unit_test(test_small_windows),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_never_any_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
