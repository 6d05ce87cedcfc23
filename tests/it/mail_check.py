"""Reads the message of a file with Python's own parser and says what it holds, as JSON. With a DKIM record as a further argument the
signature is checked too: by dkimpy where it is installed, and always by the few lines below and OpenSSL."""

import base64
import email
import email.policy
import hashlib
import json
import re
import subprocess
import sys
import tempfile


def parts(message):
    return [
        {
            "type": part.get_content_type(),
            "id": part.get("Content-ID"),
            "disposition": part.get_content_disposition(),
            "bytes": 0 if part.is_multipart() else len(part.get_payload(decode=True)),
        }
        for part in message.walk()
    ]


def fields(head):
    return [line.split(b":", 1) for line in re.split(rb"\r\n(?![ \t])", head)]


def relaxed(name, value):
    return name.strip().lower() + b":" + re.sub(rb"[ \t\r\n]+", b" ", value).strip()


def verified(raw, record):
    """RFC 6376, relaxed/relaxed with RSA: body hash, then the signature over the named headers."""
    head, body = raw.split(b"\r\n\r\n", 1)
    headers = fields(head)
    name, value = headers[0]
    tags = {
        tag.split(b"=", 1)[0].strip().decode(): re.sub(rb"\s", b"", tag.split(b"=", 1)[1])
        for tag in value.split(b";")
        if b"=" in tag
    }
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip() for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    hashed = hashlib.sha256(b"".join(line + b"\r\n" for line in lines)).digest()
    if base64.b64decode(tags["bh"]) != hashed:
        return "body"
    rest, covered = headers[1:], b""
    for wanted in tags["h"].lower().split(b":"):
        at = max((i for i, field in enumerate(rest) if field[0].strip().lower() == wanted), default=None)
        if at is not None:
            covered += relaxed(*rest.pop(at)) + b"\r\n"
    covered += relaxed(name, re.sub(rb"b=[^;]*$", b"b=", value))
    key = re.search(rb"p=([A-Za-z0-9+/=]+)", record).group(1)
    with tempfile.NamedTemporaryFile() as public, tempfile.NamedTemporaryFile() as signature:
        public.write(b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(base64.b64decode(key)) + b"-----END PUBLIC KEY-----\n")
        signature.write(base64.b64decode(tags["b"]))
        public.flush(), signature.flush()
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-verify", public.name, "-signature", signature.name],
            input=covered, capture_output=True,
        )
    return "good" if done.returncode == 0 else "signature"


def by_dkimpy(raw, record):
    try:
        import dkim
    except ImportError:
        return None
    return dkim.verify(raw, dnsfunc=lambda *_, **__: record.encode())


with open(sys.argv[1], "rb") as file:
    raw = file.read()
message = email.message_from_bytes(raw, policy=email.policy.default)
said = {
    "headers": {name: str(value) for name, value in message.items()},
    "names": [name for name, _ in message.items()],
    "parts": parts(message),
    "text": message.get_body(("plain",)).get_content(),
    "html": message.get_body(("html",)).get_content(),
    "defects": [repr(defect) for part in message.walk() for defect in part.defects],
    "longest": max(len(line) for line in raw.split(b"\r\n")),
    "bare": len(re.findall(rb"(?<!\r)\n|\r(?!\n)", raw)),
}
if len(sys.argv) > 2:
    said["dkim"] = verified(raw, sys.argv[2].encode())
    said["dkimpy"] = by_dkimpy(raw, sys.argv[2])
json.dump(said, sys.stdout)
