/* test_can_sink.c - frames on an interface whose kernel side stands here: what is sent, in which order, and what waits. */
#include "refusal.h"

#include <linux/can/raw.h>
#include <stdio.h>
#include <unistd.h>

#define INTERFACE "vcan0"
#include "can_interface.h"

static struct {
    int send_fails; /* errno of the next sends; 0: none */
    size_t sent;
    struct canfd_frame frames[16];
    size_t sizes[16];
} kernel;

/* The plugin looks these names up through this program first. */
int socket(int domain, int type, int protocol)
{
    (void)type;
    assert_int_equal(domain, PF_CAN);
    assert_int_equal(protocol, CAN_RAW);
    return dup(STDOUT_FILENO);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)fd;
    (void)value;
    assert_int_equal(level, SOL_CAN_RAW);
    assert_true(name != CAN_RAW_FILTER || size == 0); /* it receives nothing */
    return 0;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    (void)fd;
    (void)flags;
    errno = kernel.send_fails;
    if (kernel.send_fails != 0)
        return -1;
    memcpy(&kernel.frames[kernel.sent], data, size);
    kernel.sizes[kernel.sent++] = size;
    return (ssize_t)size;
}

static struct fake *open_sink(void)
{
    struct fake *f;

    kernel.send_fails = 0;
    kernel.sent = 0;
    f = fake_check("can_sink", FMS_SINK, "interface = vcan0\n");
    fake_clock_set(f, FMS_SECOND, FMS_SECOND);
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 0);
    return f;
}

static void frames_are_sent(void **state)
{
    static const char *const lines[] = {"(1436509052.249713) can0 18FEF100#F7A638", "  can0  123   [2]  00 11",
                                        "(1.5) can0 123#R8", "(1.5) can0 7FF##1000102030405060708090A0B"};
    struct fake *f = open_sink();

    (void)state;
    for (size_t i = 0; i < 4; i++)
        fake_add(f, "x", NULL, lines[i]);
    assert_int_equal(fake_write(f), 4);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 4);
    assert_int_equal(kernel.sent, 4);
    assert_int_equal(kernel.frames[0].can_id, 0x18FEF100 | CAN_EFF_FLAG);
    assert_int_equal(kernel.frames[0].len, 3);
    assert_memory_equal(kernel.frames[0].data, "\xF7\xA6\x38", 3);
    assert_int_equal(kernel.sizes[0], CAN_MTU);
    assert_int_equal(kernel.frames[1].can_id, 0x123);
    assert_int_equal(kernel.frames[2].can_id, 0x123 | CAN_RTR_FLAG);
    assert_int_equal(kernel.sizes[3], CANFD_MTU);
    assert_int_equal(kernel.frames[3].flags, CANFD_BRS);
    assert_int_equal(kernel.frames[3].len, 12);
    fake_close(f);
}

static void what_is_no_frame_is_rejected(void **state)
{
    struct fake *f = open_sink();

    (void)state;
    fake_add(f, "x", NULL, "{\"speed\":1}");
    fake_add(f, "x", NULL, "");
    fake_add(f, "x", NULL, "(1.5) can0 20000004#0004000000000000");
    fake_add(f, "x", NULL, "(1.5) can0 123#00");
    assert_int_equal(fake_write(f), 4);
    assert_string_equal(fake_reason(f, 1), "it is no frame for a bus: the line is empty");
    assert_string_equal(fake_reason(f, 2), "it is no frame for a bus: it tells of an error");
    assert_non_null(strstr(fake_reason(f, 0), "it is no frame for a bus: its identifier is none"));
    assert_int_equal(fake_fate(f, 3), FMS_DELIVERED);
    kernel.send_fails = EINVAL;
    fake_add(f, "x", NULL, "(1.5) can0 123##0");
    assert_int_equal(fake_write(f), 1);
    assert_string_equal(fake_reason(f, 4), "vcan0 does not take such a frame: it is none for CAN FD");
    fake_close(f);
}

static void a_full_queue_keeps_the_order(void **state)
{
    struct fake *f = open_sink();

    (void)state;
    for (int i = 0; i < 5; i++) {
        char line[32];

        snprintf(line, sizeof line, "(1.5) can0 123#%02X", (unsigned)i);
        fake_add(f, "x", NULL, line);
    }
    kernel.send_fails = ENOBUFS;
    assert_int_equal(fake_write(f), 0);
    kernel.send_fails = 0;
    assert_int_equal(fake_write(f), 0); /* not before a while */
    assert_int_equal(fake_poll(f, 0), 0);
    assert_true(fake_waits_for(f)->deadline == FMS_SECOND + FMS_MS);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(kernel.frames[i].data[0], i);
    assert_int_equal(fake_counter(f, "full"), 1);
    fake_close(f);
}

static void an_interface_that_comes_and_goes(void **state)
{
    struct fake *f;
    char why[128];

    (void)state;
    interface.is_missing = true;
    f = open_sink();
    fake_add(f, "x", NULL, "(1.5) can0 123#00");
    assert_int_equal(fake_write(f), 0);
    assert_false(fake_link_is_up(f));
    assert_non_null(strstr(fake_link_why(f, why, sizeof why), "vcan0: there is no such interface"));
    interface.is_missing = false;
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    assert_true(fake_link_is_up(f));
    kernel.send_fails = ENETDOWN;
    fake_add(f, "x", NULL, "(1.5) can0 123#01");
    assert_int_equal(fake_write(f), 0);
    assert_false(fake_link_is_up(f));
    kernel.send_fails = 0;
    fake_until(f, fake_fate(f, 1) == FMS_DELIVERED);
    assert_int_equal(kernel.sent, 2);
    fake_close(f);
}

static void probe_and_refusals(void **state)
{
    struct fake *f = fake_check("can_sink", FMS_SINK, "interface = vcan0\n");

    (void)state;
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: vcan0 is a CAN interface, and up"));
    fake_close(f);
    interface.is_missing = true;
    f = fake_check("can_sink", FMS_SINK, "interface = vcan0\n");
    assert_int_equal(fake_probe(f, FMS_SECOND), -ENODEV);
    fake_close(f);
    interface.is_missing = false;
    expect_refusal("can_sink", FMS_SINK, "interface = can4567890123456\n", "a name has 1 to 15 letters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_sent),
        cmocka_unit_test(what_is_no_frame_is_rejected),
        cmocka_unit_test(a_full_queue_keeps_the_order),
        cmocka_unit_test(an_interface_that_comes_and_goes),
        cmocka_unit_test(probe_and_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
