/* codec.h - whole payloads decompressed into a buffer of fixed size, by zlib and zstd. */
#ifndef DECOMPRESS_CODEC_H
#define DECOMPRESS_CODEC_H

#include <fms_plugin.h>

enum codec { CODEC_NONE, CODEC_GZIP, CODEC_ZLIB, CODEC_ZSTD };

extern const char *const codec_names[];

struct codecs;

/* The memory that decompressing takes, apart from the result: some 200 KB. NULL: there is none. */
struct codecs *codecs_new(void);
void codecs_free(struct codecs *codecs);

/* What the first bytes are of. Of zlib's forms only the usual one (a window of 32 KiB) is known: text begins like the others. */
enum codec codec_detect(struct fms_bytes from);

/* Whether the first bytes may be of this codec. */
bool codec_fits(enum codec codec, struct fms_bytes from);

/* Decompresses all of it, several gzip members or zstd frames too, into `to`, which has room for `most` bytes and one more.
 * False: it cannot be, and `why` says why. */
#define CODEC_WHY 128
bool codec_decompress(struct codecs *codecs, enum codec codec, struct fms_bytes from, char *to, size_t most,
                      size_t *size, char *why);

#endif
