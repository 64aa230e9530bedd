/* mqtt_tls.h - certificates, keys and authorities, read anew for each connection, and what TLS says in words.
 *
 * Files that are replaced while we run are used from the next connection on. As long as they cannot be used, because one is
 * broken, or the key is there and its certificate not yet, the old ones stay in use. */
#ifndef MQTT_TLS_H
#define MQTT_TLS_H

#include <openssl/ssl.h>

#include "mqtt_common.h"

#define MQTT_TLS_REASON_SIZE 256

/* Where to read what the options name. */
struct mqtt_tls_files {
    const char *ca, *cert, *key; /* NULL: the system's authorities; none; in `cert` */
};

/* NULL: they cannot be used; *option is the option to blame, and `reason` says why. */
SSL_CTX *mqtt_tls_load(const struct mqtt_options *options, const struct mqtt_tls_files *files, const char **option,
                       char reason[MQTT_TLS_REASON_SIZE]);

/* Warns that the old files stay in use, once for each reason; says when the new ones are used at last (option NULL). `told`
 * begins empty and is kept from one call to the next. */
void mqtt_tls_tell(const struct fms_host *host, const char *option, const char *reason,
                   char told[MQTT_TLS_REASON_SIZE]);

/* What an error of OpenSSL says, in words, with a hint where the broker sent an alert. */
void mqtt_tls_explain(unsigned long code, char *to, size_t size);

#endif
