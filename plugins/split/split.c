/* split - makes a record of each item of an array, or of each line.
 *
 * The items are pieces of the payload, so nothing is copied but by the host, and of a record in hand nothing is kept but how far
 * it has come: where there is no room for an item, it goes on there when there is. An item that is no good is left out; what
 * rejects the record is that, at its end, when the good ones are on their way. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdio.h>

#define SPLIT_WHY 384
#define SPLIT_BAD 1000 /* items that are no good; behind them nothing is looked at, for the lane has others to serve */

enum format { FORMAT_ARRAY, FORMAT_LINES };
enum otherwise { OTHERWISE_REJECT, OTHERWISE_PASS };
enum counter { COUNTER_ITEMS, COUNTER_BAD_ITEMS };

struct split {
    int format; /* enum format */
    const char *path;
    const struct fms_template *key; /* NULL: the record's own */
    int otherwise;                  /* enum otherwise */

    const struct fms_host *host;
    int array, whole; /* paths */

    /* of the record in hand, for which the next call is while it waits for room */
    size_t offset;       /* of what is left of the array or the lines */
    uint64_t count, bad; /* items so far */
    char why[SPLIT_WHY]; /* of the first bad one */
};

static const struct fms_option split_options[] = {
    FMS_OPT_CHOICE(struct split, format, "array", "array|lines",
                   "array: a JSON array of objects; lines: a JSON object in each line"),
    FMS_OPT_STRING(
        struct split, path, "",
        "with format = array: the field that is the array, as in readings or data.readings; empty: all of the "
        "payload"),
    FMS_OPT_TEMPLATE(struct split, key, NULL,
                     "key of each item's record, of which ${json:...} is a field; without it the record's own"),
    FMS_OPT_CHOICE(struct split, otherwise, "reject", "reject|pass", "what becomes of a payload that is no such array"),
    FMS_OPT_END,
};

static const struct fms_metric split_counters[] = {
    [COUNTER_ITEMS] = {"items", "records that were made of items"},
    [COUNTER_BAD_ITEMS] = {"bad_items", "items that were no good"},
    {NULL, NULL},
};

/* -------------------------------------------------------------------------------------------------------------- items */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next line that is not blank, without the blanks around it. */
static bool split_next_line(struct split *self, struct fms_bytes *rest, struct fms_bytes *item)
{
    const char *at = rest->data, *end = at + rest->size;

    item->size = 0;
    for (; at < end && item->size == 0; self->count++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at)), *to = feed != NULL ? feed : end;

        while (at < to && is_blank(*at))
            at++;
        *item = fms_bytes_of(at, (size_t)(to - at));
        while (item->size > 0 && is_blank(at[item->size - 1]))
            item->size--;
        at = feed != NULL ? feed + 1 : end;
    }
    *rest = fms_bytes_of(at, (size_t)(end - at));
    return item->size > 0;
}

static bool split_next_of_array(struct split *self, struct fms_bytes *rest, struct fms_bytes *item)
{
    struct fms_json name, value;

    if (!fms_json_next(self->host, rest, &name, &value))
        return false;
    self->count++;
    *item = value.text;
    if (value.type == FMS_JSON_STRING) /* with its quotes */
        *item = fms_bytes_of((const char *)item->data - 1, item->size + 2);
    return true;
}

/* Counts an item as one that is no good; the first is told. */
static void split_bad(struct split *self, const struct fms_record *record, struct fms_bytes item, const char *option,
                      const char *why)
{
    bool is_line = self->format == FORMAT_LINES;

    fms_count(self->host, COUNTER_BAD_ITEMS, 1);
    if (self->bad++ == 0)
        snprintf(self->why, sizeof self->why, "%s %llu at byte %zu: %s%s", is_line ? "line" : "item",
                 (unsigned long long)(is_line ? self->count : self->count - 1),
                 (size_t)((const char *)item.data - (const char *)record->payload.data), option, why);
}

/* Whether the item is an object or an array; else it is counted as bad. Of an array's items the first byte tells. */
static bool split_is_good(struct split *self, const struct fms_record *record, const struct fms_record *draft)
{
    char first = *(const char *)draft->payload.data;
    struct fms_json value;
    int error;

    if (self->format == FORMAT_LINES) {
        error = fms_json_get(self->host, draft, self->whole, &value);
        if (error != 0)
            split_bad(self, record, draft->payload, error == -EBADMSG ? "no JSON object: " : "",
                      error == -EBADMSG ? value.text.data : strerror(-error));
        return error == 0;
    }
    if (first == '{' || first == '[')
        return true;
    split_bad(self, record, draft->payload, "", "it is no JSON object");
    return false;
}

/* Makes a record of the item, or counts it as bad. -EAGAIN: there is no room now. */
static int split_emit(struct split *self, const struct fms_record *record, struct fms_bytes item)
{
    struct fms_record draft = *record;
    struct fms_bytes key = record->key;
    int error = 0;

    draft.payload = item;
    if (!split_is_good(self, record, &draft))
        return 0;
    if (self->key != NULL)
        error = fms_expand(self->host, self->key, &draft, &key);
    if (error == -ENOENT) {
        split_bad(self, record, item, "key: ", key.data);
        return 0;
    }
    draft.key = key;
    if (error == 0)
        error = fms_emit_child(self->host, record, &draft);
    if (error == -EAGAIN)
        return error;
    if (error == 0)
        fms_count(self->host, COUNTER_ITEMS, 1);
    else
        split_bad(self, record, item, "",
                  error == -EMSGSIZE ? "it does not fit max_in_flight_bytes" : strerror(-error));
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- records */

static enum fms_verdict split_end(struct split *self, const struct fms_record *record)
{
    uint64_t bad = self->bad;

    self->offset = 0;
    self->count = self->bad = 0;
    if (bad == 0)
        return FMS_DROP;
    if (bad == 1)
        return fms_reject(self->host, record, "%s", self->why);
    return fms_reject(self->host, record, "%s; %llu more are no good%s", self->why, (unsigned long long)(bad - 1),
                      bad < SPLIT_BAD ? "" : ", and what stands behind them was not looked at");
}

static bool split_next(struct split *self, struct fms_bytes *rest, struct fms_bytes *item)
{
    return self->format == FORMAT_LINES ? split_next_line(self, rest, item) : split_next_of_array(self, rest, item);
}

/* Emits what is left of the items; `all` are the array or the lines. */
static enum fms_verdict split_all(struct split *self, const struct fms_record *record, struct fms_bytes all)
{
    struct fms_bytes rest = fms_bytes_of((const char *)all.data + self->offset, all.size - self->offset), item;
    uint64_t count = self->count;

    while (self->bad < SPLIT_BAD && split_next(self, &rest, &item)) {
        if (split_emit(self, record, item) != 0) {
            self->count = count; /* the item comes again */
            return FMS_AGAIN;
        }
        self->offset = all.size - rest.size;
        count = self->count;
    }
    return split_end(self, record);
}

static enum fms_verdict split_otherwise(struct split *self, const struct fms_record *record, const char *what,
                                        const char *why)
{
    if (self->otherwise == OTHERWISE_PASS)
        return FMS_PASS;
    return fms_reject(self->host, record, "%s: %s", what, why);
}

static enum fms_verdict split_lines(struct split *self, const struct fms_record *record)
{
    struct fms_bytes all = record->payload;

    if (all.data == NULL)
        return split_otherwise(self, record, "the payload is no lines", "it is absent (a tombstone)");
    if (all.size >= 3 && memcmp(all.data, "\xef\xbb\xbf", 3) == 0) /* a byte order mark */
        all = fms_bytes_of((const char *)all.data + 3, all.size - 3);
    return split_all(self, record, all);
}

/* Whether the payload begins as JSON does: then it is broken, and nothing else. */
static bool split_begins_as_json(struct fms_bytes payload)
{
    const char *at = payload.data, *end = at + payload.size;

    while (at < end && (is_blank(*at) || *at == '\n'))
        at++;
    return at < end && (*at == '{' || *at == '[');
}

static enum fms_verdict split_no_array(struct split *self, const struct fms_record *record, int error,
                                       const struct fms_json *value)
{
    static const char *const found[] = {
        [FMS_JSON_MISSING] = "there is no such field",
        [FMS_JSON_NULL] = "an array expected, found null",
        [FMS_JSON_BOOLEAN] = "an array expected, found a boolean",
        [FMS_JSON_NUMBER] = "an array expected, found a number",
        [FMS_JSON_STRING] = "an array expected, found a string",
        [FMS_JSON_OBJECT] = "an array expected, found an object",
    };
    bool is_whole = *self->path == '\0';

    if (error == 0)
        return split_otherwise(self, record, is_whole ? "the payload" : self->path, found[value->type]);
    if (split_begins_as_json(record->payload))
        return fms_reject(self->host, record, "the payload is no JSON %s: %s", is_whole ? "array" : "object",
                          (const char *)value->text.data);
    return split_otherwise(self, record, is_whole ? "the payload is no JSON array" : "the payload is no JSON object",
                           value->text.data);
}

static enum fms_verdict split_transform(void *instance, const struct fms_record *record)
{
    struct split *self = instance;
    struct fms_json value;
    int error;

    if (self->format == FORMAT_LINES)
        return split_lines(self, record);
    error = fms_json_get(self->host, record, self->array, &value);
    if (error != 0 && error != -EBADMSG)
        return fms_reject(self->host, record, "the payload cannot be looked at: %s", strerror(-error));
    if (error != 0 || value.type != FMS_JSON_ARRAY)
        return split_no_array(self, record, error, &value);
    return split_all(self, record, value.text);
}

/* --------------------------------------------------------------------------------------------- configuration, opening */

static int split_check(void *instance, const struct fms_host *host)
{
    const struct split *self = instance;

    if (self->format == FORMAT_LINES && *self->path != '\0')
        return fms_fail_option(host, "path", -EINVAL, "is for format = array; lines have none");
    if (fms_json_path(host, self->path) == -EINVAL)
        return fms_fail_option(host, "path", -EINVAL, "\"%s\" is no path; expected one such as data.readings",
                               self->path);
    return 0;
}

static int split_open(void *instance, const struct fms_host *host)
{
    struct split *self = instance;

    self->host = host;
    self->whole = fms_json_path(host, "");
    self->array = fms_json_path(host, self->path);
    return self->whole < 0 || self->array < 0 ? fms_fail(host, -ENOMEM, "no memory for the path") : 0;
}

FMS_PLUGIN(.name = "split", .version = FMS_VERSION,
           .summary = "Makes a record of each item of a JSON array, or of each line", .options = split_options,
           .counters = split_counters, .instance_size = sizeof(struct split), .check = split_check, .open = split_open,
           .transform = split_transform);
