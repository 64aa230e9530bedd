/* condition.c - see condition.h.
 *
 * A recursive descent writes steps for a machine with one register, the result so far: a comparison sets it, `not` turns
 * it, and `and` and `or` are jumps over their right side. So evaluation is one loop over an array, whatever the text.
 *
 * Numbers are compared as decimals, digit by digit: 20-digit integers, 0.1 and 1e400 are what they say, with no
 * rounding and no locale. */
#include "condition.h"

#include <errno.h>
#include <stdio.h>

enum operation {
    EQUAL,
    UNEQUAL,
    LESS,
    LESS_OR_EQUAL,
    GREATER,
    GREATER_OR_EQUAL,
    MATCHES,
    DIFFERS, /* a string that does not match */
    EXISTS,
    NOT,
    JUMP_IF_TRUE,
    JUMP_IF_FALSE,
};

/* A pattern's wildcards, as bytes that never stand in UTF-8. */
#define GLOB_ONE  '\xfe'
#define GLOB_MANY '\xff'

/* ----------------------------------------------------------------------------------------------------------- tokens */

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_QUOTED, TOKEN_DOLLAR, TOKEN_NUMBER, TOKEN_STRING, TOKEN_SYMBOL };

struct token {
    enum token_kind kind;
    const char *at; /* with its quotes */
    size_t size;
};

struct parser {
    struct condition *condition;
    const char *text;
    struct token token; /* the one in hand */
    size_t depth;
    char *error;
    size_t error_size;
};

#define BLANKS     " \t\r\n"
#define FAIL_SHOWN 30 /* bytes of the text in a message */

static bool is_continuation(char c)
{
    return (c & 0xc0) == 0x80;
}

/* "column 9: ... behind "speed >""; for `return fail(...)`. */
static bool fail(const struct parser *p, const char *at, const char *format, ...) FMS_PRINTF(3, 4);
static bool fail(const struct parser *p, const char *at, const char *format, ...)
{
    const char *shown = at - p->text > FAIL_SHOWN ? at - FAIL_SHOWN : p->text, *end = at;
    char message[256];
    size_t column = 1;
    va_list args;

    for (const char *c = p->text; c < at; c++)
        column += !is_continuation(*c);
    while (shown < end && is_continuation(*shown))
        shown++;
    while (end > shown && strchr(BLANKS, end[-1]) != NULL)
        end--;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (end == shown)
        snprintf(p->error, p->error_size, "column %zu: %s", column, message);
    else
        snprintf(p->error, p->error_size, "column %zu: %s behind \"%s%.*s\"", column, message,
                 shown > p->text ? "..." : "", (int)(end - shown), shown);
    return false;
}

/* What others write, and how it is written here. */
static const char *const elsewhere[][2] = {
    {"==", "="}, {"=>", ">="}, {"=<", "<="}, {"&&", "and"}, {"||", "or"}, {"<>", "!="}, {"!", "not"}, {"'", "\""},
};

/* At the token in hand. */
static bool fail_expected(const struct parser *p, const char *expected)
{
    const struct token *token = &p->token;
    size_t size = token->size < FAIL_SHOWN ? token->size : FAIL_SHOWN;

    if (token->kind == TOKEN_END)
        return fail(p, token->at, "expected %s, found the end", expected);
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        if (strlen(elsewhere[i][0]) == size && memcmp(elsewhere[i][0], token->at, size) == 0)
            return fail(p, token->at, "expected %s, found \"%s\" (written %s here)", expected, elsewhere[i][0],
                        elsewhere[i][1]);
    }
    while (size < token->size && size > 0 && is_continuation(token->at[size]))
        size--;
    return fail(p, token->at, "expected %s, found \"%.*s\"", expected, (int)size, token->at);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool begins_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

static size_t word_size(const char *at)
{
    size_t size = 0;

    while (begins_word(at[size]) || is_digit(at[size]) || at[size] == '.' || at[size] == '-')
        size++;
    return size;
}

/* The quote that closes the one at `at`; NULL. */
static const char *closing_quote(const char *at)
{
    char quote = *at++;

    while (*at != '\0' && *at != quote)
        at += quote == '"' && at[0] == '\\' && at[1] != '\0' ? 2 : 1;
    return *at == '\0' ? NULL : at;
}

static bool scan_quoted(struct parser *p, const char *quote, enum token_kind kind)
{
    const char *end = closing_quote(quote);

    if (end == NULL)
        return fail(p, quote, "a %c that no other closes", *quote);
    p->token.kind = kind;
    p->token.size = (size_t)(end + 1 - p->token.at);
    return true;
}

/* $topic, $header.name, $header.`odd name` */
static bool scan_dollar(struct parser *p)
{
    const char *at = p->token.at + 1;
    size_t size = word_size(at);

    p->token.kind = TOKEN_DOLLAR;
    p->token.size = size + 1;
    return size == 0 || at[size - 1] != '.' || at[size] != '`' || scan_quoted(p, at + size, TOKEN_DOLLAR);
}

static const char *skip_digits(const char *at)
{
    while (is_digit(*at))
        at++;
    return at;
}

/* Behind the JSON number at `at`, or NULL if there is none. */
static const char *number_end(const char *at)
{
    at += *at == '-';
    if (!is_digit(*at) || (at[0] == '0' && is_digit(at[1])))
        return NULL;
    at = skip_digits(at);
    if (*at == '.') {
        if (!is_digit(*++at))
            return NULL;
        at = skip_digits(at);
    }
    if (*at == 'e' || *at == 'E') {
        at += at[1] == '+' || at[1] == '-' ? 2 : 1;
        if (!is_digit(*at))
            return NULL;
        at = skip_digits(at);
    }
    return begins_word(*at) || *at == '.' ? NULL : at;
}

static bool scan_number(struct parser *p)
{
    const char *end = number_end(p->token.at);

    if (end == NULL) {
        p->token.size = 1 + word_size(p->token.at + 1);
        return fail_expected(p, "a number such as 90, -1.5 or 1e3 (a field that begins with a digit stands in `)");
    }
    p->token.kind = TOKEN_NUMBER;
    p->token.size = (size_t)(end - p->token.at);
    return true;
}

/* A symbol, or what is none: then nothing expects it. */
static bool scan_symbol(struct parser *p)
{
    static const char *const pairs[] = {"!=", "!~", "<=", ">=", "==", "=>", "=<", "&&", "||", "<>"};

    p->token.kind = TOKEN_SYMBOL;
    p->token.size = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (strncmp(p->token.at, pairs[i], 2) == 0)
            p->token.size = 2;
    }
    return true;
}

/* Takes the next token in hand. */
static bool advance(struct parser *p)
{
    const char *at = p->token.at + p->token.size;

    at += strspn(at, BLANKS);
    p->token.at = at;
    p->token.size = 0;
    if (*at == '\0') {
        p->token.kind = TOKEN_END;
        return true;
    }
    if (*at == '"')
        return scan_quoted(p, at, TOKEN_STRING);
    if (*at == '`')
        return scan_quoted(p, at, TOKEN_QUOTED);
    if (*at == '$')
        return scan_dollar(p);
    if (is_digit(*at) || *at == '-')
        return scan_number(p);
    if (!begins_word(*at))
        return scan_symbol(p);
    p->token.kind = TOKEN_WORD;
    p->token.size = word_size(at);
    return true;
}

static bool token_is(const struct parser *p, enum token_kind kind, const char *text)
{
    return p->token.kind == kind && p->token.size == strlen(text) && memcmp(p->token.at, text, p->token.size) == 0;
}

static bool is_keyword(const struct parser *p)
{
    static const char *const keywords[] = {"and", "or", "not", "in", "exists"};
    bool found = false;

    for (size_t i = 0; i < sizeof keywords / sizeof *keywords && !found; i++)
        found = token_is(p, TOKEN_WORD, keywords[i]);
    return found;
}

static bool expect_symbol(struct parser *p, const char *symbol)
{
    return token_is(p, TOKEN_SYMBOL, symbol) ? advance(p) : fail_expected(p, symbol);
}

/* --------------------------------------------------------------------------------------------------------- operands */

/* There is always room: see the pool's size. */
static char *pool_add(struct condition *condition, const char *text, size_t size)
{
    char *added = condition->pool + condition->pool_size;

    memcpy(added, text, size);
    added[size] = '\0';
    condition->pool_size += size + 1;
    return added;
}

static bool add_operand(struct parser *p, const struct condition_operand *operand, uint16_t *index)
{
    struct condition *condition = p->condition;

    if (condition->operand_count == CONDITION_OPERANDS)
        return fail(p, p->token.at, "more than %d fields and values,", CONDITION_OPERANDS);
    *index = (uint16_t)condition->operand_count;
    condition->operands[condition->operand_count++] = *operand;
    return advance(p);
}

static bool add_constant(struct parser *p, enum fms_json_type type, struct fms_bytes text, uint16_t *index)
{
    struct condition_operand operand = {.is_constant = true, .value = {type, false, text}};

    return add_operand(p, &operand, index);
}

/* The place of the reference, added if it is new; there is always room, as there are no more than operands. */
static size_t reference_add(struct condition *condition, enum condition_source source, const char *name, size_t size)
{
    size_t i = 0;

    while (i < condition->reference_count &&
           (condition->references[i].source != source || strncmp(condition->references[i].name, name, size) != 0 ||
            condition->references[i].name[size] != '\0'))
        i++;
    if (i == condition->reference_count)
        condition->references[condition->reference_count++] = (struct condition_reference){
            source, pool_add(condition, name, size)};
    return i;
}

static bool add_reference(struct parser *p, enum condition_source source, const char *name, size_t size,
                          uint16_t *index)
{
    struct condition_operand operand = {.is_constant = false};

    if (p->condition->operand_count < CONDITION_OPERANDS) /* add_operand complains */
        operand.reference = reference_add(p->condition, source, name, size);
    return add_operand(p, &operand, index);
}

static bool add_field(struct parser *p, const char *path, size_t size, uint16_t *index)
{
    for (size_t i = 0; i < size; i++) {
        if (path[i] == '.' && (i == 0 || i + 1 == size || path[i + 1] == '.'))
            return fail(p, p->token.at, "an empty part in the path \"%.*s\"",
                        (int)(size < FAIL_SHOWN ? size : FAIL_SHOWN), path);
    }
    return size > 0 ? add_reference(p, CONDITION_FIELD, path, size, index)
                    : fail(p, p->token.at, "expected a field, found an empty name");
}

static bool add_dollar(struct parser *p, uint16_t *index)
{
    static const struct {
        const char *word;
        enum condition_source source;
    } known[] = {{"$topic", CONDITION_TOPIC},
                 {"$key", CONDITION_KEY},
                 {"$payload", CONDITION_PAYLOAD},
                 {"$timestamp", CONDITION_TIMESTAMP}};
    static const char header[] = "$header.";
    const char *name = p->token.at + strlen(header), *end = p->token.at + p->token.size;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (token_is(p, TOKEN_DOLLAR, known[i].word))
            return add_reference(p, known[i].source, "", 0, index);
    }
    if (strncmp(p->token.at, header, strlen(header)) == 0 && name < end && *name == '`') {
        name++;
        end--;
    }
    if (strncmp(p->token.at, header, strlen(header)) == 0 && name < end)
        return add_reference(p, CONDITION_HEADER, name, (size_t)(end - name), index);
    return fail_expected(p, "$topic, $key, $payload, $timestamp or $header.NAME");
}

/* The byte that the string's next character stands for; 0, and a failure, for a bad one. */
static char string_byte(const struct parser *p, const char **at, bool is_pattern)
{
    static const char escapes[] = "\"\\nrt*?", meant[] = "\"\\\n\r\t*?";
    const char *found, *start = *at;
    char c = *(*at)++;

    if (c == '\\') {
        found = strchr(escapes, *(*at)++);
        if (found != NULL && *found != '\0')
            return meant[found - escapes];
        fail(p, start, "an unknown escape (known are \\\" \\\\ \\n \\r \\t \\* \\?)");
        return '\0';
    }
    if (c == GLOB_ONE || c == GLOB_MANY) {
        fail(p, start, "a byte that is no UTF-8");
        return '\0';
    }
    if (is_pattern && (c == '*' || c == '?'))
        return c == '*' ? GLOB_MANY : GLOB_ONE;
    return c;
}

static bool add_string(struct parser *p, bool is_pattern, uint16_t *index)
{
    const char *at = p->token.at + 1, *end = p->token.at + p->token.size - 1;
    char *text = p->condition->pool + p->condition->pool_size;
    size_t size = 0;

    if (p->condition->operand_count == CONDITION_OPERANDS)
        return add_constant(p, FMS_JSON_STRING, fms_text(""), index); /* complains */
    while (at < end) {
        char c = string_byte(p, &at, is_pattern);

        if (c == '\0')
            return false;
        text[size++] = c;
    }
    text[size] = '\0';
    p->condition->pool_size += size + 1;
    return add_constant(p, FMS_JSON_STRING, fms_bytes_of(text, size), index);
}

static bool add_number(struct parser *p, uint16_t *index)
{
    const char *text = "";

    if (p->condition->operand_count < CONDITION_OPERANDS)
        text = pool_add(p->condition, p->token.at, p->token.size);
    return add_constant(p, FMS_JSON_NUMBER, fms_bytes_of(text, p->token.size), index);
}

static bool parse_operand(struct parser *p, uint16_t *index)
{
    switch (p->token.kind) {
    case TOKEN_NUMBER:
        return add_number(p, index);
    case TOKEN_STRING:
        return add_string(p, false, index);
    case TOKEN_DOLLAR:
        return add_dollar(p, index);
    case TOKEN_QUOTED:
        return add_field(p, p->token.at + 1, p->token.size - 2, index);
    case TOKEN_WORD:
        if (token_is(p, TOKEN_WORD, "null"))
            return add_constant(p, FMS_JSON_NULL, fms_text("null"), index);
        if (token_is(p, TOKEN_WORD, "true"))
            return add_constant(p, FMS_JSON_BOOLEAN, fms_text("true"), index);
        if (token_is(p, TOKEN_WORD, "false"))
            return add_constant(p, FMS_JSON_BOOLEAN, fms_text("false"), index);
        if (!is_keyword(p))
            return add_field(p, p->token.at, p->token.size, index);
        break;
    case TOKEN_SYMBOL:
    case TOKEN_END:
        break;
    }
    return fail_expected(p, "a field, a number, a \"string\", true, false or null");
}

/* ------------------------------------------------------------------------------------------------------ comparisons */

static bool add_step(struct parser *p, enum operation operation, uint16_t left, uint16_t right)
{
    struct condition *condition = p->condition;

    if (condition->step_count == CONDITION_STEPS)
        return fail(p, p->token.at, "more than %d steps,", CONDITION_STEPS);
    condition->steps[condition->step_count++] = (struct condition_step){(uint16_t)operation, left, right};
    return true;
}

/* What an operand is in every record that has it; FMS_JSON_MISSING: that depends. */
static enum fms_json_type type_of(const struct condition *condition, uint16_t index)
{
    const struct condition_operand *operand = &condition->operands[index];

    if (operand->is_constant)
        return operand->value.type;
    switch (condition->references[operand->reference].source) {
    case CONDITION_FIELD:
        return FMS_JSON_MISSING;
    case CONDITION_TIMESTAMP:
        return FMS_JSON_NUMBER;
    default:
        return FMS_JSON_STRING;
    }
}

static const char *type_name(enum fms_json_type type)
{
    return type == FMS_JSON_NUMBER ? "a number" : type == FMS_JSON_STRING ? "a string" : "true or false";
}

/* Refuses, at `at`, what would be the same for every record. */
static bool add_comparison(struct parser *p, const char *at, enum operation operation, uint16_t left, uint16_t right)
{
    const struct condition *condition = p->condition;
    enum fms_json_type a = type_of(condition, left), b = type_of(condition, right);
    bool is_ordered = operation >= LESS && operation <= GREATER_OR_EQUAL;

    if (condition->operands[left].is_constant && condition->operands[right].is_constant)
        return fail(p, at, "a comparison of two constants (a field stands without quotes)");
    if (is_ordered && (a == FMS_JSON_NULL || a == FMS_JSON_BOOLEAN || b == FMS_JSON_NULL || b == FMS_JSON_BOOLEAN))
        return fail(p, at, "expected = or != (null, true and false have no order)");
    if (a > FMS_JSON_NULL && b > FMS_JSON_NULL && a != b)
        return fail(p, at, "a comparison that never holds, of %s with %s,", type_name(a), type_name(b));
    return add_step(p, operation, left, right);
}

static const struct {
    const char *symbol;
    enum operation operation;
} comparisons[] = {
    {"=", EQUAL},   {"!=", UNEQUAL},          {"<", LESS},    {"<=", LESS_OR_EQUAL},
    {">", GREATER}, {">=", GREATER_OR_EQUAL}, {"~", MATCHES}, {"!~", DIFFERS},
};

#define COMPARISONS (sizeof comparisons / sizeof *comparisons)

static bool parse_pattern(struct parser *p, const char *at, enum operation operation, uint16_t left)
{
    uint16_t right = 0;

    if (p->token.kind != TOKEN_STRING)
        return fail_expected(p, "a pattern in double quotes");
    return add_string(p, true, &right) && add_comparison(p, at, operation, left, right);
}

/* Behind `in`. */
static bool parse_list(struct parser *p, const char *at, uint16_t left)
{
    struct condition *condition = p->condition;
    uint16_t right = 0;

    if (!expect_symbol(p, "(") || !parse_operand(p, &right) || !add_comparison(p, at, EQUAL, left, right))
        return false;
    while (token_is(p, TOKEN_SYMBOL, ",")) {
        if (!add_step(p, JUMP_IF_TRUE, 0, (uint16_t)(condition->step_count + 1)) || !advance(p) ||
            !parse_operand(p, &right) || !add_comparison(p, at, EQUAL, left, right))
            return false;
    }
    return token_is(p, TOKEN_SYMBOL, ")") ? advance(p) : fail_expected(p, ", or )");
}

static bool parse_comparison(struct parser *p)
{
    const char *at;
    uint16_t left = 0, right = 0;
    size_t i = 0;

    if (!parse_operand(p, &left))
        return false;
    at = p->token.at;
    if (token_is(p, TOKEN_WORD, "in"))
        return advance(p) && parse_list(p, at, left);
    while (i < COMPARISONS && !token_is(p, TOKEN_SYMBOL, comparisons[i].symbol))
        i++;
    if (i == COMPARISONS)
        return fail_expected(p, "a comparison (= != < <= > >= ~ !~ in)");
    if (!advance(p))
        return false;
    if (comparisons[i].operation >= MATCHES)
        return parse_pattern(p, at, comparisons[i].operation, left);
    return parse_operand(p, &right) && add_comparison(p, at, comparisons[i].operation, left, right);
}

/* ---------------------------------------------------------------------------------------------------------- grammar */

static bool parse_any(struct parser *p);

static bool parse_exists(struct parser *p)
{
    const char *at;
    uint16_t operand = 0;

    if (!advance(p) || !expect_symbol(p, "("))
        return false;
    at = p->token.at;
    if (!parse_operand(p, &operand))
        return false;
    if (p->condition->operands[operand].is_constant)
        return fail(p, at, "expected a field, found a constant");
    return expect_symbol(p, ")") && add_step(p, EXISTS, operand, 0);
}

static bool parse_group(struct parser *p)
{
    if (++p->depth > CONDITION_DEPTH)
        return fail(p, p->token.at, "more than %d parentheses within each other,", CONDITION_DEPTH);
    if (!advance(p) || !parse_any(p))
        return false;
    p->depth--;
    return token_is(p, TOKEN_SYMBOL, ")") ? advance(p) : fail_expected(p, "and, or, or )");
}

static bool parse_not(struct parser *p)
{
    bool is_turned = false, good;

    while (token_is(p, TOKEN_WORD, "not")) {
        is_turned = !is_turned;
        if (!advance(p))
            return false;
    }
    if (token_is(p, TOKEN_SYMBOL, "("))
        good = parse_group(p);
    else if (token_is(p, TOKEN_WORD, "exists"))
        good = parse_exists(p);
    else
        good = parse_comparison(p);
    return good && (!is_turned || add_step(p, NOT, 0, 0));
}

/* Parts that are joined by a word, which is a jump over the part behind it. */
static bool parse_joined(struct parser *p, const char *word, enum operation jump, bool (*parse_part)(struct parser *))
{
    struct condition *condition = p->condition;

    if (!parse_part(p))
        return false;
    while (token_is(p, TOKEN_WORD, word)) {
        size_t place = condition->step_count;

        if (!add_step(p, jump, 0, 0) || !advance(p) || !parse_part(p))
            return false;
        condition->steps[place].right = (uint16_t)(condition->step_count - 1);
    }
    return true;
}

static bool parse_all(struct parser *p)
{
    return parse_joined(p, "and", JUMP_IF_FALSE, parse_not);
}

static bool parse_any(struct parser *p)
{
    return parse_joined(p, "or", JUMP_IF_TRUE, parse_all);
}

int condition_compile(struct condition *condition, const char *text, char *error, size_t size)
{
    struct parser p = {
        .condition = condition, .text = text, .token = {TOKEN_END, text, 0}, .error = error, .error_size = size};

    condition->reference_count = condition->operand_count = condition->step_count = condition->pool_size = 0;
    if (strlen(text) > CONDITION_LENGTH) {
        fail(&p, text, "longer than %d bytes", CONDITION_LENGTH);
        return -EINVAL;
    }
    if (!advance(&p) || !parse_any(&p))
        return -EINVAL;
    if (p.token.kind != TOKEN_END) {
        fail_expected(&p, "and, or, or the end");
        return -EINVAL;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

/* 0.DIGITS times ten to the power of `exponent`; the digits may have a point among them, which does not count. */
struct decimal {
    int sign; /* -1, 0, 1 */
    const char *digits, *end;
    int64_t exponent;
};

#define EXPONENT_MOST INT64_C(1000000000000000) /* larger ones are taken for this one */

static int64_t exponent_read(const char *at, const char *end)
{
    int64_t value = 0;
    bool is_negative = at < end && *at == '-';

    at += at < end && (*at == '-' || *at == '+');
    for (; at < end && value < EXPONENT_MOST; at++)
        value = value * 10 + (*at - '0');
    value = value < EXPONENT_MOST ? value : EXPONENT_MOST;
    return is_negative ? -value : value;
}

static struct decimal decimal_read(struct fms_bytes text)
{
    const char *at = text.data, *end = at + text.size, *point;
    bool is_negative = at < end && *at == '-';
    struct decimal number;

    at += is_negative;
    number.end = at;
    while (number.end < end && (*number.end | 0x20) != 'e')
        number.end++;
    point = memchr(at, '.', (size_t)(number.end - at));
    number.exponent = (point == NULL ? number.end : point) - at;
    for (; at < number.end && (*at == '0' || *at == '.'); at++)
        number.exponent -= *at == '0';
    number.digits = at;
    number.sign = at == number.end ? 0 : is_negative ? -1 : 1;
    if (number.end < end)
        number.exponent += exponent_read(number.end + 1, end);
    return number;
}

/* Behind the last one come zeros. */
static char decimal_next(struct decimal *number)
{
    if (number->digits < number->end && *number->digits == '.')
        number->digits++;
    return number->digits < number->end ? *number->digits++ : '0';
}

static int number_compare(struct fms_bytes left, struct fms_bytes right)
{
    struct decimal a = decimal_read(left), b = decimal_read(right);

    if (a.sign != b.sign || a.sign == 0)
        return a.sign - b.sign;
    if (a.exponent != b.exponent)
        return a.exponent < b.exponent ? -a.sign : a.sign;
    while (a.digits < a.end || b.digits < b.end) {
        char x = decimal_next(&a), y = decimal_next(&b);

        if (x != y)
            return x < y ? -a.sign : a.sign;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- strings */

static int string_compare(struct fms_bytes left, struct fms_bytes right)
{
    size_t shorter = left.size < right.size ? left.size : right.size;
    int order = shorter == 0 ? 0 : memcmp(left.data, right.data, shorter);

    return order != 0 ? order : (left.size > right.size) - (left.size < right.size);
}

/* On a mismatch the last GLOB_MANY takes one byte more: with its earlier ones there is nothing to gain. */
static bool string_matches(struct fms_bytes text, struct fms_bytes pattern)
{
    const char *at = text.data, *end = at + text.size;
    const char *p = pattern.data, *p_end = p + pattern.size;
    const char *behind_many = NULL, *taken = NULL;

    while (at < end) {
        if (p < p_end && *p == GLOB_MANY) {
            behind_many = ++p;
            taken = at;
        } else if (p < p_end && *p == GLOB_ONE) {
            p++;
            for (at++; at < end && is_continuation(*at); at++)
                continue;
        } else if (p < p_end && *p == *at) {
            p++;
            at++;
        } else if (behind_many != NULL) {
            p = behind_many;
            at = ++taken;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == GLOB_MANY)
        p++;
    return p == p_end;
}

/* ------------------------------------------------------------------------------------------------------- evaluation */

static bool order_holds(enum operation operation, int order)
{
    switch (operation) {
    case EQUAL:
        return order == 0;
    case UNEQUAL:
        return order != 0;
    case LESS:
        return order < 0;
    case LESS_OR_EQUAL:
        return order <= 0;
    case GREATER:
        return order > 0;
    default:
        return order >= 0;
    }
}

static bool comparison_holds(enum operation operation, const struct fms_json *left, const struct fms_json *right)
{
    if (left->type == FMS_JSON_MISSING || right->type == FMS_JSON_MISSING)
        return false;
    if (left->type == FMS_JSON_NULL || right->type == FMS_JSON_NULL)
        return (operation == EQUAL && left->type == right->type) || (operation == UNEQUAL && left->type != right->type);
    if (left->type != right->type || left->type > FMS_JSON_STRING)
        return false;
    if (operation == MATCHES || operation == DIFFERS)
        return left->type == FMS_JSON_STRING && string_matches(left->text, right->text) == (operation == MATCHES);
    if (left->type == FMS_JSON_NUMBER)
        return order_holds(operation, number_compare(left->text, right->text));
    if (left->type == FMS_JSON_BOOLEAN && operation > UNEQUAL)
        return false;
    return order_holds(operation, string_compare(left->text, right->text));
}

static const struct fms_json *operand_value(const struct condition *condition, uint16_t index,
                                            condition_look_up look_up, void *user, struct fms_json *found)
{
    const struct condition_operand *operand = &condition->operands[index];

    if (operand->is_constant)
        return &operand->value;
    look_up(user, operand->reference, found);
    return found;
}

bool condition_holds(const struct condition *condition, condition_look_up look_up, void *user)
{
    bool result = false;

    for (size_t at = 0; at < condition->step_count; at++) {
        const struct condition_step *step = &condition->steps[at];
        struct fms_json left, right;

        switch ((enum operation)step->operation) {
        case NOT:
            result = !result;
            break;
        case JUMP_IF_TRUE:
        case JUMP_IF_FALSE:
            if (result == (step->operation == JUMP_IF_TRUE))
                at = step->right;
            break;
        case EXISTS:
            look_up(user, condition->operands[step->left].reference, &left);
            result = left.type != FMS_JSON_MISSING;
            break;
        default:
            result = comparison_holds((enum operation)step->operation,
                                      operand_value(condition, step->left, look_up, user, &left),
                                      operand_value(condition, step->right, look_up, user, &right));
        }
    }
    return result;
}
