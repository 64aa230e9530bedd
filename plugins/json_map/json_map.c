/* json_map - reshapes the top level of a JSON object: which fields stay, how they are called, what is in them.
 *
 * The result is the payload with cuts in it, made from left to right: what no option speaks of is never taken apart, so
 * it keeps its order, its text and its blanks. The members are gone through twice, first to learn where each name stands
 * last, for that one counts; so nothing is kept for a member, however many there are. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../json_common/decimal.h"
#include "../json_common/instant.h"
#include "../json_common/text.h"
#include "fields.h"

struct json_map {
    struct fms_list keep, drop;
    struct fms_pairs rename, set, convert;

    const struct fms_host *host;
    struct fields fields;
    int object; /* the path of all */

    /* of the record in hand */
    struct text_buffer scratch; /* what has escapes, decoded */
    struct text_buffer result;
    size_t used;        /* of it */
    const char *copied; /* the payload is in there up to here, as far as it stays */
    bool is_changed, has_no_memory;
    const char *begin;    /* of the first member */
    const char *end;      /* of the last member that was looked at */
    const char *kept_end; /* of the last that stays; NULL: none yet */
    char digits[INSTANT_TEXT];
    char why[512];
};

static const struct fms_option json_map_options[] = {
    FMS_OPT_LIST(struct json_map, keep, NULL, "fields that stay; all others go"),
    FMS_OPT_LIST(struct json_map, drop, NULL, "fields that go"),
    FMS_OPT_PAIRS(struct json_map, rename, "rename.", "the new name of a field, as in rename.temp = temperature"),
    FMS_OPT_TEMPLATE_PAIRS(struct json_map, set, "set.", "text of a field, new or not, as in set.source = ${topic[1]}"),
    FMS_OPT_PAIRS(
        struct json_map, convert, "convert.",
        "what a field becomes, as in convert.rpm = integer: string, number, integer, boolean, a time as iso8601, "
        "or a Unix time: unix (seconds), unix_ms, unix_us, unix_ns"),
    FMS_OPT_END,
};

enum { COUNTER_PAYLOAD, COUNTER_FIELD };

static const struct fms_metric json_map_counters[] = {
    [COUNTER_PAYLOAD] = {"rejected_payload", "records rejected for their payload, which was no JSON object"},
    [COUNTER_FIELD] = {"rejected_field", "records rejected for a field that could not be set or converted"},
    {NULL, NULL},
};

/* ----------------------------------------------------------------------------------------------------------- writing */

static void json_map_put(struct json_map *self, const char *text, size_t size)
{
    if (self->has_no_memory || !text_reserve(&self->result, self->used + size)) {
        self->has_no_memory = true;
        return;
    }
    memcpy(self->result.data + self->used, text, size); /* NOLINT(clang-analyzer-core.*): never NULL */
    self->used += size;
}

#define PUT(self, literal) json_map_put(self, literal, sizeof(literal) - 1)

/* What stands between `from` and `to` in the payload goes; what comes next is put in its place. */
static void json_map_cut(struct json_map *self, const char *from, const char *to)
{
    json_map_put(self, self->copied, (size_t)(from - self->copied));
    self->copied = to;
    self->is_changed = true;
}

/* The bytes from `at` on that a JSON string takes as they are. */
static size_t json_map_plain(const char *at, const char *end)
{
    const char *start = at;
    size_t size;

    while ((size = text_character(at, end)) > 0 && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\')
        at += size;
    return (size_t)(at - start);
}

/* A byte that it does not. */
static void json_map_put_odd(struct json_map *self, char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    char escape[8];

    if ((c & 0x80) != 0) /* broken UTF-8 becomes U+FFFD */
        PUT(self, "\xef\xbf\xbd");
    else if (found != NULL)
        json_map_put(self, (const char[]){'\\', to[found - from]}, 2);
    else
        json_map_put(self, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c));
}

static void json_map_put_string(struct json_map *self, struct fms_bytes text)
{
    const char *at = text.data, *end = at + text.size;

    PUT(self, "\"");
    while (at < end) {
        size_t size = json_map_plain(at, end);

        json_map_put(self, at, size);
        at += size;
        if (at < end)
            json_map_put_odd(self, *at++);
    }
    PUT(self, "\"");
}

/* -------------------------------------------------------------------------------------------------------- converting */

/* The number as an integer; false: it is none. */
static bool json_map_to_integer(struct json_map *self, struct fms_json *value)
{
    struct decimal number;
    uint64_t whole;
    int size;

    decimal_read(&number, value->text);
    if (number.is_integer)
        return true;
    if (!decimal_whole(&number, &whole))
        return false;
    size = snprintf(self->digits, sizeof self->digits, "%s%llu", number.sign < 0 ? "-" : "", (unsigned long long)whole);
    value->text = fms_bytes_of(self->digits, (size_t)size);
    return true;
}

static bool json_map_to_number(struct fms_json *value)
{
    struct decimal number;

    if (value->type == FMS_JSON_STRING && decimal_read(&number, value->text))
        value->type = FMS_JSON_NUMBER;
    return value->type == FMS_JSON_NUMBER;
}

static bool json_map_is(const struct fms_json *value, const char *text)
{
    return value->text.size == strlen(text) && memcmp(value->text.data, text, value->text.size) == 0;
}

/* true, "true" and 1; false, "false" and 0. */
static bool json_map_to_boolean(struct fms_json *value)
{
    bool is_number = value->type == FMS_JSON_NUMBER;
    bool is_true = json_map_is(value, is_number ? "1" : "true");

    if (value->type == FMS_JSON_BOOLEAN)
        return true;
    if ((!is_number && value->type != FMS_JSON_STRING) || (!is_true && !json_map_is(value, is_number ? "0" : "false")))
        return false;
    *value = (struct fms_json){FMS_JSON_BOOLEAN, false, fms_text(is_true ? "true" : "false")};
    return true;
}

static bool json_map_to_string(struct fms_json *value)
{
    if (value->type == FMS_JSON_NUMBER || value->type == FMS_JSON_BOOLEAN)
        value->type = FMS_JSON_STRING;
    return value->type == FMS_JSON_STRING;
}

/* The time that the value is, a Unix time in whatever unit or ISO 8601, in the form asked for. False: it is none, or has no
 * such form, and `why` may say what is wrong. */
static bool json_map_to_time(struct json_map *self, enum convert form, struct fms_json *value, char *why)
{
    struct instant instant;
    size_t size;

    if ((value->type != FMS_JSON_STRING && value->type != FMS_JSON_NUMBER) ||
        !instant_of_value(&instant, value->text, why))
        return false;
    size = form == CONVERT_ISO8601 ? instant_text(instant, self->digits)
                                   : instant_number(instant, (enum instant_unit)(form - CONVERT_UNIX), self->digits);
    if (size == 0)
        return false;
    value->type = form == CONVERT_ISO8601 ? FMS_JSON_STRING : FMS_JSON_NUMBER;
    value->text = fms_bytes_of(self->digits, size);
    return true;
}

/* Says of what the field cannot be made; false. */
static bool json_map_cannot(struct json_map *self, const struct field *field, const struct fms_json *was,
                            const char *why)
{
    const char *quote = was->type == FMS_JSON_STRING ? "\"" : "";
    bool is_time = field->convert >= CONVERT_ISO8601;

    snprintf(self->why, sizeof self->why, "%s: cannot make %s %s of %s%s%s%s%s", (const char *)field->name.data,
             field->convert == CONVERT_INTEGER ? "an" : "a", is_time ? "time" : convert_types[field->convert], quote,
             text_show(was->text).text, quote, *why != '\0' ? ": " : "", why);
    return false;
}

/* Makes the value, its escapes decoded, what it is to be. False: it cannot be that, and self->why says so. */
static bool json_map_convert(struct json_map *self, const struct field *field, struct fms_json *value)
{
    struct fms_json was = *value;
    char why[INSTANT_WHY] = "";
    bool is_good = false;

    switch (field->convert) {
    case CONVERT_STRING:
        is_good = json_map_to_string(value);
        break;
    case CONVERT_NUMBER:
        is_good = json_map_to_number(value);
        break;
    case CONVERT_INTEGER:
        is_good = json_map_to_number(value) && json_map_to_integer(self, value);
        break;
    case CONVERT_BOOLEAN:
        is_good = json_map_to_boolean(value);
        break;
    case CONVERT_NOT:
        return true;
    default:
        is_good = json_map_to_time(self, field->convert, value, why);
    }
    return is_good || was.type == FMS_JSON_NULL || json_map_cannot(self, field, &was, why);
}

/* ----------------------------------------------------------------------------------------------------------- members */

static struct fms_json json_map_decoded(struct json_map *self, const struct fms_json *string)
{
    struct fms_json plain = *string;

    if (string->escaped) {
        plain.escaped = false;
        plain.text = fms_bytes_of(self->scratch.data, fms_json_unescape(self->host, string, self->scratch.data));
    }
    return plain;
}

static struct field *json_map_field(struct json_map *self, const struct fms_json *name)
{
    return fields_find(&self->fields, json_map_decoded(self, name).text);
}

/* Where a value stands, its quotes with it. */
static const char *json_map_start(const struct fms_json *value)
{
    return (const char *)value->text.data - (value->type == FMS_JSON_STRING);
}

static const char *json_map_end(const struct fms_json *value)
{
    return (const char *)value->text.data + value->text.size + (value->type == FMS_JSON_STRING);
}

/* Puts what the option set says of this field. False: it cannot be had, and self->why says so. */
static bool json_map_put_set(struct json_map *self, const struct field *field, const struct fms_record *record)
{
    struct fms_json value = {FMS_JSON_STRING, false, {NULL, 0}};
    int error = fms_expand(self->host, field->set, record, &value.text);

    if (error == -ENOENT) {
        snprintf(self->why, sizeof self->why, "set.%s: %s", (const char *)field->name.data,
                 (const char *)value.text.data);
        return false;
    }
    if (error != 0) {
        self->has_no_memory = true;
        return true;
    }
    if (!json_map_convert(self, field, &value))
        return false;
    if (value.type == FMS_JSON_STRING)
        json_map_put_string(self, value.text);
    else
        json_map_put(self, value.text.data, value.text.size);
    return true;
}

/* The value of a field that stays. False: it cannot be what it is to be. */
static bool json_map_value(struct json_map *self, const struct field *field, const struct fms_json *value,
                           const struct fms_record *record)
{
    struct fms_json result = *value;

    if (field->set != NULL) {
        json_map_cut(self, json_map_start(value), json_map_end(value));
        return json_map_put_set(self, field, record);
    }
    if (value->type == FMS_JSON_STRING && field->convert > CONVERT_STRING)
        result = json_map_decoded(self, value);
    if (!json_map_convert(self, field, &result))
        return false;
    if (result.type == value->type && result.text.data == value->text.data)
        return true;
    json_map_cut(self, json_map_start(value), json_map_end(value));
    if (result.type == FMS_JSON_STRING)
        PUT(self, "\"");
    json_map_put(self, result.text.data, result.text.size);
    if (result.type == FMS_JSON_STRING)
        PUT(self, "\"");
    return true;
}

/* Takes away what stands between the last member that stays and `to`. */
static void json_map_close_gap(struct json_map *self, const char *to)
{
    const char *from = self->kept_end != NULL ? self->kept_end : self->begin;

    if (from != to)
        json_map_cut(self, from, to);
}

/* One member; source and field are its names before and behind, NULL where no option speaks of it. */
static bool json_map_member(struct json_map *self, const struct fms_json *name, const struct fms_json *value,
                            const struct fms_record *record)
{
    const struct field *source = json_map_field(self, name), *field = source != NULL ? source->to : NULL;
    const char *before = self->end;

    self->end = json_map_end(value);
    if (source == NULL ? self->keep.count > 0 : field == NULL || field_holder(field) != name->text.data)
        return true; /* it goes */
    json_map_close_gap(self, self->kept_end != NULL ? before : json_map_start(name));
    self->kept_end = self->end;
    if (source != field) {
        json_map_cut(self, json_map_start(name), json_map_end(name));
        json_map_put_string(self, field->name);
    }
    return field == NULL || json_map_value(self, field, value, record);
}

/* The fields of the option set that the payload has not. */
static bool json_map_add(struct json_map *self, const struct fms_record *record)
{
    bool is_first = self->kept_end == NULL;

    for (size_t i = 0; i < self->set.count; i++) {
        const struct field *field = fields_find(&self->fields, fms_text(self->set.items[i].name));

        if (field_holder(field) != NULL)
            continue;
        json_map_cut(self, self->end, self->end);
        if (!is_first)
            PUT(self, ",");
        is_first = false;
        json_map_put_string(self, field->name);
        PUT(self, ":");
        if (!json_map_put_set(self, field, record))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- records */

/* Where each name stands last. */
static void json_map_learn(struct json_map *self, struct fms_bytes rest)
{
    struct fms_json name, value;
    struct field *field;

    for (size_t i = 0; i < self->fields.count; i++)
        self->fields.items[i].last = NULL;
    while (fms_json_next(self->host, &rest, &name, &value))
        if ((field = json_map_field(self, &name)) != NULL)
            field->last = name.text.data;
}

/* Makes the result, if it differs. False: the record cannot be mapped, and self->why says so. */
static bool json_map_build(struct json_map *self, const struct fms_record *record, struct fms_bytes object)
{
    const char *behind = (const char *)record->payload.data + record->payload.size;
    struct fms_bytes rest = object;
    struct fms_json name, value;

    json_map_learn(self, object);
    self->used = 0;
    self->copied = record->payload.data;
    self->is_changed = self->has_no_memory = false;
    self->begin = self->end = (const char *)object.data + 1;
    self->kept_end = NULL;
    while (fms_json_next(self->host, &rest, &name, &value)) {
        if (self->end == self->begin)
            self->begin = self->end = json_map_start(&name);
        if (!json_map_member(self, &name, &value, record))
            return false;
    }
    json_map_close_gap(self, self->end);
    if (!json_map_add(self, record))
        return false;
    if (self->is_changed)
        json_map_put(self, self->copied, (size_t)(behind - self->copied));
    return true;
}

static enum fms_verdict json_map_reject(const struct json_map *self, const struct fms_record *record, size_t counter,
                                        const char *before, const char *why)
{
    fms_count(self->host, counter, 1);
    return fms_reject(self->host, record, "%s%s", before, why);
}

static enum fms_verdict json_map_transform(void *instance, const struct fms_record *record)
{
    struct json_map *self = instance;
    struct fms_record child = *record;
    struct fms_json object;

    if (!text_reserve(&self->scratch, record->payload.size))
        return fms_reject(self->host, record, "no memory for a payload of %zu bytes", record->payload.size);
    if (fms_json_get(self->host, record, self->object, &object) != 0)
        return json_map_reject(self, record, COUNTER_PAYLOAD, "the payload is no JSON object: ", object.text.data);
    if (object.type != FMS_JSON_OBJECT)
        return json_map_reject(self, record, COUNTER_PAYLOAD,
                               "the payload is no JSON object: ", "it is an array: split it first");
    if (!json_map_build(self, record, object.text))
        return json_map_reject(self, record, COUNTER_FIELD, "", self->why);
    if (self->has_no_memory)
        return fms_reject(self->host, record, "no memory for what becomes of it");
    child.payload = fms_bytes_of(self->result.data, self->used);
    if (!self->is_changed ||
        (self->used == record->payload.size && memcmp(self->result.data, record->payload.data, self->used) == 0))
        return FMS_PASS;
    return fms_emit_child(self->host, record, &child) == 0 ? FMS_DROP : FMS_AGAIN;
}

/* --------------------------------------------------------------------------------------------- configuration, opening */

static int json_map_fields(const struct json_map *self, const struct fms_host *host, struct fields *fields)
{
    struct map_options options = {self->keep, self->drop, self->rename, self->convert, self->set};

    return fields_make(fields, &options, host);
}

static int json_map_check(void *instance, const struct fms_host *host)
{
    struct fields fields;
    int error = json_map_fields(instance, host, &fields);

    if (error == 0)
        fields_release(&fields);
    return error;
}

static int json_map_open(void *instance, const struct fms_host *host)
{
    struct json_map *self = instance;

    self->host = host;
    self->object = fms_json_path(host, "");
    if (self->object < 0)
        return fms_fail(host, self->object, "no memory for the fields");
    return json_map_fields(self, host, &self->fields);
}

static void json_map_close(void *instance)
{
    struct json_map *self = instance;

    fields_release(&self->fields);
    free(self->scratch.data);
    free(self->result.data);
}

FMS_PLUGIN(.name = "json_map", .version = FMS_VERSION,
           .summary = "Keeps, drops, renames, sets and converts JSON fields", .options = json_map_options,
           .counters = json_map_counters, .instance_size = sizeof(struct json_map), .check = json_map_check,
           .open = json_map_open, .close = json_map_close, .transform = json_map_transform);
