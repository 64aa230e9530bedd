/* refusal.h - sections that a plugin refuses, and what is said of them. */
#ifndef REFUSAL_H
#define REFUSAL_H

#include "fms_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct refusal {
    const char *ini, *said;
};

static inline void expect_refusal(const char *plugin, enum fms_role role, const char *ini, const char *said)
{
    struct fake *f = fake_check(plugin, role, ini);

    if (fake_error(f) != -EINVAL || fake_said(f, said) == NULL)
        fail_msg("%s: \"%s\" is not said, but: %s", ini, said, fake_said(f, "error"));
    fake_close(f);
}

static inline void expect_refused(const char *plugin, enum fms_role role, const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_refusal(plugin, role, cases[i].ini, cases[i].said);
}

#endif
