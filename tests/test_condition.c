/* test_condition.c - the language of filter's conditions, without a host: what holds, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../plugins/filter/condition.h"

struct known {
    enum condition_source source;
    enum fms_json_type type;
    const char *name, *text;
};

/* The one record that all conditions here are held against; what is not in it is missing. */
static const struct known record[] = {
    {CONDITION_FIELD, FMS_JSON_NUMBER, "speed", "96.65"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "rpm", "1316"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "zero", "-0.0"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "big", "12345678901234567890"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "huge", "1e400"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "tiny", "1E-400"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "tenth", "0.10"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "cold", "-12.5"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "axles.0.load", "7"},
    {CONDITION_FIELD, FMS_JSON_STRING, "vehicle_id", "raspi-001"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "fuel-level", "5"},
    {CONDITION_FIELD, FMS_JSON_STRING, "odd name", "odd"},
    {CONDITION_FIELD, FMS_JSON_NUMBER, "and", "1"},
    {CONDITION_FIELD, FMS_JSON_STRING, "größe", "größer"},
    {CONDITION_FIELD, FMS_JSON_STRING, "quoted", "a\"b\\c\nd*"},
    {CONDITION_FIELD, FMS_JSON_STRING, "empty", ""},
    {CONDITION_FIELD, FMS_JSON_BOOLEAN, "on", "true"},
    {CONDITION_FIELD, FMS_JSON_BOOLEAN, "off", "false"},
    {CONDITION_FIELD, FMS_JSON_NULL, "nothing", "null"},
    {CONDITION_FIELD, FMS_JSON_ARRAY, "list", "[1]"},
    {CONDITION_FIELD, FMS_JSON_OBJECT, "thing", "{}"},
    {CONDITION_TOPIC, FMS_JSON_STRING, "", "fms/raspi-001/data"},
    {CONDITION_PAYLOAD, FMS_JSON_STRING, "", "{...}"},
    {CONDITION_TIMESTAMP, FMS_JSON_NUMBER, "", "1763320419"},
    {CONDITION_HEADER, FMS_JSON_STRING, "origin", "east"},
    {CONDITION_HEADER, FMS_JSON_STRING, "fms.reason", "late"},
    {CONDITION_HEADER, FMS_JSON_STRING, "odd name", "odd"},
};

static struct condition condition;
static unsigned looks;

static void look_up(void *user, size_t reference, struct fms_json *value)
{
    const struct condition_reference *wanted = &condition.references[reference];

    (void)user;
    looks++;
    *value = (struct fms_json){FMS_JSON_MISSING, false, {"", 0}};
    for (size_t i = 0; i < sizeof record / sizeof *record; i++) {
        if (record[i].source == wanted->source && strcmp(record[i].name, wanted->name) == 0)
            *value = (struct fms_json){record[i].type, false, fms_text(record[i].text)};
    }
}

static bool holds(const char *text)
{
    char error[256] = "";

    if (condition_compile(&condition, text, error, sizeof error) != 0)
        fail_msg("%s: %s", text, error);
    looks = 0;
    return condition_holds(&condition, look_up, NULL);
}

static void check_all(const char *const *texts, bool expected)
{
    for (; *texts != NULL; texts++) {
        if (holds(*texts) != expected)
            fail_msg("%s %s", *texts, expected ? "does not hold" : "holds");
    }
}

#define HOLD(...)     check_all((const char *const[]){__VA_ARGS__, NULL}, true)
#define HOLD_NOT(...) check_all((const char *const[]){__VA_ARGS__, NULL}, false)

static void test_numbers(void **state)
{
    (void)state;
    HOLD("speed > 90", "speed >= 96.65", "speed <= 96.65", "speed = 96.650", "speed = 9665e-2", "speed != 96.66",
         "90 < speed", "speed > -97", "speed > rpm or rpm > speed", "rpm = 1.316e3", "rpm = 13160E-1", "rpm<1316.0001",
         "zero = 0", "zero = -0e7", "zero > -1e-300", "zero < 1e-300", "cold < -12.4", "cold > -12.6", "cold = -125e-1",
         "tenth = 0.1", "tenth = 1e-1", "axles.0.load = 7", "fuel-level = 5", "rpm > 131.7", "rpm < 13161");
    HOLD_NOT("speed > 96.65", "speed < 96.65", "speed != 96.65", "speed = -96.65", "zero < 0", "zero > 0",
             "cold > -12.5", "cold < -13", "rpm = 131", "rpm = 13160");
}

/* What doubles can't tell apart, or hold. */
static void test_numbers_are_exact(void **state)
{
    (void)state;
    HOLD("big = 12345678901234567890", "big != 12345678901234567891", "big < 12345678901234567891",
         "big > 12345678901234567889", "big = 1234567890123456789e1", "tenth < 0.1000000000000000000000001",
         "huge = 1e400", "huge < 1e401", "huge > 9e399", "tiny > 0", "tiny < 1e-399", "-1e400 < huge",
         "huge < 1e99999999999999999999", "tiny > 1e-99999999999999999999");
    HOLD_NOT("big = 12345678901234567891", "huge = 1e401", "tiny = 0");
}

static void test_strings(void **state)
{
    (void)state;
    HOLD("vehicle_id = \"raspi-001\"", "vehicle_id != \"raspi-00\"", "vehicle_id < \"raspi-002\"",
         "vehicle_id > \"raspi-00\"", "vehicle_id >= \"raspi-001\"", "vehicle_id < \"s\"", "empty = \"\"",
         "empty < \"a\"", "größe > \"größe\"", "quoted = \"a\\\"b\\\\c\\nd*\"", "quoted = \"a\\\"b\\\\c\\nd\\*\"");
    HOLD_NOT("vehicle_id = \"raspi-0011\"", "vehicle_id = \"Raspi-001\"", "vehicle_id < \"raspi-001\"", "empty > \"\"",
             "vehicle_id = \"raspi-*\"");
}

static void test_patterns(void **state)
{
    (void)state;
    HOLD("vehicle_id ~ \"raspi-*\"", "vehicle_id ~ \"*\"", "vehicle_id ~ \"raspi-???\"", "vehicle_id ~ \"*-0*1\"",
         "vehicle_id ~ \"**1\"", "vehicle_id ~ \"raspi-001\"", "vehicle_id ~ \"raspi-001*\"",
         "vehicle_id !~ \"truck-*\"", "$topic ~ \"fms/*/data\"", "$topic ~ \"fms/*\"", "$topic ~ \"*\"",
         "größe ~ \"gr??er\"", "größe ~ \"*öß*\"", "empty ~ \"\"", "empty ~ \"*\"", "quoted ~ \"*d\\*\"",
         "quoted ~ \"a\\\"b?c*\"");
    HOLD_NOT("vehicle_id ~ \"raspi\"", "vehicle_id ~ \"raspi-??\"", "vehicle_id ~ \"raspi-????\"", "vehicle_id ~ \"\"",
             "vehicle_id ~ \"*2\"", "vehicle_id !~ \"raspi-*\"", "vehicle_id ~ \"raspi-\\*\"", "empty ~ \"?\"",
             "größe ~ \"gr???er\"", "vehicle_id ~ \"*1?\"");
}

/* A comparison of what is not alike does not hold, whichever it is. */
static void test_types_are_not_mixed(void **state)
{
    (void)state;
    HOLD_NOT("speed = \"96.65\"", "speed != \"96.65\"", "vehicle_id != 5", "vehicle_id < 5", "on = \"true\"", "on != 1",
             "speed ~ \"*\"", "speed !~ \"*\"", "on ~ \"*\"", "list = list", "list != list", "thing = thing",
             "list = 1", "on < off", "on > off", "on = vehicle_id");
    HOLD("not speed = \"96.65\"", "on = true", "on != false", "off = false", "on != off", "exists(list)",
         "exists(thing)");
}

static void test_missing(void **state)
{
    (void)state;
    HOLD_NOT("gone = 1", "gone != 1", "gone > 1", "gone < 1", "gone = \"\"", "gone ~ \"*\"", "gone !~ \"*\"",
             "gone = null", "gone != null", "gone = gone", "gone in (1, null)", "exists(gone)", "$key = \"\"",
             "exists($key)", "exists($header.gone)");
    HOLD("not gone = 1", "not exists(gone)", "exists(speed)", "exists(nothing)", "exists($topic)",
         "exists($header.origin)", "exists(`odd name`)");
}

static void test_null(void **state)
{
    (void)state;
    HOLD("nothing = null", "speed != null", "vehicle_id != null", "list != null", "null = nothing", "nothing != speed");
    HOLD_NOT("nothing != null", "speed = null", "nothing = 0", "nothing ~ \"*\"", "nothing < speed");
}

static void test_lists(void **state)
{
    (void)state;
    HOLD("rpm in (1, 2, 1316)", "rpm in (1316)", "rpm in (1316, 1, 2)", "vehicle_id in (1, \"raspi-001\", null)",
         "nothing in (null)", "rpm in (speed, rpm)", "not rpm in (1, 2)", "5 in (rpm, fuel-level)");
    HOLD_NOT("rpm in (1, 2)", "rpm in (\"1316\")", "not rpm in (2, 1316)", "nothing in (0, false)");
}

static void test_operands(void **state)
{
    (void)state;
    HOLD("`odd name` = \"odd\"", "`and` = 1", "`speed` > 90", "$payload ~ \"{*}\"", "$timestamp = 1763320419",
         "$timestamp > 1763320418.9", "$header.origin = \"east\"", "$header.fms.reason = \"late\"",
         "$header.`odd name` = \"odd\"", "größe = \"größer\"", "speed>90 and(rpm<2000)", "\tspeed\n>\r90 ");
}

/* not before and before or. */
static void test_precedence(void **state)
{
    static const char *const truth[] = {"rpm = 0", "rpm = 1316"};
    char text[256];

    (void)state;
    for (unsigned bits = 0; bits < 8; bits++) {
        bool a = bits & 1, b = bits & 2, c = bits & 4;
        const char *A = truth[a], *B = truth[b], *C = truth[c];

        snprintf(text, sizeof text, "%s or %s and %s", A, B, C);
        assert_int_equal(holds(text), a || (b && c));
        snprintf(text, sizeof text, "%s and %s or %s", A, B, C);
        assert_int_equal(holds(text), (a && b) || c);
        snprintf(text, sizeof text, "%s and (%s or %s)", A, B, C);
        assert_int_equal(holds(text), a && (b || c));
        snprintf(text, sizeof text, "not %s and %s or not not %s", A, B, C);
        assert_int_equal(holds(text), (!a && b) || c);
        snprintf(text, sizeof text, "not (%s or %s) and %s", A, B, C);
        assert_int_equal(holds(text), !(a || b) && c);
        snprintf(text, sizeof text, "%s or %s or %s", A, B, C);
        assert_int_equal(holds(text), a || b || c);
        snprintf(text, sizeof text, "%s and %s and not (%s and (%s or not %s))", A, B, C, A, B);
        assert_int_equal(holds(text), a && b && !(c && (a || !b)));
    }
}

static void test_stops_when_decided(void **state)
{
    (void)state;
    assert_false(holds("rpm = 0 and speed > 1 and speed > 2"));
    assert_int_equal(looks, 1);
    assert_true(holds("rpm = 1316 or speed > 1 or speed > 2"));
    assert_int_equal(looks, 1);
    assert_true(holds("rpm in (1316, 1, 2)"));
    assert_int_equal(looks, 1);
}

static void test_a_reference_is_told_once(void **state)
{
    (void)state;
    assert_true(
        holds("speed > 90 and (speed < 100 or `speed` = 5) and $topic != \"speed\" and exists($header.origin)"));
    assert_int_equal(condition.reference_count, 3);
    assert_string_equal(condition.references[0].name, "speed");
    assert_int_equal(condition.references[1].source, CONDITION_TOPIC);
    assert_string_equal(condition.references[2].name, "origin");
}

static void test_errors(void **state)
{
#define OPERAND "expected a field, a number, a \"string\", true, false or null, found "
#define COMPARE "expected a comparison (= != < <= > >= ~ !~ in), found "
#define DOLLAR  "expected $topic, $key, $payload, $timestamp or $header.NAME, found "
#define NUMBER  "expected a number such as 90, -1.5 or 1e3 (a field that begins with a digit stands in `), found "
    static const char *const wrong[][2] = {
        {"", "column 1: " OPERAND "the end"},
        {"  ", "column 3: " OPERAND "the end"},
        {"speed", "column 6: " COMPARE "the end behind \"speed\""},
        {"speed > > 90", "column 9: " OPERAND "\">\" behind \"speed >\""},
        {"speed == 90", "column 7: " COMPARE "\"==\" (written = here) behind \"speed\""},
        {"speed <> 90", "column 7: " COMPARE "\"<>\" (written != here) behind \"speed\""},
        {"speed => 90", "column 7: " COMPARE "\"=>\" (written >= here) behind \"speed\""},
        {"speed 90", "column 7: " COMPARE "\"90\" behind \"speed\""},
        {"a = 1 && b = 2", "column 7: expected and, or, or the end, found \"&&\" (written and here) behind \"a = 1\""},
        {"! a = 1", "column 1: " OPERAND "\"!\" (written not here)"},
        {"a = 'x'", "column 5: " OPERAND "\"'\" (written \" here) behind \"a =\""},
        {"a = 90km", "column 5: " NUMBER "\"90km\" behind \"a =\""},
        {"a = 01", "column 5: " NUMBER "\"01\" behind \"a =\""},
        {"a = 1.", "column 5: " NUMBER "\"1.\" behind \"a =\""},
        {"a = -", "column 5: " NUMBER "\"-\" behind \"a =\""},
        {"a = 1e+", "column 5: " NUMBER "\"1e\" behind \"a =\""},
        {"a ~ raspi", "column 5: expected a pattern in double quotes, found \"raspi\" behind \"a ~\""},
        {"a = \"raspi", "column 5: a \" that no other closes behind \"a =\""},
        {"a = \"raspi\\\"", "column 5: a \" that no other closes behind \"a =\""},
        {"`a = 1", "column 1: a ` that no other closes"},
        {"`` = 1", "column 1: expected a field, found an empty name"},
        {"a.b..c = 1", "column 1: an empty part in the path \"a.b..c\""},
        {"a. = 1", "column 1: an empty part in the path \"a.\""},
        {"a = \"\\q\"", "column 6: an unknown escape (known are \\\" \\\\ \\n \\r \\t \\* \\?) behind \"a = \"\""},
        {"a = \"\xff\"", "column 6: a byte that is no UTF-8 behind \"a = \"\""},
        {"$topik = \"a\"", "column 1: " DOLLAR "\"$topik\""},
        {"$ = \"a\"", "column 1: " DOLLAR "\"$\""},
        {"$header = \"a\"", "column 1: " DOLLAR "\"$header\""},
        {"$header. = \"a\"", "column 1: " DOLLAR "\"$header.\""},
        {"$header.`` = \"a\"", "column 1: " DOLLAR "\"$header.``\""},
        {"exists a", "column 8: expected (, found \"a\" behind \"exists\""},
        {"exists(5)", "column 8: expected a field, found a constant behind \"exists(\""},
        {"exists(a", "column 9: expected ), found the end behind \"exists(a\""},
        {"a in 1", "column 6: expected (, found \"1\" behind \"a in\""},
        {"a in ()", "column 7: " OPERAND "\")\" behind \"a in (\""},
        {"a in (1 2)", "column 9: expected , or ), found \"2\" behind \"a in (1\""},
        {"(a = 1", "column 7: expected and, or, or ), found the end behind \"(a = 1\""},
        {"a = 1)", "column 6: expected and, or, or the end, found \")\" behind \"a = 1\""},
        {"a = 1 or and", "column 10: " OPERAND "\"and\" behind \"a = 1 or\""},
        {"not", "column 4: " OPERAND "the end behind \"not\""},
        {"éé = 1 und ö = 2", "column 8: expected and, or, or the end, found \"und\" behind \"éé = 1\""},
        {"\"speed\" > 90",
         "column 9: a comparison of two constants (a field stands without quotes) behind \"\"speed\"\""},
        {"$topic > 5", "column 8: a comparison that never holds, of a string with a number, behind \"$topic\""},
        {"$timestamp ~ \"1*\"",
         "column 12: a comparison that never holds, of a number with a string, behind \"$timestamp\""},
        {"$topic in (\"a\", true)",
         "column 8: a comparison that never holds, of a string with true or false, behind \"$topic\""},
        {"x < true", "column 3: expected = or != (null, true and false have no order) behind \"x\""},
        {"null >= x", "column 6: expected = or != (null, true and false have no order) behind \"null\""},
        {"vehicle_id = \"a long name of a vehicle\" and speed is 9",
         "column 51: " COMPARE "\"is\" behind \"... name of a vehicle\" and speed\""},
    };
    char error[256];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        error[0] = '\0';
        assert_int_equal(condition_compile(&condition, wrong[i][0], error, sizeof error), -EINVAL);
        assert_string_equal(error, wrong[i][1]);
    }
}

/* `head`, then `part` so often, then `tail`; static. */
static const char *repeat(const char *head, const char *part, size_t times, const char *tail)
{
    static char text[65536];
    size_t size = strlen(part);

    strcpy(text, head);
    for (size_t i = 0; i < times; i++)
        strcpy(text + strlen(head) + i * size, part);
    return strcat(text, tail);
}

static const char *refusal(const char *text)
{
    static char error[256];

    assert_int_equal(condition_compile(&condition, text, error, sizeof error), -EINVAL);
    return error;
}

static void test_limits(void **state)
{
    char nested[256];

    (void)state;
    snprintf(nested, sizeof nested, "%s", repeat("rpm = 1316", ")", CONDITION_DEPTH, ""));
    assert_true(holds(repeat("", "(", CONDITION_DEPTH, nested)));
    assert_non_null(strstr(refusal(repeat("", "(", 60000, "")), "longer than 4000 bytes"));
    assert_non_null(strstr(refusal(repeat("", "(", CONDITION_DEPTH + 1, nested)),
                           "column 33: more than 32 parentheses within each other, behind"));

    assert_true(holds(repeat("rpm in (1316", ",1", CONDITION_OPERANDS - 2, ")")));
    assert_non_null(strstr(refusal(repeat("rpm in (1316", ",1", CONDITION_OPERANDS - 1, ")")),
                           "more than 256 fields and values, behind"));
    assert_non_null(strstr(refusal(repeat("rpm in (1316", ",\"\"", CONDITION_OPERANDS - 1, ")")), "more than 256"));
    assert_non_null(strstr(refusal(repeat("rpm in (1316", ",x", CONDITION_OPERANDS - 1, ")")), "more than 256"));

    assert_true(holds(repeat("rpm = 1316", " ", CONDITION_LENGTH - 10, "")));
    assert_non_null(strstr(refusal(repeat("rpm = 1316", " ", CONDITION_LENGTH - 9, "")), "longer than 4000 bytes"));
    assert_true(holds(repeat("", "not ", 900, "rpm = 1316")));
    assert_false(holds(repeat("", "not ", 901, "rpm = 1316")));
}

static void test_too_many_steps(void **state)
{
    char turned[256], many[CONDITION_LENGTH];

    (void)state;
    snprintf(turned, sizeof turned, "%s", repeat("exists(x)", ")", CONDITION_DEPTH, " or "));
    snprintf(turned, sizeof turned, "%s", repeat("", "not(", CONDITION_DEPTH, turned));
    snprintf(many, sizeof many, "%s", repeat("", turned, 20, "x in (1"));
    assert_true(holds(repeat(many, ",1", 100, ") or rpm = 1316")));
    assert_non_null(strstr(refusal(repeat(many, ",1", 200, ")")), "more than 1024 steps, behind"));
}

/* A pool of names and constants that take all the room there can be. */
static void test_a_full_pool(void **state)
{
    char text[CONDITION_LENGTH + 1] = "rpm in (1316";
    size_t size = strlen(text);

    (void)state;
    for (int i = 0; i < CONDITION_OPERANDS - 3; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, ",%c%d", i % 2 == 0 ? 'x' : '1', i);
    size += (size_t)snprintf(text + size, sizeof text - size, ",\"%0*d\")", (int)(CONDITION_LENGTH - size - 4), 0);
    assert_int_equal(size, CONDITION_LENGTH);
    assert_true(holds(text));
    assert_true(condition.pool_size <= sizeof condition.pool);
}

static void test_a_short_message_is_cut(void **state)
{
    char error[16];

    (void)state;
    memset(error, 'x', sizeof error);
    assert_int_equal(condition_compile(&condition, "speed == 90", error, sizeof error), -EINVAL);
    assert_string_equal(error, "column 7: expec");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_numbers_are_exact),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_types_are_not_mixed),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_operands),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_stops_when_decided),
        cmocka_unit_test(test_a_reference_is_told_once),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_too_many_steps),
        cmocka_unit_test(test_a_full_pool),
        cmocka_unit_test(test_a_short_message_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
