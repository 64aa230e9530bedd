/* route - gives records the topic, and if wanted the key and headers, that templates say.
 *
 * A record is immutable, so one that changes goes on as a child, with the payload copied once; one that is already as
 * the templates say goes on itself. Dead letters of what comes behind carry the record as the source emitted it. */
#include <fms_plugin.h>

#include <errno.h>

#define ROUTE_HEADERS 1000 /* that a record may have */

enum counter { COUNTER_ROUTED, COUNTER_UNCHANGED };

struct route {
    const struct fms_template *topic;
    const struct fms_template *key; /* NULL: the record's own */
    struct fms_pairs headers;
    struct fms_list drop_headers;

    const struct fms_host *host;
    struct fms_header changed[ROUTE_HEADERS]; /* the headers of a child */
};

static const struct fms_option route_options[] = {
    FMS_OPT_TEMPLATE(struct route, topic, FMS_REQUIRED, "topic of each record"),
    FMS_OPT_TEMPLATE(struct route, key, NULL, "key of each record; without it the record's own, if it has one"),
    FMS_OPT_TEMPLATE_PAIRS(struct route, headers, "header.",
                           "a header of each record, in place of its own of that name"),
    FMS_OPT_LIST(struct route, drop_headers, NULL, "headers that go; a * at the end stands for any text"),
    FMS_OPT_END,
};

static const struct fms_metric route_counters[] = {
    [COUNTER_ROUTED] = {"routed", "records that were given another topic, key or header"},
    [COUNTER_UNCHANGED] = {"unchanged", "records that had them already"},
    {NULL, NULL},
};

/* Expands one of the templates for the record; otherwise rejects it, naming the option. */
static bool route_expand(struct route *self, const char *option, const struct fms_template *text,
                         const struct fms_record *record, struct fms_bytes *value)
{
    int error = fms_expand(self->host, text, record, value);

    if (error == 0)
        return true;
    fms_reject(self->host, record, "%s: %s", option, error == -ENOENT ? (const char *)value->data : strerror(-error));
    return false;
}

/* Absent is not the same as empty. */
static bool is_same(struct fms_bytes a, struct fms_bytes b)
{
    if (a.data == NULL || b.data == NULL)
        return a.data == b.data;
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Sets a header in the place of the first of that name, which loses the others, or at the end. False: no room. */
static bool set_header(struct fms_record *draft, struct fms_header *headers, struct fms_header header)
{
    bool is_set = false;
    size_t count = 0;

    for (size_t i = 0; i < draft->header_count; i++) {
        bool is_same_name = strcmp(headers[i].name, header.name) == 0;

        if (!is_same_name || !is_set)
            headers[count++] = is_same_name ? header : headers[i];
        is_set = is_set || is_same_name;
    }
    draft->header_count = count;
    if (!is_set && count < ROUTE_HEADERS)
        headers[draft->header_count++] = header;
    return is_set || count < ROUTE_HEADERS;
}

static bool is_dropped(const struct fms_list *patterns, const char *name)
{
    bool found = false;

    for (size_t i = 0; i < patterns->count && !found; i++) {
        const char *pattern = patterns->items[i];
        size_t size = strcspn(pattern, "*"); /* one at the end: see check */

        found = strncmp(name, pattern, size) == 0 && (pattern[size] == '*' || name[size] == '\0');
    }
    return found;
}

/* False: the record was rejected. */
static bool route_headers(struct route *self, const struct fms_record *record, struct fms_record *draft)
{
    draft->headers = self->changed;
    draft->header_count = 0;
    for (size_t i = 0; i < record->header_count; i++) {
        if (!is_dropped(&self->drop_headers, record->headers[i].name))
            self->changed[draft->header_count++] = record->headers[i];
    }
    for (size_t i = 0; i < self->headers.count; i++) {
        const struct fms_pair *pair = &self->headers.items[i];
        struct fms_header header = {.name = pair->name};

        if (!route_expand(self, pair->option, pair->text, record, &header.value))
            return false;
        if (!set_header(draft, self->changed, header)) {
            fms_reject(self->host, record, "%s: the record has %d headers already", pair->option, ROUTE_HEADERS);
            return false;
        }
    }
    return true;
}

/* What the templates make of the record. False: it was rejected. */
static bool route_draft(struct route *self, const struct fms_record *record, struct fms_record *draft)
{
    *draft = *record;
    if (!route_expand(self, "topic", self->topic, record, &draft->topic) ||
        (self->key != NULL && !route_expand(self, "key", self->key, record, &draft->key)) ||
        (self->headers.count + self->drop_headers.count > 0 && !route_headers(self, record, draft)))
        return false;
    if (draft->topic.size == 0) {
        fms_reject(self->host, record, "topic: it is empty");
        return false;
    }
    return true;
}

static bool route_changes(const struct fms_record *record, const struct fms_record *draft)
{
    bool is_changed = !is_same(record->topic, draft->topic) || !is_same(record->key, draft->key) ||
                      record->header_count != draft->header_count;

    for (size_t i = 0; i < draft->header_count && !is_changed; i++)
        is_changed = strcmp(record->headers[i].name, draft->headers[i].name) != 0 ||
                     !is_same(record->headers[i].value, draft->headers[i].value);
    return is_changed;
}

static enum fms_verdict route_transform(void *instance, const struct fms_record *record)
{
    struct route *self = instance;
    struct fms_record draft;
    int error;

    if (!route_draft(self, record, &draft))
        return FMS_KEPT;
    if (!route_changes(record, &draft)) {
        fms_count(self->host, COUNTER_UNCHANGED, 1);
        return FMS_PASS;
    }
    error = fms_emit_child(self->host, record, &draft);
    if (error == -EAGAIN || error == -EMSGSIZE)
        return FMS_AGAIN;
    if (error != 0)
        return fms_reject(self->host, record, "it cannot be emitted: %s", strerror(-error));
    fms_count(self->host, COUNTER_ROUTED, 1);
    return FMS_DROP;
}

static int route_check(void *instance, const struct fms_host *host)
{
    const struct fms_list *patterns = &((struct route *)instance)->drop_headers;

    for (size_t i = 0; i < patterns->count; i++) {
        const char *star = strchr(patterns->items[i], '*');

        if (star != NULL && star[1] != '\0')
            return fms_fail_option(host, "drop_headers", -EINVAL, "\"%s\": a * may stand at the end only",
                                   patterns->items[i]);
    }
    return 0;
}

FMS_PLUGIN(.name = "route", .version = FMS_VERSION, .summary = "Sets each record's topic by a template",
           .options = route_options, .counters = route_counters, .instance_size = sizeof(struct route),
           .check = route_check, .transform = route_transform, .host = FMS_HOST(struct route, host));
