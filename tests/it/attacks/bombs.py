"""Bodies that are far larger than they look, or hold far more than they should. Prints what the broker said of each."""
import gzip, io, json, sys

host, port, vhost, login, secret, exchange = sys.argv[1:]


def gzip_bomb(mib):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as packed:
        for _ in range(mib):
            packed.write(b"a" * (1 << 20))
    return out.getvalue()


def zstd_bomb(blocks):
    """A frame of blocks of 128 KiB that are one repeated byte each."""
    block = lambda last: ((128 << 10) << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block(0) * (blocks - 1) + block(1)


tags = ",".join(f"tag{number}:value{number}" for number in range(20000))
bombs = {
    "gzip": gzip_bomb(256),
    "gzip of gzip": gzip.compress(gzip_bomb(64)),
    "zstd": zstd_bomb(16384),
    "labels": f"bomb.labels:1|c|#host:web-01,{tags}".encode(),
    "one long name": b"bomb." + b"x" * (1 << 20) + b":1|c|#host:web-01",
    "influx labels": b"bomb,host=web-01," + b",".join(b"t%d=v" % n for n in range(20000)) + b" value=1",
    "deep json": b"[" * 500000,
    "huge": b"x" * (24 << 20),
}
bombs |= {
    f"names {part}": "".join(f"bomb.names.{part}.{number}:1|c|#host:web-{number:06}\n" for number in range(2000)).encode()
    for part in range(30)
}
report = {}
for name, body in bombs.items():
    raw = Raw(host, int(port), vhost, login, secret)
    report[name] = raw.publish(exchange.encode(), b"web", b"\0\0", body)
    raw.close()
print(json.dumps(report))
