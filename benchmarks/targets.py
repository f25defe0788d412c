"""What the project has set out to reach, issue by issue, and whether the figures of a run reach it.

SPDX-License-Identifier: BSL-1.0
"""
import fnmatch, re

more_is_better = re.compile(r"per_second$|per_cpu_second$|^(served_share|snapshot_share|survived)$")
# What no complete program can reach, or does only part of the work: shown, but not a peer that wins or loses.
floors = {"memcpy", "to_chars", "relaxed_store", "epoll", "openssl_fd", "asio_wait"}

# Issue, bench, cases (a pattern), metric, subject, factor, peer ("peers": the best of them; None: the factor is the
# figure itself). The subject is to be at least factor x peer where more is better, else at most. What a later issue has
# asked for in addition stands beside what an earlier one had asked for.
targets = [
    (24, "serialize", "*", "bytes_per_second", "holdfast", 1.0, "peers"),
    *((24, "serialize", "quotes*", "bytes_per_second", "holdfast", 1.5, peer)
      for peer in ("glaze", "glaze_stream", "yyjson", "rapidjson", "boost_json", "nlohmann")),
    (24, "serialize", "quotes*", "bytes_per_second", "holdfast", 1.3, "simdjson_builder"),
    (24, "serialize", "*", "bytes_per_second", "holdfast", 1.2, "glaze_stream"),
    (24, "serialize", "*", "peak_extra_bytes", "holdfast", 16 * 1024 + 64, None),  # the chunk and the cursor
    (7, "serialize", "quotes", "bytes_per_second", "holdfast", 5.0, "rapidjson"),
    (7, "serialize", "quotes_v3", "bytes_per_second", "holdfast", 7.0, "rapidjson"),
    *((7, "serialize", f"{case}{flags}", "bytes_per_second", "holdfast", factor, "rapidjson")
      for case, factor in (("logs", 3.0), ("twitter", 3.0), ("citm", 3.0), ("canada", 2.0), ("one_quote", 4.0))
      for flags in ("", "_v3")),
    (7, "serialize", "*", "bytes_per_second", "holdfast_1k", 0.9, "holdfast"),
    (7, "serialize", "*", "bytes_per_second", "holdfast_64", 0.6, "holdfast"),
    (24, "protobuf", "quotes", "bytes_per_second", "holdfast", 2.5, "protobuf_cached_sizes"),
    (8, "protobuf", "quotes", "bytes_per_second", "holdfast", 2.5, "protobuf"),
    (8, "protobuf", "quotes", "bytes_per_second", "holdfast", 3.0, "protozero"),
    (24, "heartbeat", "1m", "second_ns", "holdfast", 1 / 20, "wheel"),
    (6, "heartbeat", "1m", "touch_ns", "holdfast", 1.1, "relaxed_store"),
    (6, "heartbeat", "1m", "second_ns", "holdfast", 1 / 100, "asio_lazy"),
    (6, "heartbeat", "1m", "longest_turn_ns", "holdfast", 1 / 100, "asio_rearm"),
    (4, "churn", "guarded", "connections_per_second", "holdfast", 0.98, "asio"),
    (5, "churn", "limited", "connections_per_second", "holdfast", 0.95, "asio"),
    (24, "storm", "*", "served_share", "holdfast", 1.0, None),
    (24, "storm", "*", "rss_anon_growth", "holdfast", 1.0, "asio_limit"),
    (24, "storm", "*", "server_cpu", "holdfast", 1.0, "asio_limit"),
    (24, "idle", "*", "rss_anon_bytes_per_connection", "holdfast", 1000, None),
    (24, "idle", "*", "rss_anon_bytes_per_connection", "holdfast", 1.0, "asio_lean"),
    (24, "idle", "*", "rss_anon_bytes_per_connection", "holdfast_callback", 400, None),
    (9, "idle", "*", "rss_anon_bytes_per_connection", "holdfast", 1300, None),
    (9, "idle", "*", "rss_anon_bytes_per_connection", "holdfast_callback", 500, None),
    (24, "echo", "*", "server_cpu_ns_per_message", "holdfast_any", 1.02, "asio_coroutine"),
    (9, "echo", "*", "server_cpu_ns_per_message", "holdfast_callback", 1.05, "asio_callback"),
    (22, "idle_ws", "*", "rss_anon_bytes_per_connection", "holdfast", 1 / 5, "beast"),
    (22, "idle_ws", "*", "rss_anon_bytes_per_connection", "holdfast_callback", 1 / 12, "beast"),
    (22, "idle_ws", "*_tls", "rss_anon_bytes_per_connection", "holdfast_callback_compact", 1 / 12, "beast"),
    (21, "idle_tls", "*", "rss_anon_bytes_per_connection", "holdfast", 1 / 5, "asio_ssl"),
    (21, "idle_tls", "*", "rss_anon_bytes_per_connection", "holdfast", 1.15, "openssl_fd"),
    (21, "idle_tls", "*", "rss_anon_bytes_per_connection", "holdfast_compact", 1 / 40, "asio_ssl"),
    (21, "echo_tls", "*", "server_cpu_ns_per_message", "holdfast", 1.0, "asio_ssl"),
    (21, "echo_tls", "*", "server_cpu_ns_per_message", "holdfast_compact", 0.85, "asio_ssl"),
    (21, "stream_tls", "*", "bytes_per_cpu_second", "holdfast", 1.0, "asio_ssl"),
    (24, "snapshot", "*", "rss_anon_growth", "holdfast", 1 / 50, "rapidjson_shared"),
    (24, "snapshot", "*", "last_byte", "holdfast", 1.0, "rapidjson_shared"),
    (24, "snapshot", "*", "bytes_per_cpu_second", "holdfast", 1.0, "rapidjson_shared"),
    (24, "slow_readers", "*", "rss_growth_rate", "holdfast", 1 / 10, "asio_gather"),
    (24, "slow_readers", "*", "cpu_ns_with", "holdfast", 1.0, "asio_gather"),
    (24, "slow_readers", "*", "cpu_ns_with", "holdfast", 1.0, "asio_bounded"),
    (24, "slow_readers", "*", "delivery_p99_with", "holdfast", 1.0, "asio"),
    (24, "broadcast", "*", "messages_per_second", "holdfast", 1.0, "asio_gather"),
    (24, "broadcast", "10000", "messages_per_second", "holdfast", 1.3, "asio_gather"),
    (24, "broadcast", "*", "messages_per_second", "holdfast", 1.0, "asio_gather_posted"),
    (24, "broadcast", "10000", "messages_per_second", "holdfast", 1.3, "asio_gather_posted"),
    (24, "broadcast", "*_burst_1", "messages_per_second", "holdfast", 1.0, "asio"),
    (9, "broadcast", "10000", "messages_per_second", "holdfast", 2.0, "asio"),
    (22, "broadcast_ws", "10000", "messages_per_second", "holdfast", 1.5, "beast"),
    (22, "broadcast_ws", "10000", "messages_per_second", "holdfast", 4.0, "beast_single"),
    (22, "broadcast_ws", "10000_deflate", "messages_per_second", "holdfast", 20.0, "beast"),
    (22, "broadcast_ws", "10000*", "peak_bytes_per_client", "holdfast", 8192, None),  # the benchmark's watermark
    (23, "scale", "2", "server_cpu_ns_per_message", "holdfast", 1.05, "holdfast_one_thread"),
    (23, "scale", "2_echo", "server_cpu_ns_per_message", "holdfast", 1.05, "holdfast_one_thread"),
    (24, "all_together", "climb", "survived", "holdfast", 1.0, "peers"),
    (24, "all_together", "climb", "snapshot_share", "holdfast", 1.0, "peers"),
    (24, "all_together", "500", "rss_anon", "holdfast", 1 / 10, "naive_feed"),
    (24, "all_together", "2000", "rss_anon", "holdfast", 1 / 2, "asyncio_advised"),
    (24, "all_together", "climb", "server_cpu", "holdfast", 1 / 4, "asyncio_advised"),
    (20, "compile_time", "readme_server*", "seconds", "holdfast", 1.5, "asio"),
    (20, "compile_time", "holdfast.hpp - asio.hpp", "seconds", "holdfast", 1.5, None),
]

# Targets that a test decides, not a benchmark: issue, what must hold, and the test.
tested = [
    (3, "100 clients that read nothing: a chunk of memory each", "tests/load/constant_memory.cpp"),
    (5, "20,000 clients at a limit of 500: never more inside, all served", "tests/load/admission_load.cpp"),
    (19, "the kernel keeps no more for ended connections than for as many as may be open", "tests/load/kernel_orphans.cpp"),
    (19, "a storm of reconnects against a rate limit is served to the last client", "tests/load/reconnect_storm.cpp"),
    (21, "2,000 handshakes, one client in ten silent: within the plan", "tests/load/tls_storm.cpp"),
    (22, "over a graceful restart and a SIGKILL no client misses a message unnoticed", "tests/integration/push_gateway.cpp"),
]


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


def peers_of(figures):
    return {name: value for name, value in figures.items() if not ours(name) and name not in floors}


def target_rows(groups):
    """Each target with each case that this run has of it: met, missed, or not in this run."""
    for issue, bench, cases, metric, subject, factor, peer in targets:
        relation = "at least" if more_is_better.search(metric) else "at most"
        found = False
        for (b, case, m), figures in groups.items():
            if b != bench or m != metric or not fnmatch.fnmatchcase(case, cases) or subject not in figures:
                continue
            peers = peers_of(figures)
            if peer == "peers" and peers:
                name, base = best(metric, peers)
            elif peer is None:
                name, base = None, 1
            elif peer in figures:
                name, base = peer, figures[peer]
            else:
                continue
            found = True
            wanted = f"{relation} {factor:.3g} × {name}" if name else f"{relation} {shown(factor)}"
            reached = f"{figures[subject] / base:.4g}" if name and base else shown(figures[subject])
            met = not is_better(metric, factor * base, figures[subject])
            yield issue, bench, case, metric, subject, wanted, reached, "met" if met else "missed"
        if not found:
            wanted = f"{relation} {factor:.3g} × {peer}" if peer else f"{relation} {shown(factor)}"
            yield issue, bench, cases, metric, subject, wanted, "", "not in this run"


def losses(groups):
    """Where a peer is better than `holdfast`, or than the best of our subjects where none has that name."""
    for (bench, case, metric), figures in groups.items():
        mine = {name: value for name, value in figures.items() if ours(name)}
        peers = peers_of(figures)
        if not mine or not peers:
            continue
        plain, best_name = "holdfast", best(metric, mine)[0]
        if plain not in mine:
            plain = best_name
        name, value = best(metric, peers)
        if not is_better(metric, value, mine[plain]):
            continue
        least, most = sorted((abs(value), abs(mine[plain])))
        own = f"{plain}: {shown(mine[plain])}"
        if is_better(metric, mine[best_name], mine[plain]):
            own += f" ({best_name}: {shown(mine[best_name])})"
        yield bench, case, metric, own, f"{name}: {shown(value)}", f"{most / least:.2f}" if least else ""
