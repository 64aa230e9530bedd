/* test_spool_anchor.c - what a spool that is not written to the disk at each commit is after a power cut: what it was when it last was.
 *
 * A power cut leaves of each page that was written since what was there before or what was written, or nothing of a file that had grown. It is made
 * here from the file and what of it is on the disk, by the test's own fdatasync(); and the machine's start has another name afterwards, by its own
 * open(). */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail

#include "fms_test.h"

#define PAGE     4096
#define INTERVAL "interval\nsync_interval = 60m" /* longer than the test: a flush has another reason */
#define LARGEST  (16 * 1024 * 1024)

static char folder[] = "/tmp/fms-spool-anchor-XXXXXX";
static char path[64];
static const char *sync_is;
static char boot[64] = "/proc/sys/kernel/random/boot_id"; /* the file that says so, for the plugin */
static unsigned chance = 1;

#define GIVEN 20000

/* What all processes of the test know. */
static struct shared {
    size_t disk_size;
    unsigned char disk[LARGEST]; /* what is there of data.mdb */
    int lives;
    char origin[64]; /* of all of them */
    size_t given;
    struct {
        uint64_t number;
        int what;
    } numbers[GIVEN]; /* that records were handed on by */
} * shared;

/* The plugin finds these in place of the C library's. */
int open(const char *name, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (strcmp(name, "/proc/sys/kernel/random/boot_id") == 0)
        name = boot;
    return (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
}

static void write_all(void);

int fdatasync(int fd)
{
    int result = (int)syscall(SYS_fdatasync, fd);
    struct stat is, wanted;
    char name[128];

    snprintf(name, sizeof name, "%s/data.mdb", path);
    if (result == 0 && fstat(fd, &is) == 0 && stat(name, &wanted) == 0 && is.st_ino == wanted.st_ino)
        write_all();
    return result;
}

static unsigned random_below(unsigned n)
{
    chance = chance * 1103515245 + 12345;
    return (chance >> 16) % n;
}

static const char *ini(void)
{
    static char text[256];

    snprintf(text, sizeof text, "path = %s\nsync = %s\nmax_size = 8MiB\n", path, sync_is);
    return text;
}

/* Each life of a process stores under a key of its own, so that a number that comes again for another record is seen. */
static void put_numbers(struct fake *f, int from, int to, int step)
{
    char text[32], key[32];

    snprintf(key, sizeof key, "%d", ++shared->lives);
    for (int i = from; i < to; i++) {
        snprintf(text, sizeof text, "%d", i);
        fake_add(f, "fms/data", key, text);
        if (i % step == step - 1)
            assert_true(fake_write(f) >= 0);
    }
    assert_true(fake_write(f) >= 0);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), to - from);
}

/* No number was ever handed on for another record, or is called no record's. */
static void check_numbers(struct fake *f)
{
    for (size_t i = 0; i < fake_emitted(f); i++) {
        const struct fms_record *record = fake_record(f, i);
        const struct fms_identity *identity = record->identity;
        int what = atoi(record->key.data) * 100000 + atoi(record->payload.data);
        size_t n = shared->given;

        for (size_t k = 0; k < shared->given; k++) {
            uint64_t number = shared->numbers[k].number;

            assert_false(number < identity->sequence && number >= identity->sequence - identity->skipped);
            n = number == identity->sequence ? k : n;
        }
        assert_true(n < GIVEN);
        if (n < shared->given)
            assert_int_equal(shared->numbers[n].what, what);
        else if (n == 0)
            snprintf(shared->origin, sizeof shared->origin, "%s", (const char *)identity->origin.data);
        assert_string_equal(identity->origin.data, shared->origin);
        shared->numbers[n].number = identity->sequence;
        shared->numbers[n].what = what;
        shared->given += n == shared->given;
    }
}

/* In a pipeline whose sink asks for numbers. */
static struct fake *open_source(void)
{
    struct fake *f = fake_check("spool", FMS_SOURCE, ini());

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* Stores numbers and ends well. */
static void store(int from, int to)
{
    struct fake *f = fake_open("spool", FMS_SINK, ini());

    put_numbers(f, from, to, 100);
    fake_close(f);
}

/* A process stores numbers, hands some on, and is killed. */
static void store_and_die(int from, int to, size_t handed_on)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct fake *sink, *source;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sink = fake_open("spool", FMS_SINK, ini());
        put_numbers(sink, from, to, 3);
        source = open_source();
        fake_settle_auto(source, FMS_DELIVERED);
        fake_credit(source, 7);
        fake_until(source, fake_emitted(source) >= handed_on);
        check_numbers(source);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void expect(int from, int to)
{
    struct fake *f = open_source();

    fake_until(f, fake_emitted(f) >= (size_t)(to - from));
    while (fake_wait(f, 0))
        fake_poll(f, 100);
    assert_int_equal(fake_emitted(f), to - from);
    for (int i = from; i < to; i++)
        assert_int_equal(atoi(fake_record(f, (size_t)(i - from))->payload.data), i);
    check_numbers(f);
    fake_close(f);
}

static size_t file_read(unsigned char *to)
{
    char name[128];
    FILE *file;
    size_t size;

    snprintf(name, sizeof name, "%s/data.mdb", path);
    file = fopen(name, "r");
    assert_non_null(file);
    size = fread(to, 1, LARGEST, file);
    assert_true(size < LARGEST);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* As is each commit under `always`. */
static void write_all(void)
{
    memset(shared->disk, 0, sizeof shared->disk);
    shared->disk_size = file_read(shared->disk);
}

/* Of what is on the disk and what was written since. */
static void cut_power(void)
{
    static unsigned char now[LARGEST];
    static int starts;
    size_t size = file_read(now);
    char name[128];
    FILE *file;

    for (size_t at = 0; at < size; at += PAGE) {
        if (random_below(2) == 0)
            memcpy(now + at, shared->disk + at, PAGE);
    }
    size = random_below(2) == 0 ? shared->disk_size : size;
    snprintf(name, sizeof name, "%s/data.mdb", path);
    file = fopen(name, "w");
    assert_int_equal(fwrite(now, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    snprintf(boot, sizeof boot, "%s/boot", folder);
    file = fopen(boot, "w");
    assert_true(fprintf(file, "start %d of the machine\n", ++starts) > 0);
    assert_int_equal(fclose(file), 0);
}

static int fresh(void **state)
{
    static int n;

    shared->given = 0;
    (void)state;
    snprintf(path, sizeof path, "%s/%d", folder, n++);
    sync_is = INTERVAL;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------------------- */

static void what_was_written_is_there_after_a_power_cut(void **state)
{
    int next = 0;

    (void)state;
    for (int round = 0; round < 20; round++) {
        store(next, next + 100);
        next += 100;
        store_and_die(next, next + 300, (size_t)next + 50); /* which are lost, though some were handed on */
        cut_power();
        expect(0, next);
    }
}

/* The source is there before the sink, which knows no better what was lost. */
static void numbers_that_were_lost_are_no_gap_that_is_known(void **state)
{
    struct fake *f;

    (void)state;
    store(0, 100);
    store_and_die(100, 400, 150);
    cut_power();
    f = open_source();
    store(100, 200);
    fake_until(f, fake_emitted(f) == 200);
    check_numbers(f);
    assert_true(fake_record(f, 100)->identity->sequence >= 400);
    fake_close(f);
}

static void a_crash_of_the_process_takes_nothing(void **state)
{
    (void)state;
    store(0, 100);
    store_and_die(100, 400, 0);
    expect(0, 400);
    store_and_die(400, 500, 0);
    store(500, 600);
    expect(0, 600);
    snprintf(boot, sizeof boot, "%s/nothing",
             folder); /* a service that may not see which start of the machine this is */
    store(600, 700);
    store_and_die(700, 800, 0);
    expect(0, 800);
}

/* What was anchored under `interval` is no state to go back to when each commit is on the disk. */
static void under_always_nothing_goes_back(void **state)
{
    (void)state;
    store(0, 100);
    sync_is = "always";
    store_and_die(100, 200, 150);
    write_all();
    cut_power();
    expect(0, 200);
    sync_is = INTERVAL;
    store_and_die(200, 300, 250);
    cut_power();
    sync_is = "always";
    expect(0, 200);
}

/* What a store that is gone left beside it says nothing of the next one. */
static void an_anchor_without_its_store_is_none(void **state)
{
    char name[128];

    (void)state;
    store(0, 1000);
    snprintf(name, sizeof name, "%s/data.mdb", path);
    assert_int_equal(unlink(name), 0);
    store(0, 10);
    store_and_die(10, 20, 0);
    cut_power();
    expect(0, 10);
}

/* A sink, or a source, of a machine's first start, after 10 s of it, whose clock is that far ahead of its uptime. */
static struct fake *open_at(enum fms_role role, enum fms_clock_state state, int64_t offset, uint64_t start)
{
    char text[300];
    struct fake *f;

    snprintf(text, sizeof text, "%s%s", ini(), role == FMS_SINK ? "clock = checked\n" : "clock_wait = 0\n");
    f = fake_check("spool", role, text);
    fake_clock_set(f, 10 * FMS_SECOND, 10 * FMS_SECOND + offset);
    fake_clock_know(f, state, start);
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* The process learns what time it is, and before it stores anything more the power is cut. */
static void learn_and_die(enum fms_role role)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct fake *f;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        f = open_at(role, FMS_CLOCK_RIGHT, 1000 * FMS_SECOND, 1);
        fake_credit(f, 1);
        fake_poll(f, 1);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void what_is_known_of_the_clock_is_there_after_a_power_cut(void **state)
{
    static const enum fms_role roles[] = {FMS_SINK, FMS_SOURCE};

    for (size_t i = 0; i < 2; i++) {
        struct fake *f = open_at(FMS_SINK, FMS_CLOCK_UNKNOWN, 0, 1);

        fake_add(f, "fms/data", "raspi-001", "{}");
        assert_int_equal(fake_write(f), 1);
        fake_close(f);
        learn_and_die(roles[i]);
        cut_power();
        f = open_at(FMS_SOURCE, FMS_CLOCK_UNKNOWN, 0, 2);
        fake_until(f, fake_emitted(f) == 1);
        assert_int_equal(fake_record(f, 0)->header_count, 0);
        fake_close(f);
        fresh(state);
    }
}

/* The file holds no more for a power cut than the bound that there is for it. */
static void the_file_stays_bounded(void **state)
{
    static unsigned char bytes[LARGEST];
    struct fake *sink, *source;

    (void)state;
    sink = fake_open("spool", FMS_SINK, ini());
    source = fake_open("spool", FMS_SOURCE, ini());
    fake_settle_auto(source, FMS_DELIVERED);
    for (int i = 0; i < 3000; i++) {
        fake_add(sink, "fms/data", "raspi-001", "x");
        assert_int_equal(fake_write(sink), 1);
        assert_int_equal(fake_poll(sink, 0), 0);
        if (i % 50 == 0)
            fake_until(source, fake_emitted(source) == (size_t)i + 1);
    }
    assert_true(file_read(bytes) < LARGEST - PAGE);
    fake_close(sink);
    fake_close(source);
}

static int make_folder(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED || mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, fresh)
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_there_after_a_power_cut),
        TEST(numbers_that_were_lost_are_no_gap_that_is_known),
        TEST(a_crash_of_the_process_takes_nothing),
        TEST(under_always_nothing_goes_back),
        TEST(an_anchor_without_its_store_is_none),
        TEST(what_is_known_of_the_clock_is_there_after_a_power_cut),
        TEST(the_file_stays_bounded),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
