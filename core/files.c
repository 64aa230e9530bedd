/* files.c - see files.h. Kubernetes keeps what a folder shows in hidden ones beside it, and editors what is not saved in hidden files: so
 * what begins with a dot is not looked at. */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"

#define ENDING ".ini"

static bool is_folder(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* To read a FIFO is to wait for whoever writes it. */
static bool is_file_or_nothing(const char *path)
{
    struct stat status;

    return stat(path, &status) != 0 || S_ISREG(status.st_mode);
}

static int add(struct files *files, char *take)
{
    char **paths = take != NULL ? realloc(files->paths, (files->count + 1) * sizeof *paths) : NULL;

    if (paths == NULL) {
        free(take);
        return -ENOMEM;
    }
    files->paths = paths;
    paths[files->count++] = take;
    return 0;
}

static int is_wanted(const struct dirent *entry)
{
    size_t size = strlen(entry->d_name), ending = strlen(ENDING);

    return entry->d_name[0] != '.' && size > ending && strcmp(entry->d_name + size - ending, ENDING) == 0;
}

/* By bytes, whatever the locale. */
static int compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A link that leads nowhere is one of them: to take it for a file that has gone would end a pipeline. */
static int add_folder(struct files *files, const char *folder)
{
    size_t size = strlen(folder);
    struct dirent **entries;
    int count = scandir(folder, &entries, is_wanted, compare), error = count < 0 ? -errno : 0;

    while (size > 1 && folder[size - 1] == '/')
        size--;
    for (int i = 0; i < count; i++) {
        char *path = NULL;

        if (asprintf(&path, "%.*s%s%s", (int)size, folder, folder[size - 1] == '/' ? "" : "/", entries[i]->d_name) < 0)
            path = NULL;
        free(entries[i]);
        if (error == 0 && (path == NULL || is_file_or_nothing(path)))
            error = add(files, path);
        else
            free(path);
    }
    if (count >= 0)
        free(entries);
    if (error != 0)
        log_config(FMS_LOG_ERROR, folder, 0, "this folder cannot be read: %s", strerror(-error));
    return error;
}

int files_list(struct files *files, char *const *words, size_t count)
{
    int error = 0;

    *files = (struct files){NULL, 0};
    for (size_t i = 0; i < count && error == 0; i++)
        error = is_folder(words[i]) ? add_folder(files, words[i]) : add(files, strdup(words[i]));
    return error;
}

void files_free(struct files *files)
{
    while (files->count > 0)
        free(files->paths[--files->count]);
    free(files->paths);
    files->paths = NULL;
}
