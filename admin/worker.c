/* worker.c - see worker.h. */
#include "worker.h"

#include <signal.h>
#include <sys/resource.h>

#define STACK    (256u << 10) /* bytes */
#define NICENESS 5

int worker_start(pthread_t *thread, void *(*run)(void *), void *user)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    error = pthread_create(thread, &attributes, run, user);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void worker_give_way(void)
{
    setpriority(PRIO_PROCESS, 0, NICENESS); /* Linux: the thread's own */
}
