/* mqtt_print.c - see mqtt_print.h. */
#include "mqtt_print.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define PROPERTIES                                                                                                     \
    (UINT64_C(1) << PROPERTY_CONTENT_TYPE | UINT64_C(1) << PROPERTY_RESPONSE_TOPIC |                                   \
     UINT64_C(1) << PROPERTY_CORRELATION_DATA | UINT64_C(1) << PROPERTY_PAYLOAD_FORMAT | UINT64_C(1) << PROPERTY_USER)

struct mqtt_print {
    EVP_MD_CTX *context;
    EVP_MD *sha;
};

struct mqtt_print *mqtt_print_new(void)
{
    struct mqtt_print *self = calloc(1, sizeof *self);

    if (self == NULL)
        return NULL;
    self->context = EVP_MD_CTX_new();
    self->sha = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (self->context != NULL && self->sha != NULL)
        return self;
    mqtt_print_free(self);
    return NULL;
}

void mqtt_print_free(struct mqtt_print *self)
{
    if (self == NULL)
        return;
    EVP_MD_CTX_free(self->context);
    EVP_MD_free(self->sha);
    free(self);
}

/* With its size before it, so that no two lists of values look alike. */
static bool add(struct mqtt_print *self, struct fms_bytes bytes)
{
    uint64_t size = bytes.size;

    return EVP_DigestUpdate(self->context, &size, sizeof size) == 1 &&
           EVP_DigestUpdate(self->context, bytes.data != NULL ? bytes.data : "", bytes.size) == 1;
}

static bool add_properties(struct mqtt_print *self, const struct mqtt_packet_properties *said)
{
    struct fms_bytes rest = said->all, name, value;
    bool is_good = add(self, said->content_type) && add(self, said->response_topic) &&
                   add(self, said->correlation_data) && add(self, fms_bytes_of(&said->payload_format, 1));

    while (is_good && mqtt_packet_next_user(&rest, &name, &value))
        is_good = add(self, name) && add(self, value);
    return is_good;
}

bool mqtt_print_make(struct mqtt_print *self, const struct mqtt_session_message *message, uint64_t print[2])
{
    struct fms_bytes payload = message->payload;
    unsigned char hash[EVP_MAX_MD_SIZE];

    if (message->is_cut)
        payload = fms_bytes_of(&message->payload.size, sizeof message->payload.size);
    if (EVP_DigestInit_ex2(self->context, self->sha, NULL) != 1 || !add(self, message->topic) || !add(self, payload) ||
        ((message->said->present & PROPERTIES) != 0 && !add_properties(self, message->said)) ||
        EVP_DigestFinal_ex(self->context, hash, NULL) != 1)
        return false;
    memcpy(print, hash, 2 * sizeof *print);
    return true;
}
