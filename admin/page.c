/* page.c - see page.h. */
#include "page.h"

#include <string.h>

extern const unsigned char page_content[PAGE_SIZE]; /* made by page.cmake, as all that begins with PAGE_ */

static const struct page page = {
    .path = "/",
    .type = "text/html; charset=utf-8",
    .policy = "default-src 'none'; script-src '" PAGE_SCRIPT "'; style-src '" PAGE_STYLE "'; connect-src 'self'; "
              "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
              "require-trusted-types-for 'script'; trusted-types 'none'",
    .content = page_content,
    .size = sizeof page_content,
};

const struct page *page_find(const char *path)
{
    return strcmp(path, page.path) == 0 ? &page : NULL;
}
