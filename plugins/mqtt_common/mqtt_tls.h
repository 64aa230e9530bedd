/* mqtt_tls.h - certificates, keys and authorities, read anew for each connection, and what TLS says in words.
 *
 * Files that are replaced while we run are used from the next connection on. As long as they cannot be used, because one is
 * broken, or the key is there and its certificate not yet, the old ones stay in use. */
#ifndef MQTT_TLS_H
#define MQTT_TLS_H

#include <openssl/ssl.h>

#include "../copy_common/copy.h"
#include "mqtt_common.h"

#define MQTT_TLS_REASON_SIZE 256

enum { MQTT_TLS_CA, MQTT_TLS_CERT, MQTT_TLS_KEY, MQTT_TLS_FILES };

/* Reads the files that the options name, as they are now. NULL: they cannot be used; *option is the option to blame, and `reason` says
 * why. `copies` gets what was read, to be freed with mqtt_tls_free_copies; nothing after a failure. */
SSL_CTX *mqtt_tls_load(const struct mqtt_options *options, struct copy copies[MQTT_TLS_FILES], const char **option,
                       char reason[MQTT_TLS_REASON_SIZE]);
void mqtt_tls_free_copies(struct copy copies[MQTT_TLS_FILES]);

/* Warns that the old files stay in use, once for each reason; says when the new ones are used at last (option NULL). `told`
 * begins empty and is kept from one call to the next. */
void mqtt_tls_tell(const struct fms_host *host, const char *option, const char *reason,
                   char told[MQTT_TLS_REASON_SIZE]);

/* What an error of OpenSSL says, in words, with a hint where the broker sent an alert. */
void mqtt_tls_explain(unsigned long code, char *to, size_t size);

#endif
