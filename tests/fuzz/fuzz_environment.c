/* fuzz_environment.c - whatever the bytes, environment_parse ends with variables or with a bounded number of errors, the same each time; and a
 * text without control characters is read as it was, where it stands in quotes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned errors;

static void count_line(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user, (void)level, (void)pipeline, (void)stage, (void)text;
    errors++;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_bytes(const char *text, size_t size)
{
    struct environment *environment, *again = NULL;
    char *references;

    errors = 0;
    if (environment_parse("fuzz.env", text, size, &environment) != 0) {
        require(environment == NULL && errors > 0 && errors <= 21);
        return;
    }
    require(errors == 0 && environment_parse("fuzz.env", text, size, &again) == 0);
    require(asprintf(&references, "${env:%s}", text) >= 0);
    require(environment_is_same(references, environment, again));
    free(references);
    environment_free(environment);
    environment_free(again);
}

static void check_quoted(const char *value)
{
    struct environment *environment;
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);

    fputs("A = \"", out);
    for (const char *c = value; *c != '\0'; c++)
        fprintf(out, "%s%c", strchr("\"\\`$", *c) != NULL ? "\\" : "", *c);
    fputs("\" ", out);
    fclose(out);
    require(environment_parse("fuzz.env", line, size, &environment) == 0);
    require(strcmp(environment_get(environment, "A"), value) == 0);
    environment_free(environment);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    bool is_plain = true;

    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    log_redirect(count_line, NULL);
    check_bytes(text, size);
    for (size_t i = 0; i < size; i++)
        is_plain = is_plain && data[i] >= 0x20;
    if (is_plain)
        check_quoted(text);
    free(text);
    return 0;
}
