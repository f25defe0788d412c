#!/usr/bin/env python3
"""Makes one HTML page of the figures of benchmarks/run: charts, targets, and where a peer is better.

The page needs nothing from elsewhere. usage: benchmarks/report.py FIGURES.json PAGE.html [COMMAND]
SPDX-License-Identifier: BSL-1.0
"""
import datetime, html, json, os, platform, re, subprocess, sys
from collections import Counter, defaultdict

sys.dont_write_bytecode = True
from targets import floors, losses, more_is_better, ours, shown, target_rows, tested

# What a reader has to know before the figures of a benchmark.
caveats = {
    "idle": "asio_wait and asio_lean enforce no time-out. holdfast_lean writes as asio_lean does, at once and only what the "
            "socket takes. mid_frame and after_frame: only holdfast, libevent, asyncio and go wait for whole lines; the others "
            "send back what they read, and hold their buffer all the time. holdfast's buffers are a pool with a bound, beyond "
            "which connections wait for one.",
    "echo": "holdfast and asio_lean hold no buffer while they wait: for a wait without a buffer Asio calls epoll_ctl each time, "
            "some 200 ns of a message's 5,000. The other peers' reads hold theirs all the time, and do without that call. "
            "The server is stopped while the clients send the lines of a round: every server has them all at its next wait. "
            "In lockstep the faster server has fewer lines at each wait, and pays for more waits.",
    "echo_tls": "As in echo, the server is stopped while the clients send the lines of a round; in lockstep it is not.",
    "all_together": "Four servers, one job: whole processes with their language's runtime, so that the first rungs show what "
                    "each takes without clients. Their memory ends at the same limit; one that reaches it may go on accepting "
                    "and serve no client: snapshot_share and survived show that.",
    "broadcast": "holdfast's outboxes are ticked each second, as with heartbeats: they keep a block of memory between messages, "
                 "as the peers do theirs. Without ticks they give it back when they are empty, and page faults take a "
                 "twentieth of the time of a burst of one.",
    "slow_readers": "asio and asio_gather keep every message until the slowest receiver has it; holdfast and asio_bounded "
                    "drop the oldest ones of a receiver beyond 16 KiB. Where no message may be lost, they have to disconnect that "
                    "receiver instead.",
    "snapshot": "Servers that make a text whole pay for fresh pages as well as for their serializer. Where all clients get "
                "the same rows at the same time, one text for all of them (rapidjson_shared) is their best.",
    "storm": "At its limit holdfast has clients wait for those that are silent, until these time out: a server without a "
             "limit (asio_unlimited) may serve all of them sooner, for the memory and the descriptors of all of them.",
}


def read(name):
    """(bench, case, metric) -> {subject: value}, and the units. Of a figure that comes again the last one counts."""
    groups, units = defaultdict(dict), {}
    with open(name) as file:
        for line in file:
            row = json.loads(line)
            key = (row["bench"], row["case"], row["metric"])
            groups[key][row["subject"]] = row["value"]
            units[key] = row["unit"]
    key = ("compile_time", "holdfast.hpp - asio.hpp", "seconds")
    whole, plain = (groups.get(("compile_time", case, "seconds"), {}) for case in ("holdfast/holdfast.hpp", "asio.hpp"))
    if "holdfast" in whole and "asio" in plain:
        groups[key]["holdfast"], units[key] = whole["holdfast"] - plain["asio"], "s"
    return groups, units


def chart(metric, figures):
    order = sorted(figures.items(), key=lambda each: each[1], reverse=bool(more_is_better.search(metric)))
    top, height = max(max(figures.values()), 1e-12), 20
    parts = [f'<svg viewBox="0 0 640 {height * len(order) + 4}" role="img">']
    for i, (name, value) in enumerate(order):
        kind = "own" if ours(name) else "floor" if name in floors else "peer"
        y = i * height
        parts.append(f'<text x="170" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
                     f'<rect class="{kind}" x="176" y="{y + 3}" width="{max(1, 380 * value / top):.1f}" height="{height - 6}"/>'
                     f'<text x="{182 + 380 * value / top:.1f}" y="{y + 15}">{shown(value)}</text>')
    return "".join(parts) + "</svg>"


def table(head, rows):
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(each)}</th>" for each in head) + "</tr>"]
    for row in rows:
        kind = ' class="missed"' if row[-1] == "missed" else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(str(each))}</td>" for each in row) + "</tr>")
    return "".join(lines) + "</table>"


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine():
    processor = re.search(r"^model name\s*: (.*)$", open("/proc/cpuinfo").read(), re.M)
    return [
        ("date", datetime.date.today().isoformat()),
        ("revision", output_of("git", "rev-parse", "--short", "HEAD")),
        ("processor", f"{processor[1] if processor else platform.machine()}, {output_of('nproc')} used"),
        ("kernel", platform.release()),
        ("compiler", output_of(os.environ.get("HOLDFAST_COMPILER", "c++"), "--version").split("\n")[0]),
    ]


def versions():
    """Of the libraries and programs that holdfast and its peers were built with or run in."""
    packages = ["libasio-dev", "libsimdjson-dev", "rapidjson-dev", "nlohmann-json3-dev", "libboost1.*-dev", "libuv1-dev",
                "libevent-dev", "libprotobuf-dev", "libprotozero-dev", "zlib1g-dev", "libssl-dev", "python3",
                "python3-websockets", "nodejs", "node-ws", "golang-go"]
    try:
        found = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n", *packages],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    except OSError:
        found = []
    lines = [line.removeprefix("installed ") for line in found if re.match(r"installed (?!libboost.*-.*-dev)", line)]
    checkouts = os.environ.get("HOLDFAST_PEERS", "")
    for name in ("glaze", "simdjson", "yyjson", "uWebSockets"):
        there = checkouts and os.path.isdir(os.path.join(checkouts, name))
        lines.append(f"{name} " + (output_of("git", "-C", os.path.join(checkouts, name), "describe", "--always", "--tags")
                                   if there else "absent (HOLDFAST_PEERS)"))
    return ", ".join(lines)


style = """
:root { color-scheme: light dark; --own: #0a7; --peer: #889; --floor: #bbc; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --own: #2c9; --peer: #778; --floor: #445; --line: #444; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; max-width: 42rem; font-size: 12px; } svg text { fill: currentColor; }
.own { fill: var(--own); } .peer { fill: var(--peer); } .floor { fill: var(--floor); }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 13px; }
td, th { padding: .2rem .4rem; border-bottom: 1px solid var(--line); text-align: left; }
.missed { font-weight: bold; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
"""

method = """Each benchmark runs its subjects in turns, round by round, in one run; a figure is the median of its rounds. Memory
of idle connections (idle, idle_tls, idle_ws) and all_together take one round. Only ratios of figures of one run mean
anything: machines differ, and so does one machine from hour to hour. Servers run on one thread in a process of their own, on
a processor of its own (scale: on two threads); where a figure is called CPU time, it is that of the server's process alone.
Peers are written as their own documentation shows, and where it differs, as well as we can: each file of benchmarks/ says how.
Subjects in grey-blue are floors: they do part of the work only. The epoll server neither assembles lines nor waits for a client
that does not read."""


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: benchmarks/report.py FIGURES.json PAGE.html [COMMAND]")
    groups, units = read(sys.argv[1])
    if not groups:
        sys.exit(f"benchmarks/report.py: no figures in {sys.argv[1]}")
    about = [*machine(), ("versions", versions()), *(("command", each) for each in sys.argv[3:])]
    page = ["<!doctype html><html lang=en><meta charset=utf-8><title>holdfast: benchmarks</title>",
            f"<style>{style}</style><h1>holdfast: benchmarks</h1><p>{method}</p>", table(("", ""), about)]
    wanted, lost = list(target_rows(groups)), list(losses(groups))
    counts = Counter(row[-1] for row in wanted)
    summary = ", ".join(f"{counts[each]} {each}" for each in ("met", "missed", "not in this run"))
    page += ["<h2>Targets</h2>", f"<p>{summary}.</p>",
             table(("issue", "benchmark", "case", "metric", "subject", "target", "figure", ""), wanted),
             "<p>Tests decide these:</p>", table(("issue", "what must hold", "test"), tested),
             "<h2>Where a peer is better</h2>",
             table(("benchmark", "case", "metric", "ours", "theirs", "times"), lost) if lost else "<p>Nowhere in this run.</p>"]
    for bench in dict.fromkeys(key[0] for key in groups):
        page.append(f"<h2>{html.escape(bench)}</h2>" + (f"<p>{html.escape(caveats[bench])}</p>" if bench in caveats else ""))
        for key, figures in groups.items():
            if key[0] == bench:
                better = "more is better" if more_is_better.search(key[2]) else "less is better"
                page.append(f"<h3>{html.escape(key[1])}: {html.escape(key[2])} ({html.escape(units[key])}, {better})</h3>"
                            + chart(key[2], figures))
    with open(sys.argv[2], "w") as file:
        file.write("\n".join(page) + "\n")
    print(f"{len(groups)} comparisons; targets: {summary}; a peer is better in {len(lost)}: {sys.argv[2]}")


if __name__ == "__main__":
    main()
