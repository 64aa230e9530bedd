/* environment.c - see environment.h.
 *
 * The form is what systemd's EnvironmentFile= and Docker's --env-file both read, and of what they read differently only quotes, as systemd has
 * them: what neither of them says alike is an error here. */
#include "environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "secret.h"

#define ERRORS  20 /* of a file that are logged; the others are counted */
#define BLANKS  " \t\r"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

struct variable {
    char *name, *value;
};

struct environment {
    _Atomic unsigned holders; /* but the first */
    size_t count;
    struct variable *variables;
};

static const char *named;           /* as --env-file has it */
static struct environment *current; /* in use */

/* ----------------------------------------------------------------------------------------------------------- a line */

struct reader {
    const char *name; /* of the file */
    int line;
    unsigned errors;
    struct environment *environment;
};

static int bad(struct reader *reader, const char *why)
{
    if (reader->errors++ < ERRORS)
        log_config(FMS_LOG_ERROR, reader->name, reader->line, "%s", why);
    return -EINVAL;
}

static size_t trimmed(const char *text)
{
    size_t n = strlen(text);

    while (n > 0 && strchr(BLANKS, text[n - 1]) != NULL)
        n--;
    return n;
}

/* What stands in quotes, in its place. NULL: they do not close; else what stands behind them. */
static char *unquote(char *text)
{
    char quote = *text, *to = text;

    for (char *from = text + 1; *from != '\0'; from++) {
        if (*from == quote) {
            *to = '\0';
            return from + 1;
        }
        if (quote == '"' && *from == '\\' && from[1] != '\0' && strchr("\"\\`$", from[1]) != NULL)
            from++;
        *to++ = *from;
    }
    return NULL;
}

/* 0, or -EINVAL, logged. */
static int read_value(struct reader *reader, char *value)
{
    char *behind;

    value[trimmed(value)] = '\0';
    if (*value != '"' && *value != '\'')
        return strchr(value, '\\') == NULL
                   ? 0
                   : bad(reader, "a backslash outside of quotes, which systemd takes away and Docker does not: put the"
                                 " value in quotes, '...'");
    behind = unquote(value);
    if (behind == NULL)
        return bad(reader, "a value that begins with a quote ends with the same one, in the same line");
    return *behind == '\0' ? 0
                           : bad(reader, "something stands behind the closing quote; put the whole value in quotes");
}

static int add(struct reader *reader, const char *name, const char *value)
{
    struct environment *environment = reader->environment;
    size_t n = environment->count;
    struct variable *grown = realloc(environment->variables, (n + 1) * sizeof *grown);

    if (grown == NULL)
        return -ENOMEM;
    environment->variables = grown;
    grown[n] = (struct variable){strdup(name), strdup(value)};
    environment->count++;
    return grown[n].name != NULL && grown[n].value != NULL ? 0 : -ENOMEM;
}

static int read_line(struct reader *reader, char *line)
{
    char *name = line + strspn(line, BLANKS), *equals = strchr(name, '=');
    size_t size;

    for (const char *c = line; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 && strchr(BLANKS, *c) == NULL)
            return bad(reader, "a control character: is this a text file, in UTF-8?");
    }
    if (*name == '\0' || *name == '#' || *name == ';')
        return 0;
    if (equals == NULL)
        return bad(reader, "NAME=value expected, or a comment, which begins with #");
    *equals = '\0';
    size = trimmed(name);
    name[size] = '\0';
    if (size == 0 || strspn(name, LETTERS "0123456789") < size || strspn(name, LETTERS) == 0)
        return bad(reader,
                   "NAME=value expected, where the name has letters, digits and _ alone, and begins with no digit");
    equals += 1 + strspn(equals + 1, BLANKS);
    return read_value(reader, equals) == 0 ? add(reader, name, equals) : -EINVAL;
}

/* ------------------------------------------------------------------------------------------------------------ a file */

int environment_parse(const char *name, const char *text, size_t size, struct environment **environment)
{
    struct reader reader = {.name = name, .environment = calloc(1, sizeof **environment)};
    char *copy = strndup(text, size), *rest = copy, *line;
    int error = reader.environment == NULL || copy == NULL ? -ENOMEM : 0;

    if (error == 0 && strlen(copy) < size)
        error = bad(&reader, "a NUL byte: is this a text file, in UTF-8?");
    while (error != -ENOMEM && (line = strsep(&rest, "\n")) != NULL) {
        int result;

        reader.line++;
        result = read_line(&reader, line);
        error = result != 0 ? result : error;
    }
    if (reader.errors > ERRORS)
        log_config(FMS_LOG_ERROR, name, 0, "and %u more errors", reader.errors - ERRORS);
    if (copy != NULL)
        explicit_bzero(copy, strlen(copy));
    free(copy);
    *environment = reader.environment;
    if (error == 0)
        return 0;
    environment_free(reader.environment);
    *environment = NULL;
    return error;
}

void environment_name(const char *file)
{
    named = file;
}

const char *environment_path(void)
{
    return named != NULL && *named == '-' ? named + 1 : named;
}

int environment_read(struct environment **environment)
{
    const char *path = environment_path();
    char *text, why[512];
    int error;

    *environment = NULL;
    if (path == NULL) {
        *environment = environment_in_use();
        return 0;
    }
    error = secret_read(path, &text, why, sizeof why);
    if (error == -ENODATA || (error == -ENOENT && *named == '-'))
        return environment_parse(path, "", 0, environment);
    if (error != 0) {
        log_line(FMS_LOG_ERROR, NULL, NULL, "--env-file: %s", why);
        return error;
    }
    error = environment_parse(path, text, strlen(text), environment);
    explicit_bzero(text, strlen(text));
    free(text);
    return error;
}

void environment_use(struct environment *take)
{
    environment_free(current);
    current = take;
}

struct environment *environment_in_use(void)
{
    return environment_hold(current);
}

struct environment *environment_hold(struct environment *environment)
{
    if (environment != NULL)
        environment->holders++;
    return environment;
}

void environment_free(struct environment *environment)
{
    if (environment == NULL || environment->holders-- > 0)
        return;
    for (size_t i = 0; i < environment->count; i++) {
        free(environment->variables[i].name);
        free(environment->variables[i].value);
    }
    free(environment->variables);
    free(environment);
}

/* ----------------------------------------------------------------------------------------------------------- variables */

/* Of two of a name the last counts, as for systemd and Docker. */
const char *environment_get(const struct environment *environment, const char *name)
{
    for (size_t i = environment != NULL ? environment->count : 0; i-- > 0;) {
        if (strcmp(environment->variables[i].name, name) == 0)
            return environment->variables[i].value;
    }
    return getenv(name);
}

static bool is_same(const char *name, size_t size, const struct environment *a, const struct environment *b)
{
    char *copy = strndup(name, size);
    const char *one = copy != NULL ? environment_get(a, copy) : NULL,
               *other = copy != NULL ? environment_get(b, copy) : NULL;

    free(copy);
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* It does not matter that some of these may be no references. */
bool environment_is_same(const char *text, const struct environment *a, const struct environment *b)
{
    const char *at = a != b ? text : "";

    while ((at = strstr(at, "env:")) != NULL) {
        at += strlen("env:");
        if (!is_same(at, strcspn(at, ":}|"), a, b))
            return false;
    }
    return true;
}
