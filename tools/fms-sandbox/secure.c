/* secure.c - what a second listener that demands TLS needs: certificates and a port.
 *
 * The first listener stays open and may do everything: the sandbox's own questions, and a test's, need no password. The
 * authority is made for each broker and forgotten with it. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Leaves ca.pem, server.key and server.pem, which is for 127.0.0.1, and keystore.pem with both. */
static const char certify[] =
    "umask 077\n"
    "new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n"
    "openssl req -x509 $new -days 30 -subj /CN=fms-sandbox -keyout ca.key -out ca.pem &&\n"
    "openssl req $new -subj /CN=127.0.0.1 -keyout server.key -out server.csr &&\n"
    "echo subjectAltName=IP:127.0.0.1 >server.ext &&\n"
    "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext "
    "-out server.pem &&\n"
    "cat server.key server.pem >keystore.pem\n";

static int certificates_make(const struct broker *broker)
{
    const char *argv[] = {"/bin/sh", "-c", certify, NULL};
    struct process process = {.argv = (char *const *)argv,
                              .directory = broker->directory,
                              .log = broker->log,
                              .death_signal = SIGKILL,
                              .broker = true};
    pid_t pid = process_start(&process);
    int status;

    if (pid < 0)
        return fail(pid, "/bin/sh: cannot start: %s", strerror(-pid));
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    fail(-EIO, "no certificates were made: is openssl installed?");
    fail_add_log(broker->log);
    return -EIO;
}

static void secure_export(const struct broker *broker, const char *scheme)
{
    char name[64], text[PATH_MAX + 32];

    snprintf(name, sizeof(name), "%s_SECURE", broker->variable);
    snprintf(text, sizeof(text), "%s127.0.0.1:%d", scheme, broker->secure_port);
    setenv(name, text, 1);
    snprintf(name, sizeof(name), "%s_CA", broker->variable);
    snprintf(text, sizeof(text), "%s/ca.pem", broker->directory);
    setenv(name, text, 1);
}

int secure_prepare(struct broker *broker, const char *scheme)
{
    int rc = certificates_make(broker);

    if (rc != 0)
        return rc;
    broker->secure_port = port_reserve(0, &broker->secure_fd);
    if (broker->secure_port < 0)
        return broker->secure_port;
    secure_export(broker, scheme);
    return 0;
}
