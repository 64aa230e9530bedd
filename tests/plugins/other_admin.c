/* other_admin.c - a watch of another version, of which nothing but that is to be used. */
#include "admin.h"

const struct admin_table *fmspipe_admin(void);
const struct admin_table *fmspipe_admin(void)
{
    static const struct admin_table table = {.version = "0.0.1"};

    return &table;
}
