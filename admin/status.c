/* status.c - see status.h. */
#include "status.h"

#include <unistd.h>

json_t *status_json(const struct observation *observation)
{
    json_t *pipelines = json_array();

    for (size_t i = 0; i < observation->count; i++) {
        const struct observed *pipeline = &observation->pipelines[i];

        json_array_append_new(pipelines, json_pack("{s:s, s:b, s:I}", "name", pipeline->view.name, "live",
                                                   pipeline->health.is_live, "received",
                                                   (json_int_t)pipeline->view.counts.emitted));
    }
    return json_pack("{s:s, s:i, s:o}", "fmspipe", FMS_VERSION, "pid", (int)getpid(), "pipelines", pipelines);
}
