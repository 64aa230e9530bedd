/* fms_check - lets only telemetry pass that is as it should be; the rest is rejected, with field and reason.
 *
 * The core finds all fields of a record in one pass; a second one, over the keys of the top level alone, sees what that
 * cannot: unknown fields and keys that stand twice. Nothing is allocated for a record: the buffer serves what has
 * escapes, and timestamps that are repaired, and is as large as the largest record that had some. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../json_common/instant.h"
#include "../json_common/text.h"
#include "keys.h"
#include "rule.h"

#define CHECK_AGE (INT64_C(36500) * 86400 * FMS_SECOND)

enum unknown { UNKNOWN_ALLOW, UNKNOWN_REJECT };
enum other { OTHER_REJECT, OTHER_REPAIR, OTHER_ALLOW }; /* than Unix seconds */

/* What is counted of a record; the faults stand behind the first. */
enum count { COUNT_REPAIRED, COUNT_PAYLOAD, COUNT_KEYS, COUNT_MISSING, COUNT_FIELD, COUNT_TIME };

struct fms_check {
    struct fms_pairs fields;
    int unknown; /* enum unknown */
    int64_t max_fields;
    const char *timestamp;
    int64_t max_age, max_ahead;
    int other_units, iso8601; /* enum other */

    const struct fms_host *host;
    struct rule *rules;
    size_t rule_count;
    const struct rule *time_rule; /* NULL: the time is not looked at */
    int object;                   /* the path of all */
    struct keys keys;

    const struct fms_record *record; /* in hand */
    struct text_buffer buffer;
    size_t decoded;            /* bytes of it that hold keys */
    struct fms_bytes replaced; /* in the payload, by `seconds`; data == NULL: nothing */
    char seconds[INSTANT_TEXT];
    enum count fault;
    char why[RULE_WHY];
};

static const struct fms_option fms_check_options[] = {
    FMS_OPT_PAIRS(struct fms_check, fields, "field.",
                  "what a field must be, as in field.speed = number 0 to 300 or field.position.lat = number; any of "
                  "these replace the mission's five"),
    FMS_OPT_CHOICE(struct fms_check, unknown, "allow", "allow|reject", "fields at the top level that no rule names"),
    FMS_OPT_INTEGER(struct fms_check, max_fields, "1000", 1, 1000000,
                    "fields at the top level that a record may have, beyond which it is rejected"),
    FMS_OPT_STRING(struct fms_check, timestamp, "timestamp",
                   "the field that holds the time in Unix seconds; empty: none"),
    FMS_OPT_DURATION(struct fms_check, max_age, "0", 0, CHECK_AGE, "the time may be so long ago; 0: any"),
    FMS_OPT_DURATION(struct fms_check, max_ahead, "0", 0, CHECK_AGE, "the time may be so far in the future; 0: any"),
    FMS_OPT_CHOICE(
        struct fms_check, other_units, "reject", "reject|repair|allow",
        "a time that makes sense only in milliseconds (from 10^11), microseconds (10^14) or nanoseconds (10^17); "
        "repair: it is rewritten in seconds"),
    FMS_OPT_CHOICE(struct fms_check, iso8601, "reject", "reject|repair|allow",
                   "a time that is a string such as 2025-11-16T19:13:39Z; reject: strings are no times; repair: it is "
                   "rewritten in seconds"),
    FMS_OPT_END,
};

static const struct fms_metric fms_check_counters[] = {
    [COUNT_REPAIRED] = {"repaired", "records whose time was rewritten in seconds"},
    [COUNT_PAYLOAD] = {"rejected_payload", "records rejected for their payload, which was no JSON object"},
    [COUNT_KEYS] = {"rejected_keys", "records rejected for their fields' names: unknown, twice, too many"},
    [COUNT_MISSING] = {"rejected_missing", "records rejected for a field that they lacked"},
    [COUNT_FIELD] = {"rejected_field", "records rejected for a field that was not as its rule says"},
    [COUNT_TIME] = {"rejected_time", "records rejected for their time: none, of another unit, too far from now"},
    {NULL, NULL},
};

static const struct fms_pair mission[] = {
    {.name = "vehicle_id", .value = "string 1 to 255"}, {.name = "timestamp", .value = "integer"},
    {.name = "speed", .value = "number 0 to 300"},      {.name = "rpm", .value = "number 0 to 20000"},
    {.name = "fuel_level", .value = "number 0 to 100"},
};

/* ------------------------------------------------------------------------------------------------------------- time */

/* Whether `gap` is at most so long; `where` it lies, and the option that says so, are for the reason. */
static bool fms_check_gap(struct fms_check *self, struct fms_bytes value, struct instant gap, int64_t most,
                          const char *where, const char *option)
{
    struct instant bound = instant_of_nanoseconds(most);

    if (most == 0 || gap.seconds < bound.seconds ||
        (gap.seconds == bound.seconds && gap.nanoseconds <= bound.nanoseconds))
        return true;
    snprintf(self->why, sizeof self->why, "%s: %s is %lld.%03d s %s; %s is %lld.%03d s", self->timestamp,
             text_show(value).text, (long long)gap.seconds, (int)(gap.nanoseconds / FMS_MS), where, option,
             (long long)bound.seconds, (int)(bound.nanoseconds / FMS_MS));
    return false;
}

static bool fms_check_age(struct fms_check *self, struct fms_bytes value, struct instant then)
{
    struct instant now;

    if (self->max_age == 0 && self->max_ahead == 0)
        return true;
    now = instant_of_nanoseconds(fms_realtime(self->host));
    return fms_check_gap(self, value, instant_between(then, now), self->max_age, "ago", "max_age") &&
           fms_check_gap(self, value, instant_between(now, then), self->max_ahead, "ahead", "max_ahead");
}

/* Makes the value what is to stand there in place of what stands there. */
static void fms_check_repair(struct fms_check *self, struct fms_json *value, struct decimal *number,
                             struct fms_bytes stands, struct instant instant)
{
    size_t size = instant_number(instant, INSTANT_SECONDS, self->seconds);

    self->replaced = stands;
    *value = (struct fms_json){FMS_JSON_NUMBER, false, fms_bytes_of(self->seconds, size)};
    decimal_read(number, value->text);
}

static bool fms_check_unix_time(struct fms_check *self, struct fms_json *value, struct decimal *number)
{
    struct instant instant;
    enum instant_unit unit = instant_of_number(&instant, number);

    if (unit == INSTANT_NO_UNIT) {
        snprintf(self->why, sizeof self->why, "%s: %s is no Unix time, in whatever unit", self->timestamp,
                 text_show(value->text).text);
        return false;
    }
    if (unit != INSTANT_SECONDS && self->other_units == OTHER_REJECT) {
        snprintf(self->why, sizeof self->why, "%s: %s must be %s; seconds expected", self->timestamp,
                 text_show(value->text).text, instant_units[unit]);
        return false;
    }
    if (!fms_check_age(self, value->text, instant))
        return false;
    if (unit != INSTANT_SECONDS && self->other_units == OTHER_REPAIR)
        fms_check_repair(self, value, number, value->text, instant);
    return true;
}

static bool fms_check_iso8601(struct fms_check *self, struct fms_json *value, struct decimal *number)
{
    struct fms_json stands;
    struct instant instant;
    char why[INSTANT_WHY];

    if (!instant_of_text(&instant, value->text, why)) {
        snprintf(self->why, sizeof self->why, "%s: \"%s\" is no time: %s", self->timestamp, text_show(value->text).text,
                 why);
        return false;
    }
    if (!fms_check_age(self, value->text, instant))
        return false;
    if (self->iso8601 != OTHER_REPAIR)
        return true;
    fms_json_get(self->host, self->record, self->time_rule->path, &stands); /* the value's escapes are decoded */
    stands.text = fms_bytes_of((const char *)stands.text.data - 1, stands.text.size + 2);
    fms_check_repair(self, value, number, stands.text, instant);
    return true;
}

/* `number` is the value if it is one. What is neither a number nor a string is for the rule, unless its age is asked for: null
 * has none, and any takes it. */
static bool fms_check_time(struct fms_check *self, struct fms_json *value, struct decimal *number)
{
    if (value->type == FMS_JSON_NUMBER)
        return fms_check_unix_time(self, value, number);
    if (value->type == FMS_JSON_STRING && self->iso8601 != OTHER_REJECT)
        return fms_check_iso8601(self, value, number);
    if (value->type == FMS_JSON_MISSING || !self->time_rule->is_any || (self->max_age == 0 && self->max_ahead == 0) ||
        (value->type == FMS_JSON_NULL && self->time_rule->is_optional))
        return true;
    snprintf(self->why, sizeof self->why, "%s: a time expected, found %s", self->timestamp, rule_found(value->type));
    return false;
}

/* ------------------------------------------------------------------------------------------------------------ fields */

/* Decodes a string's escapes into the buffer from `at` on, which has room for the whole payload. */
static struct fms_bytes fms_check_decode(struct fms_check *self, const struct fms_json *string, size_t at)
{
    char *to = self->buffer.data + at;

    return fms_bytes_of(to, fms_json_unescape(self->host, string, to));
}

static bool fms_check_key(struct fms_check *self, const struct fms_json *name)
{
    struct fms_bytes key = name->text;
    enum key_verdict verdict;

    if (name->escaped) {
        key = fms_check_decode(self, name, self->decoded);
        self->decoded += key.size;
    }
    verdict = keys_meet(&self->keys, key);
    if (verdict == KEY_KNOWN || (verdict == KEY_UNKNOWN && self->unknown == UNKNOWN_ALLOW))
        return true;
    if (verdict == KEY_TOO_MANY)
        snprintf(self->why, sizeof self->why, "more than %lld fields", (long long)self->max_fields);
    else
        snprintf(self->why, sizeof self->why,
                 verdict == KEY_TWICE ? "the field \"%s\" stands twice" : "unknown field \"%s\"", text_show(key).text);
    return false;
}

static bool fms_check_keys(struct fms_check *self, struct fms_bytes object)
{
    struct fms_json name, value;

    self->fault = COUNT_KEYS;
    self->decoded = 0;
    keys_begin(&self->keys);
    while (fms_json_next(self->host, &object, &name, &value))
        if (!fms_check_key(self, &name))
            return false;
    return true;
}

/* Holds one field against its rule. */
static bool fms_check_field(struct fms_check *self, const struct rule *rule, struct fms_json *value)
{
    struct decimal number;

    if (value->escaped) {
        value->text = fms_check_decode(self, value, 0);
        value->escaped = false;
    }
    if (value->type == FMS_JSON_NUMBER)
        decimal_read(&number, value->text);
    self->fault = COUNT_TIME;
    if (rule == self->time_rule && !fms_check_time(self, value, &number))
        return false;
    self->fault = value->type == FMS_JSON_MISSING ? COUNT_MISSING : COUNT_FIELD;
    return rule_check(rule, value, &number, self->why);
}

static bool fms_check_fields(struct fms_check *self, const struct fms_record *record)
{
    struct fms_json value;

    self->record = record;
    self->replaced.data = NULL;
    for (size_t i = 0; i < self->rule_count; i++) {
        fms_json_get(self->host, record, self->rules[i].path, &value);
        if (!fms_check_field(self, &self->rules[i], &value))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- records */

static enum fms_verdict fms_check_reject(const struct fms_check *self, const struct fms_record *record,
                                         const char *before, const char *why)
{
    fms_count(self->host, self->fault, 1);
    return fms_reject(self->host, record, "%s%s", before, why);
}

/* The record with the time that it should have. */
static enum fms_verdict fms_check_emit(struct fms_check *self, const struct fms_record *record)
{
    const char *payload = record->payload.data;
    struct fms_record child = *record;
    size_t before = (size_t)((const char *)self->replaced.data - payload), size = strlen(self->seconds);
    size_t behind = record->payload.size - before - self->replaced.size;
    char *to = self->buffer.data;

    memcpy(to, payload, before);
    memcpy(to + before, self->seconds, size);
    memcpy(to + before + size, payload + before + self->replaced.size, behind);
    child.payload = fms_bytes_of(to, before + size + behind);
    if (fms_emit_child(self->host, record, &child) != 0)
        return FMS_AGAIN;
    fms_count(self->host, COUNT_REPAIRED, 1);
    return FMS_DROP;
}

static enum fms_verdict fms_check_transform(void *instance, const struct fms_record *record)
{
    struct fms_check *self = instance;
    struct fms_json object;

    self->fault = COUNT_PAYLOAD;
    if (!text_reserve(&self->buffer, record->payload.size + sizeof self->seconds))
        return fms_check_reject(self, record, "", "no memory for its payload");
    if (fms_json_get(self->host, record, self->object, &object) != 0)
        return fms_check_reject(self, record, "the payload is no JSON object: ", object.text.data);
    if (object.type != FMS_JSON_OBJECT)
        return fms_check_reject(self, record, "the payload is no JSON object: ", "it is an array: split it first");
    if (!fms_check_keys(self, object.text) || !fms_check_fields(self, record))
        return fms_check_reject(self, record, "", self->why);
    return self->replaced.data == NULL ? FMS_PASS : fms_check_emit(self, record);
}

/* --------------------------------------------------------------------------------------------- configuration, opening */

static struct fms_pairs fms_check_pairs(const struct fms_check *self)
{
    struct fms_pairs ours = {mission, sizeof mission / sizeof *mission};

    return self->fields.count > 0 ? self->fields : ours;
}

/* In characters, from 1. */
static size_t fms_check_column(const char *text, const char *at)
{
    size_t column = 1;

    for (; text < at; text++)
        column += (*text & 0xc0) != 0x80;
    return column;
}

static int fms_check_read(const struct fms_host *host, const struct fms_pair *pair, struct rule *rule)
{
    const char *at, *expected;

    *rule = (struct rule){.name = pair->name, .path = fms_json_path(host, pair->name)};
    if (rule->path < 0 && rule->path != -EINVAL)
        return fms_fail(host, rule->path, "no memory for the fields");
    if (rule->path < 0)
        return fms_fail_option(host, pair->option, -EINVAL, "\"%s\" is no path; expected one such as position.lat",
                               pair->name);
    expected = rule_read(rule, pair->value, &at);
    if (expected == NULL)
        return 0;
    return fms_fail_option(host, pair->option, -EINVAL, "\"%s\", column %zu: expected %s, found %s%.*s%s", pair->value,
                           fms_check_column(pair->value, at), expected, *at == '\0' ? "the end" : "\"",
                           (int)strcspn(at, " \t"), at, *at == '\0' ? "" : "\"");
}

static bool fms_check_needs_time(const struct fms_check *self)
{
    return self->max_age > 0 || self->max_ahead > 0 || self->other_units == OTHER_REPAIR ||
           self->iso8601 != OTHER_REJECT;
}

/* Whether the rule of the time lets pass what the options ask for. */
static int fms_check_time_rule(const struct fms_check *self, const struct fms_host *host, const char *option,
                               const struct rule *rule)
{
    if (self->iso8601 == OTHER_ALLOW && rule->type != FMS_JSON_STRING && !rule->is_any)
        return fms_fail_option(host, option, -EINVAL,
                               "the rule of the time (timestamp = %s) must be any or string for iso8601 = allow",
                               self->timestamp);
    if (self->iso8601 == OTHER_ALLOW || rule->type == FMS_JSON_NUMBER || !fms_check_needs_time(self))
        return 0;
    return fms_fail_option(host, option, -EINVAL,
                           "the rule of the time (timestamp = %s) must be number or integer for max_age, max_ahead, "
                           "other_units = repair and iso8601 = repair",
                           self->timestamp);
}

static int fms_check_check(void *instance, const struct fms_host *host)
{
    struct fms_check *self = instance;
    struct fms_pairs pairs = fms_check_pairs(self);
    struct fms_pair time = {.name = self->timestamp, .value = "any", .option = "timestamp"};
    struct rule rule;

    for (size_t i = 0; i < pairs.count; i++) {
        int error = fms_check_read(host, &pairs.items[i], &rule);

        if (error == 0 && strcmp(rule.name, self->timestamp) == 0)
            error = fms_check_time_rule(self, host, pairs.items[i].option, &rule);
        if (error != 0)
            return error;
    }
    if (*self->timestamp == '\0' && fms_check_needs_time(self))
        return fms_fail_option(
            host, "timestamp", -EINVAL,
            "is empty; max_age, max_ahead, other_units = repair and iso8601 need the path of the time");
    return *self->timestamp != '\0' ? fms_check_read(host, &time, &rule) : 0;
}

/* The rules know the first part of each path. */
static void fms_check_add(struct fms_check *self, const struct fms_host *host, const struct fms_pair *pair)
{
    struct rule *rule = &self->rules[self->rule_count++];

    fms_check_read(host, pair, rule);
    keys_know(&self->keys, fms_bytes_of(rule->name, strcspn(rule->name, ".")));
    if (strcmp(rule->name, self->timestamp) == 0)
        self->time_rule = rule;
}

static int fms_check_open(void *instance, const struct fms_host *host)
{
    struct fms_check *self = instance;
    struct fms_pairs pairs = fms_check_pairs(self);
    struct fms_pair time = {.name = self->timestamp, .value = "any optional"};

    self->host = host;
    self->object = fms_json_path(host, "");
    self->rules = calloc(pairs.count + 1, sizeof *self->rules);
    if (self->object < 0 || self->rules == NULL || !keys_init(&self->keys, pairs.count + 1, (size_t)self->max_fields)) {
        free(self->rules);
        return fms_fail(host, -ENOMEM, "no memory for the rules and %lld fields", (long long)self->max_fields);
    }
    for (size_t i = 0; i < pairs.count; i++)
        fms_check_add(self, host, &pairs.items[i]);
    if (self->max_age > 0 || self->max_ahead > 0) /* what has no time cannot be told to be of age */
        time.value = self->iso8601 == OTHER_ALLOW ? "any" : "number";
    if (self->time_rule == NULL && *self->timestamp != '\0')
        fms_check_add(self, host, &time);
    return 0;
}

static void fms_check_close(void *instance)
{
    struct fms_check *self = instance;

    keys_release(&self->keys);
    free(self->rules);
    free(self->buffer.data);
}

FMS_PLUGIN(.name = "fms_check", .version = FMS_VERSION,
           .summary = "Rejects telemetry that lacks a field, or whose fields or time are not as they should be",
           .options = fms_check_options, .counters = fms_check_counters, .instance_size = sizeof(struct fms_check),
           .check = fms_check_check, .open = fms_check_open, .close = fms_check_close,
           .transform = fms_check_transform);
