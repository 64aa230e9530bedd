/* loader.h - finds and loads plugins. */
#ifndef FMS_LOADER_H
#define FMS_LOADER_H

#include <stdbool.h>

#include "fms_plugin.h"

/* A loaded plugin; its table is the host's own copy: what an older plugin lacks is zero. */
struct plugin {
    struct fms_plugin table;
    char *path;
};

/* Directories to search, separated by colons, before the built-in ones; NULL or "": none. Call once, at the start. */
void loader_search(const char *directories);

/* The path of what stands at `relative` beside the folder of the program; to be freed. NULL: out of memory. */
char *loader_beside(const char *relative);

/* What to do to have a part of fmspipe that is not here, a plugin by its name or another, as whoever installed the rest has written into the
 * file `parts`: lines of a name, a blank and an advice, such as "install the package NAME"; to be freed. NULL: it says nothing of it, or is
 * not there. */
char *loader_missing(const char *part);

/* Loads a shared object of fmspipe's own, PART.so, which is never unloaded, and calls its `entry`: what that gives begins with a pointer to
 * FMS_VERSION. NULL after an error, which is logged, with who needs it. [control] */
const void *loader_open_own(const char *part, const char *entry, const char *who);

/* Loads `name`, or the file if `name` has a slash. NULL after an error, which is logged at file:line. A plugin is
 * loaded once a process and never unloaded; the result lives as long. [control] */
const struct plugin *loader_load(const char *name, const char *file, int line);

/* Whether loader_load would find it loaded already. [control] */
bool loader_has_loaded(const char *name);

/* Every plugin that can be found and loaded, in alphabetical order; what cannot be loaded is logged. */
void loader_each(void (*visit)(const struct plugin *plugin, void *user), void *user);

/* Puts the host where the table's `.host` says, if it does. */
void loader_put_host(const struct fms_plugin *table, void *instance, const struct fms_host *host);

/* Whether the plugin can stand in that role. */
bool loader_has_role(const struct plugin *plugin, enum fms_role role);

#endif
