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

/* The option to blame, or NULL. */
static const char *load(SSL_CTX *tls, const struct mqtt_options *options, const struct mqtt_tls_files *files)
{
    if (files->ca != NULL ? SSL_CTX_load_verify_locations(tls, files->ca, NULL) != 1
                          : SSL_CTX_set_default_verify_paths(tls) != 1)
        return "ca_file";
    SSL_CTX_set_default_passwd_cb(tls, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(tls, (void *)(uintptr_t)options->key_password);
    if (files->cert == NULL)
        return NULL;
    if (SSL_CTX_use_certificate_chain_file(tls, files->cert) != 1)
        return "cert_file";
    if (SSL_CTX_use_PrivateKey_file(tls, files->key != NULL ? files->key : files->cert, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1)
        return files->key != NULL ? "key_file" : "cert_file";
    return NULL;
}

SSL_CTX *mqtt_tls_load(const struct mqtt_options *options, const struct mqtt_tls_files *files, const char **option,
                       char reason[MQTT_TLS_REASON_SIZE])
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    const char *text, *path;
    unsigned long code;

    ERR_clear_error();
    *option = tls != NULL ? load(tls, options, files) : "server";
    if (*option == NULL) {
        SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(tls, SSL_OP_IGNORE_UNEXPECTED_EOF); /* MQTT says itself where a packet ends */
        SSL_CTX_set_verify(tls, options->tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
        return tls;
    }
    path = strcmp(*option, "ca_file") == 0     ? options->ca_file
           : strcmp(*option, "cert_file") == 0 ? options->cert_file
                                               : options->key_file;
    code = ERR_peek_error(); /* the first is the cause */
    text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(reason, MQTT_TLS_REASON_SIZE, "%s: %s", path != NULL ? path : "TLS",
             text != NULL ? text : "it cannot be read");
    ERR_clear_error();
    SSL_CTX_free(tls);
    return NULL;
}

void mqtt_tls_tell(const struct fms_host *host, const char *option, const char *reason, char told[MQTT_TLS_REASON_SIZE])
{
    if (option == NULL && told[0] != '\0')
        fms_info(host, "the new certificates can be used and are");
    else if (option != NULL && strcmp(reason, told) != 0)
        fms_warn(host, "%s cannot be used, so the certificates that were read before stay in use: %s", option, reason);
    snprintf(told, MQTT_TLS_REASON_SIZE, "%s", option != NULL ? reason : "");
}
