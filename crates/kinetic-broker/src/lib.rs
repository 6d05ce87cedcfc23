//! Embedded AMQP 0-9-1 broker over the amq-protocol codec; knows nothing of metrics.
