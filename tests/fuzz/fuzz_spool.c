/* fuzz_spool.c - any bytes as a value of a spool: what is read of it lies within it, and what adds up is written again as the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/spool/spool_pack.h"
#include "../../plugins/spool/spool_record.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static bool is_within(struct fms_bytes part, struct fms_bytes whole)
{
    const char *from = whole.data, *at = part.data;

    return part.data == NULL || (at >= from && at + part.size <= from + whole.size);
}

static void check_record(struct fms_bytes entry)
{
    static struct fms_header headers[SPOOL_HEADERS_MAX];
    struct fms_identity identity;
    struct fms_record draft;

    (void)spool_record_is_known(entry);
    (void)spool_record_era(entry);
    (void)spool_record_time(entry);
    if (spool_record_read(entry, headers, &identity, &draft) != NULL)
        return;
    expect(is_within(draft.topic, entry) && is_within(draft.key, entry) && is_within(draft.payload, entry));
    for (size_t i = 0; i < draft.header_count; i++)
        expect(is_within(fms_text(headers[i].name), entry) && is_within(headers[i].value, entry));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fms_bytes value = {data, size}, entry;
    unsigned char *again = malloc(size + PACK_HEAD), *end = again;
    size_t count = 0, bytes = 0, skipped;
    struct pack pack, other;
    uint64_t number;

    pack_open(&pack, 7, value);
    if (!pack.is_single)
        end = pack_begin(end, pack.left);
    while (pack_next(&pack, &number, &entry)) {
        expect(number == 7 + count && is_within(entry, value));
        check_record(entry);
        count++;
        bytes += entry.size;
        if (pack.is_damaged)
            continue;
        if (!pack.is_single)
            end = pack_add(end, entry.size);
        if (entry.size > 0)
            memcpy(end, entry.data, entry.size);
        end += entry.size;
    }
    expect(pack.is_damaged || ((size_t)(end - again) == size && (size == 0 || memcmp(again, data, size) == 0)));
    pack_open(&other, 7, value);
    expect(pack_skip(&other, UINT64_MAX, &skipped) == bytes && skipped == count);
    free(again);
    return 0;
}
