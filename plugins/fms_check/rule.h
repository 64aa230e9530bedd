/* rule.h - what a field must be: "number 0 to 300", "string optional one of idle, driving". */
#ifndef CHECK_RULE_H
#define CHECK_RULE_H

#include <fms_plugin.h>

#include "../json_common/decimal.h"

struct rule {
    const char *name; /* the path, for messages */
    int path;         /* of fms_json_path */
    enum fms_json_type type;
    bool is_any, is_integer, is_optional;
    bool has_range;
    struct fms_bytes min_text, max_text; /* as they stand in the rule */
    struct decimal min, max;             /* of a number */
    size_t shortest, longest;            /* of a string, in bytes */
    const char *choices;                 /* NULL, or "a, b, c" */
};

/* Reads a rule, whose text the rule then points into. NULL: it is one. Else what is expected at *at. */
const char *rule_read(struct rule *rule, const char *text, const char **at);

/* A type as reasons name it: "a string". */
const char *rule_found(enum fms_json_type type);

/* What a reason holds at most: a name, a value, choices. */
#define RULE_WHY 512

/* Whether the value is as the rule says; `why` says what is wrong. A string's escapes are decoded; `number` is the value
 * as a number if it is one. */
bool rule_check(const struct rule *rule, const struct fms_json *value, const struct decimal *number, char *why);

#endif
