/* fms_test.h - drives one plugin through its table, as a pipeline would, and catches it breaking the rules.
 *
 * A stage is a plugin in one role with its options from INI text. What goes in (records for a sink or a transform) is
 * numbered from 0 in the order of fake_add; what comes out (of a source or a transform) is numbered from 0 in the order
 * of its emission. Both stay readable until fake_close.
 *
 *     struct fake *f = fake_open("mqtt_sink", FMS_SINK, "server = tcp://localhost:1883\nqos = 1\n");
 *     fake_add(f, "fms/data", "raspi-001", "{}");
 *     fake_write(f);
 *     fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
 *     fake_close(f);
 *
 * Broken rules (settled twice, emitted off the lane, never settled, ...) are collected, by whatever thread, and fail
 * the test in fake_close, which names the plugin, each breach and what was logged. Nothing leaks before that.
 *
 * cmocka has a macro fail(), which hides the host's member of that name: a test with plugins of its own that call
 * fms_fail says #undef fail after including it.
 *
 * All functions are for the test's one thread, except fake_host's table, which is for any thread as fms_plugin.h says,
 * and the functions that only look (fake_emitted, fake_fate, ...), which any thread may call. */
#ifndef FMS_TEST_H
#define FMS_TEST_H

#include "fms_plugin.h"

struct fake; /* one stage with its host */

/* How long fake_until and fake_wait have patience, on the real clock. */
#define FAKE_PATIENCE (20 * FMS_SECOND)

#define FAKE_PASSED 16 /* a fate besides those of enum fms_fate: the transform passed the record on */

/* ------------------------------------------------------------------------------------------------- opening, closing */

/* Loads plugin `name` (directories: the environment's FMS_PLUGIN_DIR, separated by colons), fills its options from
 * `ini`, the lines of its section without the section's head ("topic = a\nqos = 1\n"), and calls check and open. Any
 * error fails the test. */
struct fake *fake_open(const char *name, enum fms_role role, const char *ini);

/* The same for a table in the test itself. */
struct fake *fake_open_table(const struct fms_plugin *plugin, enum fms_role role, const char *ini);

/* The first half: loads, fills, calls check. Never NULL, to be closed in any case; what went wrong is in fake_error
 * and fake_said. Between the halves a test may change fake_host(f) (durable_sinks, identities, watched), or probe. */
struct fake *fake_check(const char *name, enum fms_role role, const char *ini);
struct fake *fake_check_table(const struct fms_plugin *plugin, enum fms_role role, const char *ini);

/* The second half: calls open, unless check failed. 0, or the error of either. */
int fake_start(struct fake *f);

/* Calls probe instead of open. What it reported is in fake_said(f, "report: ..."). */
int fake_probe(struct fake *f, int64_t timeout);

/* Stops the stage if that was not done (fake_stop), and closes it. What it did and said can still be read. */
void fake_shut(struct fake *f);

/* Shuts the stage if that was not done, releases everything, and fails the test where a rule was broken:
 * a sink took a record and has not settled it, anything was settled twice, a transform kept a record for ever, ... */
void fake_close(struct fake *f);

/* Says that a breach with this text in it is expected: fake_close then fails if there was none. */
void fake_expect(struct fake *f, const char *breach);

/* Says that this many records are left unsettled by a sink, or kept by a transform, at fake_close. */
void fake_expect_left(struct fake *f, size_t records);

/* The error of check, open or of the last operation that failed; 0: none. */
int fake_error(struct fake *f);

/* What fails a test: by default cmocka's fail, after `report` was printed. For testing the fake host itself. */
void fake_on_failure(void (*handler)(const char *report));

/* ------------------------------------------------------------------------------------------------ driving the stage */

/* One call of source_poll with that credit, transform_poll or sink_poll, as the role is. Returns what it returned. What
 * it waits for is kept: fake_waits_for. */
int fake_poll(struct fake *f, size_t credit);
const struct fms_wait *fake_waits_for(struct fake *f);

/* Sleeps until the stage is to be polled again: its file descriptor is ready, its deadline has come, it called
 * fms_wake, another thread settled, emitted or finished. With a stepped clock it jumps to the stage's deadline instead
 * of sleeping to it. False: the timeout (on the real clock) came first. */
bool fake_wait(struct fake *f, int64_t timeout);

/* One turn of a lane: poll if something asks for it, offer what a sink has room for again, wait until `until` on
 * fake_realclock. Fails the test at `until`, or when the stage has failed, naming `condition`. */
void fake_turn(struct fake *f, int64_t until, const char *condition);
int64_t fake_realclock(void);

/* Turns until the condition holds; fails the test when it does not within FAKE_PATIENCE. */
#define fake_until(f, condition)                                                                                       \
    do {                                                                                                               \
        int64_t fake_until_ = fake_realclock() + FAKE_PATIENCE;                                                        \
        while (!(condition))                                                                                           \
            fake_turn((f), fake_until_, #condition);                                                                   \
    } while (0)

/* Calls source_stop or transform_flush, as a pipeline does once before close. A source may still emit what is on its
 * way until its source_poll returns FMS_END; from then on fms_emit says -ESHUTDOWN. */
void fake_stop(struct fake *f);

/* The credit that a turn gives to a source (256 if never called); what fms_room and -EAGAIN go by: at most `records`
 * emitted and not yet settled (no limit if never called). For transforms: at most so many outputs in all. */
void fake_credit(struct fake *f, size_t records);
void fake_capacity(struct fake *f, size_t records);

/* For a child with more payload than this there will never be room: fms_emit_child says -EMSGSIZE. */
void fake_largest(struct fake *f, size_t payload);

/* How long a call may hold the lane, on the real clock, before that is a broken rule (5 s if never called). A thread that
 * does not leave the lane for 30 s, or 400 times as long if that is less, fails the test at once. */
void fake_hold(struct fake *f, int64_t most);

/* Whether source_poll has returned FMS_END. */
bool fake_ended(struct fake *f);

/* ----------------------------------------------------------------------------------- what goes into sink, transform */

/* Adds a record to be written, and returns its number. NULL: absent. The draft's bytes are copied; its identity, too, where
 * the sink has called fms_identify, or the test has set fake_host(f)->identities. An identity's part and is_end are as the
 * draft has them; an end is for a sink that asks for ends, and ends the test for any other. */
size_t fake_add(struct fake *f, const char *topic, const char *key, const char *payload);
size_t fake_add_record(struct fake *f, const struct fms_record *draft);

/* From now on its source has lost record i to another process: fms_owns and fms_progress say so. */
void fake_disown(struct fake *f, size_t i);

/* Offers what is added and not yet taken, in order, until all is taken or the stage takes no more; to a transform one
 * by one, until it says FMS_AGAIN. A sink that asked to retry is offered those records again, first, once all that it
 * took is settled, and nothing before that; only this function does so. How many were taken, or a negative errno. */
int fake_write(struct fake *f);

/* How often record i was settled; its fate: 0 as long as it is not taken, unsettled or kept, FAKE_PASSED; why it was
 * refused ("" if it was not); and how many records have that fate. A drop is FMS_DELIVERED. */
unsigned fake_settles(struct fake *f, size_t i);
int fake_fate(struct fake *f, size_t i);
const char *fake_reason(struct fake *f, size_t i);
size_t fake_count_fate(struct fake *f, int fate);

/* How many records a sink has taken, or a transform kept, and not settled. */
size_t fake_unsettled(struct fake *f);

/* -------------------------------------------------------------------------------- what comes from source, transform */

/* How many records were emitted, or passed on, or emitted as children; the i-th of them, an immutable deep copy. Its identity is
 * NULL unless the test has set fake_host(f)->identities before fake_start; of a transform's children it is the input's, with
 * the parts numbered as in a pipeline. */
size_t fake_emitted(struct fake *f);
const struct fms_record *fake_record(struct fake *f, size_t i);

/* Whose child output i is (the number of the input), or the input itself that was passed; SIZE_MAX for a source's. */
size_t fake_parent(struct fake *f, size_t i);

/* Why the i-th record was rejected by its source (fms_emit_rejected); NULL: it was not. */
const char *fake_rejected(struct fake *f, size_t i);

/* Tells a source the fate of its i-th record, on the lane; of all that have none at the call; or (auto, 0: off) of each record
 * after the poll or before the fms_leave in which it was emitted, and in fms_drain. */
void fake_settle(struct fake *f, size_t i, enum fms_fate fate);
void fake_settle_all(struct fake *f, enum fms_fate fate);
void fake_settle_auto(struct fake *f, enum fms_fate fate);

/* What a source says of its i-th record (source_owns), and how far it would be with `count` of them from `from` on, which have no
 * fate yet, settled (source_progress). */
bool fake_owns(struct fake *f, size_t i);
int fake_progress(struct fake *f, size_t from, size_t count, struct fms_bytes *progress);

/* How many emitted records have no fate yet. */
size_t fake_in_flight(struct fake *f);

/* Called by fms_drain instead: may call fake_settle and step the clock. What is then in flight is its answer. */
void fake_on_drain(struct fake *f, void (*hook)(struct fake *f, int64_t deadline, void *user), void *user);

/* --------------------------------------------------------------------------------------------------------- secrets */

/* From now on the file of that option, a text or a pair that has a value already, holds this: fms_renew puts it into its field. In
 * INI text, ${file:PATH} is read again as well. Any thread of the plugin may call fms_renew meanwhile. */
void fake_secret(struct fake *f, const char *option, const char *text);

/* ---------------------------------------------------------------------------------------------- clock, what it said */

/* Makes fms_now and fms_realtime stand still at these times; moves them both on. Never called: the real clocks. */
void fake_clock_set(struct fake *f, int64_t now, int64_t realtime);
void fake_clock_step(struct fake *f, int64_t nanoseconds);

/* What fms_clock says of them: by default right, since start 1 of the machine. Its uptime is fms_now. How often the plugin has called
 * fms_tell_time, and what it said last. */
void fake_clock_know(struct fake *f, enum fms_clock_state state, uint64_t boot);
size_t fake_told_time(struct fake *f, int64_t *utc);

/* The last line with this text in it, or NULL. Lines read "error: ...", "warning: ...", "info: ...", "debug: ...",
 * "advice: ...", "report: ...", "promise: at least once: ..."; what names an option reads "error: qos: ...". Valid until
 * fake_forget, fake_close. */
const char *fake_said(struct fake *f, const char *text);
size_t fake_count_said(struct fake *f, const char *text);
void fake_forget(struct fake *f);

/* Calls `measure`, as the host does when somebody looks. */
void fake_measure(struct fake *f);

/* The plugin's gauge of that name, as it was set last, or 0. Of a duration: how often it was observed, and the nanoseconds
 * together, unless `sum` is NULL. */
double fake_gauge(struct fake *f, const char *name);
size_t fake_observed(struct fake *f, const char *name, int64_t *sum);

/* Whether its link is up; how often it has come up; why it is not, copied to `to`, which is returned: "" if it is, or never
 * said. */
bool fake_link_is_up(struct fake *f);
size_t fake_link_ups(struct fake *f);
const char *fake_link_why(struct fake *f, char *to, size_t size);

/* The plugin's counter of that name; how often it called fms_wake; whether it called fms_finish. */
uint64_t fake_counter(struct fake *f, const char *name);
size_t fake_woken(struct fake *f);
bool fake_finished(struct fake *f);

/* The instance, with its options filled; the table that it was given. */
void *fake_instance(struct fake *f);
struct fms_host *fake_host(struct fake *f);

#endif
