"""A WebSocket server with Python's websockets, for the benchmarks: sends each message back.

Its listening socket is descriptor 3.
SPDX-License-Identifier: BSL-1.0
"""
import asyncio
import socket

import websockets


async def session(peer):
    async for message in peer:
        await peer.send(message)


async def main():
    async with websockets.serve(session, sock=socket.socket(fileno=3), compression=None, ping_interval=None):
        await asyncio.Future()


asyncio.run(main())
