#!/usr/bin/env python3
"""What holdfast costs the compiler: README's server beside a plain Asio one, and each public header by itself.

The cases that end in _separate are compiled with HOLDFAST_SEPARATE_COMPILATION, without the one file with the bodies;
those in _all_separate with ASIO_SEPARATE_COMPILATION, too.
SPDX-License-Identifier: BSL-1.0
"""
import argparse, json, os, pathlib, re, resource, statistics, subprocess, sys, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
options = argparse.ArgumentParser(prog="benchmarks/run compile_time", description=__doc__.split("\n")[0])
options.add_argument("--json", metavar="FILE", help="append one JSON object a line to FILE")
options.add_argument("--rounds", type=int, default=3, metavar="N", help="compile the servers N times, medians count; each header once (default 3)")
options.add_argument("--case", default="", metavar="TEXT", help="only cases whose name contains TEXT")
options.add_argument("--compiler", default=os.environ.get("CXX", "g++"), metavar="PROGRAM")
arguments = options.parse_args()

readme = re.search(r"^```cpp\n(.*?)^```", (root / "README.md").read_text(), re.M | re.S).group(1)
plain = (root / "benchmarks/support/compile_time_asio.cpp").read_text()
headers = sorted(str(path.relative_to(root / "include")) for path in (root / "include").rglob("*.hpp")
                 if not re.search(r"/(detail|impl)/|serialize/(json|protobuf)/", str(path)))

# subject, case, optimization, source
cases = [
    ("asio", "readme_server", "-O2", plain), ("holdfast", "readme_server", "-O2", readme),
    ("asio", "readme_server_O0", "-O0", plain), ("holdfast", "readme_server_O0", "-O0", readme),
    ("holdfast", "readme_server_separate", "-O2", "#define HOLDFAST_SEPARATE_COMPILATION\n" + readme),
    ("holdfast", "readme_server_O0_separate", "-O0", "#define HOLDFAST_SEPARATE_COMPILATION\n" + readme),
    ("asio", "readme_server_all_separate", "-O2", "#define ASIO_SEPARATE_COMPILATION\n" + plain),
    ("holdfast", "readme_server_all_separate", "-O2",
     "#define ASIO_SEPARATE_COMPILATION\n#define HOLDFAST_SEPARATE_COMPILATION\n" + readme),
    ("asio", "asio.hpp", "-O2", "#include <asio.hpp>\n"),
    ("holdfast", "holdfast/holdfast.hpp_separate", "-O2",
     "#define HOLDFAST_SEPARATE_COMPILATION\n#include <holdfast/holdfast.hpp>\n"),
]
cases += [("holdfast", header, "-O2", f"#include <{header}>\n") for header in headers]
cases = [case for case in cases if arguments.case in case[1]]


def compile(source, optimization, directory):
    """CPU seconds, bytes of the object file; None where a library that the header adapts is missing."""
    (directory / "unit.cpp").write_text(source)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = subprocess.run([arguments.compiler, "-std=c++20", optimization, "-DNDEBUG", "-DASIO_STANDALONE", f"-I{root}/include",
                           "-c", "unit.cpp", "-o", "unit.o"], cwd=directory, capture_output=True, text=True,
                          env={**os.environ, "CCACHE_DISABLE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if made.returncode != 0:
        if re.search(r"fatal error: .*(No such file|file not found)", made.stderr):
            return None
        sys.exit(made.stderr)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, (directory / "unit.o").stat().st_size)


results = {}
with tempfile.TemporaryDirectory() as directory:
    for turn in range(arguments.rounds):
        for subject, case, optimization, source in cases:
            if turn != 0 and case in headers:
                continue
            if measured := compile(source, optimization, pathlib.Path(directory)):
                results.setdefault((subject, case), []).append(measured)

print(f"{'case':<42}{'subject':<10}{'CPU s':>8}{'object bytes':>14}")
lines = []
for (subject, case), rounds in results.items():
    seconds, size = round(statistics.median(r[0] for r in rounds), 2), rounds[0][1]
    print(f"{case:<42}{subject:<10}{seconds:>8.2f}{size:>14}")
    for metric, value, unit in (("seconds", seconds, "s"), ("object_bytes", size, "B")):
        lines.append(json.dumps({"bench": "compile_time", "subject": subject, "case": case, "metric": metric, "value": value,
                                 "unit": unit}))
if arguments.json:
    with open(arguments.json, "a") as file:
        file.write("\n".join(lines) + "\n")
