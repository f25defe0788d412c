#!/usr/bin/env python3
"""Runs market_feed on many threads, and push_gateway over restarts, as they were built with a sanitizer: each ends with 0.

usage: tests/sanitized_examples.py DIRECTORY, that of the programs
SPDX-License-Identifier: BSL-1.0
"""
import os, re, signal, socket, subprocess, sys


def start(directory, threads):
    server = subprocess.Popen([f"{directory}/market_feed", "--port", "0", "--threads", str(threads), "--max-connections", "200",
                               "--instruments", "200", "--drain", "2s"], stdout=subprocess.PIPE, text=True)
    first = server.stdout.readline()
    found = re.search(r":(\d+), pid", first)
    if not found:
        sys.exit(f"market_feed did not start: {first}")
    return server, int(found[1])


def stop(server, what):
    server.send_signal(signal.SIGTERM)
    server.stdout.read()  # to its end
    if server.wait(60) != 0:
        sys.exit(f"FAULT: {what}: market_feed ended with {server.returncode}")
    print(f"market_feed: {what}: ended with 0", flush=True)


def main():
    directory = os.path.abspath(sys.argv[1])
    for threads in (1, 8):
        server, port = start(directory, threads)
        clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(60)]
        for i, client in enumerate(clients):
            lines = client.makefile("rb")
            for _ in range(400):  # the snapshot, and changes
                if not lines.readline():
                    sys.exit("FAULT: market_feed ended a connection")
            lines.close()
            if i % 3 == 0:
                client.close()
        stop(server, f"{threads} threads, 60 clients")
        for client in clients:
            client.close()
    for _ in range(10):
        stop(start(directory, 32)[0], "32 threads, SIGTERM at the start")
    check = os.path.join(os.path.dirname(__file__), "../examples/support/gateway_check.py")
    for threads in ("1", "4"):
        gateway = [sys.executable, check, f"{directory}/push_gateway", "--clients", "100", "--never", "2", "--kill", "--parked",
                   "5", "--any-memory", "--", "--ring", "48k", "--rate", "10", "--threads", threads]
        if subprocess.call(gateway) != 0:
            sys.exit(f"FAULT: push_gateway with {threads} threads")


main()
