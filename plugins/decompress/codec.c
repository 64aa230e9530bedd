/* codec.c - see codec.h.
 *
 * All input is there and the output has its full room, so neither library keeps a window of its own: what a payload claims
 * to need allocates nothing. */
#include "codec.h"

#include <stdio.h>
#include <stdlib.h>

#define ZLIB_CONST /* what it reads it does not change */
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* What compressing may add. A payload beyond that cannot become what fits, but could take seconds to become nothing: of empty
 * blocks, members and frames there may be any number. */
#define CODEC_SLACK 4096

struct codecs {
    z_stream inflate;
    ZSTD_DCtx *zstd;
};

const char *const codec_names[] = {"", "gzip", "zlib", "zstd"};

/* What is decompressed, as far as it has come. */
struct work {
    enum codec codec;
    const char *start, *at, *end;
    char *to;
    size_t most, used;
    char *why;
};

struct codecs *codecs_new(void)
{
    struct codecs *codecs = calloc(1, sizeof *codecs);
    bool is_good = codecs != NULL && inflateInit2(&codecs->inflate, 15 + 16) == Z_OK;

    if (is_good)
        codecs->zstd = ZSTD_createDCtx();
    if (is_good && codecs->zstd != NULL)
        return codecs;
    if (is_good)
        inflateEnd(&codecs->inflate);
    free(codecs);
    return NULL;
}

void codecs_free(struct codecs *codecs)
{
    inflateEnd(&codecs->inflate);
    ZSTD_freeDCtx(codecs->zstd);
    free(codecs);
}

/* --------------------------------------------------------------------------------------------------------- first bytes */

static bool begins_with(struct fms_bytes from, const char *magic)
{
    size_t size = strlen(magic);

    return from.size >= size && memcmp(from.data, magic, size) == 0;
}

/* RFC 1950: the method, the window, and a check of both bytes. */
static bool is_zlib(struct fms_bytes from)
{
    const unsigned char *bytes = from.data;

    return from.size >= 2 && (bytes[0] & 0x0f) == 8 && bytes[0] >> 4 <= 7 && (bytes[0] << 8 | bytes[1]) % 31 == 0;
}

bool codec_fits(enum codec codec, struct fms_bytes from)
{
    if (codec == CODEC_GZIP)
        return begins_with(from, "\x1f\x8b");
    if (codec == CODEC_ZLIB)
        return is_zlib(from);
    return codec == CODEC_ZSTD && begins_with(from, "\x28\xb5\x2f\xfd");
}

enum codec codec_detect(struct fms_bytes from)
{
    if (codec_fits(CODEC_GZIP, from))
        return CODEC_GZIP;
    if (codec_fits(CODEC_ZSTD, from))
        return CODEC_ZSTD;
    return is_zlib(from) && *(const char *)from.data == 0x78 ? CODEC_ZLIB : CODEC_NONE;
}

/* ------------------------------------------------------------------------------------------------------------- failures */

static bool work_fail(const struct work *work, const char *what)
{
    snprintf(work->why, CODEC_WHY, "%s: %s at byte %zu", codec_names[work->codec], what,
             (size_t)(work->at - work->start));
    return false;
}

static bool work_ends_early(struct work *work)
{
    work->at = work->end;
    return work_fail(work, "it ends too early,");
}

static bool work_is_too_large(const struct work *work)
{
    snprintf(work->why, CODEC_WHY, "%s: it is more than max_size = %zu bytes", codec_names[work->codec], work->most);
    return false;
}

/* -------------------------------------------------------------------------------------------------------- gzip and zlib */

/* One gzip member, or the zlib stream. */
static bool work_inflate(struct work *work, z_stream *stream)
{
    int result;

    inflateReset2(stream, work->codec == CODEC_GZIP ? 15 + 16 : 15);
    stream->next_in = (const Bytef *)work->at;
    stream->avail_in = (uInt)(work->end - work->at);
    stream->next_out = (Bytef *)work->to + work->used;
    stream->avail_out = (uInt)(work->most + 1 - work->used);
    result = inflate(stream, Z_FINISH);
    work->at = work->end - stream->avail_in;
    work->used = work->most + 1 - stream->avail_out;
    if (work->used > work->most)
        return work_is_too_large(work);
    if (result == Z_STREAM_END)
        return true;
    if (result == Z_MEM_ERROR)
        return work_fail(work, "there is no memory for more");
    if (result == Z_NEED_DICT)
        return work_fail(work, "it needs a dictionary");
    return result == Z_DATA_ERROR ? work_fail(work, stream->msg) : work_ends_early(work);
}

/* ----------------------------------------------------------------------------------------------------------------- zstd */

/* One frame. */
static bool work_frame(struct work *work, ZSTD_DCtx *zstd)
{
    size_t size = ZSTD_findFrameCompressedSize(work->at, (size_t)(work->end - work->at)), written;

    if (ZSTD_isError(size))
        return ZSTD_getErrorCode(size) == ZSTD_error_srcSize_wrong ? work_ends_early(work)
                                                                   : work_fail(work, ZSTD_getErrorName(size));
    written = ZSTD_decompressDCtx(zstd, work->to + work->used, work->most + 1 - work->used, work->at, size);
    if (!ZSTD_isError(written)) {
        work->used += written;
        work->at += size;
        return work->used <= work->most || work_is_too_large(work);
    }
    if (ZSTD_getErrorCode(written) == ZSTD_error_dstSize_tooSmall)
        return work_is_too_large(work);
    snprintf(work->why, CODEC_WHY, "zstd: %s in the frame that begins at byte %zu", ZSTD_getErrorName(written),
             (size_t)(work->at - work->start));
    return false;
}

static bool is_frame(struct fms_bytes from)
{
    const unsigned char *bytes = from.data;

    return codec_fits(CODEC_ZSTD, from) ||
           (from.size >= 4 && (bytes[0] & 0xf0) == 0x50 && memcmp(bytes + 1, "\x2a\x4d\x18", 3) == 0); /* skippable */
}

/* Whether what stands behind a member or a frame is another one. */
static bool work_goes_on(const struct work *work)
{
    struct fms_bytes rest = fms_bytes_of(work->at, (size_t)(work->end - work->at));

    return work->codec == CODEC_ZSTD ? is_frame(rest) : codec_fits(CODEC_GZIP, rest) && work->codec == CODEC_GZIP;
}

bool codec_decompress(struct codecs *codecs, enum codec codec, struct fms_bytes from, char *to, size_t most,
                      size_t *size, char *why)
{
    const char *start = from.data;
    struct work work = {codec, start, start, start + from.size, to, most, 0, why};
    bool is_good;

    if (from.size > most + CODEC_SLACK)
        return work_is_too_large(&work);
    do
        is_good = codec == CODEC_ZSTD ? work_frame(&work, codecs->zstd) : work_inflate(&work, &codecs->inflate);
    while (is_good && work.at < work.end && work_goes_on(&work));
    if (is_good && work.at < work.end)
        return work_fail(&work, "something else stands behind it,");
    *size = work.used;
    return is_good;
}
