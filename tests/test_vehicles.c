/* test_vehicles.c - vehicles as JSON: the form, the bound, and texts that are no UTF-8. */
#include "vehicles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A process with as many vehicles as asked for, or without a fleet. */
static struct asked {
    bool has_fleet;
    uint64_t number;
    size_t most;
    char find[16];
} asked;

static bool vehicles_of(void *process, uint64_t number, const char *find, size_t most, struct fleet_view *to)
{
    (void)process;
    *to = (struct fleet_view){0};
    asked.number = number;
    asked.most = most;
    snprintf(asked.find, sizeof asked.find, "%s", find);
    if (!asked.has_fleet)
        return false;
    to->counts = (struct fleet_counts){.is_kept = true, .limit = 10000, .unnamed = 3, .untracked = 4};
    to->silent_after = 90 * FMS_SECOND;
    to->fields[0] = "speed";
    to->fields[1] = "rpm";
    to->field_count = 2;
    to->total = 5000;
    to->vehicles = calloc(2, sizeof *to->vehicles);
    assert_non_null(to->vehicles);
    to->count = 2;
    to->vehicles[0] = (struct vehicle_view){.name = "raspi-001",
                                            .fields = {"56.65", ""},
                                            .state = VEHICLE_SILENT,
                                            .seen_at = 40 * FMS_SECOND,
                                            .records = 7};
    to->vehicles[1] = (struct vehicle_view){.name = "<b>\"\xff\xc3", .fields = {"\xfe", "1"}, .state = VEHICLE_ACTIVE};
    return true;
}

static int64_t now(void)
{
    return 100 * FMS_SECOND;
}

static int64_t realtime(void)
{
    return 1763320460 * FMS_SECOND;
}

static const struct admin_host host = {.now = now, .realtime = realtime, .vehicles = vehicles_of};

static void they_have_the_form_that_is_promised(void **state)
{
    char *text;
    json_t *json;

    (void)state;
    asked.has_fleet = true;
    json = vehicles_json(&host, 2, "rasp", 100);
    assert_non_null(json);
    assert_int_equal(asked.number, 2);
    assert_int_equal(asked.most, 100);
    assert_string_equal(asked.find, "rasp");
    text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(
        text,
        "{\"silent_after\":90.0,\"total\":5000,\"limit\":10000,\"unnamed\":3,\"untracked\":4,"
        "\"fields\":[\"speed\",\"rpm\"],\"vehicles\":["
        "{\"vehicle\":\"raspi-001\",\"seen\":1763320400.0,\"records\":7,\"state\":\"silent\","
        "\"fields\":{\"speed\":\"56.65\"}},"
        "{\"vehicle\":\"<b>\\\"\xEF\xBF\xBD\xEF\xBF\xBD\",\"seen\":1763320360.0,\"records\":0,\"state\":\"active\","
        "\"fields\":{\"speed\":\"\xEF\xBF\xBD\",\"rpm\":\"1\"}}]}");
    free(text);
    json_decref(json);
}

static void no_more_are_asked_for_than_fit_an_answer(void **state)
{
    (void)state;
    asked.has_fleet = true;
    json_decref(vehicles_json(&host, 0, NULL, SIZE_MAX));
    assert_int_equal(asked.most, VEHICLES_MOST);
    assert_string_equal(asked.find, "");
}

static void without_a_fleet_there_is_none(void **state)
{
    (void)state;
    asked.has_fleet = false;
    assert_null(vehicles_json(&host, 0, NULL, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_have_the_form_that_is_promised),
        cmocka_unit_test(no_more_are_asked_for_than_fit_an_answer),
        cmocka_unit_test(without_a_fleet_there_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
