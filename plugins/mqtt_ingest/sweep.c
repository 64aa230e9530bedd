/* sweep.c - see sweep.h. */
#include "sweep.h"

#define LEVELS_MAX 16u
#define PLUSES_MAX 8u

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t levels_of(struct fms_bytes topic)
{
    const char *text = topic.data;
    size_t levels = 1;

    for (size_t i = 0; i < topic.size; i++)
        levels += text[i] == '/';
    return levels;
}

bool sweep_matches(const char *filter, struct fms_bytes topic)
{
    const char *at = topic.data, *end = at + topic.size;

    if (topic.size > 0 && *at == '$' && (*filter == '+' || *filter == '#')) /* MQTT-4.7.2-1 */
        return false;
    for (; *filter != '\0'; filter++) {
        if (*filter == '#')
            return true;
        if (*filter == '+') {
            while (at < end && *at != '/')
                at++;
        } else if (at < end && *filter == *at) {
            at++;
        } else {
            return at == end && strcmp(filter, "/#") == 0; /* 4.7.1.2: the parent level, too */
        }
    }
    return at == end;
}

/* With a + or not in each of so many levels. */
static size_t masks_of(size_t levels)
{
    return (size_t)1 << smaller(levels, PLUSES_MAX);
}

size_t sweep_count(struct fms_bytes topic)
{
    size_t levels = levels_of(topic), count = masks_of(levels);

    for (size_t depth = 0; depth <= smaller(levels, LEVELS_MAX); depth++)
        count += masks_of(depth);
    return count;
}

/* The first levels of the topic, with a + in those that the mask says. */
static char *write_levels(struct fms_bytes topic, size_t levels, size_t mask, char *to)
{
    const char *at = topic.data, *end = at + topic.size;

    for (size_t level = 0; level < levels; level++) {
        bool is_plus = level < PLUSES_MAX && (mask >> level & 1) != 0;

        if (level > 0)
            *to++ = '/';
        if (is_plus)
            *to++ = '+';
        for (; at < end && *at != '/'; at++) {
            if (!is_plus)
                *to++ = *at;
        }
        at += at < end;
    }
    return to;
}

/* First those without #, and then those with it behind 0, 1, 2... levels. An empty level with a + is longer than it was: at most
 * PLUSES_MAX of them. */
void sweep_filter(struct fms_bytes topic, size_t n, char to[SWEEP_FILTER_MAX + 1])
{
    size_t levels = levels_of(topic), depth = 0;
    char *end;

    if (n < masks_of(levels)) {
        *write_levels(topic, levels, n, to) = '\0';
        return;
    }
    for (n -= masks_of(levels); n >= masks_of(depth); depth++)
        n -= masks_of(depth);
    end = write_levels(topic, depth, n, to);
    strcpy(end, depth > 0 ? "/#" : "#");
}
