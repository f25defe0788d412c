#!/usr/bin/env python3
"""Checks that every option that has a range is walked through its extremes in a test.

Each structure NAME_options of a public header, and each of its members that is a number or a duration, must occur in a
test: in tests/unit/options_extremes.cpp, or in the one that is named here. What refuses an option names it as
NAME_options::MEMBER, so that a user finds it in the header.
SPDX-License-Identifier: BSL-1.0
"""
import pathlib, re, sys

# Which other test walks a structure's options.
elsewhere = {
    "acceptor_options": "acceptor_options",
    "drain_options": "acceptor_options",
    "proxy_options": "proxy_protocol",
    "drain_at_signal_options": "drain_at_signal",
    "frame_options": "frame_handover",
    "handshake_options": "layer_factory",
    "heartbeat_options": "heartbeat_limits",
    "heartbeat_profile_options": "heartbeat_limits",
    "key_limit_options": "key_limits",
    "outbox_options": "outbox_deadlines",
    "outbox_flush_options": "outbox_deadlines",
    "outbox_close_options": "outbox_deadlines",
    "read_rate_options": "read_rate",
    "shard_topic_options": "shards",
    "tls_context_options": "tls_context",
    "write_streamed_options": "write_streamed",
}
numbers = r"(?:std::(?:size_t|u?int\d+_t|chrono::[\w:]+)|std::optional<std::chrono::\w+>|int|unsigned|double)"

root = pathlib.Path(__file__).parent.parent
faults, seen = [], set()
for header in sorted((root / "include/holdfast").rglob("*.hpp")):
    for structure in re.finditer(r"^struct (\w+_options) \{\n(.*?)^\};", header.read_text(), re.M | re.S):
        name, body = structure[1], structure[2]
        members = re.findall(rf"^    {numbers} (\w+)(?: =|\{{|;)", body, re.M)
        if not members:
            continue
        seen.add(name)
        test = root / f"tests/unit/{elsewhere.get(name, 'options_extremes')}.cpp"
        text = test.read_text()
        for each in members:
            if not re.search(rf"\b{each}\b", text):
                faults.append(f"{name}::{each} is walked through its extremes by no test: add a line to {test}")
        if name not in elsewhere and name not in text:
            faults.append(f"{name} is not walked in {test}: add it, or name the other test in {__file__}")
faults += [f"{name} is not in the library any more: remove it from {__file__}" for name in sorted(elsewhere.keys() - seen)]
declared = {}  # structure -> its text
for header in (root / "include/holdfast").rglob("*.hpp"):
    for structure in re.finditer(r"^struct (\w+_(?:options|limits)) \{\n(.*?)^\};", header.read_text(), re.M | re.S):
        declared[structure[1]] = structure[2]
for source in sorted((root / "include/holdfast").rglob("*.?pp")):
    for text in re.finditer(rf'"({"|".join(declared)})\b(\W*)(\w*)', source.read_text()):
        if text[2] != "::" or not re.search(rf"\b{text[3]}\b(?: =|\{{|;)", declared[text[1]]):
            faults.append(f"{source.name} refuses {text[0][1:]}: name the option as {text[1]}::MEMBER")
for each in faults:
    print(each)
sys.exit(bool(faults))
