"""Messages that no library would send, to whatever the customer's key may write to. Prints what the broker did with each."""
import json, sys, time

host, port, vhost, login, secret, exchange = sys.argv[1:]
PROPERTIES = {
    "type_no_text": struct.pack("!H", 0x0020) + short(b"kinetic.\xff\xfe"),
    "reply_to_no_text": struct.pack("!H", 0x0200) + short(b"amq.rabbitmq.reply-to.\xff"),
    "header_name_no_text": header_table(short(b"kin-\xc3\x28") + b"V"),
    "deep_tables": nested(b"F", 18000),
    "deep_arrays": nested(b"A", 24000),
}
report = {}
for target, key in [(exchange.encode(), b"web"), (b"kin.rpc", b"locate")]:
    for name, properties in PROPERTIES.items():
        raw = Raw(host, int(port), vhost, login, secret)
        report[f"{target.decode()} {name}"] = raw.publish(target, key, properties)
        raw.close()
raw = Raw(host, int(port), vhost, login, secret)
report["key_no_text"] = raw.publish(exchange.encode(), b"web.\xff\xfe")
raw.close()
print(json.dumps(report))
