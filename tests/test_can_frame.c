/* test_can_frame.c - the lines of candump in both forms, what each bad one is told, and that a frame survives being written. */
#include "../plugins/can_common/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct frame read_good(const char *line)
{
    char why[FRAME_WHY] = "";
    struct frame frame;

    if (frame_read(&frame, fms_text(line), why) != FRAME_LINE_FRAME)
        fail_msg("\"%s\": %s", line, why);
    return frame;
}

/* The line as candump -L would have it. */
#define ASSERT_READS(line, expected)                                                                                   \
    do {                                                                                                               \
        char written_[FRAME_LINE];                                                                                     \
        struct frame frame_ = read_good(line);                                                                         \
        assert_int_equal(frame_write(&frame_, written_), strlen(expected));                                            \
        assert_string_equal(written_, expected);                                                                       \
    } while (0)

#define ASSERT_SAME(line) ASSERT_READS(line, line)

static void lines_of_a_log(void **state)
{
    struct frame frame = read_good("(1436509052.249713) can0 18FEF100#F7FF12FFFFFFFF30");

    (void)state;
    assert_true(frame.time == INT64_C(1436509052249713000));
    assert_int_equal(frame.id, 0x18FEF100);
    assert_int_equal(frame.flags, FRAME_EXTENDED);
    assert_string_equal(frame.interface, "can0");
    assert_int_equal(frame.size, 8);
    assert_memory_equal(frame.data, "\xF7\xFF\x12\xFF\xFF\xFF\xFF\x30", 8);

    ASSERT_SAME("(1436509052.249713) can0 18FEF100#F7FF12FFFFFFFF30");
    ASSERT_SAME("(1436509052.249713) vcan12345678901 000#");
    ASSERT_SAME("(1436509052.249713) can0 7FF#01");
    ASSERT_SAME("(1436509052.249713) can0 00000001#0102");
    ASSERT_SAME("(1436509052.249713) can0 123#R");
    ASSERT_SAME("(1436509052.249713) can0 1FFFFFFF#R8");
    ASSERT_SAME("(1436509052.249713) can0 123##0");
    ASSERT_SAME("(1436509052.249713) can0 18FEF100##3000102030405060708090A0B");
    ASSERT_SAME("(1436509052.249713) can0 20000004#0004000000000060");
    ASSERT_SAME("(1436509052.249713) can0 123#00 T");
    ASSERT_READS("(1436509052.249713) can0 123#00 R", "(1436509052.249713) can0 123#00");
    ASSERT_READS("(1436509052.249713) can0 18fef1aB#f7fF  \r", "(1436509052.249713) can0 18FEF1AB#F7FF");
    ASSERT_READS("(1.5) can0 123#11.22.33", "(0000000001.500000) can0 123#112233");
    ASSERT_READS("(1436509052.249713) can0 123#0011223344556677_E", "(1436509052.249713) can0 123#0011223344556677");
    ASSERT_READS("can0 123#00", "(0000000000.000000) can0 123#00");
    assert_true(read_good("can0 123#00").time == FRAME_NO_TIME);
}

static void lines_of_the_screen(void **state)
{
    (void)state;
    ASSERT_READS(" (000.005001)  can0  18FEDF00   [8]  8A A0 30 FF FF FF FF FF",
                 "(0000000000.005001) can0 18FEDF00#8AA030FFFFFFFFFF");
    ASSERT_READS("  can0  123   [0] ", "(0000000000.000000) can0 123#");
    ASSERT_READS(" (2015-07-10 06:17:32.249713)  can0  123   [2]  0a Bc", "(1436509052.249713) can0 123#0ABC");
    ASSERT_READS("  can0  123   [8]  remote request", "(0000000000.000000) can0 123#R8");
    ASSERT_READS("  can0  123   [12]  00 01 02 03 04 05 06 07 08 09 0A 0B",
                 "(0000000000.000000) can0 123##0000102030405060708090A0B");
    ASSERT_READS("  can0  20000004   [8]  00 04 00 00 00 00 60 00   ERRORFRAME",
                 "(0000000000.000000) can0 20000004#0004000000006000");
    ASSERT_READS("  can0  123   [3]  61 62 63   'abc'", "(0000000000.000000) can0 123#616263");
    ASSERT_READS(" (000.1)  can0  TX - -  123   [1]  61", "(0000000000.100000) can0 123#61 T");
    ASSERT_READS(" (000.1)  can0  RX B E  123   [1]  61", "(0000000000.100000) can0 123#61");
}

static void lines_that_say_nothing(void **state)
{
    struct frame frame = {.id = 7};
    char why[FRAME_WHY];

    (void)state;
    assert_int_equal(frame_read(&frame, fms_text(""), why), FRAME_LINE_NOTHING);
    assert_int_equal(frame_read(&frame, fms_text("  \r"), why), FRAME_LINE_NOTHING);
    assert_int_equal(frame_read(&frame, fms_text("\tcontroller-problem{tx-error-warning}"), why), FRAME_LINE_NOTHING);
    assert_int_equal(frame.id, 7);
}

static void bad_lines_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"(14365a9052.249713) can0 123#00", "time"},
        {"(1436509052.) can0 123#00", "time"},
        {"(1436509052.1234567890) can0 123#00", "time"},
        {"(12345678901.5) can0 123#00", "time"},
        {"(2015-13-10 06:17:32.2) can0 123#00", "time"},
        {"(2015-07-10 06:17) can0 123#00", "time"},
        {"(1.5", "time"},
        {"(1.5)", "before the interface"},
        {"(1.5) vcan123456789012 123#00", "15 letters"},
        {"(1.5) can\x01 123#00", "ASCII"},
        {"(1.5) c\xc3\xa4n 123#00", "ASCII"},
        {"(1.5) can0", "identifier"},
        {"(1.5) can0 ", "identifier"},
        {"(1.5) can0 800#00", "identifier"},
        {"(1.5) can0 1234#00", "identifier"},
        {"(1.5) can0 48FEF100#00", "identifier"},
        {"(1.5) can0 018FEF100#00", "identifier"},
        {"(1.5) can0 12G#00", "identifier"},
        {"(1.5) can0 123", "expected is #"},
        {"(1.5) can0 123 00 11", "expected is #"},
        {"(1.5) can0 123#0", "within a byte"},
        {"(1.5) can0 123#0G", "within a byte"},
        {"(1.5) can0 123#001122334455667788", "more than 8 bytes"},
        {"(1.5) can0 123##", "the frame's flags"},
        {"(1.5) can0 123##000112233445566778899", "that no CAN FD frame has"},
        {"(1.5) can0 123#00_8", "length code"},
        {"(1.5) can0 123#00 X", "something follows"},
        {"(1.5) can0 123#R9", "something follows"},
        {"(1.5) can0 123 [x] 00", "number of bytes"},
        {"(1.5) can0 123 [9] 00", "more than 8 bytes"},
        {"(1.5) can0 123 [65] 00", "that no CAN FD frame has"},
        {"(1.5) can0 123 [2] 00", "fewer bytes"},
        {"(1.5) can0 123 [2] 00 1", "fewer bytes"},
        {"(1.5) can0 123 [1] 00 11", "something follows"},
        {"(1.5) can0 123 [08] remote request", "asks for data"},
        {"{\"speed\":1}", "identifier"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[FRAME_WHY] = "";
        struct frame frame = {.id = 7};

        if (frame_read(&frame, fms_text(cases[i].line), why) != FRAME_LINE_BAD || strstr(why, cases[i].why) == NULL)
            fail_msg("\"%s\" is told \"%s\", and not \"%s\"", cases[i].line, why, cases[i].why);
        assert_int_equal(frame.id, 7);
    }
}

static void a_line_may_be_cut_anywhere(void **state)
{
    static const char whole[] = "(1436509052.249713) can0 18FEF100##3000102030405060708090A0B T";
    char why[FRAME_WHY];
    struct frame frame;

    (void)state;
    for (size_t size = 0; size < sizeof whole; size++)
        assert_in_range(frame_read(&frame, fms_bytes_of(whole, size), why), FRAME_LINE_FRAME, FRAME_LINE_BAD);
}

static void the_longest_line_has_room(void **state)
{
    struct frame frame = {
        .time = INT64_MAX, .id = 0x1fffffff, .flags = FRAME_EXTENDED | FRAME_FD | FRAME_SENT, .size = 64};
    char line[FRAME_LINE];

    (void)state;
    memset(frame.interface, 'x', FRAME_INTERFACE - 1);
    assert_in_range(frame_write(&frame, line), 1, FRAME_LINE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_a_log),
        cmocka_unit_test(lines_of_the_screen),
        cmocka_unit_test(lines_that_say_nothing),
        cmocka_unit_test(bad_lines_are_told_what_is_wrong),
        cmocka_unit_test(a_line_may_be_cut_anywhere),
        cmocka_unit_test(the_longest_line_has_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
