#!/usr/bin/env python3
"""Checks the report's targets: that what they name exists, so that none can be "not in this run" for ever, and how a
run's figures are judged.

SPDX-License-Identifier: BSL-1.0
"""
import pathlib, re, sys

sys.dont_write_bytecode = True
root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "benchmarks"))
import targets

faults = []


def check(holds, fault):
    if not holds:
        faults.append(fault)


run = (root / "benchmarks/run").read_text()
benchmarks = set(re.search(r"^benchmarks=\((.*?)\)", run, re.M | re.S)[1].split())
quoted = {}  # bench -> what its sources have in quotation marks
shared = "".join(file.read_text() for file in (root / "benchmarks/support").iterdir() if file.is_file())
for bench in benchmarks:
    source = "".join(file.read_text() for file in (root / "benchmarks").glob(f"{bench}.*"))
    quoted[bench] = set(re.findall(r'"(\w+)"', source + shared))

for target in targets.targets:
    issue, bench, cases, metric, subject, factor, peer = target
    check(bench in benchmarks, f"{target}: no benchmark {bench}")
    words = quoted.get(bench, set())
    for name in (metric, subject, peer):
        # Some are put together: slow_readers' "cpu_ns" and "_with", idle_ws' "holdfast_callback" and "_compact".
        known = name in words or name in (None, "peers") or name.rpartition("_")[0] in words
        check(known, f"{target}: {bench} has no {name}")
for _, what, test in targets.tested:
    check((root / test).is_file(), f"{what}: no test {test}")


def judge(bench, case, metric, **figures):
    """(subject, what is wanted, met or missed) of each target with that case."""
    rows = targets.target_rows({(bench, case, metric): figures})
    return {(row[4], row[5]): row[7] for row in rows if row[2] == case and row[7] != "not in this run"}


# Less is better; a multiple of a peer, on the bound and beyond.
check(judge("echo", "100", "server_cpu_ns_per_message", holdfast_any=102, asio_coroutine=100) ==
      {("holdfast_any", "at most 1.02 × asio_coroutine"): "met"}, "echo at its bound must be met")
check(judge("echo", "100", "server_cpu_ns_per_message", holdfast_any=103, asio_coroutine=100) ==
      {("holdfast_any", "at most 1.02 × asio_coroutine"): "missed"}, "echo beyond its bound must be missed")
# More is better; of all peers the best one counts, a floor never.
logs = judge("serialize", "logs", "bytes_per_second", holdfast=10, yyjson=11, glaze=9, memcpy=99)
check(logs == {("holdfast", "at least 1 × yyjson"): "missed"}, f"the best peer counts: {logs}")
# A figure by itself.
check(judge("storm", "4000", "served_share", holdfast=0.99) == {("holdfast", "at least 1"): "missed"},
      "not all are served: missed")
# A peer of another run's figures, or none, decides nothing.
check(judge("broadcast", "10000", "messages_per_second", holdfast=10, libuv=1) == {}, "no peer, no verdict")

groups = {("echo", "100", "latency_p50"): {"holdfast": 4, "holdfast_callback": 1, "libuv": 2, "epoll": 1},
          ("echo", "100", "latency_p99"): {"holdfast": 1, "libuv": 2}}
check(list(targets.losses(groups)) ==
      [("echo", "100", "latency_p50", "holdfast: 4 (holdfast_callback: 1)", "libuv: 2", "2.00")],
      f"what a peer does better than holdfast is listed, whatever another subject of ours does: {list(targets.losses(groups))}")

if faults:
    sys.exit("\n".join(faults))
