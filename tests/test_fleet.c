/* test_fleet.c - the table of vehicles: its bound, who makes room, whatever names and fields a vehicle sends, and who looks meanwhile. */
#include "fleet.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SILENT (60 * FMS_SECOND)

/* A fleet, and the cache of the record that it is shown. */
struct bed {
    struct json_paths *paths;
    struct fms_template *name;
    struct json_cache *cache;
    struct fleet *fleet;
    int64_t now;
};

static struct bed bed_new(const char *name, size_t most, size_t fields)
{
    static const char *const items[] = {"speed", "position.lat", "fuel_level", "a"};
    struct bed bed = {.paths = json_paths_new(), .now = 1000 * FMS_SECOND};
    char error[256] = "";

    bed.name = template_compile(name, NULL, bed.paths, error, sizeof error);
    assert_non_null(bed.name);
    bed.cache = malloc(json_cache_size(bed.paths) + 1);
    bed.fleet = fleet_new(&(struct fleet_options){bed.name, bed.paths, {items, fields}, SILENT, most, name}, error,
                          sizeof error);
    assert_non_null(bed.fleet);
    return bed;
}

static void bed_free(struct bed *bed)
{
    fleet_free(bed->fleet);
    template_free(bed->name);
    free(bed->cache);
    json_paths_free(bed->paths);
}

static bool see_bytes(struct bed *bed, const char *payload, size_t size)
{
    struct fms_record record = {.payload = {payload, size}, .topic = fms_text("fms/data")};

    memset(bed->cache, 0, json_cache_size(bed->paths));
    return fleet_see(bed->fleet, &record, bed->cache, bed->now);
}

static bool see(struct bed *bed, const char *payload)
{
    return see_bytes(bed, payload, strlen(payload));
}

static bool see_number(struct bed *bed, unsigned number)
{
    char payload[64];

    snprintf(payload, sizeof payload, "{\"vehicle_id\":\"v-%06u\",\"speed\":%u}", number, number);
    return see(bed, payload);
}

static struct fleet_view look(const struct bed *bed, const char *find, size_t most)
{
    struct fleet_view view;

    assert_true(fleet_look(bed->fleet, bed->now, find, most, &view));
    return view;
}

static struct fleet_counts counts(const struct bed *bed)
{
    struct fleet_counts found;

    fleet_count(bed->fleet, bed->now, &found);
    return found;
}

static void a_vehicle_is_new_then_active_then_silent(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10, 3);
    struct fleet_view view;

    (void)state;
    assert_true(
        see(&bed, "{\"vehicle_id\":\"a\",\"speed\":56.65,\"position\":{\"lat\":52.5},\"fuel_level\":\"half\"}"));
    view = look(&bed, "", 10);
    assert_int_equal(view.count, 1);
    assert_int_equal(view.total, 1);
    assert_int_equal(view.field_count, 3);
    assert_string_equal(view.fields[1], "position.lat");
    assert_string_equal(view.vehicles[0].name, "a");
    assert_int_equal(view.vehicles[0].state, VEHICLE_NEW);
    assert_int_equal(view.vehicles[0].records, 1);
    assert_int_equal(view.vehicles[0].seen_at, bed.now);
    assert_string_equal(view.vehicles[0].fields[0], "56.65");
    assert_string_equal(view.vehicles[0].fields[1], "52.5");
    assert_string_equal(view.vehicles[0].fields[2], "half");
    free(view.vehicles);

    bed.now += SILENT - 1;
    assert_int_equal(counts(&bed).new, 1);
    see(&bed, "{\"vehicle_id\":\"a\"}");
    bed.now += 1;
    assert_int_equal(counts(&bed).active, 1);
    bed.now += SILENT - 2;
    assert_int_equal(counts(&bed).active, 1);
    bed.now += 1;
    assert_int_equal(counts(&bed).silent, 1);
    assert_int_equal(counts(&bed).active, 0);
    see(&bed, "{\"vehicle_id\":\"a\"}");
    assert_int_equal(counts(&bed).active, 1); /* it came back, and is not new */
    assert_true(counts(&bed).is_kept);
    assert_int_equal(counts(&bed).limit, 10);
    bed_free(&bed);
}

static void fields_are_looked_at_once_a_second(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10, 1);
    struct fleet_view view;

    (void)state;
    see(&bed, "{\"vehicle_id\":\"a\",\"speed\":1}");
    bed.now += FMS_SECOND - 1;
    see(&bed, "{\"vehicle_id\":\"a\",\"speed\":2}");
    view = look(&bed, "", 1);
    assert_string_equal(view.vehicles[0].fields[0], "1");
    assert_int_equal(view.vehicles[0].seen_at, bed.now);
    assert_int_equal(view.vehicles[0].records, 2);
    free(view.vehicles);
    bed.now += 1;
    see(&bed, "{\"vehicle_id\":\"a\",\"speed\":3}");
    view = look(&bed, "", 1);
    assert_string_equal(view.vehicles[0].fields[0], "3");
    free(view.vehicles);
    bed_free(&bed);
}

static void silent_ones_come_first_and_the_rest_as_they_came(void **state)
{
    static const char *const expected[] = {"v-000003", "v-000001", "v-000005", "v-000006", "v-000002", "v-000004"};
    struct bed bed = bed_new("${json:vehicle_id}", 10, 1);
    struct fleet_view view;

    (void)state;
    for (unsigned i = 1; i <= 4; i++)
        see_number(&bed, i);
    bed.now += FMS_SECOND;
    see_number(&bed, 1);
    bed.now += 10 * FMS_SECOND;
    see_number(&bed, 4);
    see_number(&bed, 2);
    bed.now += SILENT - FMS_SECOND;
    see_number(&bed, 5);
    see_number(&bed, 6);
    view = look(&bed, "", 10);
    assert_int_equal(view.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(view.vehicles[i].name, expected[i]);
    free(view.vehicles);

    view = look(&bed, "", 2);
    assert_int_equal(view.count, 2);
    assert_int_equal(view.total, 6);
    assert_string_equal(view.vehicles[1].name, "v-000001");
    free(view.vehicles);
    view = look(&bed, "6", 10);
    assert_int_equal(view.total, 1);
    assert_string_equal(view.vehicles[0].name, "v-000006");
    free(view.vehicles);
    view = look(&bed, "none such", 10);
    assert_int_equal(view.total, 0);
    free(view.vehicles);
    bed_free(&bed);
}

static void a_full_table_takes_newcomers_in_the_place_of_silent_ones_alone(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 3, 1);
    struct fleet_view view;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        see_number(&bed, i);
        bed.now += 2 * FMS_SECOND;
    }
    assert_true(see_number(&bed, 3));
    assert_int_equal(counts(&bed).untracked, 1);
    bed.now += SILENT - 5 * FMS_SECOND; /* 0 is silent, 1 almost */
    assert_int_equal(counts(&bed).silent, 1);
    see_number(&bed, 4);
    see_number(&bed, 5);
    assert_int_equal(counts(&bed).untracked, 2);
    view = look(&bed, "", 10);
    assert_int_equal(view.count, 3);
    assert_string_equal(view.vehicles[0].name, "v-000004"); /* new, in the first one's place */
    assert_string_equal(view.vehicles[0].fields[0], "4");
    assert_int_equal(view.vehicles[0].records, 1);
    assert_string_equal(view.vehicles[1].name, "v-000001");
    free(view.vehicles);
    bed_free(&bed);
}

/* Whoever is heard is found again, whatever was taken out of the table meanwhile. */
static void a_hundred_thousand_names_do_not_fill_it_beyond_its_bound(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10000, 1);
    struct fleet_view view;

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        see_number(&bed, i);
        bed.now += FMS_SECOND / 100; /* 6,000 are heard within silent_after */
        assert_true(i % 3 != 0 || see_number(&bed, i));
    }
    assert_int_equal(counts(&bed).untracked, 0);
    assert_int_equal(counts(&bed).silent + counts(&bed).active + counts(&bed).new, 10000);
    view = look(&bed, "", 20000);
    assert_int_equal(view.count, 10000);
    assert_string_equal(view.vehicles[0].name, "v-090000");
    for (size_t i = 0; i < view.count; i++) {
        unsigned number = (unsigned)strtoul(view.vehicles[i].name + 2, NULL, 10);

        assert_in_range(number, 90000, 99999);
        assert_int_equal(view.vehicles[i].records, number % 3 == 0 ? 2 : 1);
        assert_int_equal(strtoul(view.vehicles[i].fields[0], NULL, 10), number);
    }
    free(view.vehicles);

    for (unsigned i = 0; i < 20000; i++) /* none of these is silent: no more than the bound at once */
        see_number(&bed, 200000 + i);
    assert_true(counts(&bed).untracked >= 10000);
    assert_int_equal(counts(&bed).silent + counts(&bed).active + counts(&bed).new, 10000);
    bed_free(&bed);
}

static void what_names_nobody_is_counted(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10, 1);

    (void)state;
    assert_false(see(&bed, "{\"speed\":1}"));
    assert_false(see(&bed, "{\"vehicle_id\":null}"));
    assert_false(see(&bed, "{\"vehicle_id\":\"\"}"));
    assert_false(see(&bed, "no JSON at all"));
    assert_false(see(&bed, "[{\"vehicle_id\":\"a\"}]"));
    assert_false(see(&bed, ""));
    assert_int_equal(counts(&bed).unnamed, 6);
    assert_int_equal(counts(&bed).new, 0);
    assert_true(see(&bed, "{\"vehicle_id\":17}"));
    assert_int_equal(counts(&bed).new, 1);
    bed_free(&bed);
}

/* A firehose: nobody is missed, what is counted is about right, and most records cost nothing. */
static void beyond_a_rate_some_records_stand_for_all(void **state)
{
    enum { VEHICLES = 100, RECORDS = 1000000 };
    struct bed bed = bed_new("${json:vehicle_id}", 1000, 0);
    uint64_t sum = 0, before = 0, changes = 0;
    struct fleet_view view;

    (void)state;
    for (unsigned i = 0; i < RECORDS; i++, bed.now += FMS_US)
        assert_true(see_number(&bed, i % VEHICLES));
    view = look(&bed, "", VEHICLES);
    assert_int_equal(view.count, VEHICLES);
    for (size_t i = 0; i < view.count; i++) {
        assert_true(view.vehicles[i].records > RECORDS / VEHICLES / 2);
        assert_true(bed.now - view.vehicles[i].seen_at < FMS_SECOND);
        sum += view.vehicles[i].records;
    }
    free(view.vehicles);
    assert_in_range(sum, RECORDS * 9 / 10, RECORDS * 11 / 10);
    for (unsigned i = 0; i < 1000; i++, bed.now += FMS_US) {
        see_number(&bed, 0);
        view = look(&bed, "v-000000", 1);
        changes += view.vehicles[0].records != before;
        before = view.vehicles[0].records;
        free(view.vehicles);
    }
    assert_in_range(changes, 1, 200);
    bed.now += 10 * FMS_SECOND; /* it is quiet again: each is looked at */
    see_number(&bed, 1);
    for (unsigned i = 0; i < 10; i++, bed.now += FMS_MS) {
        see_number(&bed, 0);
        view = look(&bed, "v-000000", 1);
        assert_true(view.vehicles[0].records == before + 1 || i == 0);
        before = view.vehicles[0].records;
        free(view.vehicles);
    }
    bed_free(&bed);
}

static void names_are_cut_and_lose_what_cannot_be_shown(void **state)
{
    struct bed bed = bed_new("${topic}", 10, 0);
    size_t size = 1 << 20;
    char *big = malloc(size);
    struct fms_record record = {.topic = {big, size}};
    struct fleet_view view;

    (void)state;
    memset(big, 'M', size);
    assert_true(fleet_see(bed.fleet, &record, NULL, bed.now));
    big[FLEET_NAME - 1] = '\xc3'; /* a character that the bound halves is left out whole */
    big[FLEET_NAME] = '\xa9';
    assert_true(fleet_see(bed.fleet, &record, NULL, bed.now));
    record.topic = fms_bytes_of("\x1b[2J\0<script>\x7f", 14);
    assert_true(fleet_see(bed.fleet, &record, NULL, bed.now));
    memset(big, '\x80', size);
    record.topic = fms_bytes_of(big, size);
    assert_true(fleet_see(bed.fleet, &record, NULL, bed.now));
    view = look(&bed, "", 10);
    assert_int_equal(view.count, 4);
    assert_int_equal(strlen(view.vehicles[0].name), FLEET_NAME);
    assert_int_equal(strlen(view.vehicles[1].name), FLEET_NAME - 1);
    assert_string_equal(view.vehicles[2].name, "?[2J?<script>?");
    assert_int_equal(strlen(view.vehicles[3].name), FLEET_NAME);
    free(view.vehicles);
    free(big);
    bed_free(&bed);
}

/* The text of the one field of a vehicle that sends this. */
static void field_is(const char *payload, const char *expected)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10, 1);
    struct fleet_view view;

    assert_true(see(&bed, payload));
    view = look(&bed, "", 1);
    assert_string_equal(view.vehicles[0].fields[0], expected);
    free(view.vehicles);
    bed_free(&bed);
}

static void fields_of_any_type_are_text_or_nothing(void **state)
{
    (void)state;
    field_is("{\"vehicle_id\":\"a\"}", "");
    field_is("{\"vehicle_id\":\"a\",\"speed\":null}", "");
    field_is("{\"vehicle_id\":\"a\",\"speed\":{\"x\":1}}", "");
    field_is("{\"vehicle_id\":\"a\",\"speed\":[1]}", "");
    field_is("{\"vehicle_id\":\"a\",\"speed\":true}", "true");
    field_is("{\"vehicle_id\":\"a\",\"speed\":\"a\\u00e9\\u001b[2J\\u0000\"}", "a\xc3\xa9?[2J");
    field_is("{\"vehicle_id\":\"a\",\"speed\":\"0123456789012345678901234567890123456789\"}",
             "0123456789012345678901234567890");
    field_is("{\"vehicle_id\":\"a\",\"speed\":\"012345678901234567890123456789\xc3\xa9\"}",
             "012345678901234567890123456789");
}

static void a_long_escaped_value_is_cut_as_it_stands(void **state)
{
    char payload[4096] = "{\"vehicle_id\":\"a\",\"speed\":\"";

    (void)state;
    for (size_t i = 0; i < 500; i++)
        strcat(payload, "\\u0041");
    strcat(payload, "\"}");
    field_is(payload, "\\u0041\\u0041\\u0041\\u0041\\u0041\\");
}

static void a_field_that_goes_is_gone(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 10, 1);
    struct fleet_view view;

    (void)state;
    see(&bed, "{\"vehicle_id\":\"a\",\"speed\":1}");
    bed.now += FMS_SECOND;
    see(&bed, "{\"vehicle_id\":\"a\"}");
    view = look(&bed, "", 1);
    assert_string_equal(view.vehicles[0].fields[0], "");
    free(view.vehicles);
    bed_free(&bed);
}

static void bad_options_are_named(void **state)
{
    static const char *const five[] = {"a", "b", "c", "d", "e"}, *const bad[] = {"a..b"};
    struct json_paths *paths = json_paths_new();
    char error[256];
    struct fms_template *name = template_compile("${topic}", NULL, paths, error, sizeof error);

    (void)state;
    assert_null(fleet_new(&(struct fleet_options){name, paths, {five, 5}, SILENT, 10, NULL}, error, sizeof error));
    assert_int_equal(errno, EINVAL);
    assert_string_equal(error, "5 fields, but at most 4 of a vehicle are kept");
    assert_null(fleet_new(&(struct fleet_options){name, paths, {bad, 1}, SILENT, 10, NULL}, error, sizeof error));
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(error, "\"a..b\" is no path"));
    template_free(name);
    json_paths_free(paths);
}

static void no_fleet_has_no_vehicles(void **state)
{
    struct fleet_counts found = {.active = 7};
    struct fleet_view view;

    (void)state;
    fleet_count(NULL, 1, &found);
    assert_false(found.is_kept);
    assert_int_equal(found.active, 0);
    assert_false(fleet_look(NULL, 1, "", 10, &view));
    assert_null(view.vehicles);
    fleet_free(NULL);
}

static _Atomic bool is_over;

/* Looks all the while: a vehicle's name and field are of one record, however often its memory changes hands. */
static void *looker(void *user)
{
    const struct fleet *fleet = user;
    size_t looks = 0;

    while (!is_over || looks == 0) {
        struct fleet_view view;

        if (!fleet_look(fleet, 1, "", 100, &view))
            abort();
        for (size_t i = 0; i < view.count; i++) {
            const struct vehicle_view *vehicle = &view.vehicles[i];

            if (*vehicle->fields[0] != '\0' &&
                strtoul(vehicle->name + 2, NULL, 10) != strtoul(vehicle->fields[0], NULL, 10))
                abort();
        }
        looks++;
        free(view.vehicles);
    }
    return NULL;
}

static void who_looks_sees_whole_vehicles(void **state)
{
    struct bed bed = bed_new("${json:vehicle_id}", 4, 1);
    pthread_t thread;

    (void)state;
    is_over = false;
    assert_int_equal(pthread_create(&thread, NULL, looker, bed.fleet), 0);
    for (unsigned i = 0; i < 50000; i++) {
        see_number(&bed, i % 1000);
        bed.now += SILENT;
    }
    is_over = true;
    pthread_join(thread, NULL);
    assert_int_equal(counts(&bed).untracked, 0);
    bed_free(&bed);
}

/* ------------------------------------------------------------------------------------------------- a change of options */

/* The bed's table gives way to one of `most` vehicles that is written as `told`, with those fields. */
static void change(struct bed *bed, const char *told, size_t most, const char *const *items, size_t fields)
{
    const struct fleet_options options = {bed->name, bed->paths, {items, fields}, SILENT, most, told};
    char error[256] = "";
    struct fleet *next = fleet_new(&options, error, sizeof error);

    assert_non_null(next);
    fleet_follow(next, bed->fleet);
    fleet_free(bed->fleet);
    bed->fleet = next;
}

#define TOLD "${json:vehicle_id}"

static void a_larger_table_goes_on_where_the_other_was(void **state)
{
    static const char *const items[] = {"position.lat", "rpm", "speed"};
    struct bed bed = bed_new(TOLD, 500, 1);
    struct fleet_view view;
    struct fleet *old;

    (void)state;
    for (unsigned i = 0; i < 600; i++)
        see_number(&bed, i % 500);
    see(&bed, "{}");
    bed.now += FMS_SECOND / 2;
    see_number(&bed, 7);
    old = fleet_hold(bed.fleet);
    change(&bed, TOLD, 5000, items, 3);
    fleet_count(old, bed.now, &view.counts); /* who looks at the other still may */
    assert_int_equal(view.counts.new, 500);
    fleet_free(old);
    see(&bed, "{\"vehicle_id\":\"v-000008\",\"rpm\":900}");
    for (unsigned i = 0; i < 5000; i++)
        see_number(&bed, i);
    assert_int_equal(counts(&bed).new, 5000);
    assert_int_equal(counts(&bed).unnamed, 1);
    assert_int_equal(counts(&bed).untracked, 0);
    view = look(&bed, "v-000007", 10);
    assert_int_equal(view.count, 1);
    assert_int_equal(view.vehicles[0].records, 4);
    assert_string_equal(view.vehicles[0].fields[2], "7");
    free(view.vehicles);
    view = look(&bed, "v-000008", 10); /* its new fields were looked at at once */
    assert_int_equal(view.vehicles[0].records, 4);
    assert_string_equal(view.vehicles[0].fields[1], "900");
    free(view.vehicles);
    bed_free(&bed);
}

static void what_was_known_of_a_field_is_kept_under_its_name(void **state)
{
    static const char *const items[] = {"rpm", "position.lat", "speed"};
    struct bed bed = bed_new(TOLD, 10, 2);
    struct fleet_view view;

    (void)state;
    see(&bed, "{\"vehicle_id\":\"a\",\"speed\":56.65,\"position\":{\"lat\":52.5},\"rpm\":900}");
    change(&bed, TOLD, 10, items, 3);
    view = look(&bed, "", 10);
    assert_int_equal(view.field_count, 3);
    assert_string_equal(view.fields[0], "rpm");
    assert_string_equal(view.vehicles[0].fields[0], "");
    assert_string_equal(view.vehicles[0].fields[1], "52.5");
    assert_string_equal(view.vehicles[0].fields[2], "56.65");
    free(view.vehicles);
    bed_free(&bed);
}

/* Those that were heard last; and it makes room as before. */
static void a_smaller_table_has_those_that_were_heard_last(void **state)
{
    struct bed bed = bed_new(TOLD, 100, 0);
    struct fleet_view view;

    (void)state;
    for (unsigned i = 0; i < 100; i++, bed.now += 2 * FMS_SECOND)
        see_number(&bed, i);
    see_number(&bed, 3);
    change(&bed, TOLD, 10, NULL, 0);
    view = look(&bed, "", 100);
    assert_int_equal(view.count, 10);
    assert_int_equal(view.counts.limit, 10);
    for (size_t i = 0; i < view.count; i++)
        assert_true(strcmp(view.vehicles[i].name, "v-000090") > 0 || strcmp(view.vehicles[i].name, "v-000003") == 0);
    free(view.vehicles);
    see_number(&bed, 50);
    assert_int_equal(counts(&bed).untracked, 1);
    bed.now += SILENT;
    for (unsigned i = 200; i < 210; i++)
        see_number(&bed, i);
    assert_int_equal(counts(&bed).new, 10);
    assert_int_equal(counts(&bed).untracked, 1);
    bed_free(&bed);
}

static void vehicles_that_are_named_otherwise_are_others(void **state)
{
    struct bed bed = bed_new(TOLD, 10, 0);

    (void)state;
    see_number(&bed, 1);
    see(&bed, "{}");
    change(&bed, "${key}", 10, NULL, 0);
    assert_int_equal(counts(&bed).new, 0);
    assert_int_equal(counts(&bed).unnamed, 1);
    bed_free(&bed);
}

static void a_table_fits_what_it_was_made_for(void **state)
{
    static const char *const items[] = {"speed", "position.lat"}, *const others[] = {"speed", "rpm"};
    struct bed bed = bed_new(TOLD, 10, 2);

    (void)state;
#define FITS(told, items, count, silent_after, most)                                                                   \
    fleet_fits(bed.fleet, &(struct fleet_options){bed.name, bed.paths, {items, count}, silent_after, most, told})
    assert_true(FITS(TOLD, items, 2, SILENT, 10));
    assert_true(FITS(TOLD, items, 2, 2 * SILENT, 10));
    assert_false(FITS("${key}", items, 2, SILENT, 10));
    assert_false(FITS(NULL, items, 2, SILENT, 10));
    assert_false(FITS(TOLD, others, 2, SILENT, 10));
    assert_false(FITS(TOLD, items, 1, SILENT, 10));
    assert_false(FITS(TOLD, items, 2, SILENT, 11));
    assert_false(fleet_fits(NULL, &(struct fleet_options){.told = TOLD}));
    see_number(&bed, 1);
    bed.now += SILENT;
    assert_int_equal(counts(&bed).silent, 1);
    fleet_keep(bed.fleet, bed.name, 2 * SILENT);
    assert_int_equal(counts(&bed).new, 1);
    bed_free(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vehicle_is_new_then_active_then_silent),
        cmocka_unit_test(fields_are_looked_at_once_a_second),
        cmocka_unit_test(silent_ones_come_first_and_the_rest_as_they_came),
        cmocka_unit_test(a_full_table_takes_newcomers_in_the_place_of_silent_ones_alone),
        cmocka_unit_test(a_hundred_thousand_names_do_not_fill_it_beyond_its_bound),
        cmocka_unit_test(what_names_nobody_is_counted),
        cmocka_unit_test(beyond_a_rate_some_records_stand_for_all),
        cmocka_unit_test(names_are_cut_and_lose_what_cannot_be_shown),
        cmocka_unit_test(fields_of_any_type_are_text_or_nothing),
        cmocka_unit_test(a_long_escaped_value_is_cut_as_it_stands),
        cmocka_unit_test(a_field_that_goes_is_gone),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(no_fleet_has_no_vehicles),
        cmocka_unit_test(who_looks_sees_whole_vehicles),
        cmocka_unit_test(a_larger_table_goes_on_where_the_other_was),
        cmocka_unit_test(what_was_known_of_a_field_is_kept_under_its_name),
        cmocka_unit_test(a_smaller_table_has_those_that_were_heard_last),
        cmocka_unit_test(vehicles_that_are_named_otherwise_are_others),
        cmocka_unit_test(a_table_fits_what_it_was_made_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
