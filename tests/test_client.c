/* test_client.c - what is shown of text and of documents that others have made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "draw.h"
#include "lines.h"
#include "passing.h"
#include "text.h"

static const char *clean(const char *text, size_t n)
{
    static char to[256];

    text_clean(text, n, to, sizeof to);
    return to;
}

static void nothing_that_commands_a_terminal_is_left(void **state)
{
    (void)state;
    assert_string_equal(clean("\033[2J\a\r\n\tx\x7f", 10), "\\x1b[2J\\a\\r\\n\\tx\\x7f");
    assert_string_equal(clean("\x7f\0z", 3), "\\x7f\\x00z");
    assert_string_equal(clean("\xc2\x9b"
                              "31m",
                              5),
                        "\\u009b31m"); /* a CSI of one character */
    assert_string_equal(clean("\xe2\x80\xae"
                              "evil",
                              7),
                        "\\u202eevil"); /* from right to left */
    assert_string_equal(clean("\xc0\x9b|\xed\xa0\x80|\xf5\x80|\xe6", 10), "\\xc0\\x9b|\\xed\\xa0\\x80|\\xf5\\x80|");
    assert_string_equal(clean("\xe6\xa3", 2), "\\xe6\\xa3"); /* the character is not whole */
    for (unsigned byte = 0; byte < 256; byte++) {
        char one = (char)byte;

        for (const char *c = clean(&one, 1); *c != '\0'; c++)
            assert_true(*c >= 0x20 && *c < 0x7f);
    }
}

static void text_is_cut_at_a_whole_character(void **state)
{
    char to[6];

    (void)state;
    assert_int_equal(text_clean("abcdefgh", 8, to, sizeof to), 5);
    assert_string_equal(to, "abcde");
    assert_int_equal(text_clean("abc\xe6\xa3\x80", 6, to, sizeof to), 3);
    assert_string_equal(to, "abc");
    assert_int_equal(text_clean("abc\033", 4, to, sizeof to), 3); /* nor in the middle of what stands for it */
    assert_string_equal(to, "abc");
}

static void wide_characters_take_two_columns(void **state)
{
    size_t columns = 5;

    (void)state;
    if (!text_is_wide())
        skip();
    assert_int_equal(text_columns("a\xe6\xa3\x80\xe6\x9f\xa5z"), 6);
    assert_int_equal(text_columns("e\xcc\x81"), 1); /* with an accent of its own */
    assert_int_equal(text_fit("ab\xe6\xa3\x80\xe6\x9f\xa5", &columns), 5);
    assert_int_equal(columns, 4); /* half a character is none */
}

/* -------------------------------------------------------------------------------------------------------- documents */

static const char document[] =
    "{\"fmspipe\":\"1\",\"time\":1000.5,\"ready\":true,\"pipelines\":[{\"name\":\"bridge\",\"verdict\":\"stuck\","
    "\"sentence\":\"STUCK \\u001b[31m\",\"held_by\":\"sink \\u68c0\\u67e5\",\"live\":true,\"ready\":false,"
    "\"in_flight\":{\"records\":12,\"max_records\":10000},\"counts\":{\"received\":1234567},"
    "\"latency\":{\"total\":{\"p50\":0.0042,\"p99\":1.25}},"
    "\"stages\":[{\"name\":\"source\",\"rate_out\":5012.4,\"held\":0,\"connected\":true,\"connected_since\":910.5},"
    "{\"name\":\"sink \\u68c0\\u67e5\",\"rate_in\":4.56,\"held\":12,\"oldest_seconds\":75,\"connected\":false,"
    "\"connected_since\":null,\"disconnected_since\":900.5,\"disconnect_reason\":\"refused\",\"ready\":false}]}],"
    "\"warnings\":[{\"time\":990,\"level\":\"error\",\"pipeline\":\"bridge\",\"stage\":\"source\",\"text\":\"gone\\n\"}"
    "]}";

static struct drawing drawn(const char *text, size_t size, size_t columns)
{
    char why[256];
    json_t *parsed = draw_parse(text, size, why, sizeof why);
    struct drawing drawing = {0};

    assert_non_null(parsed);
    draw_status(&drawing, parsed, columns);
    json_decref(parsed);
    return drawing;
}

/* The line that holds it; NULL. */
static const struct line *line_with(const struct drawing *drawing, const char *text)
{
    for (size_t i = 0; i < drawing->count; i++) {
        if (strstr(drawing->lines[i].text, text) != NULL)
            return &drawing->lines[i];
    }
    return NULL;
}

static void what_a_document_says_is_drawn(void **state)
{
    struct drawing drawing = drawn(document, strlen(document), 0);

    (void)state;
    assert_string_equal(drawing.lines[0].text, "bridge: STUCK \\x1b[31m");
    assert_int_equal(drawing.lines[0].style, STYLE_BAD);
    assert_non_null(line_with(&drawing, "in flight 12 of 10,000; received 1,234,567, delivered -"));
    assert_non_null(line_with(&drawing, "half were delivered within 4.2 ms, 99 % within 1.2 s"));
    assert_non_null(line_with(&drawing, "  source           -   5,012       0           -        -  up 1 min 30 s"));
    assert_non_null(line_with(&drawing, " bridge/source: gone\\n"));
    assert_int_equal(line_with(&drawing, "gone")->style, STYLE_BAD);
    if (text_is_wide()) {
        assert_int_equal(line_with(&drawing, "> sink")->style, STYLE_BAD);
        assert_non_null(line_with(&drawing, "> sink \xe6\xa3\x80\xe6\x9f\xa5      4.6       -      12  1 min 15 s"));
        assert_non_null(line_with(&drawing, "  down 1 min 40 s: refused"));
    }
    draw_free(&drawing);
}

/* The columns of a table stand below each other whatever a name's characters are, and a long name leaves room for the rest. */
static void columns_stand_below_each_other(void **state)
{
    static const char *const names[] = {"x", "\xe6\xa3\x80\xe6\x9f\xa5\xe6\xa3\x80\xe6\x9f\xa5\xe6\xa3\x80\xe6\x9f\xa5",
                                        "a name that is longer than what a third of the screen would hold of it"};
    char text[2000];

    (void)state;
    for (size_t columns = 100; columns <= 200; columns += 20) {
        struct drawing drawing;
        size_t head, n = (size_t)snprintf(text, sizeof text, "{\"fmspipe\":\"1\",\"pipelines\":[{\"stages\":[");

        for (size_t i = 0; i < 3; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s{\"name\":\"%s\",\"rate_in\":7}", i > 0 ? "," : "",
                                  names[i]);
        n += (size_t)snprintf(text + n, sizeof text - n, "]}]}");
        drawing = drawn(text, n, columns);
        head = text_columns(line_with(&drawing, "in/s")->text);
        assert_int_equal(drawing.count, 7);
        for (size_t i = 3; i < 6; i++) /* the link's column is empty, its heading is not */
            assert_int_equal(text_columns(drawing.lines[i].text) + strlen("link"), head);
        assert_true(head < columns);
        draw_free(&drawing);
    }
}

static void what_is_long_goes_on_in_another_line(void **state)
{
    static const char text[] =
        "STUCK for 3 min: sink kafka: a reason that is longer than what a line of this screen has room for";
    struct drawing drawing = {0};
    size_t words = 0;

    (void)state;
    draw_text(&drawing, STYLE_BAD, 40, "%s", text);
    assert_int_equal(drawing.count, 3);
    assert_string_equal(drawing.lines[0].text, "STUCK for 3 min: sink kafka: a reason");
    assert_string_equal(drawing.lines[1].text, "    that is longer than what a line of");
    assert_string_equal(drawing.lines[2].text, "    this screen has room for");
    assert_int_equal(drawing.lines[2].style, STYLE_BAD);
    draw_free(&drawing);
    for (size_t columns = 0; columns < 120; columns++) {
        draw_text(&drawing, STYLE_BAD, columns, "%s  %0100d", text, 1);
        assert_true(drawing.count <= 5);
        for (size_t i = 0; i < drawing.count && columns > 20; i++) {
            assert_true(text_columns(drawing.lines[i].text) <= columns);
            words += drawing.lines[i].text[0] != '\0';
        }
        draw_free(&drawing);
    }
    assert_true(words > 120);
}

static void what_is_missing_or_of_another_type_harms_nothing(void **state)
{
    static const char *const values[] = {"null",       "true", "-1e308", "\"x\"", "[]", "{}", "[[1],{\"a\":2},null]",
                                         "99999999999"};
    static const char *const names[] = {
        "pipelines",      "stages",          "warnings", "name",    "sentence", "time", "connected",
        "counts",         "in_flight",       "latency",  "rate_in", "held_by",  "p50",  "total",
        "oldest_seconds", "connected_since", "level",    "verdict"};
    json_error_t error;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            char text[3000], named[40];
            const char *rest = document, *at;
            size_t n = 0;
            struct drawing drawing = {0};
            json_t *changed;

            /* each member of that name has the value before it, and so the last one of an object is the document's: take its name away */
            snprintf(named, sizeof named, "\"%s\":", names[i]);
            while ((at = strstr(rest, named)) != NULL) {
                n += (size_t)snprintf(text + n, sizeof text - n, "%.*s%s%s,\"_\":", (int)(at - rest), rest, named,
                                      values[k]);
                rest = at + strlen(named);
            }
            snprintf(text + n, sizeof text - n, "%s", rest);
            changed = json_loads(text, 0, &error);
            assert_non_null(changed);
            draw_status(&drawing, changed, 80);
            draw_free(&drawing);
            json_decref(changed);
        }
    }
}

static void what_is_no_document_of_fmspipe_is_said_so(void **state)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"fmspipe\":1,\"pipelines\":[]}",
                                        "{\"fmspipe\":\"1\"}",
                                        "{\"fmspipe\":\"1\",\"pipelines\":[]} x",
                                        "{\"fmspipe\":\"\xff\",\"pipelines\":[]}"};
    char why[256];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *why = '\0';
        assert_null(draw_parse(texts[i], strlen(texts[i]), why, sizeof why));
        assert_non_null(strstr(why, "what it says is no "));
    }
}

/* 10 MB of stages: lines have a bound, and so has each. */
static void a_large_document_is_cut(void **state)
{
    static const char stage[] =
        "{\"name\":\"sink\",\"why\":\"a long reason, again and again and again\",\"rate_in\":1},";
    size_t n = 10000000 / strlen(stage), size = 0;
    char *text = malloc(n * strlen(stage) + 200);
    struct drawing drawing;

    (void)state;
    assert_non_null(text);
    size += (size_t)sprintf(text, "{\"fmspipe\":\"1\",\"pipelines\":[{\"stages\":[");
    for (size_t i = 0; i < n; i++, size += strlen(stage))
        memcpy(text + size, stage, strlen(stage));
    size += (size_t)sprintf(text + size, "{}]}]}");
    drawing = drawn(text, size, 80);
    assert_int_equal(drawing.count, DRAW_MOST);
    assert_true(drawing.is_cut);
    draw_free(&drawing);
    free(text);
}

static void numbers_and_durations_are_short(void **state)
{
    static const struct {
        double value;
        const char *number, *duration;
    } cases[] = {{0, "0", "0 s"},
                 {-1e308, "-1.0e+308", "0 s"},
                 {0.00025, "0.0", "250 us"},
                 {4.56, "4.6", "4.6 s"},
                 {9.96, "10", "10 s"},
                 {999.4, "999", "16 min 39 s"},
                 {5012, "5,012", "1 h 23 min"},
                 {-1234567, "-1,234,567", "0 s"},
                 {200000, "200,000", "2 d 7 h"},
                 {1e12, "1,000,000,000,000", "years"},
                 {1e300, "1.0e+300", "years"}};
    char text[32];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = json_real(cases[i].value);

        draw_number(value, text, sizeof text);
        assert_string_equal(text, cases[i].number);
        draw_duration(cases[i].value, text, sizeof text);
        assert_string_equal(text, cases[i].duration);
        json_decref(value);
    }
}

/* ---------------------------------------------------------------------------------------------------- lines, records */

struct heard {
    char text[64];
    size_t count, most;
};

static bool hear(void *user, const char *line, size_t size)
{
    struct heard *heard = user;

    snprintf(heard->text, sizeof heard->text, "%.*s", (int)size, line);
    return ++heard->count < heard->most;
}

static void a_stream_is_heard_line_by_line_however_it_is_cut(void **state)
{
    static const char text[] = "one\n\ntwo\nthe last";

    (void)state;
    for (size_t cut = 1; cut < sizeof text; cut++) {
        struct heard heard = {"", 0, 100};
        struct lines lines = {.got = hear, .user = &heard, .most = 100};

        for (size_t i = 0; i < strlen(text); i += cut)
            assert_true(lines_feed(&lines, text + i, strlen(text) - i < cut ? strlen(text) - i : cut));
        assert_int_equal(heard.count, 3);
        assert_string_equal(heard.text, "two");
        assert_true(lines_feed(&lines, "\n", 1));
        assert_string_equal(heard.text, "the last");
        lines_free(&lines);
    }
}

static void a_line_has_a_bound_and_a_stream_an_end(void **state)
{
    struct heard heard = {"", 0, 2};
    struct lines lines = {.got = hear, .user = &heard, .most = 5};

    (void)state;
    assert_true(lines_feed(&lines, "12345\n123", 9));
    assert_false(lines_feed(&lines, "456", 3));
    lines_free(&lines);
    assert_false(lines_feed(&lines, "a\nb\n", 4)); /* who hears says that it is enough */
    assert_string_equal(heard.text, "a");
    lines_free(&lines);
}

static struct passing *read_passing(const char *text)
{
    static struct passing passing;
    static json_t *line;

    json_decref(line);
    line = text != NULL ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
    passing_clear(&passing);
    return line != NULL && passing_read(&passing, line) ? &passing : NULL;
}

static void a_record_is_what_its_line_says(void **state)
{
    const struct passing *passing = read_passing(
        "{\"time\":1000.5,\"topic\":\"a\\u0000b\",\"key\":null,\"headers\":[{\"name\":\"h\",\"value_base64\":"
        "\"/w==\"},{\"name\":\"n\",\"value\":null}],\"timestamp\":1234.5,\"payload_base64\":\"AP8bWzJK\","
        "\"payload_size\":70000,\"reason\":\"no good\"}");

    (void)state;
    assert_non_null(passing);
    assert_int_equal(passing->record.topic.size, 3);
    assert_memory_equal(passing->record.topic.data, "a\0b", 3);
    assert_null(passing->record.key.data);
    assert_int_equal(passing->record.header_count, 2);
    assert_int_equal(passing->record.headers[0].value.size, 1);
    assert_memory_equal(passing->record.headers[0].value.data, "\xff", 1);
    assert_null(passing->record.headers[1].value.data);
    assert_int_equal(passing->record.timestamp, 1234500000000);
    assert_int_equal(passing->record.payload.size, 6);
    assert_memory_equal(passing->record.payload.data, "\0\xff\033[2J", 6);
    assert_int_equal(passing->payload_size, 70000);
    assert_string_equal(passing->reason, "no good");
    read_passing(NULL);
}

static void what_is_no_record_is_none(void **state)
{
    static const char *const texts[] = {"{}", "[]", "1", "{\"topic\":1}", "{\"dropped\":1}"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_null(read_passing(texts[i]));
    assert_non_null(
        read_passing("{\"topic\":\"\",\"headers\":{\"name\":1},\"timestamp\":\"x\",\"payload_size\":-1,\"key\":[]}"));
    assert_non_null(read_passing("{\"topic_base64\":\"?\",\"headers\":[1,{},{\"name\":\"x\"}],\"timestamp\":1e300}"));
    read_passing(NULL);
}

static void a_record_fits_a_line_and_commands_nothing(void **state)
{
    static const char line[] =
        "{\"time\":0,\"topic\":\"t\\u001b\",\"key\":\"\\u68c0\\u67e5\",\"headers\":[{\"name\":\"h\"}],"
        "\"reason\":\"bad\\n\",\"payload\":\"\\u202ex \\u68c0 0123456789\",\"payload_size\":100}";

    (void)state;
    for (size_t columns = 1; columns < 120; columns++) {
        char *text = passing_text(read_passing(line), columns);

        assert_non_null(text);
        assert_true(text_columns(text) <= columns);
        for (const char *c = text; *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
        free(text);
    }
    if (text_is_wide()) {
        char *text = passing_text(read_passing(line), 200);

        assert_string_equal(text,
                            "- t\\x1b key \xe6\xa3\x80\xe6\x9f\xa5 1 header REJECTED: bad\\n the first of 100 bytes:"
                            "  \\u202ex \xe6\xa3\x80 0123456789");
        free(text);
    }
    read_passing(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_commands_a_terminal_is_left),
        cmocka_unit_test(text_is_cut_at_a_whole_character),
        cmocka_unit_test(wide_characters_take_two_columns),
        cmocka_unit_test(what_a_document_says_is_drawn),
        cmocka_unit_test(columns_stand_below_each_other),
        cmocka_unit_test(what_is_long_goes_on_in_another_line),
        cmocka_unit_test(what_is_missing_or_of_another_type_harms_nothing),
        cmocka_unit_test(what_is_no_document_of_fmspipe_is_said_so),
        cmocka_unit_test(a_large_document_is_cut),
        cmocka_unit_test(numbers_and_durations_are_short),
        cmocka_unit_test(a_stream_is_heard_line_by_line_however_it_is_cut),
        cmocka_unit_test(a_line_has_a_bound_and_a_stream_an_end),
        cmocka_unit_test(a_record_is_what_its_line_says),
        cmocka_unit_test(what_is_no_record_is_none),
        cmocka_unit_test(a_record_fits_a_line_and_commands_nothing),
    };

    setenv("LC_ALL", "C.UTF-8", 1);
    text_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
