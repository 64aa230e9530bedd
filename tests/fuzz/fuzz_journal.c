/* fuzz_journal.c - records as a topic may hold them: a byte for the key, two for the size of the value, the value.
 * All are loaded; then some are noted, and what the journal writes is loaded by another one: it takes all, knows each
 * that was noted, and says the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/kafka_sink/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MOST 40

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* The value in memory of its size. */
static int load(struct journal *journal, unsigned slot, const uint8_t *data, size_t size, int64_t offset)
{
    char key[16], why[96];
    uint8_t *copy = malloc(size > 0 ? size : 1);
    int error;

    memcpy(copy, data, size);
    snprintf(key, sizeof key, "%u", slot);
    require(journal_base(fms_bytes_of(copy, size)) >= -1);
    error = journal_load(journal, fms_text(key), fms_bytes_of(copy, size), offset, why, sizeof why);
    free(copy);
    return error;
}

static void load_all(struct journal *journal, const uint8_t *data, size_t size)
{
    for (int64_t offset = 0; size > 3; offset += 2) {
        size_t value = (size_t)(data[1] | data[2] << 8);

        value = value > size - 3 ? size - 3 : value;
        load(journal, data[0], data + 3, value, offset);
        data += 3 + value;
        size -= 3 + value;
    }
    require(journal_entries(journal) <= ENTRIES_MOST);
}

static int put(void *opaque, const char *key, struct fms_bytes value, unsigned slot)
{
    require((unsigned)atoi(key) == slot && value.size <= JOURNAL_RECORD_MOST);
    return load(opaque, slot, value.data, value.size, 1000000 + slot);
}

/* Identities that the input may have named, and others. */
static struct fms_identity identity_of(const uint8_t *data, size_t size, unsigned i)
{
    struct fms_identity identity = {.kind = i % 3 == 0 ? FMS_RESENT : FMS_NUMBERED,
                                    .origin = i % 2 == 0 ? fms_text("truck") : fms_text("van"),
                                    .may_repeat = true};

    for (unsigned byte = 0; byte < 8; byte++)
        identity.sequence = identity.sequence << 8 | (size == 0 ? i : data[(i * 8 + byte) % size]);
    identity.sequence >>= i % 8 * 8;
    identity.skipped = i % 5 == 0 ? identity.sequence >> 1 : 0;
    identity.part = i % 4 == 0 ? i : 0;
    identity.is_end = i % 7 == 0;
    identity.print[0] = i;
    return identity;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal *journal = journal_new(ENTRIES_MOST), *other = journal_new(ENTRIES_MOST);
    struct journal_name name = {{1, 2}, 3}, last;

    load_all(journal, data, size);
    load_all(other, data, size);
    for (unsigned i = 0; i < 12; i++) {
        struct fms_identity identity = identity_of(data, size, i);

        require(journal_note(journal, &identity) == 0);
        require(identity.is_end || journal_judge(journal, &identity) != JOURNAL_NEW);
    }
    require(journal_write(journal, name, put, other) > 0);
    require(journal_last(other, &last) && memcmp(&last, &name, sizeof last) == 0);
    for (unsigned i = 0; i < 12; i++) {
        struct fms_identity identity = identity_of(data, size, i);

        require(journal_judge(journal, &identity) == journal_judge(other, &identity));
    }
    journal_free(journal);
    journal_free(other);
    return 0;
}
