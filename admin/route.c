/* route.c - see route.h. */
#include "route.h"

#include <string.h>

static const struct route routes[] = {
    {"/", answer_page, .is_open = false},           {"/events", answer_events, .is_open = false},
    {"/history", answer_history, .is_open = false}, {"/livez", answer_livez, .is_open = true},
    {"/metrics", answer_metrics, .is_open = false}, {"/readyz", answer_readyz, .is_open = true},
    {"/status", answer_status, .is_open = false},
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    }
    return NULL;
}
