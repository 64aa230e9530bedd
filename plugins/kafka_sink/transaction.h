/* transaction.h - kafka_sink's transactions: records, and what the journal says of them, become visible together or not at all.
 *
 *     take records -> flush -> commit -> settle as delivered        at most once in commit_interval
 *
 * What is taken meanwhile waits for the next one. Any trouble ends the producer; the next one of the same id ends its transaction
 * for it (KIP-98), and the journal, read anew, says whether the last one was committed after all: each has a number, and is told
 * in it. Only then are its records settled, as delivered or to be offered again.
 *
 * librdkafka's calls for this block, and so does reading the journal: a thread makes them, one at a time. All functions here are
 * [lane]. */
#ifndef KAFKA_SINK_TRANSACTION_H
#define KAFKA_SINK_TRANSACTION_H

#include <librdkafka/rdkafka.h>

#include <fms_plugin.h>

struct kafka_sink;
struct transactions;

/* 0 or -ENOMEM. */
int transactions_open(struct kafka_sink *self);
/* Ends the thread, and aborts what is not committed; before the producer goes. May wait for brokers, a second or two. [control] */
void transactions_stop(struct kafka_sink *self);
void transactions_close(struct kafka_sink *self);

/* Settings of a producer with transactions. */
void transactions_configure(struct kafka_sink *self, rd_kafka_conf_t *conf);

/* A new producer, which may do nothing until the journal is read. 0 or -errno. */
int transactions_start(struct kafka_sink *self);

bool transactions_may_write(struct kafka_sink *self);
/* Whether there is nothing to write of the record, which may be written now: it was before, or it only tells of an end. It is then
 * settled with the transaction. */
bool transactions_knows(struct kafka_sink *self, const struct fms_record *record);
/* librdkafka has it. */
void transactions_took(struct kafka_sink *self, const struct fms_record *record);
/* It is settled by itself, for librdkafka could not deliver it; the producer must be given up. */
void transactions_drop(struct kafka_sink *self, const struct fms_record *record, rd_kafka_resp_err_t error);

/* The report of a message that is no record's but the journal's; false: it is none. */
bool transactions_reported(struct kafka_sink *self, const rd_kafka_message_t *message);

/* Whether the producer may be replaced: the thread has left it alone, and unless it was given up all is committed. Asks for that. */
bool transactions_let_go(struct kafka_sink *self);
/* The producer was given up, and nothing is under way any more: what it had is offered again, but for a transaction of which it is
 * not known whether it was committed. False: the thread is still at work with it. */
bool transactions_return(struct kafka_sink *self);

/* Another process has taken the transactional id over: nothing more is to be done, with this producer or another. */
bool transactions_is_fenced(const struct kafka_sink *self);

/* Carries on. Moves wait->deadline. */
void transactions_poll(struct kafka_sink *self, struct fms_wait *wait);
void transactions_measure(struct kafka_sink *self);

#endif
