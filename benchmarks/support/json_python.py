"""Python's own writers of JSON, for the benchmark `serialize`.

Reads a JSON text from standard input. Writes a line for each writer: its name, bytes per second (the median of the
rounds, the writers taking turns), bytes of memory at the peak beyond the parsed text.
SPDX-License-Identifier: BSL-1.0
"""
import json
import statistics
import sys
import time
import tracemalloc

CHUNK = 16 * 1024
ring = bytearray(256 * 1024)


def take(data):  # copies once, as a socket does
    for at in range(0, len(data), len(ring)):
        part = data[at:at + len(ring)]
        ring[:len(part)] = part
    return len(data)


def dumps(value):
    return take(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def iterencode(value):
    taken, chunk, size = 0, [], 0
    for piece in json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).iterencode(value):
        chunk.append(piece)
        size += len(piece)
        if size >= CHUNK:
            taken += take("".join(chunk).encode())
            chunk, size = [], 0
    return taken + take("".join(chunk).encode())


def main():
    value = json.load(sys.stdin)
    rounds = int(sys.argv[1])
    speeds = {dumps: [], iterencode: []}
    for _ in range(rounds):
        for write, speed in speeds.items():
            start = time.perf_counter()
            taken = write(value)
            speed.append(taken / (time.perf_counter() - start))
    for write, speed in speeds.items():
        tracemalloc.start()
        write(value)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(write.__name__, statistics.median(speed), peak)


main()
