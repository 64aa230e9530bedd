/* test_metrics.c - what Prometheus reads: of made-up observations, held against its own tools. */
#include "metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "observed.h"

static struct observed_memory memory;
static struct observation observation;
static char *page;

static void scrape(bool openmetrics)
{
    size_t size;
    FILE *to;

    free(page);
    to = open_memstream(&page, &size);
    assert_non_null(to);
    metrics_write(&observation, openmetrics, to);
    assert_int_equal(fclose(to), 0);
}

static int made(void **state)
{
    (void)state;
    observed_make(&observation, &memory);
    scrape(false);
    return 0;
}

static int freed(void **state)
{
    (void)state;
    free(page);
    page = NULL;
    return 0;
}

/* How often a line stands there, alone. */
static size_t lines_like(const char *line)
{
    size_t n = 0, size = strlen(line);

    for (const char *at = page; (at = strstr(at, line)) != NULL; at += size)
        n += (at == page || at[-1] == '\n') && at[size] == '\n';
    return n;
}

static void expect(const char *line)
{
    if (lines_like(line) != 1)
        print_error("%zu times and not once: %s\n", lines_like(line), line);
    assert_int_equal(lines_like(line), 1);
}

/* The lines that are no comments. */
static size_t series(void)
{
    size_t n = 0;

    for (const char *at = page; *at != '\0'; at = strchr(at, '\n') + 1)
        n += *at != '#';
    return n;
}

static void each_series_is_there_from_the_start(void **state)
{
    (void)state;
    expect("fmspipe_build_info{version=\"" FMS_VERSION "\"} 1");
    expect("fmspipe_log_messages_total{level=\"error\"} 0");
    expect("fmspipe_reloads_total{result=\"kept\"} 0");
    expect("fmspipe_config_last_reload_successful 0");
    expect("fmspipe_config_last_reload_seconds 0.000");
    expect("fmspipe_records_received_total{pipeline=\"bridge\"} 0");
    expect("fmspipe_records_received_total{pipeline=\"vehicle\"} 0");
    expect("fmspipe_pipeline_state{pipeline=\"bridge\",state=\"starting\"} 1");
    expect("fmspipe_pipeline_state{pipeline=\"bridge\",state=\"failed\"} 0");
    expect("fmspipe_pipeline_ready{pipeline=\"bridge\"} 0");
    expect("fmspipe_pipeline_live{pipeline=\"bridge\"} 1");
    expect("fmspipe_stall_after_seconds{pipeline=\"bridge\"} 15");
    expect("fmspipe_dropped_total{pipeline=\"bridge\",reason=\"transform\",intentional=\"true\"} 0");
    expect("fmspipe_dropped_total{pipeline=\"bridge\",reason=\"rejected\",intentional=\"false\"} 0");
    expect("fmspipe_in_flight_limit_bytes{pipeline=\"bridge\"} 67108864");
    expect("fmspipe_latency_seconds_count{pipeline=\"bridge\",segment=\"total\"} 0");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",stage=\"dead_letter\",segment=\"sink\",le=\"+Inf\"} 0");
    expect("fmspipe_sink_settled_total{pipeline=\"bridge\",stage=\"sink kafka\",fate=\"delivered\"} 0");
    expect("fmspipe_sink_settled_total{pipeline=\"bridge\",stage=\"sink kafka\",fate=\"retried\"} 0");
    expect("fmspipe_sink_oldest_unsettled_seconds{pipeline=\"bridge\",stage=\"dead_letter\"} 0");
    expect("fmspipe_source_last_record_timestamp_seconds{pipeline=\"bridge\",stage=\"source\"} 0.000");
    expect("fmspipe_connected{pipeline=\"bridge\",stage=\"source\"} 0");
    expect("fmspipe_connects_total{pipeline=\"bridge\",stage=\"sink kafka\"} 0");
    expect("process_start_time_seconds 1795521500.000");
    assert_null(strstr(page, "fmspipe_connected{pipeline=\"bridge\",stage=\"transform check\"}")); /* has no far end */
    assert_null(strstr(page, "fmspipe_vehicles{")); /* nobody asked for them */
}

static void values_are_what_was_seen(void **state)
{
    struct pipeline_view *view = &memory.pipelines[0].view;
    struct stage_view *sink = &view->stages[2];

    (void)state;
    view->counts = (struct pipeline_counts){.emitted = UINT64_MAX, .delivered = 5, .dead_letters = 2, .dropped = 3};
    view->stages[1].dropped = 7;
    view->blocked = 1500 * FMS_MS;
    view->age.counts[HISTOGRAM_BUCKETS - 1] = 1000; /* of last year, which is more nanoseconds than 64 bits hold */
    view->age.sum = 1000 * 3e7 * (double)FMS_SECOND;
    view->is_blocked = true;
    view->oldest_at = sink->oldest_at = observation.at - 4 * FMS_MS;
    view->stages[0].last_at = observation.at - 2500 * FMS_MS;
    view->fleet = (struct fleet_counts){.is_kept = true, .active = 4, .silent = 2, .new = 1, .limit = 10000};
    sink->records_out = 5;
    sink->rejected = 2;
    sink->retried = 1;
    sink->link = (struct link_state){
        .is_up = true, .was_up = true, .since = observation.at - FMS_SECOND, .ups = 3, .downs = 2};
    observation.log_counts[FMS_LOG_WARN] = 9;
    view->stages[0].link = sink->link;
    observed_judge(&observation);
    scrape(false);
    expect("fmspipe_records_received_total{pipeline=\"bridge\"} 18446744073709551615");
    expect("fmspipe_records_delivered_total{pipeline=\"bridge\"} 5");
    expect("fmspipe_dead_letters_total{pipeline=\"bridge\"} 2");
    expect("fmspipe_dropped_total{pipeline=\"bridge\",reason=\"transform\",intentional=\"true\"} 7");
    expect("fmspipe_dropped_total{pipeline=\"bridge\",reason=\"rejected\",intentional=\"false\"} 3");
    expect("fmspipe_blocked_seconds_total{pipeline=\"bridge\"} 1.5");
    expect("fmspipe_source_age_seconds_sum{pipeline=\"bridge\"} 30000000000");
    expect("fmspipe_oldest_unsettled_seconds{pipeline=\"bridge\"} 0.004");
    expect("fmspipe_sink_oldest_unsettled_seconds{pipeline=\"bridge\",stage=\"sink kafka\"} 0.004");
    expect("fmspipe_source_last_record_timestamp_seconds{pipeline=\"bridge\",stage=\"source\"} 1795521597.500");
    expect("fmspipe_connection_changed_timestamp_seconds{pipeline=\"bridge\",stage=\"sink kafka\"} 1795521599.000");
    expect("fmspipe_sink_settled_total{pipeline=\"bridge\",stage=\"sink kafka\",fate=\"rejected\"} 2");
    expect("fmspipe_disconnects_total{pipeline=\"bridge\",stage=\"sink kafka\"} 2");
    expect("fmspipe_pipeline_state{pipeline=\"bridge\",state=\"full\"} 1");
    expect("fmspipe_pipeline_state{pipeline=\"bridge\",state=\"starting\"} 0");
    expect("fmspipe_pipeline_ready{pipeline=\"bridge\"} 1");
    expect("fmspipe_log_messages_total{level=\"warn\"} 9");
    expect("fmspipe_vehicles{pipeline=\"bridge\",state=\"silent\"} 2");
    expect("fmspipe_vehicles_limit{pipeline=\"bridge\"} 10000");
    view->oldest_at = sink->oldest_at = observation.at + 4 * FMS_MS; /* the lane has shown itself a moment later */
    scrape(false);
    expect("fmspipe_oldest_unsettled_seconds{pipeline=\"bridge\"} 0");
    expect("fmspipe_sink_oldest_unsettled_seconds{pipeline=\"bridge\",stage=\"sink kafka\"} 0");
}

static void buckets_are_cumulative(void **state)
{
    struct histogram_view *total = &memory.pipelines[0].view.total;

    (void)state;
    total->counts[0] = 3;
    total->counts[3] = 4;
    total->counts[HISTOGRAM_BUCKETS - 1] = 1;
    total->sum = 120 * (uint64_t)FMS_SECOND + 5;
    scrape(false);
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"0.0001\"} 3");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"0.0005\"} 3");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"0.001\"} 7");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"1.0\"} 7");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"2.5\"} 7");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"100.0\"} 7");
    expect("fmspipe_latency_seconds_bucket{pipeline=\"bridge\",segment=\"total\",le=\"+Inf\"} 8");
    expect("fmspipe_latency_seconds_sum{pipeline=\"bridge\",segment=\"total\"} 120.000000005");
    expect("fmspipe_latency_seconds_count{pipeline=\"bridge\",segment=\"total\"} 8");
}

static void a_plugin_in_several_stages_is_one_family(void **state)
{
    (void)state;
    memory.counters[0][2][0] = 11;
    memory.counters[1][3][1] = 12;
    memory.gauges[0][3][0] = 0.25;
    memory.durations[0][2][0].counts[1] = 1;
    scrape(false);
    expect("# TYPE fmspipe_kafka_restarts_total counter");
    expect("# HELP fmspipe_kafka_sent_total as \"others\" write it");
    expect("fmspipe_kafka_restarts_total{pipeline=\"bridge\",stage=\"sink kafka\"} 11");
    expect("fmspipe_kafka_restarts_total{pipeline=\"bridge\",stage=\"dead_letter\"} 0");
    expect("fmspipe_kafka_sent_total{pipeline=\"vehicle\",stage=\"dead_letter\"} 12");
    expect("fmspipe_kafka_queue_bytes{pipeline=\"bridge\",stage=\"dead_letter\"} 0.25");
    expect("fmspipe_kafka_round_trip_seconds_bucket{pipeline=\"bridge\",stage=\"sink kafka\",le=\"0.00025\"} 1");
    assert_null(strstr(page, "_total_total"));
    scrape(true);
    expect("# TYPE fmspipe_kafka_sent counter");
    expect("# HELP fmspipe_kafka_sent as \\\"others\\\" write it");
    expect("# UNIT fmspipe_kafka_queue_bytes bytes");
    expect("# TYPE fmspipe_build info");
    expect("# TYPE fmspipe_records_received counter");
    assert_string_equal(page + strlen(page) - 6, "# EOF\n");
}

static void names_are_escaped(void **state)
{
    (void)state;
    memory.pipelines[0].view.name = "a \"b\" \\ \n c\xC3\xBC \xFF\xC3";
    scrape(false);
    expect("fmspipe_records_received_total{pipeline=\"a \\\"b\\\" \\\\ \\n c\xC3\xBC \xEF\xBF\xBD\xEF\xBF\xBD\"} 0");
}

static void both_formats_have_the_same_series(void **state)
{
    char *text = strdup(page), *rest = text;

    (void)state;
    scrape(true);
    for (const char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (*line != '#' && *line != '\0' && strncmp(line, "process_", 8) != 0)
            expect(line);
    }
    free(text);
}

static void vehicles_are_no_labels(void **state)
{
    size_t before;

    (void)state;
    memory.pipelines[0].view.fleet = (struct fleet_counts){.is_kept = true, .active = 10, .limit = 10000};
    scrape(false);
    before = series();
    memory.pipelines[0].view.fleet.active = 100000;
    memory.pipelines[0].view.counts.emitted = 1000000;
    scrape(false);
    assert_int_equal(series(), before);
}

/* Hands the page to a program and expects that it has nothing to say. */
static void is_taken_by(const char *program)
{
    FILE *reader;

    assert_non_null(reader = popen(program, "w"));
    fputs(page, reader);
    assert_int_equal(pclose(reader), 0);
}

static void prometheus_finds_nothing(void **state)
{
    (void)state;
    if (system("command -v promtool >/dev/null") != 0)
        skip();
    is_taken_by("promtool check metrics");
}

/* The reference implementation, which takes what is OpenMetrics and nothing else. */
static void another_parser_reads_it(void **state)
{
    (void)state;
    if (system("/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null") != 0)
        skip();
    is_taken_by("/usr/bin/python3 -c 'import sys\n"
                "from prometheus_client.parser import text_string_to_metric_families as parse\n"
                "assert len(list(parse(sys.stdin.read()))) > 50'");
    scrape(true);
    is_taken_by("/usr/bin/python3 -c 'import sys\n"
                "from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n"
                "assert len(list(parse(sys.stdin.read()))) > 50'");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_series_is_there_from_the_start, made, freed),
        cmocka_unit_test_setup_teardown(values_are_what_was_seen, made, freed),
        cmocka_unit_test_setup_teardown(buckets_are_cumulative, made, freed),
        cmocka_unit_test_setup_teardown(a_plugin_in_several_stages_is_one_family, made, freed),
        cmocka_unit_test_setup_teardown(names_are_escaped, made, freed),
        cmocka_unit_test_setup_teardown(both_formats_have_the_same_series, made, freed),
        cmocka_unit_test_setup_teardown(vehicles_are_no_labels, made, freed),
        cmocka_unit_test_setup_teardown(prometheus_finds_nothing, made, freed),
        cmocka_unit_test_setup_teardown(another_parser_reads_it, made, freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
