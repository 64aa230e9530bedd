/* worker.h - the threads of the watch. */
#ifndef FMS_WORKER_H
#define FMS_WORKER_H

#include <pthread.h>

/* As pthread_create, but with a small stack, and all signals blocked. */
int worker_start(pthread_t *thread, void *(*run)(void *), void *user);

/* From now on this thread waits for a processor rather than the lanes. */
void worker_give_way(void);

#endif
