/* example - writes each payload as a line to standard output.
 *
 * Delivered means handed to the kernel: a batch is settled after the flush. Change this to say where your sink delivers, and
 * when a record counts as delivered. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdio.h>

struct example {
    const char *prefix;

    const struct fms_host *host;
};

static const struct fms_option example_options[] = {
    FMS_OPT_STRING(struct example, prefix, "", "text before each payload"),
    FMS_OPT_END,
};

/* Takes as many records as it can, and settles each exactly once: now or later, from any thread. */
static int example_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct example *self = instance;

    for (size_t i = 0; i < count; i++) {
        fputs(self->prefix, stdout);
        fwrite(records[i]->payload.data, 1, records[i]->payload.size, stdout);
        putchar('\n');
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return fms_fail(self->host, -EIO, "standard output: %s", strerror(errno));
    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "example", .version = "0.1.0", .summary = "Writes payloads as lines to standard output",
           .options = example_options, .instance_size = sizeof(struct example), .sink_write = example_write,
           .host = FMS_HOST(struct example, host));
