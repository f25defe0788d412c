#!/usr/bin/env python3
"""Checks that README's figures are those of benchmarks/results; --fix writes them into README.

A table of figures follows a comment in README that names where they are from, one subject for each column:
    <!-- figures: BENCH CASE METRIC SUBJECT... -->
METRIC/1e6 divides, for megabytes.
usage: benchmarks/figures.py [--fix]                   checks or writes README's tables
       benchmarks/figures.py --record BENCH FIGURES    takes over what `benchmarks/run BENCH --json FIGURES` has measured
SPDX-License-Identifier: BSL-1.0
"""
import json, pathlib, re, sys

sys.dont_write_bytecode = True
from report import machine

root = pathlib.Path(__file__).resolve().parent.parent
results = root / "benchmarks" / "results"
table = re.compile(r"<!-- figures: (\S+) (\S+) (\S+) ([^>]+?) -->\n(\|.*\n\|[-|: ]+\n)(\|.*)\n")


def values(bench, case, metric, subjects):
    file = results / f"{bench}.json"
    rows = json.loads(file.read_text())["figures"] if file.exists() else []
    figures = {(row["case"], row["metric"], row["subject"]): row["value"] for row in rows}
    metric, _, divisor = metric.partition("/")
    for subject in subjects:
        if (case, metric, subject) not in figures:
            raise SystemExit(f"{file}: no {metric} of {subject} in case {case}: measure it with "
                             f"benchmarks/run {bench} --record, or take the subject out of README's comment")
        yield f"{figures[case, metric, subject] / float(divisor or 1):,.0f}"


def record(bench, file):
    rows = [json.loads(line) for line in open(file)]
    figures = [{key: row[key] for key in ("case", "metric", "subject", "value", "unit")} for row in rows if row["bench"] == bench]
    if not figures:
        raise SystemExit(f"{file}: no figures of {bench}")
    lines = ",\n".join("    " + json.dumps(row) for row in figures)
    head = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in machine())
    (results / f"{bench}.json").write_text(f'{{\n{head},\n  "figures": [\n{lines}\n  ]\n}}\n')


def main():
    if sys.argv[1:2] == ["--record"] and len(sys.argv) == 4:
        record(*sys.argv[2:])
        fix = True
    elif sys.argv[1:] in ([], ["--fix"]):
        fix = sys.argv[1:] == ["--fix"]
    else:
        raise SystemExit(__doc__)
    readme = root / "README.md"
    text = readme.read_text()

    def renewed(found):
        bench, case, metric, subjects = found[1], found[2], found[3], found[4].split()
        return found[0].replace(found[6], "| " + " | ".join(values(bench, case, metric, subjects)) + " |")

    current, count = table.subn(renewed, text)
    if count != text.count("<!-- figures:"):
        raise SystemExit(f"{readme}: a comment of figures is not followed by a table of three lines")
    if current == text:
        return
    if not fix:
        raise SystemExit("README's figures are not those of benchmarks/results: run benchmarks/figures.py --fix")
    readme.write_text(current)


main()
