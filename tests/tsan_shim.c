/* tsan_shim.c - C11's threads on top of POSIX threads, for programs built with the thread sanitizer.
 *
 * Debian's librdkafka uses <threads.h>. The sanitizer knows only pthread_*: it does not see what the library locks, and
 * crashes in threads that thrd_create has started. Linked into a program that exports its symbols (-rdynamic), these
 * definitions are found before glibc's, also by libraries that a plugin brings along. glibc gives both families the
 * same types in memory, which is asserted here. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "mtx_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "cnd_t");
_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "thrd_t");
_Static_assert(sizeof(tss_t) == sizeof(pthread_key_t), "tss_t");
_Static_assert(sizeof(once_flag) == sizeof(pthread_once_t), "once_flag");

#define MUTEX(mutex)         ((pthread_mutex_t *)(void *)(mutex))
#define CONDITION(condition) ((pthread_cond_t *)(void *)(condition))

static int result_of(int error)
{
    switch (error) {
    case 0:
        return thrd_success;
    case ENOMEM:
        return thrd_nomem;
    case ETIMEDOUT:
        return thrd_timedout;
    case EBUSY:
        return thrd_busy;
    default:
        return thrd_error;
    }
}

/* ---------------------------------------------------------------------------------------------------------- threads */

struct start {
    thrd_start_t function;
    void *argument;
};

static void *start_thread(void *argument)
{
    struct start start = *(struct start *)argument;

    free(argument);
    return (void *)(intptr_t)start.function(start.argument);
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *argument)
{
    struct start *start = malloc(sizeof *start);
    int error;

    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){function, argument};
    error = pthread_create(thread, NULL, start_thread, start);
    if (error != 0)
        free(start);
    return result_of(error);
}

int thrd_join(thrd_t thread, int *result)
{
    void *value;
    int error = pthread_join(thread, &value);

    if (error == 0 && result != NULL)
        *result = (int)(intptr_t)value;
    return result_of(error);
}

int thrd_detach(thrd_t thread)
{
    return result_of(pthread_detach(thread));
}

/* ---------------------------------------------------------------------------------------------------------- mutexes */

int mtx_init(mtx_t *mutex, int type)
{
    pthread_mutexattr_t attributes;
    int error;

    pthread_mutexattr_init(&attributes);
    if ((type & mtx_recursive) != 0)
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    error = pthread_mutex_init(MUTEX(mutex), &attributes);
    pthread_mutexattr_destroy(&attributes);
    return result_of(error);
}

void mtx_destroy(mtx_t *mutex)
{
    pthread_mutex_destroy(MUTEX(mutex));
}

int mtx_lock(mtx_t *mutex)
{
    return result_of(pthread_mutex_lock(MUTEX(mutex)));
}

int mtx_trylock(mtx_t *mutex)
{
    return result_of(pthread_mutex_trylock(MUTEX(mutex)));
}

int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict until)
{
    return result_of(pthread_mutex_timedlock(MUTEX(mutex), until));
}

int mtx_unlock(mtx_t *mutex)
{
    return result_of(pthread_mutex_unlock(MUTEX(mutex)));
}

/* ------------------------------------------------------------------------------------------------------- conditions */

int cnd_init(cnd_t *condition)
{
    return result_of(pthread_cond_init(CONDITION(condition), NULL));
}

void cnd_destroy(cnd_t *condition)
{
    pthread_cond_destroy(CONDITION(condition));
}

int cnd_signal(cnd_t *condition)
{
    return result_of(pthread_cond_signal(CONDITION(condition)));
}

int cnd_broadcast(cnd_t *condition)
{
    return result_of(pthread_cond_broadcast(CONDITION(condition)));
}

int cnd_wait(cnd_t *condition, mtx_t *mutex)
{
    return result_of(pthread_cond_wait(CONDITION(condition), MUTEX(mutex)));
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    return result_of(pthread_cond_timedwait(CONDITION(condition), MUTEX(mutex), until));
}

/* ----------------------------------------------------------------------------------------------- once, thread's own */

void call_once(once_flag *flag, void (*function)(void))
{
    pthread_once((pthread_once_t *)(void *)flag, function);
}

int tss_create(tss_t *key, tss_dtor_t destructor)
{
    return result_of(pthread_key_create(key, destructor));
}

void tss_delete(tss_t key)
{
    pthread_key_delete(key);
}

void *tss_get(tss_t key)
{
    return pthread_getspecific(key);
}

int tss_set(tss_t key, void *value)
{
    return result_of(pthread_setspecific(key, value));
}
