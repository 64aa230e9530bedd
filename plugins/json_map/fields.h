/* fields.h - the names that the options speak of, and what is to become of the fields that have them. */
#ifndef MAP_FIELDS_H
#define MAP_FIELDS_H

#include <fms_plugin.h>

enum convert {
    CONVERT_NOT,
    CONVERT_STRING,
    CONVERT_NUMBER,
    CONVERT_INTEGER,
    CONVERT_BOOLEAN,
    CONVERT_ISO8601,
    CONVERT_UNIX, /* and so on, in the order of enum instant_unit */
    CONVERT_UNIX_MS,
    CONVERT_UNIX_US,
    CONVERT_UNIX_NS,
};

extern const char *const convert_types[]; /* as the option convert names them */

/* A name as a field of the payload has it (listed, to) and as a field of the result has it (from, set, convert). */
struct field {
    struct fms_bytes name;
    bool is_listed;           /* in keep or drop */
    struct field *to;         /* the name that it will have: its own as a rule; NULL: it goes */
    const struct field *from; /* what is renamed to this one; NULL: nothing */
    const struct fms_template *set;
    enum convert convert;
    const char *last; /* in the record in hand: where this name stands last; NULL: nowhere */
};

struct fields {
    struct field *items; /* by name */
    size_t count;
};

/* The options as they stand in the file. */
struct map_options {
    struct fms_list keep, drop;
    struct fms_pairs rename, convert, set;
};

/* Makes the table. 0, or a negative errno after saying why, and then there is nothing to release. */
int fields_make(struct fields *fields, const struct map_options *options, const struct fms_host *host);
void fields_release(struct fields *fields);

/* NULL: no option speaks of it. */
struct field *fields_find(const struct fields *fields, struct fms_bytes name);

/* Where the name of the member stands that the result has under this name, once `last` is known of all; NULL: none. */
const char *field_holder(const struct field *field);

#endif
