/* listen.h - the sockets that the watch listens on. */
#ifndef FMS_LISTEN_H
#define FMS_LISTEN_H

#include <sys/types.h>

#include "address.h"
#include "admin.h"

struct listening {
    struct address address; /* with the port that was chosen */
    int fd;                 /* not blocking */
    dev_t device;           /* unix: the socket's file, */
    ino_t inode;            /* which is removed only while it is this one */
};

/* 0, or a negative errno, logged. */
int listen_open(const struct admin_host *host, const char *text, const struct address *address,
                struct listening *listening);
void listen_close(struct listening *listening);

#endif
