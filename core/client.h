/* client.h - the commands that look at a process from outside: what the shared object that does them is given, and what it gives.
 *
 * It is loaded only for these commands, and built of the same sources: another version's is refused. */
#ifndef FMS_CLIENT_H
#define FMS_CLIENT_H

#include "log.h"
#include "sieve.h"

struct client_options {
    const char *address;       /* where the words name none; NULL: none */
    const char *password_file; /* NULL: none */
    const char *env_file;      /* reload, plan: see environment.h; NULL: none */
    bool is_json;              /* status, tap */
    bool is_ready;             /* health: /readyz is asked */
    bool is_dry;               /* reload */
    bool is_out, is_dead;      /* tap: what leaves the stage; what was rejected there */
    const char *where;         /* tap; NULL: all records */
    const char *pipeline;      /* tap; NULL: the only one */
    int64_t limit, rate;       /* tap; 0: none */
};

struct client_host {
    const char *command; /* "health", "status", "top", "tap", "reload" or "plan" */
    char *const *words;  /* behind it */
    size_t count;
    struct client_options options;
    void (*log)(enum fms_level, const char *pipeline, const char *stage, const char *format, ...) FMS_PRINTF(4, 5);
    /* See sieve.h. */
    struct sieve *(*sieve_new)(const char *origin, const char *plugin, const char *const *options);
    bool (*sieve_passes)(struct sieve *sieve, const struct fms_record *draft);
    void (*sieve_free)(struct sieve *sieve);
};

struct client_table {
    const char *version; /* FMS_VERSION */
    int (*run)(
        const struct client_host *host); /* the exit status; standard output is for the caller to flush [control] */
};

#define CLIENT_ENTRY "fmspipe_client" /* const struct client_table *fmspipe_client(void) */

/* Does the command; the exit status. [control] */
int client_run(const char *command, char *const *words, size_t count, const struct client_options *options);

#endif
