/* odd.h - messages that brokers pass on and no pipeline expects: each can be delimited, and is somebody's fault that must not
 * cost the others anything. */
#ifndef BENCH_ODD_H
#define BENCH_ODD_H

#include <stddef.h>
#include <stdint.h>

#define ODD_KINDS    12u
#define ODD_REJECTED 10u         /* the first of them are for the dead letters, the others are good */
#define ODD_ROOM     (24u << 20) /* bytes that each fits in */

/* Writes message `kind` as a PUBLISH of MQTT 5 at QoS 1 and returns its size. */
size_t odd_write(unsigned kind, uint16_t id, unsigned char *to);

#endif
