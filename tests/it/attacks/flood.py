"""Far more than the customer may send: twenty bodies a second of five hundred samples each, of ever new names, until it is ended."""
import sys, time
import pika

host, port, vhost, login, secret, exchange = sys.argv[1:]
connection = pika.BlockingConnection(pika.ConnectionParameters(
    host=host, port=int(port), virtual_host=vhost, credentials=pika.PlainCredentials(login, secret)))
channel = connection.channel()
start = time.time()
names = [f"flood.{start:.0f}.{number}:1|c|#host:web-{number % 5000:05}" for number in range(50000)]
bodies = ["\n".join(names[at : at + 500]).encode() for at in range(0, len(names), 500)]
properties = pika.BasicProperties(type="kinetic.data.statsd.v1")
print("open", flush=True)
sent = 0
while True:
    channel.basic_publish(exchange, "web", bodies[sent % len(bodies)], properties)
    sent += 1
    connection.process_data_events(0)
    time.sleep(max(0, start + sent / 20 - time.time()))
