/* vehicles.c - see vehicles.h. */
#include "vehicles.h"

#include <stdlib.h>

#include "status.h"

/* An object cannot have a name that is no UTF-8: that field is left out. */
static json_t *fields_json(const struct fleet_view *view, const struct vehicle_view *vehicle)
{
    json_t *fields = json_object();

    for (size_t i = 0; i < view->field_count; i++) {
        if (*vehicle->fields[i] != '\0')
            json_object_set_new(fields, view->fields[i], status_text(vehicle->fields[i]));
    }
    return fields;
}

static json_t *vehicle_json(const struct admin_host *host, const struct fleet_view *view,
                            const struct vehicle_view *vehicle)
{
    static const char *const states[] = {"silent", "new", "active"};
    int64_t seen = host->realtime() - (host->now() - vehicle->seen_at);

    return json_pack("{s:o, s:f, s:I, s:s, s:o}", "vehicle", status_text(vehicle->name), "seen", (double)seen / 1e9,
                     "records", (json_int_t)vehicle->records, "state", states[vehicle->state], "fields",
                     fields_json(view, vehicle));
}

static json_t *names_json(const struct fleet_view *view)
{
    json_t *names = json_array();

    for (size_t i = 0; i < view->field_count; i++)
        json_array_append_new(names, status_text(view->fields[i]));
    return names;
}

json_t *vehicles_json(const struct admin_host *host, uint64_t number, const char *find, size_t limit)
{
    json_t *vehicles = json_array(), *json;
    struct fleet_view view;

    if (!host->vehicles(host->process, number, find != NULL ? find : "", limit < VEHICLES_MOST ? limit : VEHICLES_MOST,
                        &view)) {
        json_decref(vehicles);
        return NULL;
    }
    for (size_t k = 0; k < view.count; k++)
        json_array_append_new(vehicles, vehicle_json(host, &view, &view.vehicles[k]));
    json = json_pack("{s:f, s:I, s:I, s:I, s:I, s:o, s:o}", "silent_after", (double)view.silent_after / 1e9, "total",
                     (json_int_t)view.total, "limit", (json_int_t)view.counts.limit, "unnamed",
                     (json_int_t)view.counts.unnamed, "untracked", (json_int_t)view.counts.untracked, "fields",
                     names_json(&view), "vehicles", vehicles);
    free(view.vehicles);
    return json;
}
