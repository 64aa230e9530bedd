/* kafka_secure.c - a second listener of the real Kafka, which demands TLS, a user with a password, and rights.
 *
 * The first one stays open and may do everything: the sandbox's own questions, and a test's, need no password. The
 * authority is made for each sandbox and forgotten with it. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#define SECURE_USER "fleet"

/* Leaves ca.pem, and keystore.pem with the server's key and certificate, which is for 127.0.0.1. */
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

static int password_make(char text[static 33])
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        return fail(-errno, "getrandom: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static void secure_export(const struct broker *broker, const char *password)
{
    char text[PATH_MAX + 32];

    snprintf(text, sizeof(text), "127.0.0.1:%d", broker->secure_port);
    setenv("FMS_KAFKA_SECURE", text, 1);
    snprintf(text, sizeof(text), "%s/ca.pem", broker->directory);
    setenv("FMS_KAFKA_CA", text, 1);
    setenv("FMS_KAFKA_USER", SECURE_USER, 1);
    setenv("FMS_KAFKA_PASSWORD", password, 1);
}

int kafka_secure_prepare(struct broker *broker, char properties[static KAFKA_SECURE_SIZE])
{
    char password[33];
    int rc = certificates_make(broker);

    if (rc == 0)
        rc = password_make(password);
    if (rc != 0)
        return rc;
    broker->secure_port = port_reserve(0, &broker->secure_fd);
    if (broker->secure_port < 0)
        return broker->secure_port;
    secure_export(broker, password);
    snprintf(properties, KAFKA_SECURE_SIZE,
             "listener.name.secure.ssl.keystore.type=PEM\n"
             "listener.name.secure.ssl.keystore.location=%s/keystore.pem\n"
             "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n"
             "listener.name.secure.plain.sasl.jaas.config="
             "org.apache.kafka.common.security.plain.PlainLoginModule required user_" SECURE_USER "=\"%s\";\n"
             "listener.name.secure.scram-sha-256.sasl.jaas.config="
             "org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
             "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
             "super.users=User:ANONYMOUS\n",
             broker->directory, password);
    return 0;
}
