/* describe.h - what `fmspipe describe PLUGIN` prints, from the plugin's own tables. */
#ifndef FMS_DESCRIBE_H
#define FMS_DESCRIBE_H

#include <stdio.h>

#include "fms_plugin.h"

enum describe_format { DESCRIBE_TABLE, DESCRIBE_MARKDOWN, DESCRIBE_JSON, DESCRIBE_MAN };

/* TABLE: name, version, summary, roles, then options (name, type, default, range or choices, help), counters, gauges, durations, and a
 * sample section. JSON: all that but the sample, as one object, for programs. MARKDOWN and MAN: the options alone, as they
 * stand in the plugin's README and in a man page. 0 or -errno of writing. */
int describe_plugin(const struct fms_plugin *plugin, enum describe_format format, FILE *out);

#endif
