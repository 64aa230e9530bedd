/* Two threads write to one variable without a lock: the thread sanitizer must stop it. */
#include <pthread.h>
#include <stddef.h>

static int shared;

static void *writer(void *unused)
{
    for (int i = 0; i < 100000; i++)
        shared += i;
    return unused;
}

int main(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, writer, NULL);
    writer(NULL);
    pthread_join(thread, NULL);
    return shared == 1;
}
