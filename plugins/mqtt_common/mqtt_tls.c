/* mqtt_tls.c - see mqtt_tls.h. */
#include "mqtt_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>

/* Alerts that a broker sends because of something that we can mend (RFC 8446, 6.2); OpenSSL's words for them differ by version. */
static const struct {
    int number;
    const char *text;
} alerts[] = {
    {SSL_AD_HANDSHAKE_FAILURE, "handshake failure (no cipher in common, or it wants a certificate: cert_file)"},
    {SSL_AD_BAD_CERTIFICATE, "bad certificate (ours: cert_file)"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported certificate (ours: cert_file)"},
    {SSL_AD_CERTIFICATE_REVOKED, "certificate revoked (ours: cert_file)"},
    {SSL_AD_CERTIFICATE_EXPIRED, "certificate expired (ours: cert_file)"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "certificate unknown (ours: cert_file)"},
    {SSL_AD_UNKNOWN_CA, "unknown ca (it does not know the authority of our certificate, cert_file)"},
    {SSL_AD_ACCESS_DENIED, "access denied"},
    {SSL_AD_PROTOCOL_VERSION, "protocol version (no version of TLS in common)"},
    {SSL_AD_UNRECOGNIZED_NAME, "unrecognized name (the host name in server)"},
    {SSL_AD_CERTIFICATE_REQUIRED, "certificate required (set cert_file)"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, "no application protocol (alpn)"},
};

void mqtt_tls_explain(unsigned long code, char *to, size_t size)
{
    int alert = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET : -1;
    const char *text = ERR_reason_error_string(code);

    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++) {
        if (alerts[i].number == alert) {
            snprintf(to, size, "TLS: the broker says: %s", alerts[i].text);
            return;
        }
    }
    snprintf(to, size, "TLS: %s", text != NULL ? text : "unknown error");
}

/* Never a prompt on the terminal. */
static int give_password(char *to, int size, int is_writing, void *user)
{
    const char *password = user;
    size_t length = password != NULL ? strlen(password) : 0;

    (void)is_writing;
    if (length > (size_t)size)
        return -1;
    memcpy(to, password != NULL ? password : "", length);
    return (int)length;
}

static const char *const names[MQTT_TLS_FILES] = {"ca_file", "cert_file", "key_file"};

static const char *path_of(const struct mqtt_options *options, int file)
{
    return file == MQTT_TLS_CA ? options->ca_file : file == MQTT_TLS_CERT ? options->cert_file : options->key_file;
}

/* Which of the files is to blame; -1: none; MQTT_TLS_FILES: something else. */
static int load(SSL_CTX *tls, const struct mqtt_options *options, const struct copy copies[MQTT_TLS_FILES])
{
    const char *ca = copy_path(&copies[MQTT_TLS_CA]), *cert = copy_path(&copies[MQTT_TLS_CERT]),
               *key = copy_path(&copies[MQTT_TLS_KEY]);

    if (tls == NULL)
        return MQTT_TLS_FILES;
    if (ca != NULL ? SSL_CTX_load_verify_locations(tls, ca, NULL) != 1 : SSL_CTX_set_default_verify_paths(tls) != 1)
        return MQTT_TLS_CA;
    SSL_CTX_set_default_passwd_cb(tls, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(tls, (void *)(uintptr_t)options->key_password);
    if (cert == NULL)
        return -1;
    if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1)
        return MQTT_TLS_CERT;
    if (SSL_CTX_use_PrivateKey_file(tls, key != NULL ? key : cert, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1)
        return key != NULL ? MQTT_TLS_KEY : MQTT_TLS_CERT;
    return -1;
}

/* 0, or -1, *option and `reason`. */
static int copy_files(const struct mqtt_options *options, struct copy copies[MQTT_TLS_FILES], const char **option,
                      char reason[MQTT_TLS_REASON_SIZE])
{
    for (int i = 0; i < MQTT_TLS_FILES; i++) {
        const char *path = path_of(options, i);
        int error = path != NULL ? copy_make(&copies[i], path) : 0;

        if (error == 0)
            continue;
        *option = names[i];
        snprintf(reason, MQTT_TLS_REASON_SIZE, "%s: %s", path, copy_error(error));
        return -1;
    }
    return 0;
}

static void say_fault(const char *path, char reason[MQTT_TLS_REASON_SIZE])
{
    unsigned long code = ERR_peek_error(); /* the first is the cause */
    const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    snprintf(reason, MQTT_TLS_REASON_SIZE, "%s: %s", path != NULL ? path : "TLS",
             text != NULL ? text : "it cannot be read");
    ERR_clear_error();
}

SSL_CTX *mqtt_tls_load(const struct mqtt_options *options, struct copy copies[MQTT_TLS_FILES], const char **option,
                       char reason[MQTT_TLS_REASON_SIZE])
{
    SSL_CTX *tls;
    int guilty;

    memset(copies, 0, MQTT_TLS_FILES * sizeof copies[0]);
    if (copy_files(options, copies, option, reason) != 0) {
        mqtt_tls_free_copies(copies);
        return NULL;
    }
    ERR_clear_error();
    tls = SSL_CTX_new(TLS_client_method());
    guilty = load(tls, options, copies);
    if (guilty < 0) {
        SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(tls, SSL_OP_IGNORE_UNEXPECTED_EOF); /* MQTT says itself where a packet ends */
        SSL_CTX_set_verify(tls, options->tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
        *option = NULL;
        return tls;
    }
    *option = guilty < MQTT_TLS_FILES ? names[guilty] : "server";
    say_fault(guilty < MQTT_TLS_FILES ? path_of(options, guilty) : NULL, reason);
    SSL_CTX_free(tls);
    mqtt_tls_free_copies(copies);
    return NULL;
}

void mqtt_tls_free_copies(struct copy copies[MQTT_TLS_FILES])
{
    for (int i = 0; i < MQTT_TLS_FILES; i++)
        copy_free(&copies[i]);
}

void mqtt_tls_tell(const struct fms_host *host, const char *option, const char *reason, char told[MQTT_TLS_REASON_SIZE])
{
    if (option == NULL && told[0] != '\0')
        fms_info(host, "the new certificates can be used and are");
    else if (option != NULL && strcmp(reason, told) != 0)
        fms_warn(host, "%s cannot be used, so the certificates that were read before stay in use: %s", option, reason);
    snprintf(told, MQTT_TLS_REASON_SIZE, "%s", option != NULL ? reason : "");
}
