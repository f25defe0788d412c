"""The job of examples/market_feed in asyncio, for the benchmarks: a snapshot, then what changes, as lines of JSON.

Without --advice it is written as it comes to mind, and keeps what it should not: each client's messages are serialized
for it alone and as a whole, written without waiting for it, a timer runs for each connection, connections have no limit,
and a client that ends its sending side is never closed. With --advice each of these has its usual cure: a semaphore, a
bounded queue, drain(), rows serialized while they are sent, one timer for all, close() in a finally.
SPDX-License-Identifier: BSL-1.0
"""
import argparse
import asyncio
import collections
import json
import os
import random
import socket

parser = argparse.ArgumentParser()
parser.add_argument("--advice", action="store_true")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--instruments", type=int, default=5000)
parser.add_argument("--rate", type=int, default=10)
parser.add_argument("--max-connections", type=int, default=12000)
parser.add_argument("--ping-after", type=float, default=10)
parser.add_argument("--timeout", type=float, default=60)
options = parser.parse_args()

market = [{"id": i, "symbol": f"S{i:05}", "bid": 100 + i / 100, "ask": 100.05 + i / 100, "bid_size": 100, "ask_size": 200,
           "time": 0, "open": True} for i in range(options.instruments)]


def change_some():
    changed = random.sample(market, min(options.rate, len(market)))
    for quote in changed:
        quote["bid"] = round(quote["bid"] + 0.01, 2)
        quote["time"] += 1000
    return changed


def lines(quotes):
    return "".join(json.dumps(quote) + "\n" for quote in quotes).encode()


# As it comes to mind.

writers = set()


async def naive_session(reader, writer):
    writers.add(writer)
    writer.write(lines(market))
    pings = 0
    while True:
        try:
            if not await asyncio.wait_for(reader.read(4096), options.ping_after if pings == 0 else options.timeout):
                return  # it may have ended its sending side only, and still listen
            pings = 0
        except asyncio.TimeoutError:
            if pings == 1:
                break
            pings = 1
            writer.write(b'{"ping":1}\n')
        except OSError:
            break
    writers.discard(writer)


async def naive_ticks():
    while True:
        await asyncio.sleep(1)
        changed = change_some()
        for writer in list(writers):
            writer.write(lines(changed))


# As it should be.

class Client:
    def __init__(self, transport):
        self.transport = transport
        self.queue = collections.deque(maxlen=8)  # beyond that the oldest is dropped
        self.more = asyncio.Event()
        self.silent = 0

    def push(self, message):
        self.queue.append(message)
        self.more.set()


clients = set()
seats = None


async def send(client, writer):
    for first in range(0, len(market), 100):
        writer.write(lines(market[first:first + 100]))
        await writer.drain()
    clients.add(client)
    while True:
        await client.more.wait()
        client.more.clear()
        while client.queue:
            writer.write(client.queue.popleft())
            await writer.drain()


async def session(reader, writer):
    sending = None
    try:
        async with seats:
            client = Client(writer.transport)
            writer.transport.set_write_buffer_limits(high=16 * 1024)
            live[writer.transport] = client
            sending = asyncio.ensure_future(send(client, writer))
            while await reader.read(1024):
                client.silent = 0
    except OSError:
        pass
    finally:
        if sending:
            sending.cancel()
            live.pop(writer.transport, None)
            clients.discard(client)
        writer.close()


live = {}


async def ticks():
    while True:
        await asyncio.sleep(1)
        message = lines(change_some())
        for client in list(clients):
            client.push(message)
        for transport, client in list(live.items()):
            client.silent += 1
            if client.silent > options.timeout:
                transport.abort()
            elif client.silent == options.ping_after:
                client.push(b'{"ping":1}\n')


async def main():
    global seats
    seats = asyncio.Semaphore(options.max_connections)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    listener.bind(("127.0.0.1", options.port))
    server = await asyncio.start_server(session if options.advice else naive_session, sock=listener, backlog=4096,
                                        limit=4096)
    print(f"feed.py: listening on 127.0.0.1:{listener.getsockname()[1]}, pid {os.getpid()}", flush=True)
    ticking = asyncio.ensure_future(ticks() if options.advice else naive_ticks())
    await server.serve_forever()
    ticking.cancel()


asyncio.run(main())
