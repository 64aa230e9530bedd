/* fuzz_config.c - whatever the bytes, config_parse ends with a file's sections or with a bounded number of errors and
 * warnings; and what it read, written out with all values in quotes, is read the same again, without a warning. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned errors, warnings;

static void count_line(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user, (void)pipeline, (void)stage, (void)text;
    errors += level == FMS_LOG_ERROR;
    warnings += level == FMS_LOG_WARN;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void write_value(FILE *out, const char *value)
{
    fputs(" = \"", out);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            fputc('\\', out);
        fputc(*value, out);
    }
    fputs("\"\n", out);
}

/* False where a line becomes too long. */
static bool write_config(FILE *out, const struct config *config)
{
    for (size_t i = 0; i < config->count; i++) {
        const struct config_section *section = &config->sections[i];

        fprintf(out, "[%s%s%s]\n", section->kind, *section->name == '\0' ? "" : " ", section->name);
        for (size_t k = 0; k < section->count; k++) {
            if (strlen(section->entries[k].value) > 60)
                return false;
            fputs(section->entries[k].key, out);
            write_value(out, section->entries[k].value);
        }
    }
    return true;
}

static void require_same(const struct config *one, const struct config *other)
{
    require(one->count == other->count);
    for (size_t i = 0; i < one->count; i++) {
        const struct config_section *a = &one->sections[i], *b = &other->sections[i];

        require(strcmp(a->kind, b->kind) == 0 && strcmp(a->name, b->name) == 0 && a->count == b->count);
        for (size_t k = 0; k < a->count; k++) {
            require(a->entries[k].line > a->line && config_find(a, a->entries[k].key) == &a->entries[k]);
            require(strcmp(a->entries[k].key, b->entries[k].key) == 0);
            require(strcmp(a->entries[k].value, b->entries[k].value) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config, *again;
    char *text = NULL;
    size_t length = 0;
    FILE *out;

    log_redirect(count_line, NULL);
    errors = warnings = 0;
    if (config_parse("fuzz.ini", (const char *)data, size, &config) != 0) {
        require(config == NULL && errors > 0 && errors <= 21 && warnings <= 20);
        return 0;
    }
    require(errors == 0 && warnings <= 20);
    warnings = 0;
    out = open_memstream(&text, &length);
    if (write_config(out, config)) {
        fclose(out);
        require(config_parse("again.ini", text, length, &again) == 0 && warnings == 0);
        require_same(config, again);
        config_free(again);
    } else {
        fclose(out);
    }
    free(text);
    config_free(config);
    return 0;
}
