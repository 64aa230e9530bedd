/* interface.h - a CAN interface of Linux's, and what to do when it is not to be had. */
#ifndef CAN_INTERFACE_H
#define CAN_INTERFACE_H

/* Binds a raw CAN socket to the interface of that name, of at most 15 letters, if it is a CAN interface and up. 0 or a negative errno: -ENODEV,
 * -ENOTTY where it is another kind, -ENETDOWN. [any] */
int interface_bind(int fd, const char *name);

/* What that error, or one of socket() or of a transfer, says to an operator: what is wrong, and what to do. [any] */
const char *interface_advice(int error);

#endif
