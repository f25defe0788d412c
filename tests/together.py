#!/usr/bin/env python3
# Writes a source of several test files, which compiles in half of their time: what they instantiate is instantiated once.
# What a file includes comes first, outside of any namespace; then each file, in a namespace of its own, where its
# #include lines no longer do anything. Its cases are named "FILE: CASE", as ctest names them. What would not be named so,
# or would reach the files after it, is refused.
# SPDX-License-Identifier: BSL-1.0
import pathlib
import re
import sys

if len(sys.argv) < 3:
    sys.exit("usage: tests/together.py OUTPUT FILE...")
output, *files = map(pathlib.Path, sys.argv[1:])

named = {"TEST_CASE", "TEMPLATE_TEST_CASE"}  # the macros that are defined anew below
macros = re.compile(r"\s*((?:[A-Z]+_)*TEST_CASE(?:_[A-Z_]+)?|SCENARIO(?:_[A-Z]+)?|METHOD_AS_TEST_CASE|REGISTER_TEST_CASE)\s*\(")
includes, bodies = [], []
for file in files:
    code = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if re.match(r"\s*#\s*define\b", line):
            sys.exit(f"{file}:{number}: a #define, which the files after it would see; see holdfast_together in "
                     "tests/CMakeLists.txt")
        if (macro := macros.match(line)) and macro[1] not in named:
            sys.exit(f"{file}:{number}: {macro[1]}, whose cases would not be named after their file: use "
                     f"{' or '.join(sorted(named))}; see holdfast_together in tests/CMakeLists.txt")
        if line.startswith("#"):
            if not code:
                includes.append(line)
            elif line.startswith("#include"):
                sys.exit(f"{file}:{number}: an #include below other code; see holdfast_together in tests/CMakeLists.txt")
        elif line and not line.startswith("//"):
            code = True
    bodies.append(f"""
#undef TEST_CASE
#define TEST_CASE(...) INTERNAL_CATCH_TESTCASE("{file.stem}: " __VA_ARGS__)
#undef TEMPLATE_TEST_CASE
#define TEMPLATE_TEST_CASE(...) INTERNAL_CATCH_TEMPLATE_TEST_CASE("{file.stem}: " __VA_ARGS__)
namespace test_{file.stem} {{
#include "{file}"
}}
""")
output.parent.mkdir(exist_ok=True)
output.write_text("\n".join(includes) + "\n" + "".join(bodies))
