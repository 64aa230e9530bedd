/* metrics.c - see metrics.h. */
#include "metrics.h"

#include <inttypes.h>

void metrics_write(const struct observation *observation, bool openmetrics, FILE *to)
{
    for (size_t i = 0; i < observation->count; i++)
        fprintf(to, "fmspipe_received_total{pipeline=\"%s\"} %" PRIu64 "\n", observation->pipelines[i].view.name,
                observation->pipelines[i].view.counts.emitted);
    if (openmetrics)
        fputs("# EOF\n", to);
}
