/* sieve.h - which records pass a transform, without a pipeline around it. All functions: [control]. */
#ifndef FMS_SIEVE_H
#define FMS_SIEVE_H

#include <stdbool.h>

#include "fms_plugin.h"

struct sieve;

/* Of that plugin, with these options: names and values by turns, then NULL; at most SIEVE_OPTIONS. `origin` is where messages say that
 * they come from. NULL after an error, which is logged. */
#define SIEVE_OPTIONS 8u
struct sieve *sieve_new(const char *origin, const char *plugin, const char *const *options);
/* Whether something comes out at once where this goes in. */
bool sieve_passes(struct sieve *sieve, const struct fms_record *draft);
void sieve_free(struct sieve *sieve);

#endif
