/* sim_truck.c - see sim_truck.h.
 *
 * Every 10 ms the vehicle drives on, and each message that is due gets its bits by the same table by which can_source reads them. As on real
 * buses, a second controller sends the fuel level without having one, and the tachograph a speed of its own. */
#include "sim_truck.h"

#include <stdlib.h>

#include "../can_common/signals.h"

#define TICK        10             /* milliseconds */
#define FRAME_TIME  (600 * FMS_US) /* some more than a frame takes at 250 kbit/s */
#define QUEUE       32             /* frames in a tick at most */
#define VALUES      8              /* of a message at most */
#define BAM_PAUSE   50             /* milliseconds between packets */
#define VIN_EVERY   10000
#define VIN_PACKETS 3
#define VIN_PGN     0xFEEC
#define ENGINE      0x00
#define RETARDER    0x0F
#define BRAKES      0x0B
#define CLUSTER     0x31
#define TACHOGRAPH  0xEE
#define TANK        60 /* litres */

enum value {
    SPEED = 1,
    RPM,
    FUEL_LEVEL,
    BRAKE,
    CLUTCH,
    CRUISE,
    PARKING_BRAKE,
    PTO,
    TORQUE,
    PEDAL,
    LOAD,
    FUEL_USED,
    FUEL_USED_FINE,
    FUEL_RATE,
    ENGINE_HOURS,
    DISTANCE,
    COOLANT,
    AMBIENT,
    TACHOGRAPH_SPEED,
    MOTION,
    OVERSPEED,
    PTO_ENGAGED,
    RETARDED,
    WEIGHT,
    PRESSURE_1,
    PRESSURE_2,
    EXHAUST_FLUID,
    VALUE_COUNT,
};

static const char *const names[VALUE_COUNT] = {
    [SPEED] = "speed",
    [RPM] = "rpm",
    [FUEL_LEVEL] = "fuel_level",
    [BRAKE] = "brake",
    [CLUTCH] = "clutch",
    [CRUISE] = "cruise_control",
    [PARKING_BRAKE] = "parking_brake",
    [PTO] = "pto_state",
    [TORQUE] = "engine_torque",
    [PEDAL] = "accelerator_pedal",
    [LOAD] = "engine_load",
    [FUEL_USED] = "fuel_used",
    [FUEL_USED_FINE] = "fuel_used_fine",
    [FUEL_RATE] = "fuel_rate",
    [ENGINE_HOURS] = "engine_hours",
    [DISTANCE] = "distance",
    [COOLANT] = "coolant_temperature",
    [AMBIENT] = "ambient_temperature",
    [TACHOGRAPH_SPEED] = "tachograph_speed",
    [MOTION] = "motion",
    [OVERSPEED] = "overspeed",
    [PTO_ENGAGED] = "pto_engaged",
    [RETARDED] = "retarder_torque",
    [WEIGHT] = "combination_weight",
    [PRESSURE_1] = "brake_pressure_1",
    [PRESSURE_2] = "brake_pressure_2",
    [EXHAUST_FLUID] = "exhaust_fluid",
};

static const struct message {
    uint32_t pgn;
    uint8_t priority, source;
    int every, phase; /* milliseconds */
    enum value values[VALUES];
} messages[] = {
    {0xF004, 3, ENGINE, 20, 0, {RPM, TORQUE}},
    {0xF003, 3, ENGINE, 50, 0, {PEDAL, LOAD}},
    {0xFE6C, 3, TACHOGRAPH, 50, 10, {TACHOGRAPH_SPEED, MOTION, OVERSPEED}},
    {0xFEF1, 6, ENGINE, 100, 20, {SPEED, BRAKE, CLUTCH, CRUISE, PARKING_BRAKE, PTO}},
    {0xFEF2, 6, ENGINE, 100, 30, {FUEL_RATE}},
    {0xFDA4, 6, ENGINE, 100, 70, {PTO_ENGAGED}},
    {0xF000, 6, RETARDER, 100, 80, {RETARDED}},
    {0xFEFC, 6, ENGINE, 1000, 40, {0}},
    {0xFEFC, 6, CLUSTER, 1000, 110, {FUEL_LEVEL}},
    {0xFEE9, 6, ENGINE, 1000, 240, {FUEL_USED}},
    {0xFD09, 6, ENGINE, 1000, 340, {FUEL_USED_FINE}},
    {0xFEE5, 6, ENGINE, 1000, 440, {ENGINE_HOURS}},
    {0xFEC1, 6, TACHOGRAPH, 1000, 540, {DISTANCE}},
    {0xFEEE, 6, ENGINE, 1000, 640, {COOLANT}},
    {0xFEF5, 6, CLUSTER, 1000, 740, {AMBIENT}},
    {0xFEAE, 6, BRAKES, 1000, 840, {PRESSURE_1, PRESSURE_2}},
    {0xFE56, 6, ENGINE, 1000, 940, {EXHAUST_FLUID}},
    {0xFE70, 7, BRAKES, 10000, 5060, {WEIGHT}},
};

struct truck {
    struct vehicle *vehicle;
    struct signals signals;
    const struct signal *of[VALUE_COUNT];
    const char *interface;
    char vin[7 * VIN_PACKETS + 1];
    int64_t now;      /* milliseconds since the bus began */
    int64_t distance; /* micrometres */
    int64_t burnt;    /* in the vehicle's units of fuel */
    struct frame queue[QUEUE];
    size_t at, count;
};

/* ------------------------------------------------------------------------------------------------------------- values */

/* In millionths. */
static int64_t truck_value(struct truck *truck, enum value value)
{
    struct vehicle *v = truck->vehicle;
    int64_t kmh = (int64_t)v->speed * 36 / 10; /* millionths of km/h */
    int64_t load = vehicle_burn(v) / 600 < 100 ? vehicle_burn(v) / 600 : 100;

    switch (value) {
    case SPEED:
    case TACHOGRAPH_SPEED:
        return kmh;
    case RPM:
        return vehicle_rpm(v) * 1000000;
    case FUEL_LEVEL:
        return v->fuel / (PERCENT / 1000000);
    case BRAKE:
        return vehicle_brakes(v) * 1000000;
    case CRUISE:
        return (kmh > 60000000 && !vehicle_brakes(v) && !vehicle_accelerates(v)) * 1000000;
    case TORQUE:
    case LOAD:
        return load * 1000000;
    case PEDAL:
        return (vehicle_accelerates(v) ? 40 + load / 2 : vehicle_brakes(v) ? 0 : load) * 1000000;
    case FUEL_USED:
    case FUEL_USED_FINE:
        return truck->burnt / 100 * TANK / (PERCENT / 1000000);
    case FUEL_RATE:
        return vehicle_burn(v) * TANK * 36 / 10;
    case ENGINE_HOURS:
        return truck->now * 1000 / 3600;
    case DISTANCE:
        return truck->distance;
    case COOLANT:
        return 85000000;
    case AMBIENT:
        return 12500000;
    case MOTION:
        return (kmh > 0) * 1000000;
    case PARKING_BRAKE:
        return (kmh == 0) * 1000000;
    case RETARDED:
        return vehicle_brakes(v) * -30000000;
    case WEIGHT:
        return INT64_C(38500) * 1000000;
    case PRESSURE_1:
    case PRESSURE_2:
        return 960000000;
    case EXHAUST_FLUID:
        return 64000000;
    case OVERSPEED:
        return (kmh > 90000000) * 1000000;
    default: /* clutch, PTO */
        return 0;
    }
}

/* Sets the bits of a value, which were all ones. */
static void frame_put(struct frame *frame, const struct signal *signal, uint32_t raw)
{
    unsigned bits = signal->field.bits, bytes = bits <= 8 ? 1 : bits / 8;
    uint64_t mask = ((UINT64_C(1) << bits) - 1) << signal->field.shift, value = (uint64_t)raw << signal->field.shift;

    for (unsigned i = 0; i < bytes; i++)
        frame->data[signal->field.byte + i] = (uint8_t)((frame->data[signal->field.byte + i] & ~(mask >> 8 * i)) |
                                                        (value >> 8 * i & 0xff));
}

/* ------------------------------------------------------------------------------------------------------------- frames */

/* One more in this tick, with all of its bits set. */
static struct frame *truck_add(struct truck *truck, uint32_t pgn, uint8_t priority, uint8_t source)
{
    struct j1939_id id = {pgn, priority, source, J1939_GLOBAL};
    struct frame *frame = &truck->queue[truck->count];

    *frame = (struct frame){.time = truck->now * FMS_MS + (int64_t)truck->count * FRAME_TIME,
                            .id = j1939_id_make(id),
                            .flags = FRAME_EXTENDED,
                            .size = 8};
    memcpy(frame->interface, truck->interface, strlen(truck->interface) + 1);
    memset(frame->data, 0xff, 8);
    truck->count++;
    return frame;
}

static void truck_send(struct truck *truck, const struct message *message)
{
    struct frame *frame = truck_add(truck, message->pgn, message->priority, message->source);

    for (size_t i = 0; i < VALUES && message->values[i] != 0; i++) {
        enum value value = message->values[i];

        frame_put(frame, truck->of[value], signal_raw(truck->of[value], truck_value(truck, value)));
    }
}

/* The VIN, announced to all, and its packets one after the other. */
static void truck_send_vin(struct truck *truck, int64_t packet)
{
    struct frame *frame = truck_add(truck, packet == 0 ? J1939_PGN_CONTROL : J1939_PGN_DATA, 7, ENGINE);
    const uint8_t announcement[8] = {32, TRUCK_VIN + 1, 0, VIN_PACKETS, 0xff, VIN_PGN & 0xff, VIN_PGN >> 8, 0};

    if (packet == 0) {
        memcpy(frame->data, announcement, 8);
        return;
    }
    frame->data[0] = (uint8_t)packet;
    memcpy(frame->data + 1, truck->vin + 7 * (packet - 1), 7);
}

static void truck_tick(struct truck *truck)
{
    int64_t fuel = truck->vehicle->fuel, since = truck->now % VIN_EVERY;

    truck->at = truck->count = 0;
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        if (truck->now % messages[i].every == messages[i].phase % messages[i].every)
            truck_send(truck, &messages[i]);
    }
    if (since % BAM_PAUSE == 0 && since / BAM_PAUSE <= VIN_PACKETS)
        truck_send_vin(truck, since / BAM_PAUSE);
    vehicle_drive(truck->vehicle, TICK * 1000);
    truck->distance += truck->vehicle->speed / (1000 / TICK);
    truck->burnt += truck->vehicle->fuel < fuel ? fuel - truck->vehicle->fuel : 0;
    truck->now += TICK;
}

void truck_next(struct truck *truck, struct frame *frame)
{
    while (truck->at == truck->count)
        truck_tick(truck);
    *frame = truck->queue[truck->at++];
}

/* ------------------------------------------------------------------------------------------------------------- making */

struct truck *truck_new(struct vehicle *vehicle, const char *interface, const char *vin, char why[SIGNAL_WHY])
{
    struct truck *truck = calloc(1, sizeof *truck);

    if (truck == NULL)
        return NULL;
    if (signals_add_fms(&truck->signals, why) < 0) {
        truck_free(truck);
        return NULL;
    }
    for (size_t i = 1; i < VALUE_COUNT; i++)
        truck->of[i] = &signals_find(&truck->signals, names[i])->signal;
    truck->vehicle = vehicle;
    truck->interface = interface;
    memset(truck->vin, 0xff, sizeof truck->vin);
    memcpy(truck->vin, vin, TRUCK_VIN);
    truck->vin[TRUCK_VIN] = '*';
    return truck;
}

void truck_free(struct truck *truck)
{
    if (truck == NULL)
        return;
    signals_free(&truck->signals);
    free(truck);
}
