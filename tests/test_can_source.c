/* test_can_source.c - samples and raw frames from logs, and from an interface whose kernel side stands here. */
#include "refusal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/can/error.h>
#include <linux/can/raw.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INTERFACE "can0"
#include "can_interface.h"

#define EPOCH (INT64_C(1763320419) * FMS_SECOND)
#define FMS   "decode = fms\nvehicle_id = raspi-001\n"

static char place[] = "/tmp/can_sourceXXXXXX";

static const char *at(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", place, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(at(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *with_path(const char *more)
{
    static char text[1024];

    snprintf(text, sizeof text, "path = %s\n%s", at("log"), more);
    return text;
}

/* On a stepped clock. */
static struct fake *open_log(const char *log, const char *more)
{
    struct fake *f;

    write_file("log", log);
    f = fake_check("can_source", FMS_SOURCE, with_path(more));
    fake_clock_set(f, 1000, EPOCH);
    if (fake_start(f) != 0)
        fail_msg("%s", fake_said(f, "error"));
    fake_settle_auto(f, FMS_DELIVERED);
    return f;
}

static const char *payload(struct fake *f, size_t i)
{
    assert_in_range(i + 1, 1, fake_emitted(f));
    return fake_record(f, i)->payload.data;
}

/* ----------------------------------------------------------------------------------------------------------------- logs */

static const char truck[] = "(1436509052.249713) can0 18FEF100#FFA638FFFFFFFFFF\n"
                            "(1436509052.259713) can0 0CF00400#FFFFFF2029FFFFFF\n"
                            "(1436509052.300000) can0 18FEFC00#FFFFFFFFFFFFFFFF\n"
                            "(1436509052.400000) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                            "(1436509052.400000) can0 123#0011\n"
                            "\n"
                            "(1436509053.100000) can0 18FEF100#FF0038DFFFFFFFFF\n"
                            "(1436509053.200000) can0 18FEEE00#7DFFFFFFFFFFFFFF\n";

static void samples_of_a_log(void **state)
{
    struct fake *f = open_log(truck, FMS "signals = brake, coolant_temperature\ntopic = fms/${key}\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509053,\"speed\":56.65,\"rpm\":1316,"
                        "\"fuel_level\":47.6}");
    assert_string_equal(payload(f, 1),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509054,\"speed\":56,\"rpm\":1316,"
                        "\"fuel_level\":47.6,\"brake\":1,\"coolant_temperature\":85}");
    assert_string_equal(fake_record(f, 0)->key.data, "raspi-001");
    assert_string_equal(fake_record(f, 0)->topic.data, "fms/raspi-001");
    assert_true(fake_record(f, 0)->timestamp == INT64_C(1436509053) * FMS_SECOND);
    assert_int_equal(fake_counter(f, "frames"), 7);
    assert_int_equal(fake_counter(f, "values_not_available"), 2); /* fuel of address 0, brake */
    assert_non_null(fake_said(f, "fuel_level: from address 49 (0x31)"));
    assert_true(fake_link_is_up(f));
    fake_measure(f);
    assert_int_equal(fake_gauge(f, "signals"), 5);
    assert_int_equal(fake_gauge(f, "fresh_signals"), 5);
    fake_close(f);
}

static void an_interval_of_ones_own(void **state)
{
    struct fake *f = open_log(truck, FMS "interval = 100ms\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f),
                     5); /* those of intervals in which frames came; and the last, which the end cuts short */
    assert_true(fake_record(f, 0)->timestamp == INT64_C(14365090523) * 100 * FMS_MS);
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509052,\"speed\":56.65,\"rpm\":1316}");
    fake_close(f);
}

static void the_same_samples_at_any_speed(void **state)
{
    struct fake *f = open_log(truck, FMS "speed = 0.5\n");
    int64_t start;

    (void)state;
    start = fms_now(fake_host(f));
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_true(fms_now(fake_host(f)) - start == 2 * (1436509053200000 - 1436509052249713) * FMS_US);
    fake_close(f);
}

static void frames_as_they_are(void **state)
{
    struct fake *f = open_log("(1436509052.249713) can0 18fef100#F7A638 R\n"
                              " (1436509052.25)  vcan1  123   [2]  00 11\n"
                              "(1436509052.26) can0 20000004#0004000000000000\n",
                              "topic = can/${key}\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 3);
    assert_string_equal(payload(f, 0), "(1436509052.249713) can0 18FEF100#F7A638");
    assert_string_equal(payload(f, 1), "(1436509052.250000) vcan1 123#0011");
    assert_string_equal(payload(f, 2), "(1436509052.260000) can0 20000004#0004000000000000");
    assert_string_equal(fake_record(f, 1)->key.data, "vcan1");
    assert_string_equal(fake_record(f, 1)->topic.data, "can/vcan1");
    assert_true(fake_record(f, 0)->timestamp == 1436509052249713 * FMS_US);
    assert_int_equal(fake_counter(f, "frames"), 3);
    assert_int_equal(fake_counter(f, "error_frames"), 1);
    fake_close(f);
}

/* They are taken to have begun when the log was opened. */
static void times_from_the_start(void **state)
{
    struct fake *f = open_log(" (000.000000)  can0  18FEFC31   [8]  FF 77 FF FF FF FF FF FF\n"
                              " (002.500000)  can0  18FEFC31   [8]  FF 78 FF FF FF FF FF FF\n",
                              FMS);

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_string_equal(payload(f, 0), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320420,\"fuel_level\":47.6}");
    assert_string_equal(payload(f, 1), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320422,\"fuel_level\":48}");
    fake_close(f);
    f = open_log(" (002.500000)  can0  123   [1]  FF\n (002.600000)  can0  123   [1]  FE\n", "");
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, 0), "(1763320419.000000) can0 123#FF");
    assert_string_equal(payload(f, 1), "(1763320419.100000) can0 123#FE");
    fake_close(f);
}

static void a_log_whose_times_jump(void **state)
{
    struct fake *f = open_log("(1436509052.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                              "(1336509052.1) can0 18FEFC31#FF78FFFFFFFFFFFF\n"
                              "(1736509052.1) can0 18FEFC31#FF79FFFFFFFFFFFF\n",
                              FMS "speed = 1\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, fake_emitted(f) - 1),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1736509053,\"fuel_level\":48.4}");
    fake_close(f);
}

static void a_full_pipeline_holds_a_log_up(void **state)
{
    struct fake *f = open_log(truck, FMS "interval = 100ms\n");

    (void)state;
    fake_settle_auto(f, 0);
    fake_capacity(f, 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(fake_poll(f, 256), 0);
    assert_int_equal(fake_emitted(f), 1);
    fake_capacity(f, 100);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 5); /* none of them was overtaken */
    assert_int_equal(fake_counter(f, "overtaken"), 0);
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
}

/* A wake-up for each of them would cost more than all else. */
static void frames_of_a_pipe_gather(void **state)
{
    static const char frame[] = "(1436509052.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n";
    struct fake *f;
    int pipe;

    (void)state;
    unlink(at("log"));
    assert_int_equal(mkfifo(at("log"), 0600), 0);
    f = fake_check("can_source", FMS_SOURCE, with_path(FMS));
    fake_clock_set(f, FMS_SECOND, EPOCH);
    assert_int_equal(fake_start(f), 0);
    pipe = open(at("log"), O_WRONLY);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_waits_for(f)->events, POLLIN);
    assert_int_equal(write(pipe, frame, sizeof frame - 1), sizeof frame - 1);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_waits_for(f)->fd, -1);
    assert_true(fake_waits_for(f)->deadline == FMS_SECOND + 10 * FMS_MS);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_waits_for(f)->events, POLLIN);
    close(pipe);
    fake_close(f);
    assert_int_equal(unlink(at("log")), 0);
}

static void stopped_with_records_in_flight(void **state)
{
    struct fake *f = open_log(truck, "");

    (void)state;
    fake_settle_auto(f, 0);
    assert_int_equal(fake_poll(f, 3), 0);
    assert_int_equal(fake_emitted(f), 3);
    fake_settle(f, 2, FMS_DELIVERED);
    fake_settle(f, 0, FMS_REJECTED);
    fake_stop(f);
    assert_int_equal(fake_in_flight(f), 1);
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------ bad lines */

static const char spoilt[] = "(1436509052.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                             "(1436509052.2) can0 18FEFC31#FF7\n"
                             "(1436509052.3) can0 18FEFC31#FF77FFFFFFFFFFFF";

static void a_bad_line_is_rejected(void **state)
{
    static char log[4096];
    struct fake *f;

    (void)state;
    snprintf(log, sizeof log, "%s\n%1100d\n(1436509052.4) can0 18FEFC31#FF77FFFFFFFFFFFF\n", spoilt, 0);
    f = open_log(log, "");
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 5);
    assert_null(fake_rejected(f, 0));
    assert_non_null(strstr(fake_rejected(f, 1), "log line 2 is bad: its data ends within a byte"));
    assert_string_equal(payload(f, 1), "(1436509052.2) can0 18FEFC31#FF7");
    assert_null(fake_rejected(f, 2));
    assert_non_null(strstr(fake_rejected(f, 3), "log line 4 is bad: it is longer than 1024 bytes"));
    assert_null(fake_rejected(f, 4));
    assert_int_equal(fake_counter(f, "bad_lines"), 2);
    fake_close(f);
}

static void a_bad_line_is_left_out(void **state)
{
    struct fake *f = open_log(spoilt, "on_bad_line = skip\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_int_equal(fake_counter(f, "bad_lines"), 1);
    assert_non_null(fake_said(f, "log line 2 is bad, and left out: its data"));
    fake_close(f);
}

static void a_bad_line_stops(void **state)
{
    struct fake *f = open_log(spoilt, "on_bad_line = stop\n");

    (void)state;
    assert_int_equal(fake_poll(f, 256), -EBADMSG);
    assert_non_null(fake_said(f, "log line 2 is bad: its data ends within a byte (on_bad_line = stop)"));
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------- vehicles */

static void a_vehicle_is_named_by_its_vin(void **state)
{
    struct fake *f = open_log("(1436509052.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                              "(1436509053.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                              "(1436509053.2) can0 1CECFF00#20120003FFECFE00\n"
                              "(1436509053.3) can0 1CEBFF00#0157444239363334\n"
                              "(1436509053.4) can0 1CEBFF00#023033314C313233\n"
                              "(1436509053.5) can0 1CEBFF00#033435362AFFFFFF\n"
                              "(1436509054.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n"
                              "(1436509154.1) can0 18FEFC31#FF77FFFFFFFFFFFF\n",
                              "decode = fms\nvehicle_id =\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 3);
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"WDB9634031L123456\",\"timestamp\":1436509054,\"fuel_level\":47.6}");
    assert_string_equal(fake_record(f, 2)->key.data, "WDB9634031L123456"); /* long after */
    assert_int_equal(fake_counter(f, "nameless"), 1);
    assert_int_equal(fake_counter(f, "transport_complete"), 1);
    assert_non_null(fake_said(f, "the vehicle is WDB9634031L123456, by its VIN"));
    fake_close(f);
}

static void an_address_of_ones_choice(void **state)
{
    struct fake *f = open_log("(1436509052.1) can0 18FEC100#00112233FFFFFFFF\n"
                              "(1436509052.2) can0 18FEC131#00000001FFFFFFFF\n",
                              FMS "signals = distance\naddress.distance = 0x31\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, 0), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509053,\"distance\":83886080}");
    fake_close(f);
}

static void the_address_changes_when_one_is_silent(void **state)
{
    struct fake *f = open_log("(1436509052.1) can0 18FEC100#01000000FFFFFFFF\n"
                              "(1436509052.2) can0 18FEC131#02000000FFFFFFFF\n"
                              "(1436509062.2) can0 18FEC131#02000000FFFFFFFF\n",
                              FMS "signals = distance\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_non_null(
        fake_said(f, "distance: address 49 (0x31) has it, too; address.distance = 49 would take it from there"));
    assert_non_null(fake_said(f, "warning: distance: from address 49 (0x31) now"));
    assert_int_equal(fake_counter(f, "addresses"), 1);
    fake_close(f);
}

static void what_is_personal_is_asked_for_by_name(void **state)
{
    const char *log = "(1436509052.1) can0 18FE6B00#4446312A4446322A\n(1436509052.2) can0 0CFE6C00#DBFFFFFFFFFF0000\n";
    struct fake *f = open_log(log, FMS "signals = all\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509053,\"tachograph_speed\":0}");
    fake_close(f);
    f = open_log(log, FMS "signals = driver_1, all, driver_1_state\n");
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, 0), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509053,\"driver_1\":\"DF1\","
                                       "\"tachograph_speed\":0,\"driver_1_state\":3}");
    fake_close(f);
}

static void a_table_of_ones_own(void **state)
{
    char options[256];
    struct fake *f;

    (void)state;
    write_file("table", "# ours\n\nboost - FEF6 2 2 0 kPa 500ms\nspeed 84 FEF1 2-3 1/256 0 km/h 100ms\n");
    snprintf(options, sizeof options, FMS "signals = boost\ntable = %s/table\n", place);
    f = open_log("(1436509052.1) can0 18FEF100#FFA638FFFFFFFFFF\n(1436509052.2) can0 18FEF600#FF64FFFFFFFFFFFF\n",
                 options);
    fake_until(f, fake_ended(f));
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509053,\"speed\":56.6484375,\"boost\":200}");
    fake_close(f);
}

static void a_dbc_of_ones_own(void **state)
{
    char options[256];
    struct fake *f;

    (void)state;
    write_file("table.dbc", "VERSION \"\"\nBO_ 2566845952 IC1: 8 Vector__XXX\n" /* 98FEF600 */
                            " SG_ Boost : 8|8@1+ (2,0) [0|500] \"kPa abs\" Vector__XXX\n"
                            " SG_ Flag : 28|2@1+ (1,0) [0|3] \"\" Vector__XXX\n"
                            " SG_ Fine : 32|16@1+ (0.03125,-273) [0|0] \"C\"  A,B\n"
                            " SG_ Signed : 48|8@1- (1,0) [0|0] \"\" X\n"
                            " SG_ Motorola : 48|8@0+ (1,0) [0|0] \"\" X\n"
                            " SG_ Across : 4|8@1+ (1,0) [0|0] \"\" X\n"
                            " SG_ Muxed m1 : 48|8@1+ (1,0) [0|0] \"\" X\n"
                            " SG_ Third : 48|8@1+ (1E-005,0) [0|0] \"\" X\n"
                            "BO_ 291 Small: 8 X\n SG_ Eleven : 0|8@1+ (1,0) [0|0] \"\" X\n"
                            "CM_ SG_ 2566845952 Boost \"pressure\";\n"
                            "BA_ \"GenMsgCycleTime\" BO_ 2566845952 500;\n");
    snprintf(options, sizeof options, FMS "interval = 2s\nsignals = boost, flag, fine\ntable = %s/table.dbc\n", place);
    f = open_log("(1436509050.1) can0 18FEF600#FF64FFDF2022FFFF\n(1436509054.1) can0 18FEF600#FF65FFDF2022FFFF\n",
                 options);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_string_equal(payload(f, 0),
                        "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1436509052,\"boost\":200,\"flag\":1,\"fine\":0}");
    assert_non_null(fake_said(f, "line 6: this signal is left out: Signed: it is signed"));
    assert_non_null(fake_said(f, "line 7: this signal is left out: Motorola: it stands highest byte first"));
    assert_non_null(fake_said(f, "Across: it is neither one to four whole bytes nor bits of one"));
    assert_non_null(fake_said(f, "Muxed: it is multiplexed"));
    assert_non_null(fake_said(f, "left out: scale \"1E-005\" is none"));
    assert_non_null(fake_said(f, "Eleven: its message has an 11-bit identifier"));
    assert_int_equal(fake_count_said(f, "is left out"), 6);
    fake_close(f);
    assert_int_equal(unlink(at("table.dbc")), 0);
}

static void expect_no_start(const char *options, const char *said)
{
    struct fake *f = fake_check("can_source", FMS_SOURCE, with_path(options));

    assert_int_not_equal(fake_start(f), 0);
    if (fake_said(f, said) == NULL)
        fail_msg("\"%s\" is not said, but %s", said, fake_said(f, "error"));
    fake_close(f);
}

static void what_cannot_be_read_is_named(void **state)
{
    char options[256];

    (void)state;
    write_file("log", "");
    write_file("table", "boost - FEF6 2 2 0 kPa 500ms\nboost - FEF6 0 2 0 kPa 500ms\n");
    snprintf(options, sizeof options, FMS "table = %s/table\n", place);
    expect_no_start(options, "table line 2: bytes \"0\" is none; expected up to four bytes");
    write_file("table", "boost - FEF6 2 2 0 kPa 500ms\n");
    snprintf(options, sizeof options, FMS "signals = bost\ntable = %s/table\n", place);
    expect_no_start(options, "there is no signal \"bost\" in the FMS-Standard's table or in ");
    write_file("table", "vin - FEF6 2 2 0 kPa 500ms\n");
    snprintf(options, sizeof options, "decode = fms\ntable = %s/table\n", place);
    expect_no_start(options, "its vin is no text; set vehicle_id");
    expect_no_start(FMS "table = /nowhere\n", "/nowhere: cannot be read: No such file");
    expect_no_start(FMS "table = /\n", "/: cannot be read: Is a directory");
    assert_int_equal(unlink(at("log")), 0);
    expect_no_start("", "error: path: ");
    expect_no_start("", "log: cannot be read: No such file");
}

/* So that one pipeline file reads either, as the environment says. */
static void an_interface_with_a_slash_is_a_log(void **state)
{
    char options[256];
    struct fake *f;

    (void)state;
    write_file("log", truck);
    snprintf(options, sizeof options, "interface = %s\n" FMS, at("log"));
    f = fake_check("can_source", FMS_SOURCE, options);
    assert_int_equal(fake_start(f), 0);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    fake_close(f);
    f = fake_check("can_source", FMS_SOURCE, "interface = ./nowhere\n");
    assert_int_not_equal(fake_start(f), 0);
    assert_non_null(fake_said(f, "error: interface: ./nowhere: cannot be read: No such file"));
    fake_close(f);
}

static void test_refusals(void **state)
{
    static const struct refusal cases[] = {
        {"", "error: interface: is missing, and so is path"},
        {"interface = can0\npath = -\n", "error: path: does not go with interface"},
        {"interface = can4567890123456\n", "a name has 1 to 15 letters"},
        {"path = -\nspeed = -1\n", "error: speed: \"-1\" is no speed"},
        {"path = -\nspeed = 1x\n", "error: speed: \"1x\" is no speed"},
        {"path = -\nsignals = brake\n", "error: signals: is for decode = fms"},
        {"path = -\nvehicle_id = x\n", "error: vehicle_id: is for decode = fms"},
        {"path = -\ntable = x\n", "error: table: is for decode = fms"},
        {"path = -\naddress.speed = 1\n", "error: address.speed: is for decode = fms"},
        {"path = -\ndecode = fms\nsignals = brakes\n",
         "there is no signal \"brakes\" in the FMS-Standard's table; `table` names"},
        {"path = -\ndecode = fms\naddress.brakes = 1\n", "error: address.brakes: there is no signal"},
        {"path = -\ndecode = fms\naddress.speed = 254\n", "\"254\" is no address; accepted are 0 to 253"},
        {"path = -\ndecode = fms\naddress.speed = 0xfg\n", "\"0xfg\" is no address"},
        {"path = -\ndecode = fms\nvehicle_id = a\"b\n", "error: vehicle_id: 1 to 63 letters"},
        {"path = -\ntopic = ${json:x}\n", "error: topic: only ${key} is known here"},
    };

    (void)state;
    expect_refused("can_source", FMS_SOURCE, cases, sizeof cases / sizeof *cases);
}

/* ----------------------------------------------------------------------------------------- the kernel's side of an interface
 *
 * The plugin looks these names up through this program first. What the test sends stands in a socket pair, with the kernel's news of it. */

static struct {
    int fails;      /* errno of socket(); 0: none */
    int read_fails; /* errno of the next read */
    int peer;       /* the other end; -1: nobody reads */
    int opened;
    unsigned flood; /* frames that come besides */
    struct can_filter filters[CAN_RAW_FILTER_MAX];
    size_t filter_count;
    can_err_mask_t errors;
} kernel;

struct news {
    struct canfd_frame frame;
    size_t size;
    int64_t software, hardware; /* 0: none */
    uint32_t drops;
    int flags;
};

int socket(int domain, int type, int protocol)
{
    static int (*next)(int, int, int);
    int pair[2];

    if (domain != PF_CAN) {
        if (next == NULL)
            *(void **)&next = dlsym(RTLD_NEXT, "socket");
        return next(domain, type, protocol);
    }
    errno = kernel.fails;
    if (kernel.fails != 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
        return -1;
    if (kernel.peer >= 0)
        close(kernel.peer);
    kernel.peer = pair[1];
    kernel.opened++;
    kernel.filter_count = 0;
    return pair[0];
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)fd;
    if (level == SOL_CAN_RAW && name == CAN_RAW_FILTER) {
        memcpy(kernel.filters, value, size);
        kernel.filter_count = size / sizeof *kernel.filters;
    }
    if (level == SOL_CAN_RAW && name == CAN_RAW_ERR_FILTER)
        memcpy(&kernel.errors, value, size);
    return 0;
}

static struct cmsghdr *put_part(struct msghdr *message, struct cmsghdr *part, int type, const void *data, size_t size)
{
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = type;
    part->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(part), data, size);
    return CMSG_NXTHDR(message, part);
}

static void put_news(struct msghdr *message, const struct news *news)
{
    struct timespec stamps[3] = {{news->software / FMS_SECOND, (long)(news->software % FMS_SECOND)},
                                 {0, 0},
                                 {news->hardware / FMS_SECOND, (long)(news->hardware % FMS_SECOND)}};
    struct cmsghdr *part;

    memset(message->msg_control, 0, message->msg_controllen);
    part = put_part(message, CMSG_FIRSTHDR(message), SO_TIMESTAMPING, stamps, sizeof stamps);
    put_part(message, part, SO_RXQ_OVFL, &news->drops, sizeof news->drops);
    memcpy(message->msg_iov->iov_base, &news->frame, news->size);
    message->msg_flags = news->flags;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned most, int flags, struct timespec *timeout)
{
    struct news news;
    unsigned count = 0;

    (void)flags;
    assert_null(timeout);
    errno = kernel.read_fails;
    kernel.read_fails = 0;
    if (errno != 0)
        return -1;
    for (; count < most && recv(fd, &news, sizeof news, MSG_DONTWAIT) == sizeof news; count++) {
        put_news(&messages[count].msg_hdr, &news);
        messages[count].msg_len = (unsigned)news.size;
    }
    for (; count < most && kernel.flood > 0; count++, kernel.flood--) {
        put_news(&messages[count].msg_hdr, &(struct news){.frame.can_id = 0x123, .size = CAN_MTU});
        messages[count].msg_len = CAN_MTU;
    }
    return count > 0 || errno != EAGAIN ? (int)count : -1;
}

/* A frame in candump's words, as if it came now. */
static void deliver(struct news news, uint32_t id, const char *data)
{
    news.frame.can_id = id;
    for (; data[0] != '\0'; data += 2) {
        char byte[3] = {data[0], data[1], '\0'};

        news.frame.data[news.frame.len++] = (uint8_t)strtoul(byte, NULL, 16);
    }
    if (news.size == 0)
        news.size = CAN_MTU;
    assert_int_equal(send(kernel.peer, &news, sizeof news, 0), sizeof news);
}

#define DELIVER(id, data)           deliver((struct news){.drops = 0}, id, data)
#define DELIVER_WITH(id, data, ...) deliver((struct news){__VA_ARGS__}, id, data)
#define FUEL                        (0x18FEFC31 | CAN_EFF_FLAG)

static struct fake *check_bus(const char *more)
{
    char options[256];
    struct fake *f;

    snprintf(options, sizeof options, "interface = can0\n%s", more);
    f = fake_check("can_source", FMS_SOURCE, options);
    fake_clock_set(f, FMS_SECOND, EPOCH);
    return f;
}

static struct fake *open_bus(const char *more)
{
    struct fake *f = check_bus(more);

    kernel.opened = 0;
    assert_int_equal(fake_start(f), 0);
    fake_settle_auto(f, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 0), 0);
    return f;
}

static int tear_down(void **state)
{
    (void)state;
    if (kernel.peer >= 0)
        close(kernel.peer);
    memset(&kernel, 0, sizeof kernel);
    memset(&interface, 0, sizeof interface);
    kernel.peer = -1;
    return 0;
}

static void samples_of_a_bus(void **state)
{
    struct fake *f = open_bus(FMS);

    (void)state;
    assert_true(fake_link_is_up(f));
    assert_int_equal(kernel.errors, CAN_ERR_MASK);
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    DELIVER(0x123, "00");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_emitted(f), 0);
    fake_clock_step(f, FMS_SECOND);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_emitted(f), 1);
    assert_string_equal(payload(f, 0), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320420,\"fuel_level\":47.6}");
    fake_clock_step(f, 3 * FMS_SECOND);
    assert_int_equal(fake_poll(f, 1), 0); /* one sample, not three */
    assert_int_equal(fake_emitted(f), 2);
    assert_true(fake_waits_for(f)->deadline == 6 * FMS_SECOND);
    fake_clock_step(f, 2 * FMS_SECOND);
    assert_int_equal(fake_poll(f, 1), 0); /* it is too old now */
    assert_int_equal(fake_emitted(f), 2);
    assert_int_equal(fake_counter(f, "empty"), 1);
    assert_int_equal(fake_counter(f, "frames"), 2);
    fake_close(f);
}

/* A vehicle's clock is set when the network is there: by years. */
static void a_clock_that_is_set(void **state)
{
    struct fake *f = open_bus(FMS);

    (void)state;
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0);
    fake_clock_set(f, 2 * FMS_SECOND, EPOCH - 1000000000 * FMS_SECOND);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_emitted(f), 1);
    fake_clock_set(f, 3 * FMS_SECOND, EPOCH + 1000000000 * FMS_SECOND);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_emitted(f), 2);
    assert_true(fake_record(f, 1)->timestamp == EPOCH + 1000000000 * FMS_SECOND);
    fake_close(f);
}

/* Whether a frame would pass the kernel's filters. */
static bool passes(uint32_t id)
{
    for (size_t i = 0; i < kernel.filter_count; i++) {
        if ((id & kernel.filters[i].can_mask) == (kernel.filters[i].can_id & kernel.filters[i].can_mask))
            return true;
    }
    return false;
}

static void only_what_is_asked_for_leaves_the_kernel(void **state)
{
    struct fake *f = open_bus(FMS);

    (void)state;
    assert_int_equal(kernel.filter_count, 5);
    assert_true(passes(FUEL));
    assert_true(passes(0x0CF00400 | CAN_EFF_FLAG));
    assert_true(passes(0x1CECFF00 | CAN_EFF_FLAG)); /* to all, */
    assert_true(passes(0x1CEB27F9 | CAN_EFF_FLAG)); /* to another */
    assert_false(passes(0x18FEE900 | CAN_EFF_FLAG));
    assert_false(passes(0x19FEFC31 | CAN_EFF_FLAG)); /* another page */
    assert_false(passes(FUEL | CAN_RTR_FLAG));
    assert_false(passes(0x123));
    fake_close(f);
    f = open_bus("");
    assert_int_equal(kernel.filter_count, 0);
    fake_close(f);
}

#define TD(address) (0x18FEE600 | (address) | CAN_EFF_FLAG)
#define NOON        1795961130250 /* milliseconds: 2026-11-29 14:05:30.25 */

/* What the bus says of the time, and what is no time. */
static void the_buss_clock(void **state)
{
    static const char *const good[] = {"79050E0B7429FFFF", "79050E0B71297D7D", "79050E0B72297D00"};
    static const char *const bad[] = {"FF050E0B7429FFFF", "F0050E0B7429FFFF", "793C0E0B7429FFFF", "7905180B7429FFFF",
                                      "79050E007429FFFF", "79050E0D7429FFFF", "79050E0B0029FFFF", "79050E0B7929FFFF",
                                      "79050E0B7427FFFF", "79050E0B74FFFFFF", "79050E0B74297DFA", "79050E0B7429FF",
                                      "FEFEFEFEFEFEFEFE", "79050E027529FFFF"};
    struct fake *f = open_bus(FMS "bus_clock = yes\n");
    int64_t utc;

    (void)state;
    assert_true(passes(TD(0xEE)));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        DELIVER(TD(0xEE), bad[i]);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_told_time(f, &utc), 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        DELIVER(TD(0x17), good[i]);
        assert_int_equal(fake_poll(f, 1), 0);
        assert_int_equal(fake_told_time(f, &utc), i + 1);
        assert_true(utc == NOON * FMS_MS);
    }
    assert_int_equal(fake_counter(f, "frames"), sizeof bad / sizeof *bad + sizeof good / sizeof *good);
    fake_close(f);
}

/* One address tells it: who was first, until it is silent; or the tachograph. */
static void one_clock_of_several(void **state)
{
    static const struct {
        int64_t pause;
        uint32_t address;
        size_t told;
    } said[] = {{0, 0x17, 1}, {1, 0x31, 1}, {1, 0x17, 2}, {9, 0x31, 2},
                {1, 0x31, 3}, {1, 0x17, 3}, {1, 0xEE, 4}, {1, 0x31, 4}};
    struct fake *f = open_bus(FMS "bus_clock = yes\nsignals = bus_hour\n");
    int64_t utc;

    (void)state;
    assert_int_equal(kernel.filter_count, 6); /* it is asked for once */
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        fake_clock_step(f, said[i].pause * FMS_SECOND);
        DELIVER(TD(said[i].address), "79050E0B7429FFFF");
        assert_int_equal(fake_poll(f, 1), 0);
        assert_int_equal(fake_told_time(f, &utc), said[i].told);
    }
    fake_close(f);
}

/* That of a log is history; and who has not asked for it is told nothing. */
static void a_clock_that_does_not_count(void **state)
{
    struct fake *f = open_log("(1436509052.249713) can0 18FEE6EE#79050E0B7429FFFF\n", FMS "bus_clock = yes\n");
    int64_t utc;

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_told_time(f, &utc), 0);
    fake_close(f);
    f = open_bus(FMS "signals = bus_hour\n");
    DELIVER(TD(0xEE), "79050E0B7429FFFF");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_told_time(f, &utc), 0);
    fake_close(f);
    f = check_bus("bus_clock = yes\n");
    assert_non_null(fake_said(f, "error: bus_clock: is for decode = fms"));
    fake_close(f);
}

static void the_newest_sample_wins(void **state)
{
    struct fake *f = open_bus(FMS);

    (void)state;
    for (int i = 0; i < 4; i++) {
        DELIVER(FUEL, i < 3 ? "FF77FFFFFFFFFFFF" : "FF78FFFFFFFFFFFF");
        fake_clock_step(f, FMS_SECOND);
        assert_int_equal(fake_poll(f, 0), 0); /* no credit; but it is read */
        assert_true(fake_waits_for(f)->deadline < FMS_NEVER);
    }
    assert_int_equal(fake_counter(f, "overtaken"), 3);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_emitted(f), 1);
    assert_string_equal(payload(f, 0), "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320423,\"fuel_level\":48}");
    fake_close(f);
}

/* A wake-up for each of them would cost more than all else. */
static void frames_gather_where_they_are_decoded(void **state)
{
    struct fake *f = open_bus(FMS);

    (void)state;
    assert_int_equal(fake_poll(f, 1), 0); /* silence: the next frame is waited for */
    assert_int_equal(fake_waits_for(f)->events, POLLIN);
    assert_true(fake_waits_for(f)->deadline == 2 * FMS_SECOND);
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_waits_for(f)->fd, -1);
    assert_true(fake_waits_for(f)->deadline == FMS_SECOND + 10 * FMS_MS);
    fake_clock_step(f, 995 * FMS_MS);
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0); /* a sample is due before that */
    assert_true(fake_waits_for(f)->deadline == 2 * FMS_SECOND);
    kernel.flood = 1500;
    assert_int_equal(fake_poll(f, 1), 0);
    assert_true(fake_waits_for(f)->deadline == 0); /* more than others are to wait for */
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_counter(f, "frames"), 1502);
    fake_close(f);
    f = open_bus("");
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0); /* a frame as it is has no time to lose */
    assert_int_equal(fake_waits_for(f)->events, POLLIN);
    fake_close(f);
}

static void raw_frames_of_a_bus(void **state)
{
    struct fake *f = open_bus("");

    (void)state;
    DELIVER_WITH(FUEL, "FF77FFFFFFFFFFFF", .software = EPOCH + FMS_MS);
    DELIVER(0x123 | CAN_RTR_FLAG, "");
    DELIVER_WITH(0x7ff, "000102030405060708090A0B", .size = CANFD_MTU, .frame.flags = CANFD_BRS);
    DELIVER_WITH(0x123, "00", .flags = MSG_DONTROUTE);
    DELIVER_WITH(0x123, "00", .size = 5); /* no frame */
    DELIVER(0x124, "00");
    assert_int_equal(fake_poll(f, 0), 0); /* they stay in the kernel */
    assert_int_equal(fake_waits_for(f)->events, 0);
    assert_int_equal(fake_poll(f, 2), 0);
    assert_int_equal(fake_emitted(f), 2);
    assert_int_equal(fake_poll(f, 100), 0);
    assert_int_equal(fake_emitted(f), 5);
    assert_string_equal(payload(f, 0), "(1763320419.001000) can0 18FEFC31#FF77FFFFFFFFFFFF");
    assert_string_equal(payload(f, 1), "(1763320419.000000) can0 123#R");
    assert_string_equal(payload(f, 2), "(1763320419.000000) can0 7FF##1000102030405060708090A0B");
    assert_string_equal(payload(f, 3), "(1763320419.000000) can0 123#00 T");
    assert_true(fake_record(f, 0)->timestamp == EPOCH + FMS_MS);
    assert_string_equal(fake_record(f, 0)->key.data, "can0");
    fake_close(f);
}

/* The controller's clock has an origin of its own; between two frames it is the better one, until it is too far off. */
static void the_controllers_clock(void **state)
{
    struct fake *f = open_bus("");

    (void)state;
    DELIVER_WITH(0x1, "", .software = EPOCH, .hardware = 5 * FMS_SECOND);
    DELIVER_WITH(0x1, "", .software = EPOCH + 12 * FMS_MS, .hardware = 5 * FMS_SECOND + 10 * FMS_MS);
    DELIVER_WITH(0x1, "", .software = EPOCH + 200 * FMS_MS, .hardware = 5 * FMS_SECOND + 20 * FMS_MS);
    DELIVER_WITH(0x1, "", .software = EPOCH + 300 * FMS_MS);
    assert_int_equal(fake_poll(f, 10), 0);
    assert_true(fake_record(f, 0)->timestamp == EPOCH);
    assert_true(fake_record(f, 1)->timestamp == EPOCH + 10 * FMS_MS);
    assert_true(fake_record(f, 2)->timestamp == EPOCH + 200 * FMS_MS);
    assert_true(fake_record(f, 3)->timestamp == EPOCH + 300 * FMS_MS);
    fake_close(f);
}

static void drops_are_counted(void **state)
{
    struct fake *f = open_bus("");

    (void)state;
    DELIVER_WITH(0x1, "", .drops = 3);
    DELIVER_WITH(0x1, "", .drops = 3);
    DELIVER_WITH(0x1, "", .drops = 10);
    assert_int_equal(fake_poll(f, 10), 0);
    assert_int_equal(fake_counter(f, "drops"), 10);
    fake_close(f);
}

static void a_controller_that_goes_off_the_bus(void **state)
{
    struct fake *f = open_bus(FMS);
    char why[128];

    (void)state;
    DELIVER(CAN_ERR_FLAG | CAN_ERR_CRTL, "0004000000000000");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_true(fake_link_is_up(f));
    DELIVER(CAN_ERR_FLAG | CAN_ERR_BUSOFF, "0000000000000000");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_false(fake_link_is_up(f));
    assert_string_equal(fake_link_why(f, why, sizeof why),
                        "can0: the controller is off the bus, as after many errors: wires, bit rate, terminator");
    DELIVER(CAN_ERR_FLAG | CAN_ERR_RESTARTED, "0000000000000000");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_true(fake_link_is_up(f));
    assert_int_equal(fake_counter(f, "bus_offs"), 1);
    assert_int_equal(fake_counter(f, "error_frames"), 3);
    DELIVER(CAN_ERR_FLAG | CAN_ERR_BUSOFF, "0000000000000000");
    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0);
    assert_true(fake_link_is_up(f));
    fake_close(f);
}

static void an_interface_that_comes_and_goes(void **state)
{
    static const struct {
        int error;
        const char *why;
    } cases[] = {{EAFNOSUPPORT, "the kernel has no CAN sockets"},
                 {ENODEV, "there is no such interface"},
                 {ENOTTY, "it is no CAN interface"},
                 {ENETDOWN, "it is down"},
                 {EPERM, "Operation not permitted"}};
    struct fake *f;
    char why[128];

    (void)state;
    kernel.fails = EAFNOSUPPORT;
    f = open_bus(FMS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kernel.fails = cases[i].error == EPERM || cases[i].error == EAFNOSUPPORT ? cases[i].error : 0;
        interface.is_missing = cases[i].error == ENODEV;
        interface.is_other = cases[i].error == ENOTTY;
        interface.is_down = cases[i].error == ENETDOWN;
        fake_clock_step(f, 10 * FMS_SECOND);
        assert_int_equal(fake_poll(f, 1), 0);
        assert_false(fake_link_is_up(f));
        if (strstr(fake_link_why(f, why, sizeof why), cases[i].why) == NULL)
            fail_msg("\"%s\" is said, not \"%s\"", why, cases[i].why);
    }
    kernel.fails = 0;
    kernel.opened = 0;
    assert_int_equal(fake_poll(f, 1), 0); /* not yet */
    assert_int_equal(kernel.opened, 0);
    fake_until(f, fake_link_is_up(f));
    assert_non_null(fake_said(f, "can0: is read"));

    DELIVER(FUEL, "FF77FFFFFFFFFFFF");
    assert_int_equal(fake_poll(f, 1), 0);
    kernel.read_fails = ENETDOWN; /* ip link set can0 down */
    assert_int_equal(fake_poll(f, 1), 0);
    assert_false(fake_link_is_up(f));
    fake_until(f, fake_link_is_up(f));
    assert_int_equal(kernel.opened, 2);
    assert_int_equal(fake_link_ups(f), 2);
    fake_close(f);
}

static void probe(void **state)
{
    struct fake *f = check_bus(FMS);

    (void)state;
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    fake_close(f);
    f = check_bus("");
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: can0 is a CAN interface, and up"));
    fake_close(f);
    interface.is_missing = true;
    f = check_bus("");
    assert_int_equal(fake_probe(f, FMS_SECOND), -ENODEV);
    assert_non_null(fake_said(f, "error: interface: can0: cannot be read: there is no such interface"));
    fake_close(f);
}

static int set_up_all(void **state)
{
    kernel.peer = -1;
    return mkdtemp(place) == NULL || tear_down(state) != 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    unlink(at("log"));
    unlink(at("table"));
    return rmdir(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_of_a_log),
        cmocka_unit_test(an_interval_of_ones_own),
        cmocka_unit_test(the_same_samples_at_any_speed),
        cmocka_unit_test(frames_as_they_are),
        cmocka_unit_test(times_from_the_start),
        cmocka_unit_test(a_log_whose_times_jump),
        cmocka_unit_test(a_full_pipeline_holds_a_log_up),
        cmocka_unit_test(frames_of_a_pipe_gather),
        cmocka_unit_test(stopped_with_records_in_flight),
        cmocka_unit_test(a_bad_line_is_rejected),
        cmocka_unit_test(a_bad_line_is_left_out),
        cmocka_unit_test(a_bad_line_stops),
        cmocka_unit_test(a_vehicle_is_named_by_its_vin),
        cmocka_unit_test(an_address_of_ones_choice),
        cmocka_unit_test(the_address_changes_when_one_is_silent),
        cmocka_unit_test(what_is_personal_is_asked_for_by_name),
        cmocka_unit_test(a_table_of_ones_own),
        cmocka_unit_test(a_dbc_of_ones_own),
        cmocka_unit_test(what_cannot_be_read_is_named),
        cmocka_unit_test(an_interface_with_a_slash_is_a_log),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test_teardown(samples_of_a_bus, tear_down),
        cmocka_unit_test_teardown(a_clock_that_is_set, tear_down),
        cmocka_unit_test_teardown(only_what_is_asked_for_leaves_the_kernel, tear_down),
        cmocka_unit_test_teardown(the_buss_clock, tear_down),
        cmocka_unit_test_teardown(one_clock_of_several, tear_down),
        cmocka_unit_test_teardown(a_clock_that_does_not_count, tear_down),
        cmocka_unit_test_teardown(the_newest_sample_wins, tear_down),
        cmocka_unit_test_teardown(frames_gather_where_they_are_decoded, tear_down),
        cmocka_unit_test_teardown(raw_frames_of_a_bus, tear_down),
        cmocka_unit_test_teardown(the_controllers_clock, tear_down),
        cmocka_unit_test_teardown(drops_are_counted, tear_down),
        cmocka_unit_test_teardown(a_controller_that_goes_off_the_bus, tear_down),
        cmocka_unit_test_teardown(an_interface_that_comes_and_goes, tear_down),
        cmocka_unit_test_teardown(probe, tear_down),
    };

    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
