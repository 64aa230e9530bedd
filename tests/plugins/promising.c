/* promising - a plugin in every role that promises what it is told to. */
#include <fms_plugin.h>

struct promising {
    const char *most, *least, *exactly;
    bool ask, odd, late;

    const struct fms_host *host;
};

static const struct fms_option promising_options[] = {
    FMS_OPT_STRING(struct promising, most, NULL, "why it is at most once"),
    FMS_OPT_STRING(struct promising, least, NULL, "why it is at least once"),
    FMS_OPT_STRING(struct promising, exactly, NULL, "what exactly once rests on"),
    FMS_OPT_BOOLEAN(struct promising, ask, "no", "ask who records are"),
    FMS_OPT_BOOLEAN(struct promising, odd, "no", "promise what is none"),
    FMS_OPT_BOOLEAN(struct promising, late, "no", "promise when it is opened"),
    FMS_OPT_END,
};

static int promising_check(void *instance, const struct fms_host *host)
{
    struct promising *self = instance;

    if (self->ask)
        fms_identify(host, true);
    if (self->most != NULL)
        fms_promise(host, "most", FMS_AT_MOST_ONCE, "%s", self->most);
    if (self->least != NULL)
        fms_promise(host, NULL, FMS_AT_LEAST_ONCE, "%s", self->least);
    if (self->exactly != NULL)
        fms_promise(host, "exactly", FMS_EXACTLY_ONCE, "%s", self->exactly);
    if (self->odd)
        fms_promise(host, NULL, (enum fms_once)4, "odd");
    return 0;
}

static int promising_open(void *instance, const struct fms_host *host)
{
    struct promising *self = instance;

    if (self->late)
        fms_promise(host, NULL, FMS_EXACTLY_ONCE, "late");
    return 0;
}

static int promising_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

static enum fms_verdict promising_transform(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

static int promising_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct promising *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "promising", .version = "1.0.0", .summary = "Promises", .options = promising_options,
           .instance_size = sizeof(struct promising), .host = FMS_HOST(struct promising, host),
           .check = promising_check, .open = promising_open, .source_poll = promising_poll,
           .transform = promising_transform, .sink_write = promising_write);
