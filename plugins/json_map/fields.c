/* fields.c - from options to a table, sorted by name. All that contradicts itself is refused here. */
#include "fields.h"

#include <errno.h>
#include <stdlib.h>

const char *const convert_types[] = {
    [CONVERT_STRING] = "string",   [CONVERT_NUMBER] = "number",   [CONVERT_INTEGER] = "integer",
    [CONVERT_BOOLEAN] = "boolean", [CONVERT_ISO8601] = "iso8601", [CONVERT_UNIX] = "unix",
    [CONVERT_UNIX_MS] = "unix_ms", [CONVERT_UNIX_US] = "unix_us", [CONVERT_UNIX_NS] = "unix_ns",
};

/* ------------------------------------------------------------------------------------------------------------- table */

static int field_order(struct fms_bytes a, struct fms_bytes b)
{
    if (a.size != b.size)
        return a.size < b.size ? -1 : 1;
    return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
}

static int field_by_name(const void *a, const void *b)
{
    return field_order(((const struct field *)a)->name, ((const struct field *)b)->name);
}

struct field *fields_find(const struct fields *fields, struct fms_bytes name)
{
    size_t low = 0, high = fields->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = field_order(fields->items[middle].name, name);

        if (order == 0)
            return &fields->items[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static struct field *fields_named(const struct fields *fields, const char *name)
{
    return fields_find(fields, fms_text(name));
}

static void fields_add(struct fields *fields, const char *name)
{
    fields->items[fields->count++].name = fms_text(name);
}

static void fields_add_names(struct fields *fields, const struct map_options *options)
{
    for (size_t i = 0; i < options->keep.count; i++)
        fields_add(fields, options->keep.items[i]);
    for (size_t i = 0; i < options->drop.count; i++)
        fields_add(fields, options->drop.items[i]);
    for (size_t i = 0; i < options->rename.count; i++) {
        fields_add(fields, options->rename.items[i].name);
        fields_add(fields, options->rename.items[i].value);
    }
    for (size_t i = 0; i < options->convert.count; i++)
        fields_add(fields, options->convert.items[i].name);
    for (size_t i = 0; i < options->set.count; i++)
        fields_add(fields, options->set.items[i].name);
}

/* Sorts, and leaves one of each name. */
static void fields_sort(struct fields *fields)
{
    size_t count = 0;

    qsort(fields->items, fields->count, sizeof *fields->items, field_by_name);
    for (size_t i = 0; i < fields->count; i++)
        if (count == 0 || field_by_name(&fields->items[count - 1], &fields->items[i]) != 0)
            fields->items[count++] = fields->items[i];
    fields->count = count;
}

const char *field_holder(const struct field *field)
{
    if (field->from != NULL && field->from->last != NULL)
        return field->from->last;
    return field->to == field ? field->last : NULL;
}

/* ----------------------------------------------------------------------------------------------------------- options */

/* keep and drop */
static void fields_list(struct fields *fields, const struct map_options *options)
{
    const struct fms_list *list = options->keep.count > 0 ? &options->keep : &options->drop;

    for (size_t i = 0; i < list->count; i++)
        fields_named(fields, list->items[i])->is_listed = true;
    for (size_t i = 0; i < fields->count; i++) {
        struct field *field = &fields->items[i];

        field->to = field->is_listed == (options->keep.count > 0) ? field : NULL;
    }
}

static int fields_rename(struct fields *fields, const struct fms_pair *pair, const struct fms_host *host)
{
    struct field *from = fields_named(fields, pair->name), *to = fields_named(fields, pair->value);

    if (to->name.size == 0)
        return fms_fail_option(host, pair->option, -EINVAL, "is empty; expected the new name");
    if (from->to == NULL)
        return fms_fail_option(host, pair->option, -EINVAL,
                               from->is_listed ? "renames what drop takes away" : "renames what keep does not name");
    if (to->from != NULL)
        return fms_fail_option(host, pair->option, -EINVAL, "\"%s\" is the new name of \"%.*s\" already", pair->value,
                               (int)to->from->name.size, (const char *)to->from->name.data);
    from->to = to;
    to->from = from;
    return 0;
}

static int fields_convert(struct fields *fields, const struct fms_pair *pair, const struct fms_host *host)
{
    struct field *field = fields_named(fields, pair->name);
    int type = CONVERT_UNIX_NS;

    while (type > CONVERT_NOT && strcmp(convert_types[type], pair->value) != 0)
        type--;
    if (type == CONVERT_NOT)
        return fms_fail_option(host, pair->option, -EINVAL,
                               "\"%s\" is no type; expected string, number, integer, boolean, iso8601, unix, unix_ms, "
                               "unix_us or unix_ns",
                               pair->value);
    field->convert = (enum convert)type;
    if (field->set != NULL || field->from != NULL || field->to == field)
        return 0;
    if (field->to != NULL)
        return fms_fail_option(host, pair->option, -EINVAL, "the field is called \"%s\" by then; write convert.%s",
                               (const char *)field->to->name.data, (const char *)field->to->name.data);
    return fms_fail_option(host, pair->option, -EINVAL, "converts what %s",
                           field->is_listed ? "drop takes away" : "keep does not name");
}

static int fields_apply(struct fields *fields, const struct map_options *options, const struct fms_host *host)
{
    int error = 0;

    fields_list(fields, options);
    for (size_t i = 0; i < options->rename.count && error == 0; i++)
        error = fields_rename(fields, &options->rename.items[i], host);
    for (size_t i = 0; i < options->set.count; i++)
        fields_named(fields, options->set.items[i].name)->set = options->set.items[i].text;
    for (size_t i = 0; i < options->convert.count && error == 0; i++)
        error = fields_convert(fields, &options->convert.items[i], host);
    return error;
}

int fields_make(struct fields *fields, const struct map_options *options, const struct fms_host *host)
{
    size_t most = options->keep.count + options->drop.count + 2 * options->rename.count + options->convert.count +
                  options->set.count;
    int error;

    if (most == 0)
        return fms_fail(host, -EINVAL,
                        "there is nothing to do: expected keep, drop, rename.OLD, set.NAME or convert.NAME");
    if (options->keep.count > 0 && options->drop.count > 0)
        return fms_fail_option(host, "drop", -EINVAL, "keep says already what stays; expected one of the two");
    *fields = (struct fields){calloc(most, sizeof *fields->items), 0};
    if (fields->items == NULL)
        return fms_fail(host, -ENOMEM, "no memory for the options");
    fields_add_names(fields, options);
    fields_sort(fields);
    error = fields_apply(fields, options, host);
    if (error != 0)
        fields_release(fields);
    return error;
}

void fields_release(struct fields *fields)
{
    free(fields->items);
    fields->items = NULL;
}
