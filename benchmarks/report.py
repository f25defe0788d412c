#!/usr/bin/env python3
"""Makes one HTML page of the figures of benchmarks/run: charts, targets, and where a peer is better.

The page needs nothing from elsewhere. usage: benchmarks/report.py FIGURES.json PAGE.html
SPDX-License-Identifier: BSL-1.0
"""
import datetime, fnmatch, html, json, os, platform, re, subprocess, sys
from collections import defaultdict

more_is_better = re.compile(r"per_second$|per_cpu_second$|^(served_share|snapshot_share|survived)$")
# What no complete program can reach, or does only part of the work: shown, but not a peer that wins or loses.
floors = {"memcpy", "to_chars", "relaxed_store", "epoll", "openssl_fd", "asio_wait"}

# What the project has set out to reach: issue, bench, cases (a pattern), metric, subject, factor, peer ("peers": the best
# of them; None: the factor is the figure itself). The subject is to be at least factor x peer where more is better, else
# at most.
targets = [
    (24, "serialize", "*", "bytes_per_second", "holdfast", 1.0, "peers"),
    *((24, "serialize", "quotes*", "bytes_per_second", "holdfast", 1.5, peer)
      for peer in ("glaze", "yyjson", "rapidjson", "boost_json", "nlohmann")),
    (24, "serialize", "quotes*", "bytes_per_second", "holdfast", 1.3, "simdjson_builder"),
    (24, "serialize", "*", "bytes_per_second", "holdfast", 1.2, "glaze_stream"),
    (24, "protobuf", "quotes", "bytes_per_second", "holdfast", 2.5, "protobuf"),
    (24, "broadcast", "*", "messages_per_second", "holdfast", 1.0, "asio_gather"),
    (24, "broadcast", "10000", "messages_per_second", "holdfast", 1.3, "asio_gather"),
    (24, "echo", "*", "server_cpu_ns_per_message", "holdfast_any", 1.02, "asio_coroutine"),
    (24, "churn", "*", "connections_per_second", "holdfast", 0.98, "asio"),
    (24, "storm", "*", "served_share", "holdfast", 1.0, None),
    (24, "storm", "*", "rss_anon_growth", "holdfast", 1.0, "asio_limit"),
    (24, "storm", "*", "server_cpu", "holdfast", 1.0, "asio_limit"),
    (24, "snapshot", "*", "rss_anon_growth", "holdfast", 1 / 50, "rapidjson_shared"),
    (24, "snapshot", "*", "last_byte", "holdfast", 1.0, "rapidjson_shared"),
    (24, "snapshot", "*", "bytes_per_cpu_second", "holdfast", 1.0, "rapidjson_shared"),
    (24, "slow_readers", "*", "rss_growth_rate", "holdfast", 1 / 10, "asio_gather"),
    (24, "slow_readers", "*", "cpu_ns_with", "holdfast", 1.0, "asio_gather"),
    (24, "slow_readers", "*", "delivery_p99_with", "holdfast", 1.0, "asio"),
    (24, "heartbeat", "1m", "second_ns", "holdfast", 1 / 20, "wheel"),
    (24, "idle", "*", "rss_anon_bytes_per_connection", "holdfast", 1000, None),
    (24, "idle", "*", "rss_anon_bytes_per_connection", "holdfast_callback", 400, None),
    (24, "all_together", "climb", "survived", "holdfast", 1.0, "peers"),
    (24, "all_together", "climb", "snapshot_share", "holdfast", 1.0, "peers"),
    (24, "all_together", "500", "rss_anon", "holdfast", 1 / 10, "naive_feed"),
    (24, "all_together", "2000", "rss_anon", "holdfast", 1 / 2, "asyncio_advised"),
    (24, "all_together", "climb", "server_cpu", "holdfast", 1 / 4, "asyncio_advised"),
    (20, "compile_time", "readme_server*", "seconds", "holdfast", 1.5, "asio"),
    (20, "compile_time", "holdfast.hpp - asio.hpp", "seconds", "holdfast", 1.5, None),
    (21, "idle_tls", "5000", "rss_anon_bytes_per_connection", "holdfast", 1 / 5, "asio_ssl"),
    (21, "idle_tls", "5000", "rss_anon_bytes_per_connection", "holdfast", 1.15, "openssl_fd"),
    (21, "idle_tls", "5000", "rss_anon_bytes_per_connection", "holdfast_compact", 1 / 40, "asio_ssl"),
    (21, "echo_tls", "100", "server_cpu_ns_per_message", "holdfast", 1.0, "asio_ssl"),
    (21, "echo_tls", "100", "server_cpu_ns_per_message", "holdfast_compact", 0.85, "asio_ssl"),
    (21, "stream_tls", "*", "bytes_per_cpu_second", "holdfast", 1.0, "asio_ssl"),
    (22, "idle_ws", "*", "rss_anon_bytes_per_connection", "holdfast", 1 / 5, "beast"),
    (22, "idle_ws", "*", "rss_anon_bytes_per_connection", "holdfast_callback", 1 / 12, "beast"),
    (22, "idle_ws", "*_tls", "rss_anon_bytes_per_connection", "holdfast_callback_compact", 1 / 12, "beast"),
    (22, "broadcast_ws", "10000", "messages_per_second", "holdfast", 1.5, "beast"),
    (22, "broadcast_ws", "10000", "messages_per_second", "holdfast", 4.0, "beast_single"),
    (22, "broadcast_ws", "10000_deflate", "messages_per_second", "holdfast", 20.0, "beast"),
    (23, "scale", "2", "server_cpu_ns_per_message", "holdfast", 1.05, "holdfast_one_thread"),
    (23, "scale", "2_echo", "server_cpu_ns_per_message", "holdfast", 1.05, "holdfast_one_thread"),
]

# What a reader has to know before the figures of a benchmark.
caveats = {
    "idle": "asio_wait and asio_lean enforce no time-out. mid_frame and after_frame: only holdfast, libevent, "
            "asyncio and go wait for whole lines; the others send back what they read, and hold their buffer all the time. "
            "holdfast's buffers are a pool with a bound, beyond which connections wait for one.",
    "all_together": "Four servers, one job: whole processes with their language's runtime, so that the first rungs show what "
                    "each takes without clients. Their memory ends at the same limit; one that reaches it may go on accepting "
                    "and serve no client: snapshot_share and survived show that.",
    "slow_readers": "The peers keep every message until the slowest receiver has it; holdfast drops the oldest ones of a "
                    "receiver beyond 16 KiB. Where no message may be lost, it has to disconnect that receiver instead.",
    "snapshot": "Servers that make a text whole pay for fresh pages as well as for their serializer. Where all clients get "
                "the same rows at the same time, one text for all of them (rapidjson_shared) is their best.",
    "storm": "At its limit holdfast has clients wait for those that are silent, until these time out: a server without a "
             "limit (asio_unlimited) may serve all of them sooner, for the memory and the descriptors of all of them.",
}


def ours(subject):
    return subject.startswith("holdfast")


def shown(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / {'G': 1e9, 'M': 1e6, 'k': 1e3}[unit]:.3g} {unit}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def is_better(metric, a, b):
    return a > b if more_is_better.search(metric) else a < b


def best(metric, figures):
    return (max if more_is_better.search(metric) else min)(figures.items(), key=lambda each: each[1])


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


def target_rows(groups):
    """Each target with each case that this run has of it: met, missed, or not in this run."""
    for issue, bench, cases, metric, subject, factor, peer in targets:
        relation = "at least" if more_is_better.search(metric) else "at most"
        found = False
        for (b, case, m), figures in groups.items():
            if b != bench or m != metric or not fnmatch.fnmatchcase(case, cases) or subject not in figures:
                continue
            peers = {name: value for name, value in figures.items() if not ours(name) and name not in floors}
            if peer == "peers" and peers:
                name, base = best(metric, peers)
            elif peer is None:
                name, base = None, 1
            elif peer in figures:
                name, base = peer, figures[peer]
            else:
                continue
            found = True
            wanted = f"{relation} {factor:.3g}" + (f" × {name}" if name else "")
            reached = f"{figures[subject] / base:.3g}" if base else shown(figures[subject])
            met = not is_better(metric, factor * base, figures[subject])
            yield issue, bench, case, metric, subject, wanted, reached, "met" if met else "missed"
        if not found:
            wanted = f"{relation} {factor:.3g}" + (f" × {peer}" if peer else "")
            yield issue, bench, cases, metric, subject, wanted, "", "not in this run"


def losses(groups):
    for (bench, case, metric), figures in groups.items():
        mine = {name: value for name, value in figures.items() if ours(name)}
        peers = {name: value for name, value in figures.items() if not ours(name) and name not in floors}
        if mine and peers:
            (my_name, my_value), (name, value) = best(metric, mine), best(metric, peers)
            if is_better(metric, value, my_value):
                yield bench, case, metric, f"{my_name}: {shown(my_value)}", f"{name}: {shown(value)}"


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
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(each))}</td>" for each in row) + "</tr>")
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


style = """
:root { color-scheme: light dark; --own: #0a7; --peer: #889; --floor: #bbc; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --own: #2c9; --peer: #778; --floor: #445; --line: #444; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; max-width: 42rem; font-size: 12px; } svg text { fill: currentColor; }
.own { fill: var(--own); } .peer { fill: var(--peer); } .floor { fill: var(--floor); }
table { border-collapse: collapse; } td, th { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
"""

method = """Each benchmark runs its subjects in turns, round by round, in one run; a figure is the median of its rounds. Only
ratios of figures of one run mean anything: machines differ, and so does one machine from hour to hour. Servers run on one
thread in a process of their own (scale: on two); where a figure is called CPU time, it is that of the server's process alone. Peers are
written as their own documentation shows, and where it differs, as well as we can: each file of benchmarks/ says how.
Subjects in grey-blue are floors: they do part of the work only."""


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: benchmarks/report.py FIGURES.json PAGE.html")
    groups, units = read(sys.argv[1])
    if not groups:
        sys.exit(f"benchmarks/report.py: no figures in {sys.argv[1]}")
    page = ["<!doctype html><html lang=en><meta charset=utf-8><title>holdfast: benchmarks</title>",
            f"<style>{style}</style><h1>holdfast: benchmarks</h1><p>{method}</p>", table(("", ""), machine())]
    wanted = list(target_rows(groups))
    page += ["<h2>Targets</h2>",
             table(("issue", "benchmark", "case", "metric", "subject", "target", "figure", ""), wanted)]
    lost = list(losses(groups))
    page += ["<h2>Where a peer is better</h2>",
             table(("benchmark", "case", "metric", "ours", "theirs"), lost) if lost else "<p>Nowhere in this run.</p>"]
    for bench in dict.fromkeys(key[0] for key in groups):
        page.append(f"<h2>{html.escape(bench)}</h2>" + (f"<p>{html.escape(caveats[bench])}</p>" if bench in caveats else ""))
        for key, figures in groups.items():
            if key[0] == bench:
                better = "more is better" if more_is_better.search(key[2]) else "less is better"
                page.append(f"<h3>{html.escape(key[1])}: {html.escape(key[2])} ({html.escape(units[key])}, {better})</h3>"
                            + chart(key[2], figures))
    with open(sys.argv[2], "w") as file:
        file.write("\n".join(page) + "\n")
    print(f"{len(groups)} comparisons, {sum(row[-1] == 'met' for row in wanted)} targets met, "
          f"{sum(row[-1] == 'missed' for row in wanted)} missed, {sum(row[-1] == 'not in this run' for row in wanted)} not in this run, "
          f"a peer is better in {len(lost)}: {sys.argv[2]}")


if __name__ == "__main__":
    main()
