/* test_dead_letters.c - the sinks that need no broker take every dead letter, whatever its form: one that they refused would
 * stop the pipeline, and the same message would stop it again after each start. */
#include "fms_test.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define HEADERS 1000 /* as many as a record may have */

static char folder[] = "/tmp/fms-letters-XXXXXX";
static char long_topic[60000];
static struct fms_header headers[HEADERS];

static const struct fms_bytes topics[] = {{NULL, 0},   {"", 0},          {"a/+", 3},
                                          {"a\0b", 3}, {"\xff\xfe/", 3}, {long_topic, sizeof long_topic}};
static const struct fms_bytes payloads[] = {{NULL, 0},  {"", 0},     {"\n", 1},   {"\r\n", 2},
                                            {"\0", 1},  {"\xff", 1}, {"\n\0", 2}, {"{\"vehicle_id\":\n\"a\"}", 18},
                                            {"{}\n", 3}};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The letter that the host would make of such a record. */
static void add_letter(struct fake *f, struct fms_bytes topic, struct fms_bytes payload, size_t own)
{
    static const char *const names[] = {"fms.reason", "fms.pipeline", "fms.stage", "fms.topic", "fms.time"};
    struct fms_record draft = {.topic = topic, .key = payload, .payload = payload, .headers = headers};

    for (size_t i = 0; i < own; i++)
        headers[i] = (struct fms_header){i % 2 == 0 ? "\xff\n" : "", payload};
    for (size_t i = 0; i < COUNT(names); i++)
        headers[own + i] = (struct fms_header){names[i], i == 3 ? topic : fms_text("no JSON:\n \xff")};
    draft.header_count = own + COUNT(names);
    fake_add_record(f, &draft);
}

static void assert_takes_all(const char *plugin, const char *ini)
{
    struct fake *f = fake_open(plugin, FMS_DEAD_LETTER, ini);
    size_t count = 0;

    for (size_t i = 0; i < COUNT(topics); i++) {
        for (size_t k = 0; k < COUNT(payloads); k++, count++)
            add_letter(f, topics[i], payloads[k], k);
    }
    add_letter(f, topics[0], payloads[0], HEADERS - 5);
    count++;
    fake_write(f);
    fake_until(f, fake_unsettled(f) == 0 && fake_count_fate(f, 0) == 0);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(fake_reason(f, i), "");
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), count);
    fake_close(f);
}

static const char *with_path(const char *name)
{
    static char text[128];

    snprintf(text, sizeof text, "path = %s/%s\n", folder, name);
    return text;
}

static void file_takes_all(void **state)
{
    (void)state;
    assert_takes_all("file", with_path("letters"));
}

static void spool_takes_all(void **state)
{
    (void)state;
    assert_takes_all("spool", with_path("spool"));
}

static void null_sink_takes_all(void **state)
{
    (void)state;
    assert_takes_all("null_sink", "");
}

/* Those that print. */
static void assert_takes_all_unseen(const char *plugin, const char *ini)
{
    int saved, unseen = open("/dev/null", O_WRONLY | O_CLOEXEC);

    assert_true(unseen >= 0);
    fflush(stdout);
    saved = dup(STDOUT_FILENO);
    dup2(unseen, STDOUT_FILENO);
    close(unseen);
    assert_takes_all(plugin, ini);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
}

static void console_sink_takes_all(void **state)
{
    (void)state;
    assert_takes_all_unseen("console_sink", "");
    assert_takes_all_unseen("console_sink", "format = pretty\nsummary = yes\n");
}

static void verify_sink_takes_all(void **state)
{
    (void)state;
    assert_takes_all_unseen("verify_sink", "");
}

static int make_folder(void **state)
{
    (void)state;
    memset(long_topic, 'x', sizeof long_topic);
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_takes_all),        cmocka_unit_test(spool_takes_all),
        cmocka_unit_test(null_sink_takes_all),   cmocka_unit_test(console_sink_takes_all),
        cmocka_unit_test(verify_sink_takes_all),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
