"""Requests that a customer's key may put on `kin.rpc`, and nobody should grant. Prints each answer."""
import json, sys, time
import pika

host, port, vhost, login, secret = sys.argv[1:]
connection = pika.BlockingConnection(pika.ConnectionParameters(
    host=host, port=int(port), virtual_host=vhost, credentials=pika.PlainCredentials(login, secret)))
channel = connection.channel()
answers, returned = {}, set()
channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: answers.update({p.correlation_id: json.loads(body)}),
                      auto_ack=True)
channel.add_on_return_callback(lambda c, m, p, body: returned.add(p.correlation_id))

KINDS = ["register", "heartbeat", "drain", "goodbye", "map", "relieve", "silence", "unsilence", "silences", "acknowledge",
         "episodes", "test-event", "link", "unsubscribed", "subscribe", "bounce", "suppressions", "unsuppress"]
BODY = {
    "v": 1, "client": "01a1ee56-6058-7000-ab1a-48348f91af39", "node": "analyzer", "inc": "01a1ee56-6058-7000-ab1a-48348f91af39", "customer": "acme", "author": "mallory",
    "reason": "quiet", "address": "oncall@acme.example", "until_ms": 4000000000000, "group": "acme/web/web/hosts",
    "silence": {"id": "quiet", "customer": "acme", "author": "mallory", "reason": "quiet", "from_ms": 0,
                "until_ms": 1795176001000 + 86400000, "origins": ["*"]},
}


def ask(kind, name, user_id, reply_to="amq.rabbitmq.reply-to"):
    properties = pika.BasicProperties(reply_to=reply_to, correlation_id=name, user_id=user_id, expiration="20000")
    channel.basic_publish("kin.rpc", kind, json.dumps(BODY).encode(), properties, mandatory=True)


for kind in KINDS:
    ask(kind, f"{kind} with its login", login)
    ask(kind, f"{kind} without a login", None)
ask("locate", "locate without a login", None)
ask("locate", "locate", login)
# Whoever answers must not publish to a queue on behalf of who asks.
for queue in ["src.acme.web", "snap.acme.web", "kin.alerts", "kin.leader", "kin.redirector", "kin.locate", "amq.rabbitmq.reply-to"[:-1]]:
    ask("locate", f"to {queue}", login, queue)
ask("locate", "last", login)
wanted = 2 * len(KINDS) + 3
deadline = time.time() + 30
while len(answers.keys() | returned) < wanted and time.time() < deadline:
    connection.process_data_events(0.1)
connection.process_data_events(0.5)
print(json.dumps({"answers": answers, "returned": sorted(returned)}))
connection.close()
