#!/usr/bin/python3
"""Writes numbered messages into Kafka in transactions: transactions.py commit|abort|leave FIRST LAST [...]

`leave` is for the last: its messages are in Kafka, and what is to become of them nobody has said. Whoever uses the same id next ends it."""
import os
import sys
import time

from confluent_kafka import Producer


def send(producer, first, last):
    for number in range(first, last + 1):
        producer.produce("fms-data-stream", key="raspi-001",
                         value=f'{{"vehicle_id":"raspi-001","speed":56.65,"rpm":1316,"fuel_level":99.65,"seq":{number},"sent_ns":{time.time_ns()}}}')
    if producer.flush(60) > 0:
        sys.exit("Kafka does not take them")


producer = Producer({"bootstrap.servers": os.environ["FMS_KAFKA"], "transactional.id": "transactions"})
producer.init_transactions()
for what, first, last in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    producer.begin_transaction()
    send(producer, int(first), int(last))
    if what == "commit":
        producer.commit_transaction()
    elif what == "abort":
        producer.abort_transaction()
os._exit(0)
