/* kafka_secure.c - a second listener of the real Kafka, which demands TLS, a user with a password, and rights.
 *
 * Certificates and port come from secure.c; the user and his password are made here, another at each start. */
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SECURE_USER "fleet"

static int password_make(char text[static 33])
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        return fail(-errno, "getrandom: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

int kafka_secure_prepare(struct broker *broker, char properties[static KAFKA_SECURE_SIZE])
{
    char password[33];
    int rc = secure_prepare(broker, "");

    if (rc == 0)
        rc = password_make(password);
    if (rc != 0)
        return rc;
    setenv("FMS_KAFKA_USER", SECURE_USER, 1);
    setenv("FMS_KAFKA_PASSWORD", password, 1);
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
