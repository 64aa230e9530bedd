/* thread.h - threads of the runner's own. */
#ifndef FMS_THREAD_H
#define FMS_THREAD_H

#include <pthread.h>

/* As pthread_create, but the thread takes no signals: they are for whoever waits for them. Any thread. */
int thread_start(pthread_t *thread, void *(*run)(void *), void *user);

#endif
