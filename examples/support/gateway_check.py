#!/usr/bin/env python3
"""Restarts a push_gateway under thousands of clients and a browser, and shows that no message was missed.

Starts the server, clients of both kinds (server-sent events and WebSocket) and, where one is given, a headless Chromium
with the server's page. Then it restarts the server: gracefully (SIGTERM, the ring is handed on), and with --kill by
SIGKILL too. Each client connects again by itself and names the last id that it has had. Prints a table; exits with 1 where
an id is missing or doubled, a gap is not as it must be, or the server's memory exceeds its plan.
SPDX-License-Identifier: BSL-1.0
"""
import argparse, os, resource, signal, sys, tempfile, time

sys.dont_write_bytecode = True
from browser import Browser
from push_clients import Load, Server


class RingLoad(Load):
    """The ids are those of one server's ring: an epoch and consecutive numbers."""

    def note(self, client, text, snapshot):
        epoch, _, number = text.partition(b"-")
        number, totals, last = int(number), client.totals, client.at
        if snapshot:
            totals.snapshots += 1
            totals.gaps += last is not None
        else:
            totals.received += 1
            client.fresh += client.restarts == self.restarts
            if last is None or last[0] != epoch or number > last[1] + 1:
                totals.missing += number - last[1] - 1 if last and last[0] == epoch else 1
            elif number <= last[1]:
                totals.doubled += 1
        client.last, client.at = text, (epoch, number)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server", help="the program push_gateway")
    parser.add_argument("--clients", type=int, default=5000, help="that read (default 5000)")
    parser.add_argument("--kind", choices=("both", "sse", "ws"), default="both", help="of these clients (default both)")
    parser.add_argument("--never", type=int, default=50, help="clients of server-sent events that never read (default 50)")
    parser.add_argument("--until-behind", action="store_true", help="restarts once the queues of all that never read are full")
    parser.add_argument("--parked", type=int, default=0, help="clients that leave, and come again after the restart, when the "
                        "ring does not have the messages after their last one any more: each is notified of the gap")
    parser.add_argument("--browser", help="the program chromium; without it there is no page")
    parser.add_argument("--report", default=".", help="the directory of the screenshots")
    parser.add_argument("--any-memory", action="store_true", help="of a server with a sanitizer: its memory is not compared "
                        "with the plan")
    parser.add_argument("--kill", action="store_true", help="ends the server by SIGKILL too: each client is notified of the gap")
    parser.epilog = ("What follows -- is for the server: with thousands of clients a longer --drain, too, and a ring that keeps the "
                     "messages of that time, as those that never read are reset at its end.")
    own = sys.argv[1:]
    split = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:split])
    options.arguments = own[split + 1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(prefix="push_gateway") as directory:
        sys.exit(run(options, directory))


def check_sent_away(sent_away, clients, stagger, longest_turn):
    """In a drain each client of server-sent events is named a time to wait, and both are spread: the clients that end, and
    these times. Ends are seen at most `longest_turn` later: beside a long one they are not judged."""
    if len(sent_away) != clients:
        return [f"{len(sent_away)} of {clients} clients of server-sent events were named a time to wait"]
    faults = []
    ends, waits = sorted(at for at, _ in sent_away), sorted(wait for _, wait in sent_away)
    print(f"sent away within {ends[-1] - ends[0]:.1f} s; times to wait: {waits[0]} to {waits[-1]} ms")
    if waits[0] < 500 or waits[-1] >= 2000:
        faults.append(f"times to wait are from {waits[0]} to {waits[-1]} ms, not 500 to 2000")
    for name, values, whole in (("ends", ends, stagger if longest_turn < stagger / 10 else 0), ("times to wait", waits, 1500)):
        half = values[3 * clients // 4] - values[clients // 4]  # evenly spread: half of the whole
        if half < whole / 10:
            faults.append(f"half of the {name} are within {half:.2f} of {whole}")
    return faults


def run(options, directory):
    count = options.clients + options.never
    stagger = 2.0
    arguments = [options.server, "--state", f"{directory}/state", "--max-connections", str(count + 100),
                 "--stagger", f"{stagger:.0f}s",
                 # These clients are on one thread: on a loaded machine the last of thousands is late, and is none that has gone.
                 "--head-timeout", "60s", "--timeout", "120s"] + options.arguments
    server = Server(arguments + ["--port", "0"])
    arguments += ["--port", str(server.port)]
    browser, servers, faults = None, [server], []
    try:
        kinds = {"both": ("sse", "ws")}.get(options.kind, (options.kind,))
        load = RingLoad(server.port, kinds, options.clients, options.never)
        print(f"{count} clients connect, {options.never} of them never read", flush=True)
        load.until_served("all clients have messages", every=lambda: servers[-1].measure())
        threads = server.figures("push_gateway_thread_connections")
        print(f"connections of each thread: {', '.join(map(str, threads))}", flush=True)
        if max(threads) - min(threads) > 2 + count // 20:
            faults.append("the threads have unequal numbers of connections")
        page = {}

        def look(done):
            """Asks the page, while the clients go on, until done(feeds)."""
            def asked():
                nonlocal page
                servers[-1].measure()
                page = browser.feeds(lambda: load.turn(0))
                return done(page)
            load.until("the page", asked)

        def both(f):
            return lambda p: p["rows"] > 5 and all(f(p["feeds"][kind]) for kind in ("sse", "ws"))

        if options.browser:
            browser = Browser(options.browser, f"http://127.0.0.1:{server.port}/", f"{directory}/profile")
            look(lambda p: "ws" in p["feeds"] and both(lambda feed: feed["received"] > 5)(p))
            print("the page has its table and its chart; the server restarts", flush=True)
        if options.until_behind:
            behind = {"number": 0, "published": 0}
            def ask():
                server.measure()
                behind["number"] = server.figure("holdfast_topic_behind")
                behind["published"] = server.figure("holdfast_topic_published_total")
            load.until("the queues of those that never read are full", lambda: behind["number"] >= options.never, every=ask,
                       progress=lambda: behind["published"])
            names = ("topic_fell_behind_total", "outbox_messages_total", "outbox_bytes_total")
            fell, messages, sent = (server.figure("holdfast_" + name) for name in names)
            print(f"the queues of {behind['number']} clients are full: messages for them wait in the ring alone; queues became "
                  f"full {fell} times; sent to all {messages} messages, {sent / 2**20:.1f} MiB; RssAnon "
                  f"{server.rss / 2**20:.1f} MiB of {(server.base + count * server.each) / 2**20:.1f} MiB", flush=True)
        parked = load.reading[:options.parked]
        for client in parked:
            client.end(None)
        if parked:
            left_at, since = server.figure("holdfast_topic_published_total"), {"messages": 0, "kept": 1}
            def ask_ring():
                server.measure()
                since["messages"] = server.figure("holdfast_topic_published_total") - left_at
                since["kept"] = server.figure("holdfast_ring_messages")
            load.until("the ring is overrun", lambda: since["messages"] > since["kept"], every=ask_ring,
                       progress=lambda: since["messages"])
            print(f"{len(parked)} clients have left; {since['messages']} messages later the ring keeps {since['kept']}", flush=True)
        before, load.longest_turn = time.monotonic(), 0
        server.end(signal.SIGTERM)
        load.until("the server drains", lambda: server.process.poll() is not None, every=server.measure,
                   progress=lambda: len(load.open))
        if server.process.returncode != 0:
            faults.append(f"the server ended with {server.process.returncode}")
        servers.append(Server(arguments))
        load.restarted()
        for client in parked:
            load.later(client, 0)
        load.until_served("all clients are back", every=lambda: servers[-1].measure())
        print(f"all clients are back and up to date {time.monotonic() - before:.1f} s after SIGTERM", flush=True)
        if browser:
            had = {kind: page["feeds"][kind]["received"] for kind in page["feeds"]}
            look(both(lambda feed: feed["opened"] >= 2))
            look(lambda p: all(p["feeds"][kind]["received"] > had[kind] + 5 for kind in had))
            os.makedirs(options.report, exist_ok=True)
            for scheme in ("light", "dark"):
                browser.screenshot(f"{options.report}/push_gateway_{scheme}.png", scheme, lambda: load.turn(0))
        if "sse" in kinds:
            faults += check_sent_away(load.sent_away, sum(c.kind == "sse" for c in load.reading[options.parked:]), stagger, load.longest_turn)
        if "ws" in kinds and load.close_codes != {1012}:
            faults.append(f"the WebSockets were closed with {load.close_codes}, not 1012")

        print(f"{'':22} {'connections':>11} {'received':>10} {'missing':>8} {'doubled':>8} {'gaps':>6} {'snapshots':>10}")
        rows = [("clients, " + kind, vars(load.totals[kind])) for kind in kinds]
        if browser:
            rows += [("browser, " + kind, {**feed, "connected": feed["opened"]}) for kind, feed in page["feeds"].items()]
        for name, t in rows:
            print(f"{name:22} {t['connected']:11} {t['received']:10} {t['missing']:8} {t['doubled']:8} {t['gaps']:6} "
                  f"{t['snapshots']:10}")
            gaps = sum(name == f"clients, {client.kind}" for client in parked)
            faults += [f"{name}: {t[what]} {what}, not {expected}"
                       for what, expected in (("missing", 0), ("doubled", 0), ("gaps", gaps)) if t[what] != expected]
        if options.kill:
            server = servers[-1]
            server.end(signal.SIGKILL)
            server.process.wait()
            servers.append(Server(arguments))
            load.restarted()
            load.until_served("all clients are back", every=lambda: servers[-1].measure())
            notified = sum(load.totals[kind].gaps for kind in ("sse", "ws")) - len(parked)
            print(f"after SIGKILL: {notified} of {options.clients} clients were notified of the gap and sent the state, "
                  f"missing {sum(t.missing for t in load.totals.values())}, "
                  f"doubled {sum(t.doubled for t in load.totals.values())}")
            if notified != options.clients:
                faults.append("a client was not notified of the gap")
            faults += [f"after SIGKILL, {kind}: missing or doubled" for kind in ("sse", "ws")
                       if load.totals[kind].missing or load.totals[kind].doubled]
            if browser:
                had = {kind: page["feeds"][kind]["received"] for kind in page["feeds"]}
                look(lambda p: all(feed["snapshots"] > 1 and feed["received"] > had[kind] + 5
                                   for kind, feed in p["feeds"].items()))
                for kind, feed in page["feeds"].items():
                    figures = {what: feed[what] for what in ("gaps", "missing", "doubled")}
                    print(f"after SIGKILL, browser, {kind}: {figures}")
                    if figures != {"gaps": 1, "missing": 0, "doubled": 0}:
                        faults.append(f"after SIGKILL, browser, {kind}: {figures}")
        for each in servers:
            bound = each.base + count * each.each
            print(f"RssAnon of process {each.process.pid}: at most {each.rss / 2**20:.1f} MiB; its bound for {count} "
                  f"connections: {bound / 2**20:.1f} MiB")
            if not options.any_memory and (each.rss == 0 or each.rss > bound):
                faults.append("the memory exceeds the bound")
    finally:
        if browser:
            browser.end()
        for each in servers:
            if each.process.poll() is None:
                each.process.kill()
    for fault in faults:
        print("FAULT:", fault)
    print("gateway: " + ("nothing missed, nothing doubled, " + ("any memory" if options.any_memory else "within the bound") if not faults else "failed"))
    return 1 if faults else 0


main()
