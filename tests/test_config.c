/* test_config.c - what a pipeline file says, and each way in which it can be wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"

static char logged[64 * 1024];
static unsigned lines_logged;

static void keep_line(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t used = strlen(logged);

    (void)user, (void)level, (void)pipeline, (void)stage;
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
    lines_logged++;
}

static int forget_lines(void **state)
{
    (void)state;
    logged[0] = '\0';
    lines_logged = 0;
    log_redirect(keep_line, NULL);
    return 0;
}

static struct config *parse(const char *text)
{
    struct config *config;
    int error = config_parse("t.ini", text, strlen(text), &config);

    if (error != 0)
        print_error("%s", logged);
    assert_int_equal(error, 0);
    assert_int_equal(lines_logged, 0);
    return config;
}

/* The only key of the only section. */
static void parses_to(const char *text, const char *value)
{
    struct config *config = parse(text);

    assert_int_equal(config->count, 1);
    assert_int_equal(config->sections[0].count, 1);
    assert_string_equal(config->sections[0].entries[0].key, "k");
    assert_string_equal(config->sections[0].entries[0].value, value);
    config_free(config);
}

/* One error, in that line. */
static void is_refused(const char *text, size_t size, int line, const char *part)
{
    struct config *config = (struct config *)logged;
    char where[32];

    forget_lines(NULL);
    snprintf(where, sizeof where, "t.ini:%d: ", line);
    assert_int_equal(config_parse("t.ini", text, size, &config), -EINVAL);
    assert_null(config);
    if (lines_logged != 1 || strncmp(logged, where, strlen(where)) != 0 || strstr(logged, part) == NULL)
        fail_msg("for\n%s\nexpected %s...%s...\ngot %s", text, where, part, logged);
}

static void sections_and_lines(void **state)
{
    struct config *config = parse(
        "; a comment of more than two hundred bytes is fine: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
        "[pipeline]\nname = bridge\n\n"
        "[ sink\tkafka ] ; where it goes\n"
        "plugin=kafka_sink\n"
        "\n# another = comment\n   ; = third\n"
        "kafka.linger.ms   =   5\n"
        "[dead_letter]");
    const struct config_section *sink = &config->sections[1];

    (void)state;
    assert_string_equal(config->path, "t.ini");
    assert_int_equal(config->count, 3);
    assert_string_equal(config->sections[0].kind, "pipeline");
    assert_string_equal(config->sections[0].name, "");
    assert_int_equal(config->sections[0].line, 2);
    assert_string_equal(sink->kind, "sink");
    assert_string_equal(sink->name, "kafka");
    assert_int_equal(sink->line, 5);
    assert_int_equal(sink->count, 2);
    assert_int_equal(sink->entries[1].line, 10);
    assert_ptr_equal(config_find(sink, "kafka.linger.ms"), &sink->entries[1]);
    assert_string_equal(sink->entries[1].value, "5");
    assert_null(config_find(sink, "kafka"));
    assert_string_equal(config->sections[2].kind, "dead_letter");
    assert_int_equal(config->sections[2].line, 11);
    assert_int_equal(config->sections[2].count, 0);
    config_free(config);
}

static void values(void **state)
{
    (void)state;
    parses_to("[s]\nk = a=b:c", "a=b:c");
    parses_to("[s]\nk =", "");
    parses_to("[s]\nk = ; nothing", "");
    parses_to("[s]\nk = v ; comment ;too", "v");
    parses_to("[s]\nk = v ;", "v");
    parses_to("[s]\nk = v\t;\tcomment", "v");
    parses_to("[s]\nk = a;b", "a;b");
    parses_to("[s]\nk =;b", ";b");
    parses_to("[s]\nk = a#b", "a#b");
    parses_to("[s]\nk = ${env:X:-tcp://localhost:1883}", "${env:X:-tcp://localhost:1883}");
    parses_to("[s]\nk = Größe 車", "Größe 車");
    parses_to("[s]\nk = say \"a\"", "say \"a\"");
}

static void quoted_values(void **state)
{
    (void)state;
    parses_to("[s]\nk = \" a ;b ; c \"", " a ;b ; c ");
    parses_to("[s]\nk = \"\"", "");
    parses_to("[s]\nk = \"a\" ; comment", "a");
    parses_to("[s]\nk = \"\\\"q\\\" \\\\ \\n\"", "\"q\" \\ \\n");
    parses_to("[s]\nk = \"C:\\\\\"", "C:\\");
    parses_to("[s]\nk = \"#;[x]=\"", "#;[x]=");
}

static void continued_values(void **state)
{
    (void)state;
    parses_to("[s]\nk = a,\n  b, ; first\n\tc", "a, b, c");
    parses_to("[s]\nk = a\n; comment\n\n b", "a b");
    parses_to("[s]\nk =\n \"[x] ;y\"\n \"k = v\"", " [x] ;y k = v");
}

static void bytes_around(void **state)
{
    (void)state;
    parses_to("\xef\xbb\xbf[s]\nk = v", "v");
    parses_to("[s]\r\nk = v\r\n\r\n", "v");
    parses_to("\n\n[s]\nk = v\n\n", "v");
    parses_to("\xef\xbb\xbf[s]\r\nk = \"v\"\r\n  \"w\"\r\n", "v w");
}

static void errors(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *part;
    } cases[] = {
        {"k = v", 1, "a section is missing"},
        {"\nk = v\nl = w\n[s]", 2, "a section is missing"},
        {"[s]\nk", 2, "key = value expected"},
        {"[s]\nk: v", 2, "key = value expected"},
        {"[s]\nk: v = w", 2, "no colon"},
        {"[s]\n= v", 2, "a key is missing"},
        {"[s]\na b = v", 2, "\"a\", holds a blank"},
        {"[s]\n\"a\" = v", 2, "holds a blank, or one of"},
        {"[s]\nk = v ;w", 2, "is this ; part of the value"},
        {"[s]\nk = v\n w ;x", 3, "is this ; part of the value"},
        {"[s]\nk = \"v\n l = \"", 2, "ends with one"},
        {"[s]\nk = \"v\\\"", 2, "ends with one"},
        {"[s]\nk = \"v\" w", 2, "behind the closing quote"},
        {"[s]\nk = \"v\";w", 2, "behind the closing quote"},
        {"[s]\nk = \"v\" ;w", 2, "is this ; part of the value"},
        {"[s]\n  k = v", 2, "but there is none"},
        {"[s]\nk = v\n[t]\n  w", 4, "but there is none"},
        {"[s]\nk = v\n  l = w\n  m = x", 3, "does not look so"},
        {"[s]\nk = v\n  [t]", 3, "does not look so"},
        {"[s]\nk = v\nl = w\nk = x", 4, "\"k\" stands in line 2 already"},
        {"[s a]\n[s b]\n[s]\n[ s  a ]\nk = v", 4, "[s a] stands in line 1 already"},
        {"[s\nk = v", 1, "ends with ]"},
        {"[s ; ]\nk = v", 1, "none of the characters"},
        {"[]\nk = v", 1, "says what it is"},
        {"[a b c]\nk = v", 1, "one word, or two"},
        {"[a;b]\n", 1, "none of the characters"},
        {"[[a]]\n", 1, "nothing but a comment"},
        {"[a] k = v\n", 1, "nothing but a comment"},
        {"[s]\nk = \x01", 2, "a byte of value 1"},
        {"[s]\nk = a\rb", 2, "a byte of value 13"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        is_refused(cases[i].text, strlen(cases[i].text), cases[i].line, cases[i].part);
    is_refused("[s]\nk = a\0b", 11, 2, "a byte of value 0");
}

static void all_errors_in_one_run(void **state)
{
    struct config *config;
    static const char text[] = "[s]\na\nb = 1\n[t\nc = 2\n[u]\nd = \"\nb = 3\n";

    (void)state;
    assert_int_equal(config_parse("t.ini", text, strlen(text), &config), -EINVAL);
    assert_int_equal(lines_logged, 3);
    assert_non_null(strstr(logged, "t.ini:2: "));
    assert_non_null(strstr(logged, "t.ini:4: "));
    assert_non_null(strstr(logged, "t.ini:7: "));
}

/* What other formats know, and this one takes as it stands: with a warning, which does not show it. */
static void what_is_hardly_meant_is_warned_of(void **state)
{
    static const struct {
        const char *value;
        const char *warning; /* NULL: none */
    } cases[] = {
        {"hunter2 # comment", "the # and what follows"},
        {"hunter2\t#comment", "the # and what follows"},
        {"# hunter2", "the # and what follows"},
        {"hunter2 # a ; b", "the # and what follows"},
        {"a,\n hunter2 # comment", "the # and what follows"},
        {"'hunter2'", "the quotation marks"},
        {"'hunter2", "the quotation marks"},
        {"''", "the quotation marks"},
        {"\u2018hunter2\u2019", "the quotation marks"},
        {"\u201chunter2\u201d", "the quotation marks"},
        {"#", NULL},
        {"fms/#", NULL},
        {"a/#, #, b", NULL},
        {"hunter2#3", NULL},
        {"it's", NULL},
        {"\"hunter2 # 'comment'\"", NULL},
        {"\"'hunter2'\"", NULL},
        {"hunter2 ; # comment", NULL},
        {"a \u2020 b", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *config;
        char text[128];
        int size = snprintf(text, sizeof text, "[s]\nk = %s\n", cases[i].value);

        forget_lines(state);
        assert_int_equal(config_parse("t.ini", text, (size_t)size, &config), 0);
        assert_int_equal(lines_logged, cases[i].warning != NULL);
        assert_true(cases[i].warning == NULL || strstr(logged, cases[i].warning) != NULL);
        assert_true(cases[i].warning == NULL || strncmp(logged, "t.ini:", 6) == 0);
        assert_null(strstr(logged, "hunter2"));
        if (strpbrk(cases[i].value, ";\n\"") == NULL) /* and yet it is taken as it stands */
            assert_string_equal(config->sections[0].entries[0].value, cases[i].value);
        config_free(config);
    }
}

/* A value is never printed: it may be a password. */
static void errors_show_no_value(void **state)
{
    struct config *config;
    static const char text[] = "[s]\npassword = hunter2 ;x\npassword2 = \"hunter2\nhunter2\n hunter2\n";

    (void)state;
    assert_int_equal(config_parse("t.ini", text, strlen(text), &config), -EINVAL);
    assert_int_equal(lines_logged, 3);
    assert_null(strstr(logged, "hunter2"));
}

/* "[s]" and a line of that many bytes. */
static char *with_line(const char *start, size_t size)
{
    char *text = malloc(size + 5);

    memset(text, 'x', size + 5);
    memcpy(text, "[s]\n", 4);
    memcpy(text + 4, start, strlen(start));
    text[size + 4] = '\0';
    return text;
}

static void limits(void **state)
{
    char *text;
    struct config *config;

    (void)state;
    text = with_line("k = ", 199);
    config = parse(text);
    assert_int_equal(strlen(config->sections[0].entries[0].value), 195);
    config_free(config);
    free(text);

    text = with_line("k = ", 200);
    is_refused(text, strlen(text), 2, "200 bytes, more than 199; a value can go on in the next line");
    free(text);
    text = with_line("[", 200);
    is_refused(text, strlen(text), 2, "200 bytes");
    free(text);
}

static void word_limits(void **state)
{
    struct config *config;

    (void)state;
    config = parse("[s23456789012345678901234567890123456789012345678 ]\n"
                   "k234567890123456789012345678901234567890123456789 = v\n  w");
    assert_int_equal(strlen(config->sections[0].kind), 48);
    assert_string_equal(config->sections[0].entries[0].value, "v w");
    config_free(config);
    is_refused("[s234567890123456789012345678901234567890123456789 ]", 52, 1, "at most 49 bytes");
    is_refused("[s]\nk2345678901234567890123456789012345678901234567890 = v", 58, 2, "longer than 49 bytes");
}

/* ------------------------------------------------------------------------------------------------------------ large */

static void many_keys(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct config *config;

    (void)state;
    fputs("[s]\n", out);
    for (int i = 0; i < 10000; i++)
        fprintf(out, "key%d = %d\n", i, i);
    fclose(out);
    config = parse(text);
    assert_int_equal(config->sections[0].count, 10000);
    assert_string_equal(config_find(&config->sections[0], "key9999")->value, "9999");
    assert_int_equal(config->sections[0].entries[9999].line, 10001);
    config_free(config);
    free(text);
}

static void long_value(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct config *config;

    (void)state;
    fputs("[s]\nk = a\n", out);
    for (int i = 0; i < 300000; i++)
        fputs(" b\n", out);
    fclose(out);
    config = parse(text);
    assert_int_equal(strlen(config->sections[0].entries[0].value), 600001);
    config_free(config);
    free(text);
}

/* `count` times `piece`: at most 20 errors are logged, and how many more there are. */
static void has_many_errors(const char *start, const char *piece, size_t piece_size, size_t count, const char *more)
{
    size_t size = strlen(start) + piece_size * count;
    char *text = malloc(size);
    struct config *config;

    forget_lines(NULL);
    memcpy(text, start, strlen(start));
    for (size_t i = 0; i < count; i++)
        memcpy(text + strlen(start) + i * piece_size, piece, piece_size);
    assert_int_equal(config_parse("t.ini", text, size, &config), -EINVAL);
    assert_int_equal(lines_logged, 21);
    assert_non_null(strstr(logged, more));
    free(text);
}

static void many_errors(void **state)
{
    (void)state;
    has_many_errors("[s]\n", "x\n", 2, 500000, "t.ini: and 499980 more errors");
    has_many_errors("", "[a\n", 3, 300000, "and 299980 more errors");
    has_many_errors("", "[a]\n", 4, 250000, "and 249979 more errors");
    has_many_errors("[s]\n", "k=\n", 3, 300000, "and 299979 more errors");
    has_many_errors("", "\0\n", 2, 500000, "and 499980 more errors");
}

static void garbage(void **state)
{
    const size_t size = 1 << 20;
    char *text = malloc(size);
    struct config *config;

    (void)state;
    srandom(1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)(random() >> 8);
    assert_int_equal(config_parse("t.ini", text, size, &config), -EINVAL);
    assert_int_equal(lines_logged, 21);

    forget_lines(NULL);
    memset(text, 'a', size);
    assert_int_equal(config_parse("t.ini", text, size, &config), -EINVAL);
    assert_int_equal(lines_logged, 1);
    assert_non_null(strstr(logged, "t.ini:1: the line has 1048576 bytes"));
    free(text);
}

static void too_large(void **state)
{
    const size_t size = (4 << 20) + 1;
    char *text = calloc(1, size);
    struct config *config;

    (void)state;
    memcpy(text, "\xef\xbb\xbf", 3);
    assert_int_equal(config_parse("t.ini", text, size, &config), -EINVAL);
    assert_string_equal(logged, "t.ini: larger than 4 MiB: this is no pipeline file\n");
    free(text);
}

/* ------------------------------------------------------------------------------------------------------------ files */

static void files(void **state)
{
    char directory[] = "test_config.XXXXXX";
    char path[64];
    struct config *config;
    FILE *out;

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(config_read(directory, &config), -EISDIR);
    assert_null(config);
    snprintf(path, sizeof path, "%s/t.ini", directory);
    assert_int_equal(config_read(path, &config), -ENOENT);
    assert_null(config);
    assert_int_equal(lines_logged, 2);
    assert_non_null(strstr(logged, "t.ini: cannot be read: No such file or directory"));

    out = fopen(path, "w");
    assert_int_equal(fclose(out), 0);
    assert_int_equal(config_read(path, &config), 0);
    assert_int_equal(config->count, 0);
    config_free(config);

    out = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fprintf(out, "[s %d]\nk = v\n", i);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(config_read(path, &config), 0);
    assert_string_equal(config->path, path);
    assert_int_equal(config->count, 5000);
    assert_int_equal(config->sections[4999].entries[0].line, 10000);
    config_free(config);
    assert_int_equal(config_read_again(path, &config), 0);
    config_free(config);
    unlink(path);
    assert_int_equal(config_read_again(path, &config), -ENOENT);
    assert_int_equal(config_read_again(directory, &config), -EISDIR);
    assert_int_equal(mkfifo(path, 0600), 0); /* to which nobody writes */
    assert_int_equal(config_read_again(path, &config), -EINVAL);
    assert_null(config);
    assert_int_equal(config_open_file(path), -ESPIPE);
    unlink(path);
    rmdir(directory);

    forget_lines(NULL);
    assert_int_equal(config_read("/dev/zero", &config), -EINVAL);
    assert_non_null(strstr(logged, "larger than 4 MiB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sections_and_lines, forget_lines),
        cmocka_unit_test_setup(values, forget_lines),
        cmocka_unit_test_setup(quoted_values, forget_lines),
        cmocka_unit_test_setup(continued_values, forget_lines),
        cmocka_unit_test_setup(bytes_around, forget_lines),
        cmocka_unit_test_setup(errors, forget_lines),
        cmocka_unit_test_setup(all_errors_in_one_run, forget_lines),
        cmocka_unit_test_setup(what_is_hardly_meant_is_warned_of, forget_lines),
        cmocka_unit_test_setup(errors_show_no_value, forget_lines),
        cmocka_unit_test_setup(limits, forget_lines),
        cmocka_unit_test_setup(word_limits, forget_lines),
        cmocka_unit_test_setup(many_keys, forget_lines),
        cmocka_unit_test_setup(long_value, forget_lines),
        cmocka_unit_test_setup(many_errors, forget_lines),
        cmocka_unit_test_setup(garbage, forget_lines),
        cmocka_unit_test_setup(too_large, forget_lines),
        cmocka_unit_test_setup(files, forget_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
