/* filter - keeps, or drops, the records for which a condition holds.
 *
 * The condition is compiled in check, and a record is judged without an allocation: what the condition names is looked up
 * in place, and only a string with escapes is decoded, into memory that its field keeps. A dropped record counts as
 * delivered. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "condition.h"

enum action { ACTION_KEEP, ACTION_DROP };
enum bad_json { BAD_JSON_REJECT, BAD_JSON_DROP, BAD_JSON_KEEP };
enum counter { COUNTER_KEPT, COUNTER_DROPPED, COUNTER_BAD_JSON };

/* A field of the payload that the condition names. */
struct field {
    int path;
    char *decoded; /* its last value that had escapes */
    size_t capacity;
};

struct filter {
    const char *condition;
    int action;
    int on_bad_json;

    const struct fms_host *host;
    struct condition compiled;
    struct field fields[CONDITION_OPERANDS]; /* by the condition's references; those of fields are used */
    const struct field *first_field;         /* NULL: the condition names none */

    const struct fms_record *record; /* being judged */
    char timestamp[24];              /* its */
    bool is_out_of_memory;
};

static const struct fms_option filter_options[] = {
    FMS_OPT_STRING(struct filter, condition, FMS_REQUIRED, "what a record is judged by; see above"),
    FMS_OPT_CHOICE(struct filter, action, "keep", "keep|drop", "what becomes of the records for which it holds"),
    FMS_OPT_CHOICE(struct filter, on_bad_json, "reject", "reject|drop|keep",
                   "what becomes of a payload that is no JSON object, where the condition names a field"),
    FMS_OPT_END,
};

static const struct fms_metric filter_counters[] = {
    [COUNTER_KEPT] = {"kept", "records passed on"},
    [COUNTER_DROPPED] = {"dropped", "records dropped"},
    [COUNTER_BAD_JSON] = {"bad_json",
                          "records without a JSON object where the condition names a field: see on_bad_json"},
    {NULL, NULL},
};

/* --------------------------------------------------------------------------------------------------------- look-ups */

static struct fms_json filter_string(struct fms_bytes bytes)
{
    return (struct fms_json){bytes.data == NULL ? FMS_JSON_MISSING : FMS_JSON_STRING, false, bytes};
}

/* The last of that name counts, as in templates. */
static struct fms_json filter_header(const struct fms_record *record, const char *name)
{
    for (size_t i = record->header_count; i-- > 0;) {
        if (strcmp(record->headers[i].name, name) == 0)
            return filter_string(record->headers[i].value);
    }
    return filter_string(fms_bytes_of(NULL, 0));
}

static struct fms_json filter_timestamp(struct filter *self)
{
    int64_t time = self->record->timestamp;

    snprintf(self->timestamp, sizeof self->timestamp, "%lld", (long long)(time / FMS_SECOND));
    return (struct fms_json){time == 0 ? FMS_JSON_MISSING : FMS_JSON_NUMBER, false, fms_text(self->timestamp)};
}

static void filter_decode(struct filter *self, struct field *field, struct fms_json *string)
{
    if (field->capacity < string->text.size) {
        char *grown = realloc(field->decoded, string->text.size);

        if (grown == NULL) {
            self->is_out_of_memory = true;
            return;
        }
        field->decoded = grown;
        field->capacity = string->text.size;
    }
    string->text = fms_bytes_of(field->decoded, fms_json_unescape(self->host, string, field->decoded));
    string->escaped = false;
}

static void filter_look_up(void *user, size_t reference, struct fms_json *value)
{
    struct filter *self = user;
    const struct condition_reference *named = &self->compiled.references[reference];

    switch (named->source) {
    case CONDITION_FIELD:
        fms_json_get(self->host, self->record, self->fields[reference].path, value);
        if (value->escaped)
            filter_decode(self, &self->fields[reference], value);
        break;
    case CONDITION_TOPIC:
        *value = filter_string(self->record->topic);
        break;
    case CONDITION_KEY:
        *value = filter_string(self->record->key);
        break;
    case CONDITION_PAYLOAD:
        *value = filter_string(self->record->payload);
        break;
    case CONDITION_TIMESTAMP:
        *value = filter_timestamp(self);
        break;
    case CONDITION_HEADER:
        *value = filter_header(self->record, named->name);
        break;
    }
}

/* ---------------------------------------------------------------------------------------------------------- verdicts */

static enum fms_verdict filter_verdict(struct filter *self, bool is_kept)
{
    fms_count(self->host, is_kept ? COUNTER_KEPT : COUNTER_DROPPED, 1);
    return is_kept ? FMS_PASS : FMS_DROP;
}

static enum fms_verdict filter_bad_json(struct filter *self, const struct fms_json *why)
{
    fms_count(self->host, COUNTER_BAD_JSON, 1);
    if (self->on_bad_json == BAD_JSON_REJECT)
        return fms_reject(self->host, self->record, "the payload is no JSON object: %.*s", (int)why->text.size,
                          (const char *)why->text.data);
    return filter_verdict(self, self->on_bad_json == BAD_JSON_KEEP);
}

static enum fms_verdict filter_transform(void *instance, const struct fms_record *record)
{
    struct filter *self = instance;
    struct fms_json value;
    bool holds;

    self->record = record;
    if (self->first_field != NULL && fms_json_get(self->host, record, self->first_field->path, &value) != 0)
        return filter_bad_json(self, &value);
    self->is_out_of_memory = false;
    holds = condition_holds(&self->compiled, filter_look_up, self);
    if (self->is_out_of_memory)
        return fms_reject(self->host, record, "no memory to decode a string of the payload");
    return filter_verdict(self, holds == (self->action == ACTION_KEEP));
}

/* -------------------------------------------------------------------------------------------- check, open, close */

static int filter_check(void *instance, const struct fms_host *host)
{
    struct filter *self = instance;
    char error[512];
    int result = condition_compile(&self->compiled, self->condition, error, sizeof error);

    if (result != 0)
        return fms_fail_option(host, "condition", result, "%s", error);
    for (size_t i = 0; i < self->compiled.reference_count; i++) {
        const struct condition_reference *named = &self->compiled.references[i];

        if (named->source != CONDITION_FIELD)
            continue;
        self->fields[i].path = fms_json_path(host, named->name);
        if (self->fields[i].path < 0)
            return fms_fail_option(host, "condition", self->fields[i].path,
                                   "%.100s is no path such as position.lat: %s", named->name,
                                   strerror(-self->fields[i].path));
        if (self->first_field == NULL)
            self->first_field = &self->fields[i];
    }
    return 0;
}

static void filter_close(void *instance)
{
    struct filter *self = instance;

    for (size_t i = 0; i < self->compiled.reference_count; i++)
        free(self->fields[i].decoded);
}

FMS_PLUGIN(.name = "filter", .version = FMS_VERSION, .summary = "Keeps or drops records by a condition",
           .options = filter_options, .counters = filter_counters, .instance_size = sizeof(struct filter),
           .check = filter_check, .close = filter_close, .transform = filter_transform,
           .host = FMS_HOST(struct filter, host));
