"""A line server in asyncio, for the benchmarks: sends each line back, drops clients that are silent for 30 seconds.

Its listening socket is descriptor 3.
SPDX-License-Identifier: BSL-1.0
"""
import asyncio
import socket


async def session(reader, writer):
    try:
        while line := await asyncio.wait_for(reader.readline(), 30):
            writer.write(line)
            await writer.drain()
    except (asyncio.TimeoutError, OSError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(session, sock=socket.socket(fileno=3), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
