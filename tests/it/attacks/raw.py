"""AMQP 0-9-1 by hand, for what no library would send. Every connection says what became of it."""
import socket, struct


def short(text):
    return struct.pack("!B", len(text)) + text


def long(text):
    return struct.pack("!L", len(text)) + text


class Raw:
    """One connection with one channel, with confirms."""

    def __init__(self, host, port, vhost, login, secret):
        self.socket = socket.create_connection((host, port), timeout=10)
        self.buffer = b""
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.expect(10, 10)
        response = b"\0" + login.encode() + b"\0" + secret.encode()
        self.method(0, 10, 11, long(b"") + short(b"PLAIN") + long(response) + short(b"en_US"))
        tune = self.expect(10, 30)
        channels, self.frame_max, _ = struct.unpack("!HLH", tune[:8])
        self.method(0, 10, 31, struct.pack("!HLH", channels, self.frame_max, 0))
        self.method(0, 10, 40, short(vhost.encode()) + b"\0\0")
        self.expect(10, 41)
        self.method(1, 20, 10, b"\0")
        self.expect(20, 11)
        self.method(1, 85, 10, b"\0")
        self.expect(85, 11)

    def frame(self, kind, channel, payload):
        self.socket.sendall(struct.pack("!BHL", kind, channel, len(payload)) + payload + b"\xce")

    def method(self, channel, cls, number, arguments):
        self.frame(1, channel, struct.pack("!HH", cls, number) + arguments)

    def take(self, count):
        while len(self.buffer) < count:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError("the broker closed the connection")
            self.buffer += piece
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read(self):
        """The next method: its class, its number, its arguments."""
        while True:
            kind, _, size = struct.unpack("!BHL", self.take(7))
            payload = self.take(size)
            self.take(1)
            if kind == 1:
                return struct.unpack("!HH", payload[:4]) + (payload[4:],)

    def expect(self, cls, number):
        got = self.read()
        if got[:2] != (cls, number):
            raise EOFError(f"{got} instead of {cls}.{number}")
        return got[2]

    def publish(self, exchange, key, properties=b"\0\0", body=b"x:1|c", mandatory=False):
        """Publishes with properties as they are, flags first: `ack`, `returned`, a reply code, or `closed`."""
        try:
            self.method(1, 60, 40, b"\0\0" + short(exchange) + short(key) + (b"\x01" if mandatory else b"\0"))
            self.frame(2, 1, struct.pack("!HHQ", 60, 0, len(body)) + properties)
            for at in range(0, len(body), self.frame_max - 8):
                self.frame(3, 1, body[at : at + self.frame_max - 8])
            outcome = "ack"
            while True:
                cls, number, arguments = self.read()
                if (cls, number) == (60, 50):
                    outcome = "returned"
                elif (cls, number) == (60, 80):
                    return outcome
                elif (cls, number) == (60, 120):
                    return "nack"
                elif (cls, number) in [(10, 50), (20, 40)]:
                    return struct.unpack("!H", arguments[:2])[0]
        except (EOFError, OSError):
            return "closed"

    def close(self):
        self.socket.close()


def header_table(table):
    """Properties of nothing but a table of headers, whose inside is given."""
    return struct.pack("!H", 0x2000) + long(table)


def nested(kind, depth):
    """A table of headers that holds tables (`F`) or arrays (`A`) within each other."""
    name = short(b"a") if kind == b"F" else b""
    size, pieces = 0, []
    for _ in range(depth):
        pieces.append(name + kind + struct.pack("!L", size))
        size += len(name) + 5
    inside = b"".join(reversed(pieces))
    return header_table(inside if kind == b"F" else short(b"a") + inside)
