"""What a customer's key can ask of a broker with an ordinary library. Prints the reply code of each attempt, or null where it was
granted."""
import json, sys
import pika

host, port, vhost, login, secret, foreign_login = sys.argv[1:]
parameters = pika.ConnectionParameters(
    host=host, port=int(port), virtual_host=vhost, credentials=pika.PlainCredentials(login, secret))
connection = pika.BlockingConnection(parameters)


def tried(attempt):
    """On a channel of its own: a refusal ends it."""
    global connection
    try:
        if connection.is_closed:
            connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.confirm_delivery()
        attempt(channel)
        channel.close()
        return None
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code
    except pika.exceptions.ConnectionClosedByBroker as error:
        return error.reply_code
    except pika.exceptions.UnroutableError:
        return "returned"
    except pika.exceptions.NackError:
        return "nack"


def publish(exchange, key="web", **properties):
    body = b"stolen.count:1|c|#host:web-01"
    return lambda c: c.basic_publish(exchange, key, body, pika.BasicProperties(**properties), mandatory=True)


FOREIGN_QUEUES = ["src.acme.web", "snap.acme.web", "src.attacker.web", "dead.acme", "kin.dead", "kin.locate", "kin.redirector",
                  "kin.alert", "kin.alerts", "kin.leader", "kin.witness.analyzer"]
FOREIGN_EXCHANGES = ["in.acme", "", "amq.topic", "amq.direct", "amq.fanout", "amq.headers", "kin.alerts", "kin.alerts.dead",
                     "kin.dead", "kin.partials", "kin.map", "kin.alive", "kin.schema", "kin.trace", "kin.notifications"]
attempts = {}
for exchange in FOREIGN_EXCHANGES:
    attempts[f"publish to '{exchange}'"] = publish(exchange, "src.acme.web")
    attempts[f"delete exchange '{exchange}'"] = lambda c, e=exchange: c.exchange_delete(e)
    attempts[f"bind '{exchange}' to own exchange"] = lambda c, e=exchange: c.exchange_bind(e, "in.attacker", "#")
    attempts[f"bind own exchange to '{exchange}'"] = lambda c, e=exchange: c.exchange_bind("in.attacker", e, "#")
for queue in FOREIGN_QUEUES:
    attempts[f"get from {queue}"] = lambda c, q=queue: c.basic_get(q)
    attempts[f"consume {queue}"] = lambda c, q=queue: c.basic_consume(q, lambda *_: None)
    attempts[f"purge {queue}"] = lambda c, q=queue: c.queue_purge(q)
    attempts[f"delete {queue}"] = lambda c, q=queue: c.queue_delete(q)
    attempts[f"declare {queue}"] = lambda c, q=queue: c.queue_declare(q, durable=True)
    attempts[f"bind {queue}"] = lambda c, q=queue: c.queue_bind(q, "in.attacker", "#")
    attempts[f"unbind {queue}"] = lambda c, q=queue: c.queue_unbind(q, "in.acme", "#")
attempts |= {
    "delete own exchange": lambda c: c.exchange_delete("in.attacker"),
    "declare own exchange": lambda c: c.exchange_declare("in.attacker", "topic", durable=True),
    "declare an exchange": lambda c: c.exchange_declare("in.acme2", "fanout"),
    "declare with an alternate": lambda c: c.exchange_declare(
        "in.attacker", "topic", durable=True, arguments={"alternate-exchange": "in.acme"}),
    "declare a queue": lambda c: c.queue_declare("mine"),
    "declare a nameless queue": lambda c: c.queue_declare("", exclusive=True),
    "declare a line end": lambda c: c.queue_declare("\n"),
    "declare with dead letters": lambda c: c.queue_declare("mine", arguments={"x-dead-letter-exchange": "in.acme"}),
    "a name with a line end behind it": publish("in.acme\n"),
    "own name with a line end behind it": publish("in.attacker\n"),
    "a guessed reply address": publish("", "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA.abc=="),
    "another's login": publish("in.attacker", user_id=foreign_login),
    "the installation's login": publish("in.attacker", user_id="kinetic"),
    "kin.rpc as the installation": publish("kin.rpc", "locate", user_id="kinetic"),
}
report = {name: tried(attempt) for name, attempt in attempts.items()}


def depth(channel):
    channel.queue_declare("src.acme.web", passive=True)


print(json.dumps({
    "refused": report,
    "passive": tried(depth),
    # To its own exchange it may publish; the keys of others lead nowhere from there.
    "cc": tried(publish("in.attacker", headers={"CC": ["web"], "BCC": ["src.acme.web"]})),
    "own": tried(publish("in.attacker", user_id=login)),
    "forged_claim": tried(publish("in.attacker", headers={"kin-customer": "acme", "kin-moved": "local"})),
    "forged_kinds": [tried(publish("in.attacker", type=kind)) for kind in (
        "kinetic.partial.v1", "kinetic.probe.v1", "kinetic.snapshot.v1", "kinetic.test.statsd.v1", "kinetic.alert.v1")],
}))
connection.close()
