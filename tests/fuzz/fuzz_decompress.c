/* fuzz_decompress.c - any bytes as gzip, zlib and zstd: no more comes out than there is room for, and what cannot be
 * decompressed says why. What comes out once comes out twice: nothing of one is left in the next. */
#include <stdlib.h>

#include "../../plugins/decompress/codec.h"

#define MOST 65536

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct codecs *codecs;
    struct fms_bytes from = {data, size};
    char *to = malloc(MOST + 1), *again = malloc(MOST + 1); /* of that size: what is written behind it is seen */

    if (codecs == NULL)
        codecs = codecs_new();
    require(codecs != NULL && to != NULL && again != NULL);
    for (enum codec codec = CODEC_GZIP; codec <= CODEC_ZSTD; codec++) {
        char why[CODEC_WHY] = "", other[CODEC_WHY];
        size_t used = 0, used_again = 0;
        bool is_good = codec_decompress(codecs, codec, from, to, MOST, &used, why);

        require(is_good ? used <= MOST : why[0] != '\0');
        require(codec_decompress(codecs, codec, from, again, MOST, &used_again, other) == is_good);
        require(!is_good || (used == used_again && memcmp(to, again, used) == 0));
        require(codec_detect(from) != codec || codec_fits(codec, from));
    }
    free(to);
    free(again);
    return 0;
}
