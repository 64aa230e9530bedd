/* decompress - makes of each compressed payload what it was: gzip, zlib, zstd.
 *
 * A payload of a few kilobytes may stand for gigabytes. So the result has a buffer of fixed size, made at the start, and
 * what needs more is rejected as soon as that is full; nothing else is allocated for a record. */
#include <fms_plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "../json_common/text.h"
#include "codec.h"

#define DECOMPRESS_HEADERS 1000 /* that a record may have */

enum format { FORMAT_AUTO }; /* behind it as enum codec */
enum otherwise { OTHERWISE_REJECT, OTHERWISE_PASS };
enum counter { COUNTER_DECOMPRESSED, COUNTER_PASSED, COUNTER_FORMAT, COUNTER_DATA };

struct decompress {
    int format; /* FORMAT_AUTO or enum codec */
    const char *header;
    int64_t max_size;
    int otherwise; /* enum otherwise */

    const struct fms_host *host;
    struct codecs *codecs;
    char *buffer; /* max_size bytes and one more */

    /* of the record in hand */
    size_t size;  /* of the result */
    bool is_done; /* it waits for room: the next call is for the same record */
    struct fms_header headers[DECOMPRESS_HEADERS];
};

static const struct fms_option decompress_options[] = {
    FMS_OPT_CHOICE(struct decompress, format, "auto", "auto|gzip|zlib|zstd",
                   "what payloads are; auto: what the header says, or else their first bytes"),
    FMS_OPT_STRING(struct decompress, header, "content-encoding",
                   "the header that names the format, which goes with it; empty: none"),
    FMS_OPT_SIZE(struct decompress, max_size, "4MiB", 1, INT64_C(1) << 30,
                 "bytes of a result, beyond which the record is rejected; so much memory is kept for it"),
    FMS_OPT_CHOICE(struct decompress, otherwise, "reject", "reject|pass",
                   "what becomes of a payload that is not compressed"),
    FMS_OPT_END,
};

static const struct fms_metric decompress_counters[] = {
    [COUNTER_DECOMPRESSED] = {"decompressed", "records whose payload was decompressed"},
    [COUNTER_PASSED] = {"passed", "records that were not compressed, and passed all the same"},
    [COUNTER_FORMAT] = {"rejected_format",
                        "records rejected for they were not compressed, or their header names no format"},
    [COUNTER_DATA] = {"rejected_data",
                      "records rejected for their data: damaged, or more than max_size when decompressed"},
    {NULL, NULL},
};

/* ------------------------------------------------------------------------------------------------------ what it may be */

static bool decompress_is_header(const struct decompress *self, const struct fms_header *header)
{
    return *self->header != '\0' && strcasecmp(header->name, self->header) == 0;
}

/* The last header that names the format; NULL: there is none. */
static const struct fms_header *decompress_header(const struct decompress *self, const struct fms_record *record)
{
    const struct fms_header *found = NULL;

    for (size_t i = 0; i < record->header_count; i++)
        if (decompress_is_header(self, &record->headers[i]))
            found = &record->headers[i];
    return found;
}

static bool is_word(struct fms_bytes value, const char *word)
{
    return value.size == strlen(word) && (value.size == 0 || strncasecmp(value.data, word, value.size) == 0);
}

/* As HTTP names them (RFC 9110, section 8.4.1). False: it names none of ours. */
static bool decompress_named(struct fms_bytes value, enum codec *codec)
{
    static const struct {
        const char *word;
        enum codec codec;
    } names[] = {{"gzip", CODEC_GZIP}, {"x-gzip", CODEC_GZIP},   {"deflate", CODEC_ZLIB},
                 {"zstd", CODEC_ZSTD}, {"identity", CODEC_NONE}, {"", CODEC_NONE}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_word(value, names[i].word)) {
            *codec = names[i].codec;
            return true;
        }
    return false;
}

/* False: the record was rejected. */
static bool decompress_codec(struct decompress *self, const struct fms_record *record, enum codec *codec)
{
    const struct fms_header *header = decompress_header(self, record);

    *codec = CODEC_NONE;
    if (record->payload.data == NULL)
        return true;
    if (self->format != FORMAT_AUTO) {
        *codec = (enum codec)self->format;
        *codec = codec_fits(*codec, record->payload) ? *codec : CODEC_NONE;
        return true;
    }
    if (header == NULL) {
        *codec = codec_detect(record->payload);
        return true;
    }
    if (decompress_named(header->value, codec))
        return true;
    fms_count(self->host, COUNTER_FORMAT, 1);
    fms_reject(self->host, record, "the header %s is \"%s\", which is none of gzip, deflate, zstd and identity",
               self->header, text_show(header->value).text);
    return false;
}

/* ------------------------------------------------------------------------------------------------------------- records */

static enum fms_verdict decompress_otherwise(struct decompress *self, const struct fms_record *record)
{
    if (self->otherwise == OTHERWISE_PASS) {
        fms_count(self->host, COUNTER_PASSED, 1);
        return FMS_PASS;
    }
    fms_count(self->host, COUNTER_FORMAT, 1);
    if (record->payload.data != NULL && self->format == FORMAT_AUTO && decompress_header(self, record) != NULL)
        return fms_reject(self->host, record, "the payload is not compressed: its header %s says so", self->header);
    return fms_reject(self->host, record, "the payload is not compressed: %s",
                      record->payload.data == NULL  ? "it is absent (a tombstone)"
                      : self->format == FORMAT_AUTO ? "it is neither gzip, zlib nor zstd data"
                      : self->format == CODEC_GZIP  ? "it is no gzip data"
                      : self->format == CODEC_ZLIB  ? "it is no zlib data"
                                                    : "it is no zstd data");
}

/* The record as it was before it was compressed. */
static enum fms_verdict decompress_emit(struct decompress *self, const struct fms_record *record)
{
    struct fms_record child = *record;
    int error;

    child.payload = fms_bytes_of(self->buffer, self->size);
    if (decompress_header(self, record) != NULL) {
        child.headers = self->headers;
        child.header_count = 0;
        for (size_t i = 0; i < record->header_count; i++)
            if (!decompress_is_header(self, &record->headers[i]))
                self->headers[child.header_count++] = record->headers[i];
    }
    error = fms_emit_child(self->host, record, &child);
    self->is_done = error == -EAGAIN;
    if (error == -EAGAIN)
        return FMS_AGAIN;
    if (error == -EMSGSIZE)
        return fms_reject(self->host, record, "with the %zu bytes that it becomes it does not fit max_in_flight_bytes",
                          self->size);
    if (error != 0)
        return fms_reject(self->host, record, "it cannot be emitted: %s", strerror(-error));
    fms_count(self->host, COUNTER_DECOMPRESSED, 1);
    return FMS_DROP;
}

static enum fms_verdict decompress_transform(void *instance, const struct fms_record *record)
{
    struct decompress *self = instance;
    enum codec codec;
    char why[CODEC_WHY];

    if (self->is_done)
        return decompress_emit(self, record);
    if (!decompress_codec(self, record, &codec))
        return FMS_KEPT;
    if (codec == CODEC_NONE)
        return decompress_otherwise(self, record);
    if (codec_decompress(self->codecs, codec, record->payload, self->buffer, (size_t)self->max_size, &self->size, why))
        return decompress_emit(self, record);
    fms_count(self->host, COUNTER_DATA, 1);
    return fms_reject(self->host, record, "%s", why);
}

/* ------------------------------------------------------------------------------------------------------------- opening */

static int decompress_open(void *instance, const struct fms_host *host)
{
    struct decompress *self = instance;

    self->host = host;
    self->buffer = malloc((size_t)self->max_size + 1);
    self->codecs = self->buffer != NULL ? codecs_new() : NULL;
    if (self->codecs != NULL)
        return 0;
    free(self->buffer);
    return fms_fail(host, -ENOMEM, "no memory for a result of max_size = %lld bytes", (long long)self->max_size);
}

static void decompress_close(void *instance)
{
    struct decompress *self = instance;

    codecs_free(self->codecs);
    free(self->buffer);
}

FMS_PLUGIN(.name = "decompress", .version = FMS_VERSION, .summary = "Decompresses payloads: gzip, zlib, zstd",
           .options = decompress_options, .counters = decompress_counters, .instance_size = sizeof(struct decompress),
           .open = decompress_open, .close = decompress_close, .transform = decompress_transform);
