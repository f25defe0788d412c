#!/usr/bin/env python3
"""All causes of growing memory at once: four servers that do the same job, under the same ladder of connections.

Each sends a snapshot of 5,000 quotes to a client that connects, then what changes each second. The clients are
examples/ladder's: most only read, some are slow, never read, end their sending side, or reset and come again. Each server
has one process, a limit of memory (RLIMIT_DATA), and the same back-log and send buffers. Subjects:
  asyncio          support/feed.py as it comes to mind: no limit, whole messages, no drain(), a timer for each connection
  asyncio_advised  support/feed.py --advice: semaphore, bounded queues, drain(), rows serialized while they are sent, close()
  naive_feed       examples/naive_feed: the same in C++ as Asio's tutorials do it
  holdfast         examples/market_feed
Cases are the rungs, in connections. Metrics: rss_anon, the process's anonymous memory when the rung has settled;
served_share, the connections that are open then, of those that should be: not the 5 % that end their sending side, which
a server may close. Of the climb: survived, the last rung on which all of them were open and one more
client got a whole snapshot within 3 s; snapshot_share, how many of such clients did, one after the other during the climb, and
snapshot_p50, after what time (3 s: never); rss_anon_peak; rss_anon_left, the growth that is still there when all clients have gone;
server_cpu, the processor time of the server from its start to its end.
SPDX-License-Identifier: BSL-1.0
"""
import argparse, json, math, os, pathlib, re, resource, signal, socket, statistics, subprocess, sys, tempfile, threading, time

root = pathlib.Path(__file__).resolve().parent.parent
options = argparse.ArgumentParser(prog="benchmarks/run all_together", description=__doc__.split("\n")[0])
options.add_argument("--json", metavar="FILE", help="append one JSON object a line to FILE")
options.add_argument("--rounds", type=int, default=1, metavar="N", help="climbs of each server, in turns; medians count (default 1)")
options.add_argument("--rungs", default="200,500,1000,2000", metavar="N,N,...", help="connections at each rung (default 200,500,1000,2000)")
options.add_argument("--settle", default="1s", metavar="TIME", help="a rung is measured after this time without a burst (default 1s)")
options.add_argument("--rung-deadline", default="15s", metavar="TIME", help="or after this time at the latest (default 15s)")
options.add_argument("--instruments", type=int, default=5000, metavar="N", help="quotes of a snapshot (default 5000)")
options.add_argument("--memory", type=int, default=128, metavar="MIB", help="the limit of each server (default 128)")
options.add_argument("--subject", default="", metavar="NAME", help="one server only")
options.add_argument("--programs", default=str(root / "build/release/examples"), metavar="DIR", help="where the built examples are")
arguments = options.parse_args()

rungs = [int(each) for each in arguments.rungs.split(",")]
programs = pathlib.Path(arguments.programs)
feed = [sys.executable, str(root / "benchmarks/support/feed.py")]
common = ["--port", "0", "--instruments", str(arguments.instruments), "--max-connections", str(2 * rungs[-1])]
servers = {
    "asyncio": [*feed, *common, "--timeout", "60"],
    "asyncio_advised": [*feed, "--advice", *common, "--timeout", "60"],
    "naive_feed": [str(programs / "naive_feed"), *common, "--timeout", "60s", "--memory-limit", f"{arguments.memory}M"],
    "holdfast": [str(programs / "market_feed"), *common, "--timeout", "60s"],
}
if arguments.subject:
    if arguments.subject not in servers:
        sys.exit(f"benchmarks/all_together.py: --subject must be one of {', '.join(servers)}")
    servers = {arguments.subject: servers[arguments.subject]}


def limit_memory():
    resource.setrlimit(resource.RLIMIT_DATA, (arguments.memory << 20, arguments.memory << 20))


class Probes:
    """Clients that come one after the other, from the begin of the climb to its end, each for one snapshot."""
    patience = 3

    def __init__(self, port):
        self.port, self.start, self.ended, self.seen = port, time.monotonic(), threading.Event(), []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.wait(0.2):
            begun = time.monotonic()
            whole = False
            try:
                with socket.create_connection(("127.0.0.1", self.port), self.patience) as client:
                    lines = 0
                    while lines < arguments.instruments and (left := begun + self.patience - time.monotonic()) > 0:
                        client.settimeout(left)
                        part = client.recv(1 << 20)
                        if not part:
                            break
                        lines += part.count(b"\n")
                    whole = lines >= arguments.instruments
            except OSError:
                pass
            self.seen.append((begun - self.start, whole, time.monotonic() - begun if whole else self.patience))

    def end(self):
        self.ended.set()
        self.thread.join()

    def served(self, since, until):
        """Whether the last probe that began in that time got its snapshot."""
        return next((whole for begun, whole, _ in reversed(self.seen) if since <= begun < until), True)


def climb(name, command, directory):
    """(case, metric) -> value."""
    points = directory / "points.json"
    points.unlink(missing_ok=True)
    # asyncio logs each failed allocation: a hundred megabytes in a minute.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=limit_memory)
    probes = None
    try:
        line = server.stdout.readline().decode()
        port = re.search(r"listening on \S*:(\d+), pid", line)
        if not port:
            raise SystemExit(f"{name} did not start: {line}; try it: {' '.join(command)}")
        probes = Probes(int(port[1]))
        ladder = subprocess.run(
            [programs / "ladder", "--port", port[1], "--pid", str(server.pid), "--title", name, "--climbs", "1",
             "--rungs", arguments.rungs, "--settle", arguments.settle, "--rung-deadline", arguments.rung_deadline,
             "--hold", "0", "--answer", r'{"ping"=pong\n', "--json", points],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if ladder.returncode not in (0, 1):
            raise SystemExit(f"the ladder could not climb {name}: {ladder.stderr}")
    finally:
        if probes:
            probes.end()
        try:
            os.kill(server.pid, signal.SIGKILL)  # not waited for yet: the id is still its own
        finally:
            _, status, used = os.wait4(server.pid, 0)
            server.returncode = status
    rows = [row for row in map(json.loads, open(points)) if row["type"] == "point"]
    figures, survived, fallen, since = {}, 0, False, 0
    for rung in rungs:
        row = next((row for row in rows if row["rung"] == rung and not row["server_ended"]), None)
        share = min(1, row["up"] / (rung - math.ceil(rung * 0.05))) if row else 0
        figures[str(rung), "served_share", "1"] = share
        if row:
            figures[str(rung), "rss_anon", "B"] = row["rss_anon"]
            fallen = fallen or share < 0.999 or not probes.served(since, row["seconds"])
            since = row["seconds"]
        fallen = fallen or not row
        survived = survived if fallen else rung
    figures["climb", "survived", "connections"] = survived
    figures["climb", "snapshot_share", "1"] = sum(whole for _, whole, _ in probes.seen) / max(len(probes.seen), 1)
    figures["climb", "snapshot_p50", "s"] = statistics.median([seconds for _, _, seconds in probes.seen] or [probes.patience])
    figures["climb", "rss_anon_peak", "B"] = max(row["rss_anon_peak"] for row in rows)
    if rows[-1]["phase"].startswith("descent") and not rows[-1]["server_ended"]:
        figures["climb", "rss_anon_left", "B"] = max(rows[-1]["rss_anon"] - rows[0]["rss_anon"], 0)
    figures["climb", "server_cpu", "s"] = used.ru_utime + used.ru_stime
    return figures


results = {}
with tempfile.TemporaryDirectory() as directory:
    for _ in range(arguments.rounds):
        for name, command in servers.items():
            print(f"all_together: {name}", file=sys.stderr, flush=True)
            for key, value in climb(name, command, pathlib.Path(directory)).items():
                results.setdefault(key, {}).setdefault(name, []).append(value)

print(f"{'case':<8}{'metric':<15}{'unit':<12}" + "".join(f"{name:>17}" for name in servers))
written = []
for (case, metric, unit), figures in results.items():
    values = {name: statistics.median(rounds) for name, rounds in figures.items()}
    print(f"{case:<8}{metric:<15}{unit:<12}" + "".join(f"{values[name]:>17.6g}" if name in values else f"{'-':>17}" for name in servers))
    written += [json.dumps({"bench": "all_together", "subject": name, "case": case, "metric": metric, "value": value, "unit": unit})
                for name, value in values.items()]
if arguments.json:
    with open(arguments.json, "a") as file:
        file.write("\n".join(written) + "\n")
