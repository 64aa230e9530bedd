/* new_plugin.h - `fmspipe new-plugin`: a folder with a plugin that builds, its test, and a pipeline file to try it. */
#ifndef FMS_NEW_PLUGIN_H
#define FMS_NEW_PLUGIN_H

/* Makes the folder `directory` (NULL: ./NAME), which must not be there yet, for a plugin of that name and type ("sink": the
 * files are called so), and says on standard output what is in it. 0, or a negative errno, logged. [control] */
int new_plugin(const char *name, const char *type, const char *directory);

#endif
