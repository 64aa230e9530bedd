/* fuzz_template.c - the input's first line is a template, the rest a payload. A template that does not compile says in
 * which column; one that does gives text or a reason, each followed by a NUL byte, and the same text each time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void expand(const struct fms_template *text, struct json_paths *paths, char *payload, size_t size)
{
    const struct fms_header headers[] = {{"trace", {"first", 5}}, {"trace", {"last", 4}}, {"none", {NULL, 0}}};
    const struct fms_record record = {
        {"fms/raspi-001/data", 18}, {"raspi-001", 9}, {payload, size}, headers, 3, 1732300000123456789, {0, 0}, NULL};
    struct json_cache *cache = calloc(1, sizeof *cache + json_cache_size(paths));
    struct fms_bytes first, again;
    int result = template_expand(text, &record, cache, &first);

    require(result == 0 || result == -ENOENT);
    require(((const char *)first.data)[first.size] == '\0');
    if (result == 0) {
        char *copy = malloc(first.size + 1);

        memcpy(copy, first.data, first.size);
        require(template_expand(text, &record, cache, &again) == 0 && again.size == first.size);
        require(memcmp(copy, again.data, first.size) == 0);
        free(copy);
    } else {
        require(first.size == strlen(first.data) && first.size > 0);
    }
    free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size == 0 ? NULL : memchr(data, '\n', size);
    size_t line = newline == NULL ? size : (size_t)(newline - data);
    size_t rest = newline == NULL ? 0 : size - line - 1;
    char *text = malloc(line + 1);
    char *payload = malloc(rest + 1);
    struct json_paths *paths = json_paths_new();
    struct fms_template *compiled;
    char error[80];

    if (size > 0)
        memcpy(text, data, line);
    text[line] = '\0';
    if (rest > 0)
        memcpy(payload, data + line + 1, rest);
    payload[rest] = '\0';

    memset(error, 'x', sizeof error);
    compiled = template_compile(text, NULL, paths, error, sizeof error);
    require(memchr(error, '\0', sizeof error) != NULL);
    require((compiled == NULL) == (strncmp(error, "column ", 7) == 0));
    if (compiled != NULL)
        expand(compiled, paths, payload, rest);
    template_free(compiled);
    json_paths_free(paths);
    free(payload);
    free(text);
    return 0;
}
