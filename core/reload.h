/* reload.h - what the files of a process's pipelines ask for now is done while they run.
 *
 * One reload at a time, on whichever thread asks; who asks while one is under way waits for it, and gets one of its own. */
#ifndef FMS_RELOAD_H
#define FMS_RELOAD_H

#include <stdio.h>

#include "crew.h"

/* For pipelines that run, or are about to, of the files that `words` name (files_list); all live until reload_end, which waits for what is
 * under way. `tell` (NULL: nobody) is called when one begins that is no dry one, and when it is over, by whoever does it. [control] */
void reload_begin(struct crew *crew, char *const *words, size_t count, void (*tell)(void *user, bool is_over),
                  void *user);
void reload_end(void);

/* From now on what others ask for is done on a thread that is made now, of the caller's priority: they may have given way to all else, and
 * so would whatever they make, libraries' threads of stages that are opened, too. Once a process. 0 or a negative errno. [control] */
int reload_serve(void);

/* Reads all files, and only if all are good does what they ask for: first those pipelines go for which no file asks any more, then those
 * that stay are changed, one by one, and then new ones come; `is_dry`: only says what that would be. The plan, a line for each change,
 * and what went wrong go to `out`, which may be NULL. Any thread but a lane or the main one. */
enum reload_result reload_run(bool is_dry, FILE *out);

/* The same on a thread of its own, of which the log tells; unless `is_told`, only if something changes, or fails; then it is
 * done once there is something to reload, if there is nothing yet. Any thread. */
void reload_request(bool is_told);

/* The same, whose words are read as they come; what `wish` points to is copied. 0; or -EBUSY: as many wait already as may; -ESHUTDOWN: the process is about to begin, or to end;
 * another negative errno. Whoever reads never waits, and may leave before its end, which changes nothing. Any thread but a lane. */
struct reloading;
int reload_start(const struct reload_wish *wish, struct reloading **reloading);
/* 1 and a line, without its end, that the caller frees; 0: none for now; -ENODATA: it has ended, with that result. */
int reload_read(struct reloading *reloading, char **line, enum reload_result *result);
void reload_close(struct reloading *reloading);

/* What became of them so far. Any thread. */
struct reload_view reload_look(void);

#endif
