/* java.c - what Apache Kafka and Artemis share: java runs them from a folder of jars. */
#include "sandbox.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_LIMIT = 48 };

/* One compiler and the serial collector start a third faster and are fast enough for tests. */
static const char quick_start[] = "-Xmx512m -Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

int jars_find(const struct jars *jars, char folder[static PATH_MAX])
{
    const char *given = getenv(jars->variable);
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char pattern[PATH_MAX + 32];
    glob_t found;
    int rc;

    if (given != NULL && *given != '\0')
        snprintf(folder, PATH_MAX, "%s", given);
    else if (cache != NULL && *cache != '\0')
        snprintf(folder, PATH_MAX, "%s/fmspipe/%s", cache, jars->folder);
    else
        snprintf(folder, PATH_MAX, "%s/.cache/fmspipe/%s", home != NULL ? home : "", jars->folder);
    snprintf(pattern, sizeof(pattern), "%s/%s", folder, jars->pattern);
    rc = glob(pattern, 0, NULL, &found);
    globfree(&found);
    if (rc != 0)
        return fail(-ENOENT, "%s holds no %s: run scripts/fetch-jars %s, or set %s to a folder with its jars, or %s",
                    folder, jars->product, jars->name, jars->variable, jars->instead);
    return 0;
}

static int java_find(const struct jars *jars, char path[static PATH_MAX])
{
    const char *home = getenv("JAVA_HOME");

    if (home != NULL && *home != '\0') {
        snprintf(path, PATH_MAX, "%s/bin/java", home);
        return 0;
    }
    if (program_find("java", path) != 0)
        return fail(-ENOENT, "java is not in $PATH: install a Java runtime, 17 or later, or %s", jars->instead);
    return 0;
}

/* Counts on where there is no room. */
static size_t arguments_add(const char **argv, size_t count, const char *argument)
{
    if (count < ARGUMENTS_LIMIT - 1)
        argv[count] = argument;
    return count + 1;
}

int java_start(struct broker *broker, const struct jars *jars, const char *const *arguments)
{
    char java[PATH_MAX];
    char folder[PATH_MAX];
    char classpath[PATH_MAX + 32];
    char options[1024];
    const char *given = getenv("FMS_JAVA_OPTIONS");
    const char *argv[ARGUMENTS_LIMIT] = {java};
    struct process process = {.argv = (char *const *)argv,
                              .directory = broker->directory,
                              .log = broker->log,
                              .death_signal = SIGKILL,
                              .broker = true};
    size_t count = 1;
    int rc = java_find(jars, java);

    if (rc == 0)
        rc = jars_find(jars, folder);
    if (rc != 0)
        return rc;
    snprintf(classpath, sizeof(classpath), "%s/*", folder);
    if (snprintf(options, sizeof(options), "%s", given != NULL ? given : quick_start) >= (int)sizeof(options))
        return fail(-EINVAL, "FMS_JAVA_OPTIONS is longer than %zu characters", sizeof(options) - 1);
    for (char *rest = options, *option; (option = strtok_r(rest, " ", &rest)) != NULL;)
        count = arguments_add(argv, count, option);
    count = arguments_add(argv, arguments_add(argv, count, "-cp"), classpath);
    for (; *arguments != NULL; arguments++)
        count = arguments_add(argv, count, *arguments);
    if (count >= ARGUMENTS_LIMIT)
        return fail(-E2BIG, "FMS_JAVA_OPTIONS holds %zu options too many", count - ARGUMENTS_LIMIT + 1);
    broker->pid = process_start(&process);
    if (broker->pid < 0)
        return fail(broker->pid, "%s: cannot start: %s", java, strerror(-broker->pid));
    return 0;
}
