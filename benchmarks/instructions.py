#!/usr/bin/env python3
"""Instructions of the hot paths, counted by callgrind, beside the committed counts of the same compiler.

Fails when a path takes 3 % more than its committed count, and names the functions that take the most of it. After a
change that is worth its price: --update.
SPDX-License-Identifier: BSL-1.0
"""
import argparse, json, os, pathlib, re, subprocess, sys, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
committed_file = root / "benchmarks/results/instructions.json"
options = argparse.ArgumentParser(prog="benchmarks/run --guard", description=__doc__.split("\n")[0])
options.add_argument("--json", metavar="FILE", help="append one JSON object a line to FILE")
options.add_argument("--update", action="store_true", help=f"write the counts to {committed_file.relative_to(root)}")
options.add_argument("--program", default=root / "build/release/benchmarks/instructions", type=pathlib.Path, help=argparse.SUPPRESS)
arguments = options.parse_args()
tolerated = 1.03

# The C library must not choose its functions by the processor: counts would differ between machines.
tunables = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-ERMS,-FSRM"


def hottest_functions(dump):
    annotated = subprocess.run(["callgrind_annotate", "--threshold=80", dump], capture_output=True, text=True).stdout
    lines = re.findall(r"^ *([\d,]+) \( *([\d.]+)%\) +(.+?)(?: \[.*)?$", annotated, re.M)
    return [f"{share:>5} %  {re.sub(r'^[^:]*:', '', name)[:100]}" for _, share, name in lines if "PROGRAM TOTALS" not in name][:8]


with tempfile.TemporaryDirectory() as directory:
    run = subprocess.run(["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={directory}/out",
                          arguments.program], capture_output=True, text=True, env={**os.environ, "GLIBC_TUNABLES": tunables})
    if run.returncode != 0:
        sys.exit(f"benchmarks/run --guard: {run.stderr.strip()}")
    compiler, *paths = run.stdout.splitlines()
    times = {path: int(n) for path, n in (line.split() for line in paths)}
    counted, dumps = {}, {}
    for dump in pathlib.Path(directory).glob("out.*"):
        text = dump.read_text()
        path = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.M)[1]
        counted[path] = int(re.search(r"^totals: (\d+)$", text, re.M)[1]) / times[path]
        dumps[path] = dump

    committed = json.loads(committed_file.read_text()) if committed_file.exists() else {}
    comparable = committed.get("compiler") == compiler
    more = []
    print(f"{'path':<46}{'instructions':>14}{'committed':>14}{'change':>10}")
    for path in times:
        before = committed.get("instructions", {}).get(path) if comparable else None
        change = f"{100 * (counted[path] / before - 1):+.1f} %" if before else "-"
        print(f"{path:<46}{counted[path]:>14.1f}{format(before, '.1f') if before else '-':>14}{change:>10}")
        if before and counted[path] > before * tolerated:
            more.append(path)
    for path in more:
        print(f"\n{path} takes more. Its most expensive functions:", *hottest_functions(dumps[path]), sep="\n")

if arguments.json:
    with open(arguments.json, "a") as file:
        for path, count in counted.items():
            file.write(json.dumps({"bench": "instructions", "subject": "holdfast", "case": path, "metric": "instructions",
                                   "value": round(count, 2), "unit": "1"}) + "\n")
if arguments.update:
    rounded = {path: round(counted[path], 2) for path in times}
    committed_file.write_text(json.dumps({"compiler": compiler, "instructions": rounded}, indent=2) + "\n")
elif not comparable:
    print(f"\nThe committed counts are those of {committed.get('compiler', 'no compiler')}, these of {compiler}: not compared.")
elif more:
    sys.exit(f"benchmarks/run --guard: {len(more)} of {len(times)} paths take 3 % more instructions than committed: "
             "see the functions above; if the change is worth it, run benchmarks/run --guard --update")
