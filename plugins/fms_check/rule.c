/* rule.c - reads rules, and holds values against them.
 *
 *     rule = type [ "optional" ] [ MIN "to" MAX | "one of" CHOICE { "," CHOICE } ]
 *
 * Numbers are decimals from end to end, see decimal.h: neither a bound nor a value is ever rounded. */
#include "rule.h"

#include <stdio.h>

#include "../json_common/text.h"

struct rule_type {
    const char *word;
    enum fms_json_type type;
    const char *article; /* for messages */
};

static const struct rule_type rule_types[] = {
    {"number", FMS_JSON_NUMBER, "a number"},  {"integer", FMS_JSON_NUMBER, "an integer"},
    {"string", FMS_JSON_STRING, "a string"},  {"boolean", FMS_JSON_BOOLEAN, "a boolean"},
    {"object", FMS_JSON_OBJECT, "an object"}, {"array", FMS_JSON_ARRAY, "an array"},
    {"any", FMS_JSON_MISSING, "any value"},
};

#define RULE_TYPES   (sizeof rule_types / sizeof *rule_types)
#define RULE_INTEGER 1 /* its place above */

/* ---------------------------------------------------------------------------------------------------------- reading */

static size_t rule_word(const char *at)
{
    return strcspn(at, " \t");
}

static void rule_skip(const char **at, size_t size)
{
    *at += size;
    *at += strspn(*at, " \t");
}

/* Whether this word is next; then it is passed over. */
static bool rule_take(const char **at, const char *word)
{
    size_t size = rule_word(*at);

    if (size != strlen(word) || memcmp(*at, word, size) != 0)
        return false;
    rule_skip(at, size);
    return true;
}

static const char *rule_read_type(struct rule *rule, const char **at)
{
    for (size_t i = 0; i < RULE_TYPES; i++)
        if (rule_take(at, rule_types[i].word)) {
            rule->type = rule_types[i].type;
            rule->is_any = rule->type == FMS_JSON_MISSING;
            rule->is_integer = i == RULE_INTEGER;
            return NULL;
        }
    return "number, integer, string, boolean, object, array or any";
}

static const char *rule_read_bound(const struct rule *rule, const char **at, struct fms_bytes *text,
                                   struct decimal *bound)
{
    bool is_string = rule->type == FMS_JSON_STRING;

    *text = fms_bytes_of(*at, rule_word(*at));
    if (!decimal_read(bound, *text) || bound->has_more)
        return "a number of at most 19 digits, as in 0 to 300";
    if (is_string && (!bound->is_integer || bound->sign < 0))
        return "a length in bytes, from 0";
    rule_skip(at, text->size);
    return NULL;
}

/* MIN to MAX */
static const char *rule_read_range(struct rule *rule, const char **at)
{
    const char *start = *at, *expected = rule_read_bound(rule, at, &rule->min_text, &rule->min);

    if (expected != NULL)
        return expected;
    if (!rule_take(at, "to"))
        return "\"to\", as in 0 to 300";
    expected = rule_read_bound(rule, at, &rule->max_text, &rule->max);
    if (expected != NULL)
        return expected;
    if (decimal_compare(&rule->min, &rule->max) > 0) {
        *at = start;
        return "the smaller number before the larger";
    }
    rule->has_range = true;
    rule->shortest = (size_t)decimal_scaled(&rule->min, 0);
    rule->longest = (size_t)decimal_scaled(&rule->max, 0);
    return **at == '\0' ? NULL : "nothing more";
}

/* The next of the choices, without the blanks around it; false at their end. */
static bool rule_next_choice(const char **at, struct fms_bytes *choice)
{
    const char *start = *at + strspn(*at, " \t,");
    size_t size = strcspn(start, ",");

    *at = start + size;
    while (size > 0 && (start[size - 1] == ' ' || start[size - 1] == '\t'))
        size--;
    *choice = fms_bytes_of(start, size);
    return size > 0;
}

static const char *rule_read_choices(struct rule *rule, const char **at)
{
    rule->choices = *at;
    for (;;) {
        size_t size = strcspn(*at, ",");

        if (strspn(*at, " \t") >= size)
            return "a choice, as in one of idle, driving";
        *at += size;
        if (**at == '\0')
            return NULL;
        rule_skip(at, 1);
    }
}

const char *rule_read(struct rule *rule, const char *text, const char **at)
{
    const char *expected;

    *at = text + strspn(text, " \t");
    expected = rule_read_type(rule, at);
    if (expected != NULL)
        return expected;
    rule->is_optional = rule_take(at, "optional");
    if (**at == '\0')
        return NULL;
    if (rule->type != FMS_JSON_NUMBER && rule->type != FMS_JSON_STRING)
        return rule->is_optional ? "nothing more" : "\"optional\" or nothing more";
    if (strspn(*at, "-0123456789") > 0)
        return rule_read_range(rule, at);
    if (rule->type == FMS_JSON_NUMBER)
        return rule->is_optional ? "a range such as 0 to 300" : "\"optional\" or a range such as 0 to 300";
    if (rule_take(at, "one") && rule_take(at, "of"))
        return rule_read_choices(rule, at);
    return "\"optional\", a range of bytes such as 1 to 255, or \"one of\" and choices";
}

/* --------------------------------------------------------------------------------------------------------- checking */

static const char *rule_expected(const struct rule *rule)
{
    size_t i = 0;

    while (rule_types[i].type != rule->type || rule->is_integer != (i == RULE_INTEGER))
        i++;
    return rule_types[i].article;
}

const char *rule_found(enum fms_json_type type)
{
    if (type == FMS_JSON_NULL)
        return "null";
    for (size_t i = 0; i < RULE_TYPES; i++)
        if (rule_types[i].type == type)
            return rule_types[i].article;
    return "nothing";
}

static bool rule_out_of_range(const struct rule *rule, struct fms_bytes value, const char *where,
                              struct fms_bytes bound, char *why)
{
    snprintf(why, RULE_WHY, "%s: %s is %s %s", rule->name, text_show(value).text, where, text_show(bound).text);
    return false;
}

static bool rule_check_number(const struct rule *rule, struct fms_bytes value, const struct decimal *number, char *why)
{
    if (rule->is_integer && !number->is_integer) {
        snprintf(why, RULE_WHY, "%s: an integer expected, found %s", rule->name, text_show(value).text);
        return false;
    }
    if (!rule->has_range)
        return true;
    if (decimal_compare(number, &rule->min) < 0)
        return rule_out_of_range(rule, value, "below", rule->min_text, why);
    if (decimal_compare(number, &rule->max) > 0)
        return rule_out_of_range(rule, value, "above", rule->max_text, why);
    return true;
}

static bool rule_check_choice(const struct rule *rule, struct fms_bytes value, char *why)
{
    const char *at = rule->choices;
    struct fms_bytes choice;

    while (rule_next_choice(&at, &choice))
        if (choice.size == value.size && memcmp(choice.data, value.data, value.size) == 0)
            return true;
    snprintf(why, RULE_WHY, "%s: \"%s\" is none of %s", rule->name, text_show(value).text,
             text_show(fms_text(rule->choices)).text);
    return false;
}

static bool is_utf8(struct fms_bytes text)
{
    const char *at = text.data, *end = at + text.size;
    size_t size = 1;

    for (; at < end && size > 0; at += size)
        size = text_character(at, end);
    return size > 0;
}

static bool rule_check_string(const struct rule *rule, struct fms_bytes value, char *why)
{
    if (!is_utf8(value)) {
        snprintf(why, RULE_WHY, "%s: \"%s\" is no UTF-8", rule->name, text_show(value).text);
        return false;
    }
    if (rule->choices != NULL)
        return rule_check_choice(rule, value, why);
    if (!rule->has_range || (value.size >= rule->shortest && value.size <= rule->longest))
        return true;
    snprintf(why, RULE_WHY, "%s: a string of %zu to %zu bytes expected, found one of %zu", rule->name, rule->shortest,
             rule->longest, value.size);
    return false;
}

bool rule_check(const struct rule *rule, const struct fms_json *value, const struct decimal *number, char *why)
{
    if (rule->is_optional && value->type <= FMS_JSON_NULL)
        return true;
    if (value->type == FMS_JSON_MISSING) {
        snprintf(why, RULE_WHY, "no field \"%s\"", rule->name);
        return false;
    }
    if (rule->is_any)
        return true;
    if (value->type != rule->type) {
        snprintf(why, RULE_WHY, "%s: %s expected, found %s", rule->name, rule_expected(rule), rule_found(value->type));
        return false;
    }
    if (rule->type == FMS_JSON_NUMBER)
        return rule_check_number(rule, value->text, number, why);
    return rule->type != FMS_JSON_STRING || rule_check_string(rule, value->text, why);
}
