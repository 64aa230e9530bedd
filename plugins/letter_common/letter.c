/* letter.c - see letter.h. */
#include "letter.h"

static const char *const headers_of_the_host[LETTER_HEADERS] = {"fms.reason", "fms.pipeline", "fms.stage", "fms.topic",
                                                                "fms.time"};

size_t letter_header(const char *name)
{
    size_t i = 0;

    while (i < LETTER_HEADERS && strcmp(name, headers_of_the_host[i]) != 0)
        i++;
    return i;
}

bool letter_finds(const struct fms_host *host, const struct fms_template *template, struct fms_bytes *text)
{
    struct fms_header headers[LETTER_HEADERS];
    struct fms_record letter = {.topic = fms_text("_"), .headers = headers, .header_count = LETTER_HEADERS};

    for (size_t i = 0; i < LETTER_HEADERS; i++)
        headers[i] = (struct fms_header){headers_of_the_host[i], fms_text("_")};
    return fms_expand(host, template, &letter, text) == 0;
}
