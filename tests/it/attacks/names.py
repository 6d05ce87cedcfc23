"""A cluster of the customer's own whose slow host, and metric, are named to be misread further on."""
import sys, time
import pika

host, port, vhost, login, secret, exchange, origin, metric, seconds = sys.argv[1:]
connection = pika.BlockingConnection(pika.ConnectionParameters(
    host=host, port=int(port), virtual_host=vhost, credentials=pika.PlainCredentials(login, secret)))
channel = connection.channel()
channel.confirm_delivery()
published = 0
for _ in range(10 * int(seconds)):
    for number in range(8):
        name = origin if number == 7 else f"web-{number:02}"
        value = 500 if number == 7 else 100 + number
        properties = pika.BasicProperties(headers={"kin-origin": name}, type="kinetic.data.statsd.v1")
        channel.basic_publish(exchange, "web", f"{metric}:{value}|ms".encode(), properties, mandatory=True)
        published += 1
    connection.process_data_events(0)
    time.sleep(0.1)
print(published)
connection.close()
