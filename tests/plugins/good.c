/* good - a plugin in every role, which says when it is opened and closed. */
#include <fms_plugin.h>

#include <errno.h>

struct good {
    const char *needed, *id;
    struct fms_list some;
    int64_t number, pause;
    bool fail, refuse, silent, odd;

    const struct fms_host *host;
};

static const struct fms_option good_options[] = {
    FMS_OPT_STRING(struct good, needed, FMS_REQUIRED, "must be there"),
    FMS_OPT_UNIQUE(struct good, id, NULL, "test id", "is to differ between stages"),
    FMS_OPT_UNIQUE_LIST(struct good, some, NULL, "test topic", "is to differ between shards"),
    FMS_OPT_INTEGER(struct good, number, "5", 1, 10, "from one to ten"),
    FMS_OPT_DURATION(struct good, pause, "1s", 0, FMS_NEVER, "any duration"),
    FMS_OPT_BOOLEAN(struct good, fail, "no", "let open fail"),
    FMS_OPT_BOOLEAN(struct good, refuse, "no", "let check fail"),
    FMS_OPT_BOOLEAN(struct good, odd, "no", "let them fail with a number that is none of an error"),
    FMS_OPT_BOOLEAN(struct good, silent, "no", "let them fail without a word, and probe as well"),
    FMS_OPT_END,
};

static int good_check(void *instance, const struct fms_host *host)
{
    struct good *self = instance;

    if (self->refuse && (self->silent || self->odd))
        return self->odd ? 5 : -EDOM;
    return self->refuse ? fms_fail_option(host, "refuse", -EINVAL, "check was told to fail") : 0;
}

static int good_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct good *self = instance;

    (void)host;
    (void)deadline;
    return self->silent ? -ECONNREFUSED : 0;
}

static int good_open(void *instance, const struct fms_host *host)
{
    struct good *self = instance;

    self->host = host;
    if (self->fail && (self->silent || self->odd))
        return self->odd ? 3 : -ETIME;
    if (self->fail)
        return fms_fail(host, -EIO, "open was told to fail");
    fms_info(host, "opened%s", host->watched ? ", and watched" : "");
    return 0;
}

static void good_close(void *instance)
{
    struct good *self = instance;

    fms_info(self->host, "closed");
}

static int good_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

static enum fms_verdict good_transform(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

static int good_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct good *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "good", .version = "1.2.3", .summary = "Does nothing, well", .options = good_options,
           .instance_size = sizeof(struct good), .check = good_check, .probe = good_probe, .open = good_open,
           .close = good_close, .source_poll = good_poll, .transform = good_transform, .sink_write = good_write);
