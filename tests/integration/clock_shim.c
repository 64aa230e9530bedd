/* clock_shim.c - a machine whose clock a test sets: preloaded into a program, which then has no other.
 *
 * The file that CLOCK_SHIM names says, as text, by how many seconds the clock is ahead of the system's, whether it is synchronised (0 or 1), and
 * which start of the machine this is. It is read at each question. */
#undef _FILE_OFFSET_BITS /* fopen and fopen64 are two */
#undef _TIME_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

struct shim {
    long long ahead;
    int is_synchronised;
    unsigned boot;
};

static struct shim look(void)
{
    const char *path = getenv("CLOCK_SHIM");
    struct shim shim = {0, 1, 0};
    char text[64] = "";
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1, saved = errno;

    if (fd < 0)
        return shim;
    if (read(fd, text, sizeof text - 1) < 0 ||
        sscanf(text, "%lld %d %u", &shim.ahead, &shim.is_synchronised, &shim.boot) != 3)
        abort();
    close(fd);
    errno = saved;
    return shim;
}

int clock_gettime(clockid_t clock, struct timespec *to)
{
    int result = (int)syscall(SYS_clock_gettime, clock, to);

    if (result == 0 && clock == CLOCK_REALTIME)
        to->tv_sec += look().ahead;
    return result;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *to = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (to != NULL)
        *to = now.tv_sec;
    return now.tv_sec;
}

int adjtimex(struct timex *state)
{
    int is_synchronised = look().is_synchronised;

    memset(state, 0, sizeof *state);
    state->maxerror = is_synchronised ? 1000 : 16000000;
    return is_synchronised ? TIME_OK : TIME_ERROR;
}

static FILE *open_as(const char *name, const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *);
    char text[40];
    FILE *file;

    *(void **)&real = dlsym(RTLD_NEXT, name);
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") != 0)
        return real(path, mode);
    file = tmpfile();
    snprintf(text, sizeof text, "86624afb-8ed3-418e-9af6-80fc%08x\n", look().boot);
    if (file == NULL || fputs(text, file) < 0)
        abort();
    rewind(file);
    return file;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    return open_as("fopen", path, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    return open_as("fopen64", path, mode);
}
