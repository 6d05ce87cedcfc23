"""Holds a connection and says nothing, then says how it ended: the reply code, or `closed`."""
import sys

host, port, vhost, login, secret = sys.argv[1:]
raw = Raw(host, int(port), vhost, login, secret)
raw.socket.settimeout(120)
print("open", flush=True)
try:
    cls, number, arguments = raw.read()
    print(struct.unpack("!H", arguments[:2])[0] if (cls, number) == (10, 50) else f"{cls}.{number}")
except (EOFError, OSError):
    print("closed")
