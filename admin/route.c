/* route.c - see route.h. */
#include "route.h"

#include <string.h>

static const struct route routes[] = {
    {"/", "GET", answer_page, FOR_TRUSTED},             /* the page */
    {"/status", "GET", answer_status, FOR_TRUSTED},     /* all that is known, as JSON */
    {"/metrics", "GET", answer_metrics, FOR_TRUSTED},   /* as Prometheus reads it */
    {"/livez", "GET", answer_livez, FOR_ALL},           /* whether it lives */
    {"/readyz", "GET", answer_readyz, FOR_ALL},         /* whether it is connected, and flows */
    {"/history", "GET", answer_history, FOR_TRUSTED},   /* the last 15 minutes, as JSON */
    {"/vehicles", "GET", answer_vehicles, FOR_TRUSTED}, /* a pipeline's vehicles, as JSON */
    {"/events", "GET", answer_events, FOR_TRUSTED},     /* /status, again and again */
    {"/tap", "GET", answer_tap, FOR_UNIX},              /* records as they pass a stage */
    {"/reload", "POST", answer_reload, FOR_UNIX},       /* does what the files ask for now */
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    }
    return NULL;
}
