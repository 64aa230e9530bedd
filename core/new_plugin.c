/* new_plugin.c - see new_plugin.h.
 *
 * The files stand beside the program as they are built and tested there, for a plugin called "example": all that is done is
 * to copy them under another name. */
#include "new_plugin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader.h"
#include "log.h"

#define EXAMPLE "example"

static int refuse(int error, const char *format, ...) FMS_PRINTF(2, 3);
static int refuse(int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vline(FMS_LOG_ERROR, NULL, NULL, format, args);
    va_end(args);
    return error;
}

/* It becomes part of C names and of file names. */
static bool is_name(const char *name)
{
    size_t size = strlen(name);

    return size > 0 && size <= 48 && name[0] >= 'a' && name[0] <= 'z' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == size;
}

/* Words that can be no struct, function prefix and target of the build at once, each between blanks. */
static const struct taken {
    const char *as, *words;
} taken[] = {
    {"a word of C or C++",
     " alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class "
     "co_await"
     " co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default "
     "delete do"
     " double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable"
     " namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast"
     " requires restrict return short signed sizeof static static_assert static_cast struct switch template this"
     " thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using virtual void "
     "volatile"
     " wchar_t while xor xor_eq "},
    {"a name in the headers of C and POSIX", " errno itimerspec linux sched_param timespec tm unix "},
    {"a target of CMake's own",
     " all clean depend edit_cache help install list_install_components package package_source preinstall rebuild_cache"
     " test "},
};

/* What the name is already; NULL: nothing. */
static const char *taken_as(const char *name)
{
    char word[64];

    if (strncmp(name, "fms_", 4) == 0)
        return "one of those that begin with fms_, which are the header's";
    snprintf(word, sizeof word, " %s ", name);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        if (strstr(taken[i].words, word) != NULL)
            return taken[i].as;
    }
    return NULL;
}

/* Copies a file; each "example" in it becomes the name. */
static int copy_renamed(const char *from, const char *to, const char *name)
{
    FILE *in = fopen(from, "r"), *out = in != NULL ? fopen(to, "wx") : NULL;
    char *line = NULL;
    size_t room = 0;
    int error = out != NULL ? 0 : refuse(-errno, "%s: %s", in == NULL ? from : to, strerror(errno));

    while (error == 0 && getline(&line, &room, in) >= 0) {
        const char *rest = line, *found;

        for (; (found = strstr(rest, EXAMPLE)) != NULL; rest = found + strlen(EXAMPLE))
            fprintf(out, "%.*s%s", (int)(found - rest), rest, name);
        fputs(rest, out);
    }
    free(line);
    if (in != NULL)
        fclose(in);
    if (out != NULL && (fflush(out) != 0 || ferror(out)) && error == 0)
        error = refuse(-EIO, "%s: it cannot be written", to);
    if (out != NULL && fclose(out) != 0 && error == 0)
        error = refuse(-errno, "%s: %s", to, strerror(errno));
    return error;
}

/* One file of the folder: `from` stands beside the program; it is called `before`, the plugin's name and `after`, or `before`
 * alone. */
static int make_file(const char *directory, const char *from, const char *before, const char *after, const char *name)
{
    char *source = NULL, *target = NULL;
    char *beside = loader_beside(FMS_DATADIR "/fmspipe/new-plugin");
    int error = -ENOMEM;

    if (beside != NULL && asprintf(&source, "%s/%s", beside, from) >= 0 &&
        asprintf(&target, "%s/%s%s%s", directory, before, *after != '\0' ? name : "", after) >= 0)
        error = copy_renamed(source, target, name);
    if (error == 0)
        printf("%s\n", target);
    free(beside);
    free(source);
    free(target);
    return error;
}

static int make_files(const char *directory, const char *type, const char *name)
{
    char code[32], test[32], pipeline[32];
    int error;

    snprintf(code, sizeof code, "%s.c", type);
    snprintf(test, sizeof test, "test_%s.c", type);
    snprintf(pipeline, sizeof pipeline, "%s.ini", type);
    error = make_file(directory, code, "", ".c", name);
    if (error == 0)
        error = make_file(directory, test, "test_", ".c", name);
    if (error == 0)
        error = make_file(directory, pipeline, "", ".ini", name);
    if (error == 0)
        error = make_file(directory, "CMakeLists.txt", "CMakeLists.txt", "", name);
    return error != 0 ? error : make_file(directory, "README.md", "README.md", "", name);
}

/* Whether there is something to copy. */
static int look_for_files(void)
{
    char *folder = loader_beside(FMS_DATADIR "/fmspipe/new-plugin"), *advice = NULL;
    int error = folder == NULL ? -ENOMEM : access(folder, F_OK) == 0 ? 0 : -errno;

    if (error != 0) {
        advice = loader_missing("new-plugin");
        refuse(error, "new-plugin copies files that are not here: %s: %s; %s", folder != NULL ? folder : "their folder",
               strerror(-error), advice != NULL ? advice : "install all of fmspipe");
    }
    free(advice);
    free(folder);
    return error;
}

int new_plugin(const char *name, const char *type, const char *directory)
{
    int error;

    if (!is_name(name))
        return refuse(-EINVAL, "\"%s\" is no name for a plugin: 1 to 48 of a-z, 0-9 and _, a letter first", name);
    if (taken_as(name) != NULL)
        return refuse(-EINVAL, "\"%s\" is no name for a plugin that can be built: it is %s", name, taken_as(name));
    error = look_for_files();
    if (error != 0)
        return error;
    if (directory == NULL)
        directory = name;
    if (mkdir(directory, 0777) != 0)
        return refuse(-errno, "cannot make the folder %s: %s", directory, strerror(errno));
    return make_files(directory, type, name);
}
