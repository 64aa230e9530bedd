/* sim_truck.h - a vehicle's bus: the frames that its controllers would send, in the order of their times. */
#ifndef SIM_TRUCK_H
#define SIM_TRUCK_H

#include "../can_common/frame.h"
#include "../can_common/spn.h"
#include "sim_vehicle.h"

#define TRUCK_VIN 17 /* letters */

struct truck;

/* The vehicle is the caller's, and drives by truck_next alone. NULL, and `why` says what is wrong. */
struct truck *truck_new(struct vehicle *vehicle, const char *interface, const char *vin, char why[SIGNAL_WHY]);
void truck_free(struct truck *truck);

/* The next frame; its time is in nanoseconds since the bus began. */
void truck_next(struct truck *truck, struct frame *frame);

#endif
