/* console_summary.h - how many records from how many vehicles, and how old they were. */
#ifndef CONSOLE_SUMMARY_H
#define CONSOLE_SUMMARY_H

#include <fms_plugin.h>

struct summary;

/* NULL: out of memory. All of its memory is allocated here. */
struct summary *summary_new(void);
void summary_free(struct summary *summary);

/* Counts a vehicle, if it is a new one. */
void summary_vehicle(struct summary *summary, struct fms_bytes vehicle);

/* A record was written, `age` nanoseconds after `sent_ns` of its payload, or after its own timestamp; FMS_NEVER: of
 * unknown age. */
void summary_record(struct summary *summary, int64_t age, bool by_sent_ns);

/* One line without newline, in `text`. */
void summary_print(const struct summary *summary, char *text, size_t size);

#endif
