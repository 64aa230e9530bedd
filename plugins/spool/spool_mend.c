/* spool_mend.c - see spool_mend.h. All is done in integers: a double would change digits that nobody asked for. */
#include "spool_mend.h"

#include <errno.h>

#define NAME_MOST 256 /* bytes of a member's name that can be the field's */
#define NUMBER    48  /* bytes of a time, at most */

/* The draft's payload in our own memory, with a NUL byte, and room for some more. */
static int mend_copy(struct mend *mend, struct fms_record *draft)
{
    bool is_ours = draft->payload.data == mend->payload.data;
    size_t size = draft->payload.size;

    if (!text_reserve(&mend->payload, size + NUMBER))
        return -ENOMEM;
    if (size > 0 && !is_ours)
        memcpy(mend->payload.data, draft->payload.data, size);
    mend->payload.data[size] = '\0';
    draft->payload = fms_bytes_of(mend->payload.data, size);
    return 0;
}

/* Puts text in the place of `size` bytes at `at`. */
static void mend_replace(struct mend *mend, struct fms_record *draft, size_t at, size_t size, const char *text)
{
    size_t length = strlen(text);

    memmove(mend->payload.data + at + length, mend->payload.data + at + size, draft->payload.size - at - size + 1);
    memcpy(mend->payload.data + at, text, length);
    draft->payload.size += length - size;
}

static bool is_name(const struct mend *mend, const struct fms_json *name, const char *text, size_t size)
{
    char plain[NAME_MOST];

    if (name->type != FMS_JSON_STRING || name->text.size > sizeof plain)
        return false;
    return fms_json_unescape(mend->host, name, plain) == size && memcmp(plain, text, size) == 0;
}

/* The field of an object. False: it is not there, or more than once: then readers differ in which they take. */
static bool mend_find(const struct mend *mend, struct fms_json object, const char *path, struct fms_json *found)
{
    for (*found = object; *path != '\0'; path += *path == '.') {
        size_t size = strcspn(path, "."), times = 0;
        struct fms_bytes rest = found->text;
        struct fms_json name, value;

        if (found->type != FMS_JSON_OBJECT)
            return false;
        while (fms_json_next(mend->host, &rest, &name, &value)) {
            if (is_name(mend, &name, path, size)) {
                *found = value;
                times++;
            }
        }
        if (times != 1)
            return false;
        path += size;
    }
    return true;
}

/* A decimal without exponent, as a number of its last digit's unit: 10^-digits. */
static bool number_read(struct fms_bytes text, int64_t *number, int *digits)
{
    const char *at = text.data, *end = at + text.size;
    bool is_negative = at < end && *at == '-', has_point = false;

    *number = 0;
    *digits = 0;
    for (at += is_negative; at < end; at++) {
        if (*at == '.' && !has_point) {
            has_point = true;
            continue;
        }
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, *at - '0', number))
            return false;
        *digits += has_point;
    }
    if (is_negative)
        *number = -*number;
    return true;
}

static void number_write(int64_t number, int digits, char to[NUMBER])
{
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    char *at = to + NUMBER - 1;

    *at = '\0';
    for (int i = 0; i <= digits || rest > 0; i++, rest /= 10) {
        if (i == digits && i > 0)
            *--at = '.';
        *--at = (char)('0' + rest % 10);
    }
    if (number < 0)
        *--at = '-';
    memmove(to, at, (size_t)(to + NUMBER - at));
}

static int64_t floor_to(int64_t value, int64_t step)
{
    int64_t rest = value % step;

    return value - rest - (rest < 0 ? step : 0);
}

/* The field's text as it is to be. One that is the record's time, cut to its digits, stays just that. False: it is no time, or none that this
 * clock has told until the record was made. */
static bool mend_number(const struct mend *mend, struct fms_bytes text, int64_t timestamp, int64_t offset,
                        int64_t delta, char to[NUMBER])
{
    int64_t number, step = mend->unit, time, mended;
    int digits;

    if (!number_read(text, &number, &digits))
        return false;
    for (int i = 0; i < digits; i++) {
        if (step % 10 != 0)
            return false; /* beyond nanoseconds */
        step /= 10;
    }
    if (__builtin_mul_overflow(number, step, &time) || time < offset - FMS_SECOND ||
        (timestamp != 0 && time > timestamp + FMS_SECOND))
        return false;
    if (timestamp != 0 && time == floor_to(timestamp, step))
        time = timestamp;
    if (__builtin_add_overflow(time, delta, &mended))
        return false;
    number_write(floor_to(mended, step) / step, digits, to);
    return true;
}

/* The whole of a payload. -EBADMSG: it is no JSON object. */
static int mend_object(const struct mend *mend, const struct fms_record *draft, struct fms_json *object)
{
    int error = fms_json_get(mend->host, draft, mend->path, object);

    return error == 0 && object->type != FMS_JSON_OBJECT ? -EBADMSG : error;
}

static int mend_payload(struct mend *mend, struct fms_record *draft, int64_t offset, int64_t delta)
{
    struct fms_json object, found;
    char text[NUMBER];
    int error = mend_copy(mend, draft);

    if (error == 0)
        error = mend_object(mend, draft, &object);
    if (error != 0)
        return error;
    if (!mend_find(mend, object, mend->field, &found) || found.type != FMS_JSON_NUMBER ||
        !mend_number(mend, found.text, draft->timestamp, offset, delta, text))
        return -EBADMSG;
    mend_replace(mend, draft, (size_t)((const char *)found.text.data - mend->payload.data), found.text.size, text);
    return 0;
}

int mend_record(struct mend *mend, struct fms_record *draft, int64_t offset, int64_t delta)
{
    int64_t mended = 0;
    int error = 0;

    if (draft->timestamp != 0 && __builtin_add_overflow(draft->timestamp, delta, &mended))
        mended = 0;
    if (mend->field != NULL && draft->payload.data != NULL)
        error = mend_payload(mend, draft, offset, delta);
    draft->timestamp = mended;
    return error;
}

/* ------------------------------------------------------------------------------------------------------------- the mark */

/* Whether the object ends with the mark, and whether it is empty. */
static bool is_marked(const struct mend *mend, struct fms_bytes rest, bool *is_empty)
{
    struct fms_json name, value;
    bool is = false;

    *is_empty = true;
    while (fms_json_next(mend->host, &rest, &name, &value)) {
        *is_empty = false;
        is = is_name(mend, &name, MEND_MARK, strlen(MEND_MARK)) && value.type == FMS_JSON_STRING &&
             value.text.size == strlen(MEND_VALUE) && memcmp(value.text.data, MEND_VALUE, value.text.size) == 0;
    }
    return is;
}

/* Its last member, which counts where one of that name stands there already. */
static int mark_payload(struct mend *mend, struct fms_record *draft)
{
    struct fms_json object;
    bool is_empty;
    size_t end;
    int error = mend_copy(mend, draft);

    if (error == 0)
        error = mend_object(mend, draft, &object);
    if (error != 0 || is_marked(mend, object.text, &is_empty))
        return error == -EBADMSG ? 0 : error;
    end = (size_t)((const char *)object.text.data - mend->payload.data) + object.text.size - 1;
    mend_replace(mend, draft, end, 0,
                 is_empty ? "\"" MEND_MARK "\":\"" MEND_VALUE "\"" : ",\"" MEND_MARK "\":\"" MEND_VALUE "\"");
    return 0;
}

static bool has_header(const struct fms_record *draft)
{
    for (size_t i = 0; i < draft->header_count; i++) {
        struct fms_bytes value = draft->headers[i].value;

        if (strcmp(draft->headers[i].name, MEND_MARK) == 0 && value.size == strlen(MEND_VALUE) &&
            memcmp(value.data, MEND_VALUE, value.size) == 0)
            return true;
    }
    return false;
}

int mend_mark(struct mend *mend, struct fms_record *draft, struct fms_header *headers)
{
    if (!has_header(draft))
        headers[draft->header_count++] = (struct fms_header){MEND_MARK, fms_text(MEND_VALUE)};
    return mend->field != NULL && draft->payload.data != NULL ? mark_payload(mend, draft) : 0;
}
