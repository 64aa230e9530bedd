#!/usr/bin/env bash
# Two programs and a pipe. mosquitto_sub acknowledges a message before it prints it. kcat reads 1024 bytes at a time, however few
# come, so that the last few messages wait for the next ones or for the end. A payload with a line feed becomes two records.
# SIGTERM is for mosquitto_sub: its end lets kcat send what it has.
session=()
[ "$BENCH_QOS" = 0 ] || session=(--disable-clean-session)
exec mosquitto_sub -h "$BENCH_MQTT_HOST" -p "$BENCH_MQTT_PORT" -i "$BENCH_CLIENT" "${session[@]}" \
  -t "$BENCH_FILTER" -q "$BENCH_QOS" -F '%t\t%p' \
  > >(exec kcat -P -E -b "$FMS_KAFKA" -t "$BENCH_TOPIC" -K '\t' -X acks=all -X enable.idempotence=true -X linger.ms="$BENCH_LINGER")
