/* fuzz_condition.c - the input's first line is a condition, the others are the values of what it names: n for a number, s for
 * a string, b for a boolean, 0 for null, anything else for what is missing. A condition that does not compile says in which
 * column. One that does holds or does not, and then `not (...)` the other way round; it looks up only what it names. Two
 * numbers have one order, that of doubles where these differ; a string matches itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/filter/condition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUES 8

struct values {
    const struct condition *condition;
    struct fms_json items[VALUES];
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void look_up(void *user, size_t reference, struct fms_json *value)
{
    const struct values *values = user;
    const char *name;

    require(reference < values->condition->reference_count);
    name = values->condition->references[reference].name;
    *value = values->items[(unsigned char)(*name - 'a') % VALUES]; /* a is the first */
}

/* A JSON number, or the beginning of one in a text that is none, so that it is one. */
static size_t number_size(const char *text, size_t size)
{
    size_t at = size > 0 && text[0] == '-', digits = 0;

    while (at < size && text[at] >= '0' && text[at] <= '9') {
        at++;
        digits++;
    }
    if (digits == 0)
        return 0;
    if (at + 1 < size && text[at] == '.' && text[at + 1] >= '0' && text[at + 1] <= '9')
        for (at++; at < size && text[at] >= '0' && text[at] <= '9'; at++)
            continue;
    if (at + 1 < size && (text[at] | 0x20) == 'e') {
        size_t sign = text[at + 1] == '-' || text[at + 1] == '+', exponent = at + 1 + sign;

        if (exponent < size && text[exponent] >= '0' && text[exponent] <= '9')
            for (at = exponent; at < size && text[at] >= '0' && text[at] <= '9'; at++)
                continue;
    }
    return at;
}

static struct fms_json value_read(const char *line, size_t size)
{
    struct fms_json value = {FMS_JSON_MISSING, false, {"", 0}};

    if (size == 0)
        return value;
    value.text = fms_bytes_of(line + 1, size - 1);
    if (*line == 's')
        value.type = FMS_JSON_STRING;
    if (*line == '0')
        value.type = FMS_JSON_NULL;
    if (*line == 'b') {
        value.type = FMS_JSON_BOOLEAN;
        value.text = fms_text(size % 2 == 0 ? "true" : "false");
    }
    if (*line == 'n' && (value.text.size = number_size(line + 1, size - 1)) > 0)
        value.type = FMS_JSON_NUMBER;
    return value;
}

static bool holds(const char *text, struct values *values)
{
    static struct condition condition;
    char error[256];

    require(condition_compile(&condition, text, error, sizeof error) == 0);
    values->condition = &condition;
    return condition_holds(&condition, look_up, values);
}

/* The condition's own laws. */
static void check_laws(const char *text, struct values *values, const struct condition *compiled)
{
    char turned[CONDITION_LENGTH + 1];
    bool is_held = holds(text, values);

    require(is_held == holds(text, values));
    /* it fits: no limit is passed by one step and one parenthesis more */
    if (strlen(text) + 6 > CONDITION_LENGTH || compiled->step_count == CONDITION_STEPS || strchr(text, '(') != NULL)
        return;
    snprintf(turned, sizeof turned, "not (%s)", text);
    require(is_held != holds(turned, values));
}

static void check_pairs(struct values *values)
{
    struct fms_json *a = &values->items[0], *b = &values->items[1];
    int less = holds("a < b", values), equal = holds("a = b", values), greater = holds("a > b", values);

    require(less + equal + greater <= 1);
    require(holds("a <= b", values) == ((less || equal) && a->type != FMS_JSON_NULL && a->type != FMS_JSON_BOOLEAN));
    require(holds("b > a", values) == less && holds("b = a", values) == equal);
    if (a->type == FMS_JSON_NUMBER && b->type == FMS_JSON_NUMBER) {
        char x[512], y[512];

        require(less + equal + greater == 1 && holds("a != b", values) == !equal);
        if (a->text.size >= sizeof x || b->text.size >= sizeof y)
            return;
        snprintf(x, sizeof x, "%.*s", (int)a->text.size, (const char *)a->text.data);
        snprintf(y, sizeof y, "%.*s", (int)b->text.size, (const char *)b->text.data);
        require(strtod(x, NULL) >= strtod(y, NULL) || less);
        require(strtod(x, NULL) <= strtod(y, NULL) || greater);
    }
    if (a->type == FMS_JSON_STRING)
        require(holds("a = a and a ~ \"*\" and a >= \"\"", values) &&
                holds("a ~ \"?*\"", values) == (a->text.size > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct condition condition;
    struct values values = {&condition, {{FMS_JSON_MISSING, false, {"", 0}}}};
    char *text = malloc(size + 1), *line = text, error[256];
    char *end = text + size;

    if (size > 0)
        memcpy(text, data, size);
    *end = '\0';
    for (size_t i = 0; line < end && i <= VALUES; i++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));

        newline = newline == NULL ? end : newline;
        if (i > 0)
            values.items[i - 1] = value_read(line, (size_t)(newline - line));
        *newline = '\0';
        line = newline + 1;
    }
    memset(error, 'x', sizeof error);
    if (condition_compile(&condition, text, error, sizeof error) != 0) {
        require(memchr(error, '\0', sizeof error) != NULL && strncmp(error, "column ", 7) == 0);
        require(strtoul(error + 7, NULL, 10) <= strlen(text) + 1);
    } else {
        check_laws(text, &values, &condition);
    }
    check_pairs(&values);
    free(text);
    return 0;
}
