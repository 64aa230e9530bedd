/* test_secret.c - a file's text is read whole or not at all, whatever happens to the file, and without waiting. */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE 120 /* seconds until a test that hangs is killed */
#define READS    3000

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    alarm(PATIENCE);
    snprintf(folder, sizeof folder, "/tmp/test_secret.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/secret", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[96];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void put(const char *name, const void *text, size_t size)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    close(fd);
}

static void reads(const char *written, const char *expected)
{
    char *text, why[256];

    put(path, written, strlen(written));
    assert_int_equal(secret_read(path, &text, why, sizeof why), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void refuses(const char *name, int error, const char *expected)
{
    char *text = NULL, why[256] = "", whole[384];

    snprintf(whole, sizeof whole, "the file %s %s", name, expected);
    assert_int_equal(secret_read(name, &text, why, sizeof why), error);
    assert_string_equal(why, whole);
    assert_null(text);
}

static void one_newline_at_the_end_is_no_text(void **state)
{
    (void)state;
    reads("hush", "hush");
    reads("hush\n", "hush");
    reads("hush\r\n", "hush");
    reads("hush\n\n", "hush\n");
    reads("hush\r", "hush\r");
    reads(" a\nb \n", " a\nb ");
    reads("\n\n", "\n");
    reads("${env:HOME}\xff", "${env:HOME}\xff");
}

static void what_is_no_text_is_refused(void **state)
{
    (void)state;
    unlink(path);
    refuses(path, -ENOENT, "is not there");
    put(path, "", 0);
    refuses(path, -ENODATA, "is empty");
    put(path, "\n", 1);
    refuses(path, -ENODATA, "is empty");
    put(path, "\r\n", 2);
    refuses(path, -ENODATA, "is empty");
    put(path, "a\0b", 3);
    refuses(path, -EILSEQ, "has a NUL byte in it, and so is no text");
    put(path, "ab\0", 3);
    refuses(path, -EILSEQ, "has a NUL byte in it, and so is no text");
    refuses(folder, -EISDIR, "is a directory");
    refuses("/dev/zero", -EINVAL, "is no regular file");
    refuses("/dev/null", -EINVAL, "is no regular file");
}

static void a_pipe_is_not_waited_for(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char fifo[96];
    int fd;

    (void)state;
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refuses(fifo, -EINVAL, "is no regular file"); /* nobody writes */
    fd = open(fifo, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    refuses(fifo, -EINVAL, "is no regular file"); /* somebody may */
    close(fd);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    refuses(address.sun_path, -ENXIO, "cannot be read: No such device or address");
    close(fd);
}

static void what_may_not_be_read_is_refused(void **state)
{
    (void)state;
    if (geteuid() == 0 && seteuid(65534) != 0)
        skip();
    unlink(path);
    refuses("/proc/1/environ", -EACCES, "cannot be read: Permission denied");
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
}

static void its_size_has_a_bound(void **state)
{
    char *large = malloc(SECRET_MOST + 2), *text, why[256];

    (void)state;
    memset(large, 'x', SECRET_MOST + 2);
    put(path, large, SECRET_MOST);
    assert_int_equal(secret_read(path, &text, why, sizeof why), 0);
    assert_int_equal(strlen(text), SECRET_MOST);
    free(text);
    put(path, large, SECRET_MOST + 1);
    refuses(path, -EFBIG, "is larger than 65535 bytes");
    assert_int_equal(truncate(path, INT64_C(1) << 40), 0); /* with holes */
    refuses(path, -EFBIG, "is larger than 65535 bytes");
    free(large);
}

/* ----------------------------------------------------------------------------------------- while somebody else writes */

static atomic_bool is_over;

/* Each value is one letter all over, so that a mixture shows. */
static void check_whole(const char *text, size_t size)
{
    assert_true(strspn(text, "a") == size || strspn(text, "b") == size);
}

/* As Kubernetes does it: the folder that holds the file is a symbolic link, which another takes the place of. */
static void *swap_folders(void *user)
{
    char link[96], fresh[96];

    (void)user;
    snprintf(link, sizeof link, "%s/..data", folder);
    snprintf(fresh, sizeof fresh, "%s/..fresh", folder);
    for (unsigned i = 0; !is_over; i++) {
        if (symlink(i % 2 == 0 ? "b" : "a", fresh) != 0 || rename(fresh, link) != 0)
            abort();
    }
    return NULL;
}

static void a_swap_gives_one_or_the_other(void **state)
{
    char name[96], text[60000], *read, why[256];
    bool has_seen[2] = {false, false};
    pthread_t thread;

    (void)state;
    for (char letter = 'a'; letter <= 'b'; letter++) {
        snprintf(name, sizeof name, "%s/%c", folder, letter);
        assert_int_equal(mkdir(name, 0700), 0);
        snprintf(name, sizeof name, "%s/%c/secret", folder, letter);
        memset(text, letter, sizeof text);
        put(name, text, sizeof text);
    }
    snprintf(name, sizeof name, "%s/..data", folder);
    assert_int_equal(symlink("a", name), 0);
    unlink(path);
    assert_int_equal(symlink("..data/secret", path), 0);
    is_over = false;
    assert_int_equal(pthread_create(&thread, NULL, swap_folders, NULL), 0);
    for (int i = 0; i < READS || !has_seen[0] || !has_seen[1]; i++) {
        assert_int_equal(secret_read(path, &read, why, sizeof why), 0);
        assert_int_equal(strlen(read), sizeof text);
        check_whole(read, sizeof text);
        has_seen[read[0] - 'a'] = true;
        free(read);
    }
    is_over = true;
    pthread_join(thread, NULL);
    unlink(path);
}

/* The wrong way: what is there is cut and written anew. Much of it is never there at once. */
static void *rewrite(void *user)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    (void)user;
    for (unsigned i = 0; !is_over; i++) {
        char letter = i % 2 == 0 ? 'a' : 'b';

        if (ftruncate(fd, 0) != 0)
            abort();
        for (int k = 0; k < 200; k++) {
            if (pwrite(fd, &letter, 1, k) != 1)
                abort();
        }
    }
    close(fd);
    return NULL;
}

static void what_shrinks_and_grows_is_bounded_and_never_mixed(void **state)
{
    char *read, why[256];
    pthread_t thread;

    (void)state;
    put(path, "a", 1);
    is_over = false;
    assert_int_equal(pthread_create(&thread, NULL, rewrite, NULL), 0);
    for (int i = 0; i < READS; i++) {
        int error = secret_read(path, &read, why, sizeof why);

        assert_true(error == 0 || error == -ENOENT || error == -ENODATA || error == -EBUSY || error == -EILSEQ);
        if (error == 0) {
            assert_in_range(strlen(read), 1, 200);
            check_whole(read, strlen(read));
        }
        free(read);
    }
    is_over = true;
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_newline_at_the_end_is_no_text),
        cmocka_unit_test(what_is_no_text_is_refused),
        cmocka_unit_test(a_pipe_is_not_waited_for),
        cmocka_unit_test(what_may_not_be_read_is_refused),
        cmocka_unit_test(its_size_has_a_bound),
        cmocka_unit_test(a_swap_gives_one_or_the_other),
        cmocka_unit_test(what_shrinks_and_grows_is_bounded_and_never_mixed),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
