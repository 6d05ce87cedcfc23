"""What one would write instead: pika and numpy, mean and standard deviation of 200 hosts for each metric.

Takes the broker's URL, a password file, a queue and how many bodies to drain; prints one JSON object.
Written with care: batched acknowledgements, a large prefetch, arrays instead of dictionaries of numbers.
"""

import json
import resource
import sys
import time

import numpy
import pika

WINDOW_S = 10
LATENESS_S = 2
DEVIATIONS = 4.0
MIN_EFFECT = 0.10
ACK_EVERY = 256
PREFETCH = 4096
FEEDS_MAX = 256
METRICS_MAX = 64


class Window:
    """Sum and count of each (host, metric) in one window."""

    def __init__(self):
        self.sum = numpy.zeros((FEEDS_MAX, METRICS_MAX))
        self.count = numpy.zeros((FEEDS_MAX, METRICS_MAX))


class Analyzer:
    """Windows by event time; judged when their end and the lateness have passed."""

    def __init__(self):
        self.hosts = {}
        self.metrics = {}
        self.windows = {}
        self.samples = 0
        self.alerts = 0
        self.latest = 0

    def body(self, origin, at_s, body):
        host = self.hosts.setdefault(origin, len(self.hosts))
        start = at_s - at_s % WINDOW_S
        window = self.windows.get(start)
        if window is None:
            window = self.windows[start] = Window()
        metrics = self.metrics
        columns = []
        values = []
        for line in body.split(b"\n"):
            if not line:
                continue
            name, _, rest = line.partition(b":")
            column = metrics.get(name)
            if column is None:
                column = metrics[name] = len(metrics)
            columns.append(column)
            values.append(float(rest[: rest.index(b"|")]))
        numpy.add.at(window.sum[host], columns, values)
        numpy.add.at(window.count[host], columns, 1)
        self.samples += len(values)
        if at_s > self.latest:
            self.latest = at_s
            self.close()

    def close(self):
        due = [start for start in self.windows if start + WINDOW_S + LATENESS_S <= self.latest]
        for start in sorted(due):
            self.judge(self.windows.pop(start))

    def judge(self, window):
        rows, columns = len(self.hosts), len(self.metrics)
        count = window.count[:rows, :columns]
        with numpy.errstate(invalid="ignore", divide="ignore"):
            value = window.sum[:rows, :columns] / count
        mean = numpy.nanmean(value, axis=0)
        deviation = numpy.nanstd(value, axis=0)
        firing = (value > mean + DEVIATIONS * deviation) & (value - mean > MIN_EFFECT * mean)
        self.alerts += int(firing.sum())


def main():
    url, password_file, queue, bodies = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    with open(password_file) as file:
        password = file.readline().strip()
    login = url.split("://", 1)[1].split("@", 1)[0]
    parameters = pika.URLParameters(url.replace("@", ":from-file@", 1))
    parameters.credentials = pika.PlainCredentials(login, password)
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    analyzer = Analyzer()
    seen = 0
    began = None
    for method, properties, body in channel.consume(queue):
        if began is None:
            began = time.monotonic()
        headers = properties.headers
        analyzer.body(headers["kin-origin"], headers["kin-ts-ns"] // 1_000_000_000, body)
        seen += 1
        if seen % ACK_EVERY == 0 or seen == bodies:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if seen == bodies:
            break
    elapsed = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    channel.cancel()
    connection.close()
    print(
        json.dumps(
            {
                "samples_per_s": analyzer.samples / elapsed,
                "cpu_s_per_million": (usage.ru_utime + usage.ru_stime) / (analyzer.samples / 1e6),
                "peak_mb": usage.ru_maxrss * 1024 / 1e6,
            }
        )
    )


main()
