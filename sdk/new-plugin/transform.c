/* example - rejects records with a payload that is too large.
 *
 * Change this to say what your transform does, and the one decision that shapes it. */
#include <fms_plugin.h>

struct example {
    int64_t max_size;

    const struct fms_host *host;
};

static const struct fms_option example_options[] = {
    FMS_OPT_SIZE(struct example, max_size, "64KiB", 0, INT64_C(1) << 40, "largest payload that is passed on"),
    FMS_OPT_END,
};

/* FMS_PASS: it goes on as it is. FMS_DROP: it ends here. fms_reject: it goes to dead letters. To change a record copy its
 * struct, set fields, call fms_emit_child, and return FMS_DROP. */
static enum fms_verdict example_transform(void *instance, const struct fms_record *record)
{
    struct example *self = instance;

    if (record->payload.size > (size_t)self->max_size)
        return fms_reject(self->host, record, "the payload has %zu bytes, and max_size is %lld", record->payload.size,
                          (long long)self->max_size);
    return FMS_PASS;
}

FMS_PLUGIN(.name = "example", .version = "0.1.0", .summary = "Rejects records with a payload that is too large",
           .options = example_options, .instance_size = sizeof(struct example), .transform = example_transform,
           .host = FMS_HOST(struct example, host));
