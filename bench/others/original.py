#!/usr/bin/python3
"""The bridge as it first was: paho-mqtt in, confluent-kafka out, both as Debian 12 has them.

A message is acknowledged to the MQTT broker when on_message returns, which is when librdkafka has queued it and not
when Kafka has it: paho-mqtt 1.6 knows no other way."""
import logging
import os
import signal
import sys

import paho.mqtt.client as mqtt
from confluent_kafka import Producer

env = os.environ
qos = int(env["BENCH_QOS"])
log = logging.getLogger("bridge")
producer = Producer({
    "bootstrap.servers": env["FMS_KAFKA"],
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": int(env["BENCH_LINGER"]),
})


def on_connect(client, userdata, flags, rc):
    log.info("connected: %s", mqtt.connack_string(rc))
    client.subscribe(env["BENCH_FILTER"], qos)


def on_disconnect(client, userdata, rc):
    log.warning("disconnected: %s", mqtt.error_string(rc))


def on_delivery(error, message):
    if error is not None:
        log.error("not delivered: %s", error)


def on_message(client, userdata, message):
    while True:
        try:
            producer.produce(env["BENCH_TOPIC"], message.payload, message.topic, on_delivery=on_delivery)
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)


logging.basicConfig(level=logging.INFO)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
client = mqtt.Client(env["BENCH_CLIENT"], clean_session=qos == 0)
client.on_connect = on_connect
client.on_disconnect = on_disconnect
client.on_message = on_message
client.reconnect_delay_set(1, 30)
client.connect_async(env["BENCH_MQTT_HOST"], int(env["BENCH_MQTT_PORT"]))
try:
    client.loop_forever(retry_first_connection=True)
finally:
    producer.flush(10)
