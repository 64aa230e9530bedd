/* bench_source - emits one constant telemetry message `count` times, as fast as it is taken: the cheapest source there
 * is, so that what remains is the cost of the core. */
#include "fms_plugin.h"

static const char payload[] = "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320419,\"speed\":56.65,\"rpm\":1316,"
                              "\"fuel_level\":99.65}";

struct bench_source {
    int64_t count;
    const struct fms_host *host;
};

static const struct fms_option bench_source_options[] = {
    FMS_OPT_INTEGER(struct bench_source, count, "1000000", 1, INT64_MAX, "messages to emit"),
    FMS_OPT_END,
};

static int bench_source_open(void *instance, const struct fms_host *host)
{
    struct bench_source *self = instance;

    self->host = host;
    return 0;
}

static int bench_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct bench_source *self = instance;
    struct fms_record draft = {.topic = fms_text("fms/data"),
                               .key = fms_text("raspi-001"),
                               .payload = fms_bytes_of(payload, sizeof payload - 1)};

    while (credit-- > 0 && self->count > 0) {
        if (fms_emit(self->host, &draft) != 0)
            return 0;
        self->count--;
    }
    wait->deadline = 0;
    return self->count > 0 ? 0 : FMS_END;
}

FMS_PLUGIN(.name = "bench_source", .version = FMS_VERSION, .summary = "Emits a constant message",
           .options = bench_source_options, .instance_size = sizeof(struct bench_source), .open = bench_source_open,
           .source_poll = bench_source_poll);
