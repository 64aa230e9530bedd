/* route.c - see route.h. */
#include "route.h"

#include <string.h>

static const struct route routes[] = {
    {"/", "GET", answer_page, FOR_TRUSTED, 0},                 /* the page */
    {"/status", "GET", answer_status, FOR_TRUSTED, 0},         /* all that is known, as JSON */
    {"/metrics", "GET", answer_metrics, FOR_TRUSTED, 0},       /* as Prometheus reads it */
    {"/livez", "GET", answer_livez, FOR_ALL, 0},               /* whether it lives */
    {"/readyz", "GET", answer_readyz, FOR_ALL, 0},             /* whether it is connected, and flows */
    {"/history", "GET", answer_history, FOR_TRUSTED, 0},       /* the last 15 minutes, as JSON */
    {"/vehicles", "GET", answer_vehicles, FOR_TRUSTED, 0},     /* a pipeline's vehicles, as JSON */
    {"/events", "GET", answer_events, FOR_TRUSTED, 0},         /* /status, again and again */
    {"/tap", "GET", answer_tap, FOR_UNIX, 0},                  /* records as they pass a stage */
    {"/reload", "POST", answer_reload, FOR_UNIX, RELOAD_TEXT}, /* does what the files ask for now */
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    }
    return NULL;
}
