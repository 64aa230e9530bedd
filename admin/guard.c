/* guard.c - see guard.h. */
#include "guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *password_read(const char *path, struct password *password, bool *is_bad)
{
    FILE *file = fopen(path, "re");
    char line[PASSWORD_MOST + 3]; /* with the end of the line */
    const char *fault = NULL;

    *password = (struct password){.size = 0};
    *is_bad = false;
    if (file == NULL)
        return strerror(errno);
    errno = 0;
    if (fgets(line, sizeof line, file) == NULL)
        *line = '\0';
    if (ferror(file))
        fault = strerror(errno);
    fclose(file);
    if (fault != NULL)
        return fault;
    password->size = strcspn(line, "\r\n");
    *is_bad = password->size == 0 || password->size > PASSWORD_MOST;
    if (!*is_bad)
        memcpy(password->text, line, password->size);
    explicit_bzero(line, sizeof line);
    return password->size == 0 ? "its first line is empty, and should be the password"
           : *is_bad           ? "its first line is longer than 255 bytes"
                               : NULL;
}

bool password_is(const struct password *password, const char *given)
{
    char other[PASSWORD_MOST + 1] = "";
    size_t size = given != NULL ? strlen(given) : 0;
    unsigned difference = size != password->size;

    memcpy(other, given != NULL ? given : "", size < sizeof other ? size : sizeof other);
    for (size_t i = 0; i < sizeof other; i++)
        difference |= (unsigned char)(other[i] ^ password->text[i]);
    explicit_bzero(other, sizeof other);
    return difference == 0;
}
