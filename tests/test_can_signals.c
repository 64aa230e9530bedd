/* test_can_signals.c - the table of signals, line by line; what a value is and what is none; which address it comes from, and how long. */
#include "../plugins/can_common/signals.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct signals signals;
static char told[1024];

static void tell(void *user, const struct reading *reading, enum signals_event event, int address)
{
    static const char *const words[] = {"chosen", "changed", "other"};
    size_t used = strlen(told);

    (void)user;
    snprintf(told + used, sizeof told - used, "%s %s %d\n", reading->signal.name, words[event], address);
}

/* All signals of the table and these lines; those named, separated by blanks, are asked for; NULL: all. */
static void set_up(const char *const lines[], const char *asked)
{
    char why[SIGNAL_WHY], names[256], *rest = NULL;

    signals_free(&signals);
    signals = (struct signals){.tell = tell};
    told[0] = '\0';
    if (signals_add_fms(&signals, why) != 0)
        fail_msg("%s", why);
    for (; lines != NULL && *lines != NULL; lines++)
        assert_int_equal(signals_add(&signals, fms_text(*lines), why), 0);
    for (size_t i = 0; i < signals.count; i++)
        signals.items[i].is_asked = asked == NULL;
    snprintf(names, sizeof names, "%s", asked != NULL ? asked : "");
    for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest))
        signals_find(&signals, name)->is_asked = true;
    assert_int_equal(signals_index(&signals), 0);
}

static int tear_down(void **state)
{
    (void)state;
    signals_free(&signals);
    memset(&signals, 0, sizeof signals);
    return 0;
}

static void take(uint32_t pgn, int source, const void *data, size_t size, int64_t time)
{
    struct j1939_message message = {{pgn, 6, (uint8_t)source, J1939_GLOBAL}, data, size};

    signals_take(&signals, &message, time);
}

/* The value now, or "". */
static const char *value(const char *name, int64_t time)
{
    static char text[SIGNAL_TEXT + 3];
    const struct reading *reading = signals_find(&signals, name);

    text[reading_is_fresh(reading, time) ? reading_write(reading, text) : 0] = '\0';
    return text;
}

/* A message in which all bits are set but those of this signal, which are `raw`. */
static void put(const struct signal *signal, uint32_t raw, uint8_t data[8])
{
    unsigned bits = signal->field.bits;
    uint64_t mask = (bits == 32 ? UINT32_MAX : (1u << bits) - 1) * (uint64_t)1
                    << (8 * signal->field.byte + signal->field.shift);
    uint64_t word = (UINT64_MAX & ~mask) | (uint64_t)raw << (8 * signal->field.byte + signal->field.shift);

    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t)(word >> 8 * i);
}

static const char *value_of_raw(const char *name, uint32_t raw)
{
    const struct signal *signal = &signals_find(&signals, name)->signal;
    uint8_t data[8];

    put(signal, raw, data);
    take(signal->pgn, 3, data, 8, 1000);
    return value(name, 1000);
}

/* ------------------------------------------------------------------------------------------------------ the FMS-Standard */

static const struct {
    const char *name;
    uint32_t raw;
    const char *text;
} values[] = {
    {"speed", 0, "0"},
    {"speed", 1, "0"},
    {"speed", 2, "0.01"}, /* 0.0078125 */
    {"speed", 0x38A6, "56.65"},
    {"speed", 0xFAFF, "251"},
    {"rpm", 0, "0"},
    {"rpm", 0x2920, "1316"},
    {"rpm", 4, "1"}, /* 0.5 */
    {"rpm", 3, "0"},
    {"rpm", 0xFAFF, "8032"},
    {"fuel_level", 119, "47.6"},
    {"fuel_level", 250, "100"},
    {"brake", 0, "0"},
    {"brake", 1, "1"},
    {"clutch", 1, "1"},
    {"cruise_control", 1, "1"},
    {"parking_brake", 1, "1"},
    {"pto_state", 0, "0"},
    {"pto_state", 5, "5"},
    {"pto_state", 29, "29"},
    {"engine_torque", 0, "-125"},
    {"engine_torque", 125, "0"},
    {"engine_torque", 250, "125"},
    {"accelerator_pedal", 1, "0.4"},
    {"engine_load", 250, "250"},
    {"retarder_torque", 25, "-100"},
    {"retarder_torque", 125, "0"},
    {"fuel_level_2", 1, "0.4"},
    {"fuel_used", 1, "0.5"},
    {"fuel_used", 0xFAFFFFFF, "2105540607.5"},
    {"fuel_used_fine", 0xFAFFFFFF, "4211081.215"},
    {"fuel_used_fine", 10, "0.01"},
    {"fuel_rate", 1, "0.05"},
    {"fuel_rate", 0xFAFF, "3212.75"},
    {"fuel_economy", 1, "0.001953125"},
    {"fuel_economy", 0xFAFF, "125.498046875"},
    {"engine_hours", 1, "0.05"},
    {"engine_hours", 0xFAFFFFFF, "210554060.75"},
    {"distance", 87795600, "438978000"},
    {"distance", 0xFAFFFFFF, "21055406075"},
    {"service_distance", 0, "-160635"},
    {"service_distance", 0x7D7F, "0"},
    {"service_distance", 0xFAFF, "160640"},
    {"coolant_temperature", 0, "-40"},
    {"coolant_temperature", 40, "0"},
    {"coolant_temperature", 250, "210"},
    {"ambient_temperature", 0, "-273"},
    {"ambient_temperature", 0x2220, "0"},
    {"ambient_temperature", 0x221F, "-0.03125"},
    {"ambient_temperature", 0xFAFF, "1734.96875"},
    {"tachograph_speed", 0x38A6, "56.65"},
    {"driver_1_state", 3, "3"},
    {"driver_1_state", 5, "5"},
    {"driver_2_state", 2, "2"},
    {"motion", 1, "1"},
    {"overspeed", 1, "1"},
    {"combination_weight", 4000, "40000"},
    {"combination_weight", 0xFAFF, "642550"},
    {"brake_pressure_1", 106, "848"},
    {"brake_pressure_2", 250, "2000"},
    {"exhaust_fluid", 250, "100"},
    {"pto_engaged", 1, "1"},
    {"bus_second", 239, "59.75"},
    {"bus_minute", 59, "59"},
    {"bus_hour", 23, "23"},
    {"bus_month", 12, "12"},
    {"bus_day", 1, "0.25"},
    {"bus_day", 124, "31"},
    {"bus_year", 41, "2026"},
};

static void each_signal_of_the_table_has_its_value(void **state)
{
    (void)state;
    set_up(NULL, NULL);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (strcmp(value_of_raw(values[i].name, values[i].raw), values[i].text) != 0)
            fail_msg("%s of %#x is %s, not %s", values[i].name, values[i].raw, value(values[i].name, 1000),
                     values[i].text);
    }
    for (size_t i = 0; i < signals.count; i++) {
        const struct signal *signal = &signals.items[i].signal;
        bool is_tried = signal->is_text;

        for (size_t k = 0; k < sizeof values / sizeof *values && !is_tried; k++)
            is_tried = strcmp(values[k].name, signal->name) == 0;
        if (!is_tried)
            fail_msg("%s is not among these", signal->name);
    }
}

/* From the top: what is not available, errors, and of whole bytes what is kept for other uses; below that are values. */
static void what_is_no_value(const struct signal *signal)
{
    uint32_t step = signal->field.bits < 8 ? 1 : 1u << (signal->field.bits - 8);
    uint32_t all = signal->field.bits == 32 ? UINT32_MAX : (1u << signal->field.bits) - 1;
    const struct {
        uint32_t raw;
        enum signal_state state;
    } cases[] = {
        {all, SIGNAL_NOT_AVAILABLE},
        {all - step + 1, SIGNAL_NOT_AVAILABLE},
        {all - step, SIGNAL_ERROR},
        {all - 2 * step + 1, SIGNAL_ERROR},
        {all - 2 * step, SIGNAL_OUT_OF_RANGE},
        {all - 5 * step + 1, SIGNAL_OUT_OF_RANGE},
    };
    size_t count = signal->field.bits < 8 ? 4 : 6;

    for (size_t i = 0; i < count; i++) {
        uint64_t before = signals.states[cases[i].state];

        value_of_raw(signal->name, 1);
        if (*value_of_raw(signal->name, cases[i].raw) != '\0')
            fail_msg("%s of %#x is %s", signal->name, cases[i].raw, value(signal->name, 1000));
        if (signals.states[cases[i].state] == before)
            fail_msg("%s of %#x is not counted as state %d", signal->name, cases[i].raw, (int)cases[i].state);
    }
    if (*value_of_raw(signal->name, count == 6 ? all - 5 * step : all - 2 * step) == '\0')
        fail_msg("%s has no value at its highest", signal->name);
}

static void what_is_not_available_or_wrong_is_no_value(void **state)
{
    (void)state;
    set_up(NULL, NULL);
    for (size_t i = 0; i < signals.count; i++) {
        if (!signals.items[i].signal.is_text)
            what_is_no_value(&signals.items[i].signal);
    }
}

static void a_message_that_is_too_short(void **state)
{
    static const uint8_t data[8] = {0};

    (void)state;
    set_up(NULL, NULL);
    for (size_t i = 0; i < signals.count; i++) {
        const struct signal *signal = &signals.items[i].signal;
        size_t needed = signal->field.byte + (signal->field.bits < 8 ? 1u : signal->field.bits / 8u);

        if (signal->is_text)
            continue;
        take(signal->pgn, 3, data, needed, 1000);
        assert_string_not_equal(value(signal->name, 1000), "");
        take(signal->pgn, 3, data, needed - 1, 1000);
        assert_string_equal(value(signal->name, 1000), "");
    }
    assert_true(signals.states[SIGNAL_ABSENT] > 0);
}

/* ---------------------------------------------------------------------------------------------------------------- texts */

static void assert_text(const char *name, const char *data, size_t size, const char *expected)
{
    take(signals_find(&signals, name)->signal.pgn, 0, data, size, 1000);
    assert_string_equal(value(name, 1000), expected);
}

#define ASSERT_TEXT(name, data, expected) assert_text(name, data, sizeof(data) - 1, expected)

static void texts(void **state)
{
    char longest[80];

    (void)state;
    set_up(NULL, NULL);
    ASSERT_TEXT("vin", "WDB9634031L123456*", "\"WDB9634031L123456\"");
    ASSERT_TEXT("vin", "WDB9634031L123456", "\"WDB9634031L123456\"");
    ASSERT_TEXT("vin", "WDB*\xff\xff", "\"WDB\"");
    ASSERT_TEXT("vin", "WDB  \0\xff*", "\"WDB\"");
    ASSERT_TEXT("vin", "*", "");
    ASSERT_TEXT("vin", "\xff\xff\xff\xff\xff\xff\xff\xff*", "");
    ASSERT_TEXT("vin", "WDB*", "\"WDB\"");
    ASSERT_TEXT("vin", "W\"B*", "");
    ASSERT_TEXT("vin", "W\\B*", "");
    ASSERT_TEXT("vin", "W\nB*", "");
    ASSERT_TEXT("vin",
                "W\xc4"
                "B*",
                "");
    assert_text("vin", "", 0, "");
    memset(longest, 'x', sizeof longest);
    assert_text("vin", longest, SIGNAL_TEXT, "");
    take(0xFEEC, 0, longest, SIGNAL_TEXT - 1, 1000);
    assert_int_equal(strlen(value("vin", 1000)), SIGNAL_TEXT + 1);

    ASSERT_TEXT("driver_1", "DF00012*DF99*", "\"DF00012\"");
    assert_string_equal(value("driver_2", 1000), "\"DF99\"");
    ASSERT_TEXT("driver_1", "*DF99*", "");
    assert_string_equal(value("driver_2", 1000), "\"DF99\"");
    ASSERT_TEXT("driver_2", "DF00012", "");
    assert_string_equal(value("driver_1", 1000), "\"DF00012\"");
}

/* ------------------------------------------------------------------------------------------------- which address, how long */

#define FUEL(byte) (const uint8_t[8]){0xff, byte, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8

static void the_first_address_with_a_value(void **state)
{
    int64_t now = 100 * FMS_SECOND;

    (void)state;
    set_up(NULL, "fuel_level");
    take(0xFEFC, 0, FUEL(0xff), now);
    assert_string_equal(value("fuel_level", now), "");
    assert_string_equal(told, "");
    take(0xFEFC, 49, FUEL(119), now);
    assert_string_equal(value("fuel_level", now), "47.6");
    take(0xFEFC, 0, FUEL(0xff), now); /* which is no business of address 49 */
    assert_string_equal(value("fuel_level", now), "47.6");
    take(0xFEFC, 7, FUEL(50), now);
    take(0xFEFC, 8, FUEL(50), now);
    assert_string_equal(value("fuel_level", now), "47.6");
    assert_string_equal(told, "fuel_level chosen 49\nfuel_level other 7\n");
    assert_int_equal(signals.states[SIGNAL_NOT_AVAILABLE], 2);
    assert_int_equal(signals.states[SIGNAL_VALUE], 3);
}

static void another_address_when_the_first_is_silent(void **state)
{
    int64_t now = 100 * FMS_SECOND;

    (void)state;
    set_up(NULL, "fuel_level");
    take(0xFEFC, 49, FUEL(119), now);
    now += 3 * FMS_SECOND;
    take(0xFEFC, 49, FUEL(0xff), now); /* for now it has none: nor has the sample */
    assert_string_equal(value("fuel_level", now), "");
    take(0xFEFC, 7, FUEL(50), now);
    assert_string_equal(value("fuel_level", now), "");
    now += 2 * FMS_SECOND + 1;
    take(0xFEFC, 7, FUEL(50), now);
    assert_string_equal(value("fuel_level", now), "20");
    take(0xFEFC, 49, FUEL(119), now);
    assert_string_equal(value("fuel_level", now), "20");
    assert_string_equal(told, "fuel_level chosen 49\nfuel_level other 7\nfuel_level changed 7\n");
}

static void the_address_that_is_wanted(void **state)
{
    (void)state;
    set_up(NULL, "fuel_level");
    signals_find(&signals, "fuel_level")->wanted = 7;
    take(0xFEFC, 49, FUEL(119), 0);
    assert_string_equal(value("fuel_level", 0), "");
    take(0xFEFC, 7, FUEL(50), 0);
    assert_string_equal(value("fuel_level", 0), "20");
    take(0xFEFC, 49, FUEL(119), 100 * FMS_SECOND);
    assert_string_equal(value("fuel_level", 100 * FMS_SECOND), "");
}

static void what_is_stale_is_no_value(void **state)
{
    const uint8_t rpm[8] = {0, 0, 0, 0x20, 0x29, 0, 0, 0};
    int64_t now = 100 * FMS_SECOND;

    (void)state;
    set_up(NULL, "fuel_level rpm");
    take(0xFEFC, 49, FUEL(119), now);
    take(0xF004, 0, rpm, 8, now);
    assert_string_equal(value("rpm", now + FMS_SECOND), "1316"); /* 20 ms, but none is stale within a second */
    assert_string_equal(value("rpm", now + FMS_SECOND + 1), "");
    assert_string_equal(value("fuel_level", now + 5 * FMS_SECOND), "47.6");
    assert_string_equal(value("fuel_level", now + 5 * FMS_SECOND + 1), "");
    assert_string_equal(value("fuel_level", now - 5 * FMS_SECOND - 1), ""); /* the clock went back */
    assert_string_equal(value("fuel_level", INT64_MIN), "");
    assert_string_equal(value("fuel_level", INT64_MAX), "");
}

static void what_is_not_asked_for_costs_nothing(void **state)
{
    const uint8_t rpm[8] = {0};

    (void)state;
    set_up(NULL, "fuel_level speed brake");
    take(0xF004, 0, rpm, 8, 0);
    take(0x12345, 0, rpm, 8, 0);
    assert_int_equal(signals.used, 0);
    take(0xFEF1, 0, rpm, 8, 0);
    assert_int_equal(signals.used, 1);
    assert_int_equal(signals.states[SIGNAL_VALUE], 2);
    set_up(NULL, "");
    take(0xFEF1, 0, rpm, 8, 0);
    assert_int_equal(signals.used, 0);
}

/* ----------------------------------------------------------------------------------------------------- lines of one's own */

static void lines_of_ones_own(void **state)
{
    static const char *const lines[] = {
        "speed - FF10 1-4 -0.001 5 m/s 20ms # in place of the table's",
        "axle_1 582 FEEA 2-3 0.5 0 kg 1s when=1.5-8:0",
        "axle_2 582 FEEA 2-3 0.5 0 kg 1s when=1.5-8:1",
        "low - FF11 8 1/125 0 - 1s round=0",
        "flag - FF11 7.3 1 0 - 1s",
        "triple - FF11 1-3 1 0 - 1s",
        NULL,
    };

    (void)state;
    set_up(lines, NULL);
    take(0xFF10, 0, "\x01\x00\x00\x00", 4, 0);
    assert_string_equal(value("speed", 0), "4.999");
    take(0xFF10, 0, "\xff\xff\xff\xfa", 4, 0);
    assert_string_equal(value("speed", 0), "-4211076.215");

    take(0xFEEA, 0, "\x0f\x10\x00", 3, 0);
    assert_string_equal(value("axle_1", 0), "8");
    assert_string_equal(value("axle_2", 0), "");
    take(0xFEEA, 0, "\x1f\x20\x00", 3, 0);
    assert_string_equal(value("axle_1", 0), "8");
    assert_string_equal(value("axle_2", 0), "16");

    take(0xFF11, 0, "\x01\x02\x03\x00\x00\x00\x04\x3e", 8, 0);
    assert_string_equal(value("low", 0), "0"); /* 0.496 */
    assert_string_equal(value("flag", 0), "1");
    assert_string_equal(value("triple", 0), "197121");
    take(0xFF11, 0, "\xff\xff\xff\x00\x00\x00\xfb\x3f", 8, 0);
    assert_string_equal(value("low", 0), "1"); /* 0.504 */
    assert_string_equal(value("flag", 0), "0");
    assert_string_equal(value("triple", 0), "");
}

static void bad_lines_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"speed 84 FEF1 2-3 1/256 0 km/h", "expected are name"},
        {"Speed 84 FEF1 2-3 1 0 - 1s", "name \"Speed\""},
        {"all 84 FEF1 2-3 1 0 - 1s", "name \"all\""},
        {"timestamp 84 FEF1 2-3 1 0 - 1s", "name \"timestamp\""},
        {"a2345678901234567890123456789012 84 FEF1 2-3 1 0 - 1s", "name"},
        {"a x FEF1 2-3 1 0 - 1s", "SPN \"x\""},
        {"a 524288 FEF1 2-3 1 0 - 1s", "SPN"},
        {"a - 40000 2-3 1 0 - 1s", "PGN"},
        {"a - EF01 2-3 1 0 - 1s", "PGN"},
        {"a - FEFG 2-3 1 0 - 1s", "PGN"},
        {"a - FEF1 0 1 0 - 1s", "bytes"},
        {"a - FEF1 3-2 1 0 - 1s", "bytes"},
        {"a - FEF1 1-5 1 0 - 1s", "bytes"},
        {"a - FEF1 1786 1 0 - 1s", "bytes"},
        {"a - FEF1 1.0 1 0 - 1s", "bytes"},
        {"a - FEF1 1.9 1 0 - 1s", "bytes"},
        {"a - FEF1 1.4-3 1 0 - 1s", "bytes"},
        {"a - FEF1 1.4-9 1 0 - 1s", "bytes"},
        {"a - FEF1 text.0 1 0 - 1s", "bytes"},
        {"a - FEF1 texts 1 0 - 1s", "bytes"},
        {"a - FEF1 2-3 1/3 0 - 1s", "scale \"1/3\""},
        {"a - FEF1 2-3 0 0 - 1s", "scale"},
        {"a - FEF1 2-3 1/0 0 - 1s", "scale"},
        {"a - FEF1 2-3 1e3 0 - 1s", "scale"},
        {"a - FEF1 2-3 1234567890123 0 - 1s", "scale"},
        {"a - FEF1 2-3 1.1234567891 0 - 1s", "scale"},
        {"a - FEF1 2-3 1/32768 0 - 1s", "fewer digits"},
        {"a - FEF1 2-3 1000000000 0.5 - 1s", "fewer digits"},
        {"a - FEF1 2-3 1 x - 1s", "offset"},
        {"a - FEF1 2-3 1 0 1234567890123456 1s", "unit"},
        {"a - FEF1 2-3 1 0 - 1", "every"},
        {"a - FEF1 2-3 1 0 - 0s", "every"},
        {"a - FEF1 2-3 1 0 - 1m", "every"},
        {"a - FEF1 2-3 1 0 - 1s rounds=1", "\"rounds=1\" is unknown"},
        {"a - FEF1 2-3 1 0 - 1s round=x", "is unknown"},
        {"a - FEF1 2-3 1 0 - 1s when=1", "is unknown"},
        {"a - FEF1 2-3 1 0 - 1s when=1:", "is unknown"},
        {"a b c d e f g h i j k l m n o p q", "expected are"},
    };
    char why[SIGNAL_WHY], longest[300];
    struct signal signal;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        why[0] = '\0';
        if (signal_read(&signal, fms_text(cases[i].line), why) != -EINVAL || strstr(why, cases[i].why) == NULL)
            fail_msg("\"%s\" is told \"%s\", and not \"%s\"", cases[i].line, why, cases[i].why);
    }
    memset(longest, ' ', sizeof longest);
    assert_int_equal(signal_read(&signal, fms_bytes_of(longest, 256), why), -EINVAL);
    assert_int_equal(signal_read(&signal, fms_bytes_of(longest, 255), why), 1);
    assert_int_equal(signal_read(&signal, fms_text(" # a comment"), why), 1);
    assert_int_equal(signal_read(&signal, fms_text(""), why), 1);
}

/* Value and raw value are each other's inverse: what the simulator sends is what it meant. */
static void the_nearest_raw_value(void **state)
{
    (void)state;
    set_up(NULL, NULL);
    assert_int_equal(signal_raw(&signals_find(&signals, "speed")->signal, 56650000), 0x38A6);
    assert_int_equal(signal_raw(&signals_find(&signals, "speed")->signal, 1000000000), 0xFAFF);
    assert_int_equal(signal_raw(&signals_find(&signals, "coolant_temperature")->signal, 85000000), 125);
    assert_int_equal(signal_raw(&signals_find(&signals, "coolant_temperature")->signal, -41000000), 0);
    assert_int_equal(signal_raw(&signals_find(&signals, "fuel_level")->signal, 47500000), 119);
    assert_int_equal(signal_raw(&signals_find(&signals, "service_distance")->signal, 0), 0x7D7F);
    assert_int_equal(signal_raw(&signals_find(&signals, "fuel_economy")->signal, 2500000), 1280);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_signal_of_the_table_has_its_value),
        cmocka_unit_test(what_is_not_available_or_wrong_is_no_value),
        cmocka_unit_test(a_message_that_is_too_short),
        cmocka_unit_test(texts),
        cmocka_unit_test(the_first_address_with_a_value),
        cmocka_unit_test(another_address_when_the_first_is_silent),
        cmocka_unit_test(the_address_that_is_wanted),
        cmocka_unit_test(what_is_stale_is_no_value),
        cmocka_unit_test(what_is_not_asked_for_costs_nothing),
        cmocka_unit_test(lines_of_ones_own),
        cmocka_unit_test(bad_lines_are_told_what_is_wrong),
        cmocka_unit_test(the_nearest_raw_value),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down);
}
