#!/usr/bin/env python3
"""Checks that the headers' includes point downwards only, and that include guards are the headers' paths.

A header may include its own storey and those that its line names; where a header is, decides its storey. The drawing of
the storeys in CONTRIBUTING must be what `tests/storeys.py --draw` prints.
SPDX-License-Identifier: BSL-1.0
"""
import fnmatch, pathlib, re, sys

# storey: what belongs to it; the storeys that it may include
storeys = {
    "base": ("error impl/error websocket_error framing frame_time_limit progress version heartbeat_counters detail/saturated detail/text_list detail/linkage", ""),  # the standard library only
    "serialize": ("serialize/*", "base"),  # the standard library only
    "process": ("process/* detail/process/*", "base"),
    "asio": ("asio", "base"),  # alone includes Asio
    "async": ("detail/async/*", "base asio"),
    "waiting": ("async_event async_semaphore read_rate bounded_spawner testing/manual_clock", "base asio async"),
    "buffer": ("buffer_pool detail/buffer/*", "base asio async waiting"),
    "connection": ("connection_end impl/connection_end connection_name ip_network key_limits impl/key_limits connection_guard admitted_connection peer_address impl/peer_address census impl/census keepalive testing/leak_check "
                   "detail/connection/*", "base asio async waiting"),
    "acceptor": ("acceptor_event acceptor_options bounded_acceptor layer_factory proxy_protocol impl/proxy_protocol detail/acceptor/*", "base asio async waiting connection process"),
    "heartbeat": ("heartbeat_* frame_deadline read_rate_limit detail/heartbeat/*", "base asio async waiting"),
    "frame": ("frame_reader detail/frame/*", "base asio async waiting buffer connection"),
    "outbox": ("payload replay_ring replay_topic serialized_payload write_streamed outbox outbox_options outbox_totals outbox_group detail/outbox/*",
               "base serialize asio async waiting buffer connection"),
    "shards": ("shards shard_topic detail/shards/*", "base asio async waiting connection acceptor outbox"),
    "websocket": ("websocket websocket_* impl/websocket_* detail/websocket/*", "base serialize asio async waiting buffer connection frame outbox"),
    "http": ("http/*", "base serialize asio async waiting buffer connection frame outbox"),
    "adapters": ("adapters/*", "base serialize asio async waiting buffer connection acceptor frame outbox websocket"),  # another library
    "server": ("server/*", "base serialize process asio async waiting buffer connection acceptor heartbeat frame outbox http"),  # of a whole program
    "everything": ("holdfast impl/src", "base serialize process asio async waiting buffer connection acceptor heartbeat frame outbox http websocket shards"),
}
# What a header must not lead to, over however many others.
never_reaches = [("outbox", "serialize/json"), ("frame_reader", "heartbeat_timer")]

root = pathlib.Path(__file__).parent.parent / "include/holdfast"
faults = []


def storey_of(header):
    found = [name for name, (members, _) in storeys.items() if any(fnmatch.fnmatch(header, m) for m in members.split())]
    if not found:
        faults.append(f"{header}.hpp belongs to no storey: give it one in {__file__}")
    return found[0] if found else "everything"


def fault(header, why):
    faults.append(f"{header}.hpp {why}")


includes = {}
for path in sorted([*root.rglob("*.hpp"), *root.rglob("*.ipp")]):  # an .ipp file has bodies for impl/src.hpp
    header = str(path.relative_to(root).with_suffix(""))
    text = path.read_text()
    storey = storey_of(header)
    allowed = storeys[storey][1].split() + [storey]
    includes[header] = re.findall(r'^#include [<"]holdfast/(.+)\.[hi]pp[>"]', text, re.M)
    for other in includes[header]:
        if storey_of(other) not in allowed:
            fault(header, f"({storey}) includes {other} ({storey_of(other)}): an arrow up")
    for other in re.findall(r'^#\s*include [<"]((?!holdfast/).+)[>"]', text, re.M):
        if re.match(r"(boost/)?asio(?!/ssl/)", other) and storey != "asio":
            fault(header, f"includes <{other}>: only asio.hpp includes Asio")
        elif re.search(r"[./]", other) and not re.search(r"intrin\.h$|arm_neon", other) and storey in ("base", "serialize"):
            fault(header, f"includes <{other}>: {storey} uses the standard library only")
        elif re.match(r"openssl/|zlib|simdjson|.*asio/ssl/", other) and storey != "adapters":
            fault(header, f"includes <{other}>: what needs another library is an adapter")
    guard = "HOLDFAST_" + re.sub(r"\W", "_", str(path.relative_to(root))).upper()
    if f"#ifndef {guard}\n#define {guard}\n" not in text:
        faults.append(f"{path.relative_to(root)} has another include guard than {guard}")

for header, other in never_reaches:
    seen, todo = set(), [header]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += includes.get(at, [])
    if other in seen:
        fault(header, f"leads to {other}.hpp")


def drawing():
    """Each storey over those that it stands on: an arrow is left out where others lead to the same storey."""
    below = {name: names.split() for name, (_, names) in storeys.items()}
    for name in reversed(below):
        direct = [other for other in below[name] if not any(other in below[between] for between in below[name])]
        if direct:
            yield f"    {name} --> {' & '.join(direct)}"


if sys.argv[1:] == ["--draw"]:
    sys.exit(print("\n".join(drawing())))
if "\n".join(drawing()) not in (root.parent.parent / ".github/CONTRIBUTING.md").read_text():
    faults.append("the drawing in .github/CONTRIBUTING.md is not that of the storeys: replace it by `tests/storeys.py --draw`")

print("\n".join(faults) or f"{len(includes)} headers: every arrow runs down")
sys.exit(bool(faults))
