/* test_can_kernel.c - can_source and can_sink on the kernel's own CAN sockets: filters, time stamps, drops, interfaces that come and go.
 *
 * It makes an interface vcan9, for which it needs to be root and the kernel to have vcan: it runs in the machine of scripts/power-cuts. */
#include "refusal.h"

#include <linux/can.h>
#include <linux/can/error.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../plugins/can_common/interface.h"

#define VCAN "interface = vcan9\n"
#define FMS  VCAN "decode = fms\nvehicle_id = raspi-001\ninterval = 10ms\n"
#define FUEL (0x18FEFC31 | CAN_EFF_FLAG)

static void run(const char *command)
{
    if (system(command) != 0)
        fail_msg("%s", command);
}

static int set_up(void **state)
{
    (void)state;
    run("ip link add vcan9 type vcan");
    run("ip link set vcan9 up");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return system("ip link del vcan9 2>/dev/null") == -1;
}

/* Another one on the bus. */
static int peer_open(void)
{
    int fd = socket(PF_CAN, SOCK_RAW, CAN_RAW), on = 1;

    assert_int_equal(setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FD_FRAMES, &on, sizeof on), 0);
    assert_int_equal(interface_bind(fd, "vcan9"), 0);
    return fd;
}

static void say(int peer, uint32_t id, uint8_t first)
{
    struct can_frame frame = {.can_id = id, .can_dlc = 8, .data = {first, 0x77, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};

    assert_int_equal(send(peer, &frame, sizeof frame, 0), sizeof frame);
}

static bool hears(int peer)
{
    struct pollfd ready = {.fd = peer, .events = POLLIN};

    return poll(&ready, 1, 0) == 1;
}

static int64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * FMS_SECOND + now.tv_nsec;
}

static struct fake *open_source(const char *options)
{
    struct fake *f = fake_open("can_source", FMS_SOURCE, options);

    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_link_is_up(f));
    return f;
}

static struct fake *open_sink(void)
{
    struct fake *f = fake_open("can_sink", FMS_SINK, VCAN);

    fake_until(f, fake_link_is_up(f));
    return f;
}

/* -------------------------------------------------------------------------------------------------------------- can_source */

static void only_what_is_asked_for_leaves_the_kernel(void **state)
{
    struct fake *f = open_source(FMS);
    int peer = peer_open();

    (void)state;
    for (int i = 0; i < 100; i++) {
        say(peer, 0x18FEE900 | CAN_EFF_FLAG, 0xFF); /* another message, */
        say(peer, 0x19FEFC31 | CAN_EFF_FLAG, 0xFF); /* another page, */
        say(peer, FUEL | CAN_RTR_FLAG, 0xFF);       /* no data, */
        say(peer, 0x123, 0xFF);                     /* no J1939 */
    }
    say(peer, 0x1CEB27F9 | CAN_EFF_FLAG, 1); /* to another one: it could be a part of what is asked for */
    say(peer, FUEL, 0xFF);
    fake_until(f, fake_emitted(f) > 0);
    assert_int_equal(fake_counter(f, "frames"), 2);
    assert_non_null(strstr(fake_record(f, 0)->payload.data, "\"fuel_level\":47.6"));
    close(peer);
    fake_close(f);
}

/* A frame's time is when the kernel had it, not when it was fetched. */
static void frames_have_the_kernels_time(void **state)
{
    struct fake *f = open_source(VCAN);
    int peer = peer_open();
    int64_t before, after;
    struct canfd_frame fd = {.can_id = 0x7FF, .len = 12, .flags = CANFD_BRS};

    (void)state;
    before = realtime();
    say(peer, FUEL, 0xFF);
    assert_int_equal(send(peer, &fd, CANFD_MTU, 0), CANFD_MTU);
    after = realtime();
    while (realtime() < after + 20 * FMS_MS)
        poll(NULL, 0, 10);
    fake_until(f, fake_emitted(f) == 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(fake_record(f, i)->timestamp >= before);
        assert_true(fake_record(f, i)->timestamp <= after);
    }
    assert_non_null(strstr(fake_record(f, 0)->payload.data, ") vcan9 18FEFC31#FF77FFFFFFFFFFFF"));
    assert_non_null(strstr(fake_record(f, 1)->payload.data, ") vcan9 7FF##1000000000000000000000000"));
    close(peer);
    fake_close(f);
}

/* What is not fetched in time the kernel drops, and each frame is either read or counted. */
static void drops_are_counted(void **state)
{
    struct fake *f = open_source(FMS);
    int peer = peer_open();
    uint64_t sent = 0;

    (void)state;
    for (; sent < 40000; sent++)
        say(peer, FUEL, 0xFF);
    fake_until(f, fake_poll(f, 0) == 0 && fake_waits_for(f)->deadline != 0);
    say(peer, FUEL, 0xFF); /* carries the count of what was dropped before it */
    sent++;
    fake_until(f, fake_counter(f, "frames") + fake_counter(f, "drops") == sent);
    assert_true(fake_counter(f, "drops") > 0);
    assert_true(fake_counter(f, "frames") > 2000);
    close(peer);
    fake_close(f);
}

/* Sent by another one here, which the kernel lets pass as if a controller had said it. */
static void error_frames_pass_the_filters(void **state)
{
    struct fake *f = open_source(FMS);
    int peer = peer_open();

    (void)state;
    say(peer, CAN_ERR_FLAG | CAN_ERR_BUSOFF, 0);
    fake_until(f, !fake_link_is_up(f));
    assert_int_equal(fake_counter(f, "bus_offs"), 1);
    say(peer, CAN_ERR_FLAG | CAN_ERR_RESTARTED, 0);
    fake_until(f, fake_link_is_up(f));
    assert_int_equal(fake_counter(f, "error_frames"), 2);
    close(peer);
    fake_close(f);
}

static void link_says(struct fake *f, const char *text)
{
    char why[128];

    if (strstr(fake_link_why(f, why, sizeof why), text) == NULL)
        fail_msg("not \"%s\", but \"%s\"", text, why);
}

static void the_interface_comes_and_goes(void **state, const char *options)
{
    struct fake *f = open_source(options);
    size_t emitted;
    int peer;

    (void)state;
    run("ip link set vcan9 down");
    fake_until(f, !fake_link_is_up(f));
    link_says(f, "vcan9: it is down");
    run("ip link set vcan9 up");
    fake_until(f, fake_link_is_up(f));
    run("ip link del vcan9");
    fake_until(f, !fake_link_is_up(f));
    link_says(f, "vcan9: there is no such interface");
    run("ip link add vcan9 type vcan");
    run("ip link set vcan9 up");
    fake_until(f, fake_link_is_up(f));
    emitted = fake_emitted(f);
    peer = peer_open();
    say(peer, FUEL, 0xFF);
    fake_until(f, fake_emitted(f) > emitted);
    close(peer);
    fake_close(f);
}

static void samples_of_an_interface_that_comes_and_goes(void **state)
{
    the_interface_comes_and_goes(state, FMS);
}

static void frames_of_an_interface_that_comes_and_goes(void **state)
{
    the_interface_comes_and_goes(state, VCAN);
}

static void what_is_no_can_interface_is_named(void **state)
{
    struct fake *f = fake_open("can_source", FMS_SOURCE, "interface = lo\n");

    (void)state;
    fake_poll(f, 1);
    assert_false(fake_link_is_up(f));
    link_says(f, "lo: it is no CAN interface");
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------------- can_sink */

static void add_frames(struct fake *f, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char line[64];

        snprintf(line, sizeof line, "(1.5) can0 18FEFC31#%02X", i);
        fake_add(f, "x", NULL, line);
    }
}

static void expect_frames(int peer, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        struct can_frame frame;

        assert_int_equal(recv(peer, &frame, sizeof frame, 0), sizeof frame);
        assert_int_equal(frame.can_id, FUEL);
        assert_int_equal(frame.can_dlc, 1);
        assert_int_equal(frame.data[0], i);
    }
    assert_false(hears(peer));
}

static void all_frames_are_on_the_bus(void **state)
{
    struct fake *f = open_sink();
    int peer = peer_open();

    (void)state;
    add_frames(f, 0, 200);
    fake_write(f);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 200);
    expect_frames(peer, 0, 200);
    close(peer);
    fake_close(f);
}

/* The queue of the interface is made to keep what is sent, and has room for some only. */
static void a_full_queue_keeps_the_order(void **state)
{
    struct fake *f = open_sink();
    int peer = peer_open();
    int taken;

    (void)state;
    run("/sbin/tc qdisc add dev vcan9 root plug limit 500");
    add_frames(f, 0, 100);
    taken = fake_write(f);
    assert_true(taken > 0 && taken < 100);
    assert_int_equal(fake_counter(f, "full"), 1);
    assert_true(fake_link_is_up(f));
    run("/sbin/tc qdisc change dev vcan9 root plug release_indefinite");
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 100);
    expect_frames(peer, 0, 100);
    close(peer);
    fake_close(f);
}

static void frames_wait_for_the_interface(void **state)
{
    struct fake *f = open_sink();
    int peer;

    (void)state;
    run("ip link set vcan9 down");
    add_frames(f, 0, 1);
    fake_write(f);
    assert_false(fake_link_is_up(f));
    link_says(f, "vcan9: it is down");
    run("ip link del vcan9");
    run("ip link add vcan9 type vcan");
    run("ip link set vcan9 up");
    peer = peer_open();
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    run("ip link del vcan9"); /* while nobody sends */
    close(peer);
    run("ip link add vcan9 type vcan");
    run("ip link set vcan9 up");
    peer = peer_open();
    add_frames(f, 1, 3);
    fake_write(f);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 3);
    expect_frames(peer, 1, 3);
    close(peer);
    fake_close(f);
}

static void an_interface_without_fd_rejects_its_frames(void **state)
{
    struct fake *f;

    (void)state;
    run("ip link set vcan9 down");
    run("ip link set vcan9 mtu 16");
    run("ip link set vcan9 up");
    f = open_sink();
    fake_add(f, "x", NULL, "(1.5) can0 123##000");
    fake_add(f, "x", NULL, "(1.5) can0 123#00");
    fake_write(f);
    assert_string_equal(fake_reason(f, 0), "vcan9 does not take such a frame: it is none for CAN FD");
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    fake_close(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_asked_for_leaves_the_kernel),
        TEST(frames_have_the_kernels_time),
        TEST(drops_are_counted),
        TEST(error_frames_pass_the_filters),
        TEST(samples_of_an_interface_that_comes_and_goes),
        TEST(frames_of_an_interface_that_comes_and_goes),
        TEST(what_is_no_can_interface_is_named),
        TEST(all_frames_are_on_the_bus),
        TEST(a_full_queue_keeps_the_order),
        TEST(frames_wait_for_the_interface),
        TEST(an_interface_without_fd_rejects_its_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
