#!/usr/bin/env python3
# Writes a source of several test files, which compiles in half of their time: what they instantiate is instantiated once.
# What a file includes comes first, outside of any namespace; then each file, in a namespace of its own, where its
# #include lines no longer do anything. Its cases are named "FILE: CASE", as ctest names them.
# SPDX-License-Identifier: BSL-1.0
import pathlib
import sys

if len(sys.argv) < 3:
    sys.exit("usage: tests/together.py OUTPUT FILE...")
output, *files = map(pathlib.Path, sys.argv[1:])

includes, bodies = [], []
for file in files:
    code = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
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
