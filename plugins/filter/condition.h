/* condition.h - a condition over a record, such as speed > 90 and vehicle_id ~ "raspi-*".
 *
 * Pure: it knows no host and no record, only names; what they stand for it asks of a look-up. README.md has the
 * language. */
#ifndef CONDITION_H
#define CONDITION_H

#include <fms_plugin.h>

#define CONDITION_LENGTH   4000 /* bytes of text */
#define CONDITION_DEPTH    32   /* parentheses within parentheses */
#define CONDITION_OPERANDS 256
#define CONDITION_STEPS    1024

enum condition_source {
    CONDITION_FIELD, /* of the payload, by path */
    CONDITION_TOPIC,
    CONDITION_KEY,
    CONDITION_PAYLOAD,
    CONDITION_TIMESTAMP,
    CONDITION_HEADER,
};

/* Something of the record that a condition names. */
struct condition_reference {
    enum condition_source source;
    const char *name; /* the path, or the header's name; else "" */
};

struct condition_operand {
    bool is_constant;
    size_t reference;      /* of one that is not: its place in `references` */
    struct fms_json value; /* of a constant */
};

/* One step of the evaluation, which has a result so far. */
struct condition_step {
    uint16_t operation;
    uint16_t left;  /* operand */
    uint16_t right; /* operand; of a jump: the last step that it passes over */
};

/* Not to be moved: it points into itself. */
struct condition {
    struct condition_reference references[CONDITION_OPERANDS]; /* each stands here once */
    size_t reference_count;
    struct condition_operand operands[CONDITION_OPERANDS];
    size_t operand_count;
    struct condition_step steps[CONDITION_STEPS];
    size_t step_count;
    char pool[CONDITION_LENGTH + CONDITION_OPERANDS]; /* names and constants, each with a NUL byte behind it */
    size_t pool_size;
};

/* 0; or -EINVAL, and `error` says where, what was found and what is expected: "column 9: expected ...". */
int condition_compile(struct condition *condition, const char *text, char *error, size_t size);

/* What a reference stands for; a string without escapes, a number as JSON writes it. Valid until condition_holds has
 * returned. */
typedef void (*condition_look_up)(void *user, size_t reference, struct fms_json *value);

/* Neither allocates nor recurses. */
bool condition_holds(const struct condition *condition, condition_look_up look_up, void *user);

#endif
