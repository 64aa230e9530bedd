/* test_status.c - the document that tells of a process: of made-up observations. */
#include "status.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "observed.h"

static struct observed_memory memory;
static struct observation observation;
static json_t *document;

static void look(void)
{
    json_decref(document);
    document = status_json(&observation);
    assert_non_null(document);
}

static int made(void **state)
{
    (void)state;
    observed_make(&observation, &memory);
    look();
    return 0;
}

static int freed(void **state)
{
    (void)state;
    json_decref(document);
    document = NULL;
    return 0;
}

/* What stands at a path: names and places, separated by dots. */
static const json_t *at(const char *path)
{
    char text[128], *rest = text;
    const json_t *value = document;

    snprintf(text, sizeof text, "%s", path);
    for (const char *part; (part = strsep(&rest, ".")) != NULL;)
        value = json_is_array(value) ? json_array_get(value, strtoul(part, NULL, 10)) : json_object_get(value, part);
    if (value == NULL)
        print_error("there is no %s\n", path);
    assert_non_null(value);
    return value;
}

static void expect(const char *path, const char *json)
{
    char *text = json_dumps(at(path), JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(STATUS_DIGITS));

    if (strcmp(text, json) != 0)
        print_error("%s is %s\n", path, text);
    assert_string_equal(text, json);
    free(text);
}

static void it_tells_of_the_process(void **state)
{
    (void)state;
    observation.log_counts[FMS_LOG_INFO] = 4;
    observation.lines[0] = (struct logged){observation.realtime - FMS_MS, FMS_LOG_WARN, "bridge", "sink kafka",
                                           "late \xFFor"};
    observation.lines[1] = (struct logged){observation.realtime, FMS_LOG_ERROR, "", "", "cut within \xC3"};
    observation.line_count = 2;
    look();
    expect("fmspipe", "\"" FMS_VERSION "\"");
    expect("time", "1795521600.0");
    expect("started", "1795521500.0");
    assert_int_equal(json_integer_value(at("pid")), getpid());
    expect("live", "true");
    expect("ready", "false");
    expect("reload", "{\"done\":0,\"kept\":0,\"bad\":0,\"last\":null,\"good\":false}");
    expect("log", "{\"error\":0,\"warn\":0,\"info\":4,\"debug\":0}");
    expect("warnings.0", "{\"time\":1795521599.999,\"level\":\"warn\",\"pipeline\":\"bridge\",\"stage\":\"sink kafka\","
                         "\"text\":\"late \xEF\xBF\xBDor\"}");
    expect("warnings.1.stage", "null");
    expect("warnings.1.text", "\"cut within \xEF\xBF\xBD\"");
}

static void it_tells_of_pipelines(void **state)
{
    struct observed *pipeline = &memory.pipelines[1];

    (void)state;
    expect("pipelines.0.name", "\"bridge\"");
    expect("pipelines.0.verdict", "\"starting\"");
    expect("pipelines.0.held_by", "\"source\"");
    expect("pipelines.1.file", "\"vehicle.ini\"");
    expect("pipelines.1.vehicles", "null");
    expect("pipelines.1.oldest_seconds", "null");
    pipeline->view.fleet = (struct fleet_counts){.is_kept = true, .active = 3, .silent = 2, .new = 1, .limit = 10000};
    pipeline->view.in_flight = 20;
    pipeline->view.oldest_at = observation.at - 1500 * FMS_MS;
    pipeline->view.counts = (struct pipeline_counts){6, 5, 4, 3, 2, 1};
    pipeline->received_rate = 5012.12345;
    pipeline->view.state = PIPELINE_STOPPING;
    observed_judge(&observation);
    look();
    expect("pipelines.1.state", "\"stopping\"");
    expect("pipelines.1.verdict", "\"draining\"");
    expect("pipelines.1.since", "1795521600.0");
    expect("pipelines.1.sentence",
           "\"Draining: 20 records still unconfirmed, the oldest for 1.5 s; sink kafka holds 0 records\"");
    expect("pipelines.1.in_flight", "{\"records\":20,\"bytes\":0,\"max_records\":10000,\"max_bytes\":67108864}");
    expect("pipelines.1.oldest_seconds", "1.5");
    expect("pipelines.1.stall_after", "15.0");
    expect("pipelines.1.counts",
           "{\"received\":6,\"delivered\":5,\"rejected\":4,\"dead_letters\":3,\"dropped\":2,\"retried\":1}");
    expect("pipelines.1.rates", "{\"received\":5012.123,\"delivered\":0.0}");
    expect("pipelines.1.vehicles", "{\"active\":3,\"silent\":2,\"new\":1,\"limit\":10000}");
    pipeline->view.state = PIPELINE_ENDED;
    pipeline->view.has_failed = true;
    look();
    expect("pipelines.1.state", "\"failed\"");
}

static void it_tells_of_stages(void **state)
{
    struct stage_view *sink = &memory.stages[0][2];

    (void)state;
    expect("pipelines.0.stages.1.connected", "null");
    expect("pipelines.0.stages.3.role", "\"dead_letter\"");
    expect("pipelines.0.stages.2.connected", "false");
    expect("pipelines.0.stages.2.connected_since", "null");
    expect("pipelines.0.stages.2.why", "\"has not connected yet\"");
    sink->link = (struct link_state){.was_up = true, .since = observation.at - FMS_SECOND, .ups = 1, .downs = 1};
    snprintf(sink->link.why, sizeof sink->link.why, "it hangs");
    sink->records_in = 9;
    sink->held = 8;
    sink->is_retrying = true;
    sink->last_at = observation.at - 3 * FMS_SECOND;
    memory.rates[0][2].records_in = 2.5;
    memory.counters[0][2][0] = 7;
    memory.gauges[0][2][0] = INFINITY;
    memory.durations[0][2][0] = (struct histogram_view){.counts = {1, 1}, .sum = 250 * (uint64_t)FMS_US};
    look();
    expect("pipelines.0.stages.2.name", "\"sink kafka\"");
    expect("pipelines.0.stages.2.plugin", "\"kafka\"");
    expect("pipelines.0.stages.2.disconnected_since", "1795521599.0");
    expect("pipelines.0.stages.2.disconnect_reason", "\"it hangs\"");
    expect("pipelines.0.stages.2.records_in", "9");
    expect("pipelines.0.stages.2.rate_in", "2.5");
    expect("pipelines.0.stages.2.held", "8");
    expect("pipelines.0.stages.2.retrying", "true");
    expect("pipelines.0.stages.2.last", "1795521597.0");
    expect(
        "pipelines.0.stages.2.metrics",
        "{\"restarts\":7,\"sent_total\":0,\"queue_bytes\":null,\"round_trip_seconds\":{\"count\":2,\"sum\":0.00025}}");
    sink->link = (struct link_state){.is_up = true, .was_up = true, .since = observation.at, .why = ""};
    look();
    expect("pipelines.0.stages.2.connected", "true");
    expect("pipelines.0.stages.2.connected_since", "1795521600.0");
    expect("pipelines.0.stages.2.disconnected_since", "null");
}

/* Of the whole run are counts, of the last minute quantiles; the dead letters' do not count for the pipeline. */
static void it_tells_how_long_things_take(void **state)
{
    struct stage_view *stages = memory.stages[0];

    (void)state;
    expect("pipelines.0.latency.total", "{\"count\":0,\"p50\":null,\"p90\":null,\"p99\":null}");
    stages[2].far_end.counts[0] = 1000;
    memory.earlier[0][2].far_end.counts[0] = 1000;
    stages[2].far_end.counts[4] = 100; /* 1 ms to 2.5 ms, in the last minute */
    stages[3].far_end.counts[9] = 50;
    look();
    expect("pipelines.0.latency.sink", "{\"count\":1100,\"p50\":0.00175,\"p90\":0.00235,\"p99\":0.002485}");
    expect("pipelines.0.stages.2.latency.sink", "{\"count\":1100,\"p50\":0.00175,\"p90\":0.00235,\"p99\":0.002485}");
    expect("pipelines.0.stages.3.latency.sink.count", "50");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_tells_of_the_process, made, freed),
        cmocka_unit_test_setup_teardown(it_tells_of_pipelines, made, freed),
        cmocka_unit_test_setup_teardown(it_tells_of_stages, made, freed),
        cmocka_unit_test_setup_teardown(it_tells_how_long_things_take, made, freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
