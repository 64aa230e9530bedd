/* example - makes a record of a number at each interval.
 *
 * It has no memory: what was not delivered when it ends is gone. A source with one acknowledges its input in
 * source_settled, and nowhere else. Change this to say what your source reads, and what it holds back until delivered. */
#include <fms_plugin.h>

#include <stdio.h>

struct example {
    int64_t interval;
    const char *topic;

    const struct fms_host *host;
    int64_t next; /* on fms_now's clock */
    unsigned long long number;
};

static const struct fms_option example_options[] = {
    FMS_OPT_DURATION(struct example, interval, "1s", FMS_MS, 3600 * FMS_SECOND, "time between two records"),
    FMS_OPT_STRING(struct example, topic, "example", "topic of the records"),
    FMS_OPT_END,
};

static int example_open(void *instance, const struct fms_host *host)
{
    struct example *self = instance;

    self->host = host;
    self->next = fms_now(host);
    return 0;
}

/* Emits at most `credit` records, then says in `wait` when, or for which file descriptor, it is to be called again. When
 * fms_emit says -EAGAIN it keeps the record and is called when there is room. */
static int example_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct example *self = instance;
    char payload[64];
    struct fms_record draft = {.topic = fms_text(self->topic), .timestamp = fms_realtime(self->host)};
    int size = snprintf(payload, sizeof payload, "{\"number\":%llu}", self->number);

    draft.payload = fms_bytes_of(payload, (size_t)size);
    if (credit > 0 && fms_now(self->host) >= self->next && fms_emit(self->host, &draft) == 0) {
        self->number++;
        self->next += self->interval;
    }
    if (credit > 0)
        wait->deadline = self->next;
    return 0;
}

FMS_PLUGIN(.name = "example", .version = "0.1.0", .summary = "Makes a record of a number at each interval",
           .options = example_options, .instance_size = sizeof(struct example), .open = example_open,
           .source_poll = example_poll);
