/* page.h - the page of a process, as it is compiled in: one file, which needs nothing from elsewhere. */
#ifndef FMS_PAGE_H
#define FMS_PAGE_H

#include <stddef.h>

struct page {
    const char *path;   /* "/" */
    const char *type;   /* for Content-Type */
    const char *policy; /* for Content-Security-Policy: nothing runs, nor gives it a look, but what stands in it */
    const unsigned char *content;
    size_t size;
};

/* What is found at a path, for the life of the process; NULL: nothing. Any thread. */
const struct page *page_find(const char *path);

#endif
