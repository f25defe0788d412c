#!/usr/bin/env python3
"""Runs three push_gateway nodes behind HAProxy, with Redis between them, and shows that no client misses a message.

Starts everything on free ports of loopback, and thousands of clients of both kinds (server-sent events and WebSocket) that
come through HAProxy, one in four of them over TLS, which HAProxy ends; with --browser a Chromium with the nodes' page, too.
Publishes messages into the stream itself, so that it knows each id. Then come the faults: each node restarted in turn, a node
killed, Redis stopped and started, HAProxy reloaded, clients that continue on another node, a stream that was trimmed. Prints
a line for each; exits with 1 where an id is missing or doubled, a gap is not as it must be, a connection is refused while
nodes are restarted, or a node's memory exceeds its bound.

Ten million connections, on paper
---------------------------------
Measured over loopback, one process on one core, release build: a stream costs push_gateway 3.9 KB (an idle session of the
library alone 0.65 to 1.4 KB, `benchmarks/run idle_ws`) and the kernel 4.5 KB at the server's end; a connection with its request
and the first state 110 us of processor, without TLS; a message to one client 13 to 15 us, most of it the kernel's. The plan that
push_gateway prints states the most: 63 KB a connection in the process and 146 KB in the kernel, when each client has stopped reading.

- Nodes: 64 GiB hold 328,000 connections at the plan's most; so 250,000 a node, 16 processes of one core each, and 40 nodes.
  One that is lost leaves 256,000 to each of the others. Idle they take 2.1 GB a node, 84 GB in all.
- Messages: a core sends 70,000 a second, so a node 4.4 messages a second to each of its clients. The feed's messages of 6
  quotes (700 bytes) are then 6 Gbit/s a node. Beyond that: fewer and larger messages, or topics.
- Engine: every process reads each message once: 640 readers x 4.4 = 2,800 entries and 2 MB a second, whatever the number of
  clients. One Redis does that; each node reading once for its 16 processes makes it 176. A replica that takes over
  without the last entries shows as a gap.
- Loss of a node: 250,000 clients come again within 1.5 s, 4,300 a second to each other node, 270 to each process: 3 % of a
  core; with a TLS handshake (0.5 ms assumed) 16 %. `accepts_per_second` of a process may be 500 then; a backlog of 4,096
  holds what comes in the meantime.
- Loss of everything: 15,600 clients come to each process. At 500 a second that is half a minute, and a backlog overflows
  after half a second: clients need a retry time that grows, beyond the one that the server has named.
- What breaks first is not a node but the balancer: HAProxy holds two sockets for each connection, and from one address
  to one address and port 64,000 of them. Ten million need 20 of it with several addresses each, or a balancer of packets (ECMP,
  IPVS), behind which nodes see the clients themselves. Next are system calls for messages, then the network; memory is last.
- After a reload HAProxy's leastconn counts from zero: nodes that are full get new connections like empty ones. So each node
  must bear, or reject, more than its share; here `--max-connections` is that of all clients.

SPDX-License-Identifier: BSL-1.0
"""
import argparse, csv, http.client, io, json, os, random, resource, shutil, signal, socket, ssl, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
from browser import Browser
from push_clients import PROXY, Load, Server, start

INSTRUMENTS = 24

# HAProxy sees TCP connections, not requests: it has no parser between a client and a node, and a stream costs it two
# sockets and their buffers. On the second port it ends TLS; the nodes behind see the same bytes.
HAPROXY = """
global
    maxconn {maxconn}
    ssl-default-bind-options ssl-min-ver TLSv1.2
    stats socket {directory}/haproxy.sock mode 600 level admin
    hard-stop-after 5m          # of the old process after a reload: its streams end until then
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s          # both longer than the time between two pings of a node (a third of its --timeout)
    timeout server 60s
    timeout check 5s            # a node that is busy for a moment, as with a storm of connections, has not gone
    retries 3                   # a node that has just gone: the connection goes to another one,
    option redispatch 1         # at the first retry
frontend clients
    bind fd@{listener}          # the script's socket: the new process of a reload has the same backlog. As a service: -W, and
                                # reloads by SIGUSR2 hand the sockets on
    bind fd@{tls_listener} ssl crt {directory}/balancer.pem
    default_backend nodes
backend nodes
    balance leastconn           # connections live for hours: turns would leave a node that joins empty
    option httpchk
    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host nodes hdr Connection close
    # 503 takes a node out at once. A draining node says so for its --notice, four of these intervals, before it closes its
    # listener. slowstart: a node that joins has the fewest connections, and would get all new ones at once.
    default-server send-proxy-v2 check check-send-proxy inter 250ms fall 1 rise 1 slowstart {slowstart}s
"""


def free_port():
    """Below the range of source ports: a connection could take the port while what listens there is restarted."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low = int(file.read().split()[0])
    for _ in range(100):
        try:
            with socket.create_server(("127.0.0.1", random.randrange(max(1024, low - 12000), low) if low > 2048 else 0)) as some:
                return some.getsockname()[1]
        except OSError:
            pass  # in use
    sys.exit(f"there is no free port below {low}")


class Redis:
    """A Redis that keeps what it has acknowledged, and one connection to it."""

    def __init__(self, program, directory):
        self.port = free_port()
        self.arguments = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory, "--save", "",
                          "--appendonly", "yes", "--appendfsync", "always", "--logfile", f"{directory}/redis.log"]
        self.start()

    def start(self):
        self.process = start(self.arguments)
        end = time.monotonic() + 20
        while True:
            try:
                self.connection = socket.create_connection(("127.0.0.1", self.port), 10).makefile("rwb")
                if self.call("PING") == b"PONG":
                    return
            except (OSError, RuntimeError):  # not there yet, or loading
                if time.monotonic() > end or self.process.poll() is not None:
                    sys.exit("redis-server did not start")
                time.sleep(0.05)

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait(20)

    def call(self, *words):
        self.connection.write(b"*%d\r\n" % len(words))
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            self.connection.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.connection.flush()
        return self.reply()

    def reply(self):
        line = self.connection.readline().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self.connection.read(int(rest) + 2)[:-2] if rest != b"-1" else None
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind in (b"+", b":"):
            return rest
        raise RuntimeError(f"redis: {line.decode() or 'the connection has ended'}")


class Published:
    """The messages of the stream, whose ids are all known. Number n changes instrument n % INSTRUMENTS at time n."""

    def __init__(self, redis, per_second):
        self.redis, self.interval = redis, 1 / per_second
        self.index, self.last, self.due, self.on = {}, b"", 0.0, True

    def __len__(self):
        return len(self.index)

    def publish(self, count=1):
        for n in range(len(self.index), len(self.index) + count):
            quote = {"id": n % INSTRUMENTS, "symbol": "SYM", "bid": 100 + n % 97, "ask": 101 + n % 97, "bid_size": 100,
                     "ask_size": 200, "time": n, "open": True}
            self.last = self.redis.call("XADD", "quotes", "MAXLEN", "~", 10000, "*", "d", json.dumps([quote]))
            self.index[self.last] = n

    def turn(self):
        if self.on and time.monotonic() >= self.due:
            self.due = time.monotonic() + self.interval
            self.publish()


class Clients(Load):
    """The ids are those of the stream, whose order is that of their publication. Of each client every message after its
    first has to come, once."""

    def __init__(self, published, port, tls_port, certificate, count):
        self.published, self.unknown = published, 0
        super().__init__(port, ("sse", "ws"), count, may_refuse=True)
        self.tls_port, context = tls_port, ssl.create_default_context(cafile=certificate)
        for client in self.clients[::8] + self.clients[1::8]:  # of both kinds
            client.tls = context

    def note(self, client, text, snapshot):
        n, totals, before = self.published.index.get(text), client.totals, client.at
        if n is None:
            self.unknown += 1
            return
        if snapshot:
            totals.snapshots += 1
            totals.gaps += before is not None
        else:
            totals.received += 1
            if before is None or n > before + 1:
                totals.missing += n - before - 1 if before is not None else 1
            elif n <= before:
                totals.doubled += 1
        client.last, client.at = text, n

    def turn(self, seconds=0.05):
        self.published.turn()
        super().turn(seconds)

    def sums(self):
        each = (self.totals["sse"], self.totals["ws"])
        return {name: sum(vars(t)[name] for t in each) for name in vars(each[0])}

    def up_to_date(self, which=None):
        """Whether each client is connected, and has what was published so far."""
        newest = len(self.published) - 1
        which = self.clients if which is None else which
        return lambda: all(c.socket is not None and c.at is not None and c.at >= newest for c in which)

    def park(self, client):
        """Its connection ends, and it does not come again until `later`."""
        if client.socket is not None:
            client.end(None)
        elif client in self.waiting:
            self.waiting.remove(client)


class Cluster:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.redis, self.nodes, self.all_nodes, self.balancers = None, [], [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.tls_listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port, self.tls_port = self.listener.getsockname()[1], self.tls_listener.getsockname()[1]
        self.browser, self.page, self.page_totals = None, {}, {}
        self.most = options.clients + 200  # of a node: after a reload HAProxy counts from zero, and spreads less evenly
        self.peaks = {}

    def start(self):
        o = self.options
        self.redis = Redis(o.redis_server, self.directory)
        self.published = Published(self.redis, o.rate)
        self.published.publish(2 * INSTRUMENTS)  # the whole state
        self.nodes = [self.start_node(free_port()) for _ in range(o.nodes)]
        with open(f"{self.directory}/haproxy.cfg", "w") as file:
            file.write(HAPROXY.format(maxconn=o.clients + 200, directory=self.directory, listener=self.listener.fileno(),
                                      tls_listener=self.tls_listener.fileno(), slowstart=o.slowstart))
            for i, node in enumerate(self.nodes):
                file.write(f"    server node{i + 1} 127.0.0.1:{node.port}\n")
        certificate = self.make_certificate()
        self.start_balancer()
        self.clients = Clients(self.published, self.port, self.tls_port, certificate, o.clients)

    def make_certificate(self):
        """For HAProxy, which reads it with its key from one file; returns the file of the certificate alone."""
        certificate, key = f"{self.directory}/certificate.pem", f"{self.directory}/key.pem"
        subprocess.run([self.options.openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                        "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out",
                        certificate], check=True, stdout=self.log, stderr=self.log)
        with open(f"{self.directory}/balancer.pem", "w") as both:
            for name in (certificate, key):
                with open(name) as file:
                    both.write(file.read())
        return certificate

    def start_node(self, port):
        node = Server([self.options.node, "--port", str(port), "--redis", f"127.0.0.1:{self.redis.port}",
                       "--instruments", str(INSTRUMENTS), "--proxy", "127.0.0.1", "--max-connections", str(self.most),
                       "--notice", "1s", "--shed", "33", "--stagger", f"{self.options.stagger}s", "--drain", f"{self.options.stagger + 8}s"],
                      behind_balancer=True, stderr=self.log)
        self.all_nodes.append(node)
        return node

    def start_balancer(self, *arguments):
        self.balancers.append(start([self.options.haproxy, "-db", "-f", f"{self.directory}/haproxy.cfg", *arguments],
                                    pass_fds=[self.listener.fileno(), self.tls_listener.fileno()], stdout=self.log, stderr=self.log))
        self.until("HAProxy has all nodes", lambda: self.up() == len(self.nodes), lambda: time.sleep(0.1))

    @property
    def log(self):
        return open(f"{self.directory}/log", "a")

    def up(self):
        """How many nodes HAProxy sends connections to."""
        try:
            with socket.socket(socket.AF_UNIX) as to:
                to.connect(f"{self.directory}/haproxy.sock")
                to.sendall(b"show stat\n")
                rows = csv.DictReader(io.StringIO(b"".join(iter(lambda: to.recv(65536), b"")).decode()))
                return sum(row["svname"].startswith("node") and row["status"] == "UP" for row in rows)
        except OSError:
            return 0

    def until(self, what, done, turn=None, deadline=60):
        end, next_look, result = time.monotonic() + deadline, 0.0, False
        while not result:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + 0.25
                for node in self.nodes:
                    node.measure()
                result = done()
            (turn or self.clients.turn)()
            if time.monotonic() > end:
                sys.exit(f"not within {deadline} s: {what}; {self.clients.sums()}; {self.tail()}")

    def tail(self):
        with open(f"{self.directory}/log") as file:
            return "".join(file.readlines()[-20:])

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.clients.turn()

    def all_up_to_date(self, which=None):
        self.published.publish()
        self.until("all clients are up to date", self.clients.up_to_date(which))

    def all_up(self):
        self.until("HAProxy has all nodes", lambda: self.up() == len(self.nodes))

    def connections(self):
        """Of each node, without the one that asks."""
        return [node.figure("holdfast_connections") - 1 for node in self.nodes]

    # The page of a node in a browser. Its ids do not show whether one is missing: that is counted here.

    def open_page(self):
        self.browser = Browser(self.options.browser, f"http://127.0.0.1:{self.port}/", f"{self.directory}/profile")
        self.look_at_page(lambda p: p["rows"] == INSTRUMENTS and all(f["received"] > 2 for f in p["feeds"].values()))

    def look_at_page(self, done):
        """Until done(page)."""
        def asked():
            self.page = self.browser.feeds(lambda: self.clients.turn(0))
            return len(self.page["feeds"]) == 2 and done(self.page)
        self.until("the page", asked)

    def check_page(self):
        """Returns what it has received since the last check, which has to be what was published, and its faults."""
        before, newest = self.page["feeds"], self.published.last.decode()
        number = lambda feed: self.published.index[feed["last"].encode()]
        self.look_at_page(lambda p: all(number(f) >= self.published.index[newest.encode()] for f in p["feeds"].values()))
        faults = []
        for kind, feed in self.page["feeds"].items():
            d = {name: feed[name] - before[kind][name] for name in ("received", "doubled", "gaps", "opened")}
            d["missing"] = number(feed) - number(before[kind]) - d["received"]
            totals = self.page_totals.setdefault(kind, dict.fromkeys(d, 0))
            for name in d:
                totals[name] += d[name]
            faults += [f"the page, {kind}: {d[name]} {name}" for name in ("missing", "doubled", "gaps") if d[name]]
        return faults

    # The faults.

    def connect(self):
        self.all_up_to_date()
        if self.options.browser:
            self.open_page()

    def roll(self):
        for i, node in enumerate(self.nodes):
            node.end(signal.SIGTERM)
            self.until("the node drains", lambda: node.process.poll() is not None)
            if node.process.returncode != 0:
                sys.exit(f"node {i + 1} ended with {node.process.returncode}: {self.tail()}")
            self.nodes[i] = self.start_node(node.port)
            self.all_up()
        self.all_up_to_date()

    def kill(self):
        node = self.nodes[0]
        node.end(signal.SIGKILL)
        node.process.wait()
        self.all_up_to_date()
        self.nodes[0] = self.start_node(node.port)
        self.all_up()

    def shed(self):
        for node in self.nodes[1:]:  # the first has joined
            node.end(signal.SIGUSR2)
        self.pause(self.options.stagger + 2.5)  # clients come again within two seconds
        least = self.options.clients // self.options.nodes // 2
        self.until("the node that has joined has a share", lambda: self.connections()[0] >= least)
        self.all_up_to_date()

    def redis_away(self):
        self.published.on = False
        self.redis.stop()
        self.pause(self.options.outage)
        health = self.nodes[0].get("/healthz")
        if " 200 " not in health or "ready, but redis" not in health:
            sys.exit(f"/healthz without Redis: {health}")
        if self.up() != len(self.nodes):
            sys.exit("HAProxy has taken nodes out while Redis was away")
        self.redis.start()
        self.published.on = True
        self.all_up_to_date()

    def reload(self):
        self.start_balancer("-sf", str(self.balancers[-1].pid))
        self.pause(1)
        self.all_up_to_date()

    def other_node(self):
        some = self.clients.clients[:self.options.clients // 50]
        self.move(some, self.nodes[0])
        for node in self.nodes[1:]:
            node.end(signal.SIGSTOP)  # they have had messages that it has not
            self.published.publish(3)
            self.until("the clients are up to date", self.clients.up_to_date(some))
            self.move(some, node)
            self.pause(0.2)
            node.end(signal.SIGCONT)
            self.all_up_to_date()

    def move(self, clients, node):
        for client in clients:  # to the node, past the balancer
            self.clients.park(client)
            client.port = node.port
            self.clients.later(client, 0)

    def trim(self):
        some = self.clients.clients[:self.options.clients // 50]
        for client in some:
            self.clients.park(client)
        self.published.publish(20)
        self.until("the others are up to date", self.clients.up_to_date(self.clients.clients[len(some):]))
        self.redis.call("XTRIM", "quotes", "MAXLEN", 10)
        node = self.nodes[-1]
        node.end(signal.SIGTERM)
        self.until("the node drains", lambda: node.process.poll() is not None)
        self.nodes[-1] = self.start_node(node.port)  # it has what the stream has
        self.all_up()
        self.move(some, node)
        self.all_up_to_date()
        return len(some)  # each has a gap

    def check_state(self):
        """The state that a client gets without an id, from each node, is that of the messages up to its id."""
        for node in self.nodes:
            connection = http.client.HTTPConnection("127.0.0.1")
            connection.sock = socket.create_connection(("127.0.0.1", node.port), 20)
            connection.sock.sendall(PROXY)
            connection.request("GET", "/events")
            lines = iter(connection.getresponse().readline, b"\n")
            event = dict(line.rstrip(b"\n").split(b": ", 1) for line in lines if b": " in line)
            n = self.published.index[event[b"id"]]
            times = [row["time"] for row in json.loads(event[b"data"])]
            if times != [n - (n - i) % INSTRUMENTS for i in range(INSTRUMENTS)]:
                sys.exit(f"the state of a node at message {n} is {times}")
            connection.close()

    def end(self):
        if self.browser:
            self.browser.end()
        for process in [node.process for node in self.all_nodes] + self.balancers + ([self.redis.process] if self.redis else []):
            if process.poll() is None:
                process.kill()
                process.wait()


def run(options, directory):
    cluster, faults, began = Cluster(options, directory), [], time.monotonic()
    try:
        cluster.start()
        clients, published = cluster.clients, cluster.published
        secure = sum(client.tls is not None for client in clients.clients)
        print(f"{options.nodes} nodes, {options.clients} clients through HAProxy, {secure} of them over TLS, which it ends; "
              f"{options.rate:g} messages a second\n\n"
              f"{'':38} {'seconds':>7} {'published':>9} {'received':>9} {'missing':>7} {'doubled':>7} {'gaps':>5} {'refused':>7} "
              f"{'reconnects':>10} {'over TLS':>8}  connections of each node", flush=True)
        for name, fault, may_refuse in (
                ("clients connect", cluster.connect, False),
                ("each node restarted in turn", cluster.roll, False),
                ("a node killed, and started again", cluster.kill, True),
                ("the others shed a third", cluster.shed, False),
                (f"Redis stopped, started {options.outage:g} s later", cluster.redis_away, False),
                ("HAProxy reloaded", cluster.reload, False),
                ("clients continue on another node", cluster.other_node, False),
                ("the stream trimmed beyond their ids", cluster.trim, False)):
            before, count, start_time = clients.sums(), len(published), time.monotonic()
            expected_gaps = fault() or 0
            if fault != cluster.trim:
                cluster.check_state()
            d = {key: value - before[key] for key, value in clients.sums().items()}
            print(f"{name:38} {time.monotonic() - start_time:7.1f} {len(published) - count:9} {d['received']:9} "
                  f"{d['missing']:7} {d['doubled']:7} {d['gaps']:5} {d['refused']:7} "
                  f"{d['connected'] if fault != cluster.connect else 0:10} "
                  f"{d['secured'] if fault != cluster.connect else 0:8}  {' '.join(map(str, cluster.connections()))}", flush=True)
            faults += [f"{name}: {d[what]} {what}" for what in ("missing", "doubled") if d[what]]
            if d["gaps"] != expected_gaps:
                faults.append(f"{name}: {d['gaps']} gaps, not {expected_gaps}")
            if d["refused"] and not may_refuse:
                faults.append(f"{name}: {d['refused']} connections refused")
            if cluster.browser and fault not in (cluster.connect, cluster.trim):  # it may reconnect to the node that has a gap
                faults += [f"{name}: {each}" for each in cluster.check_page()]
        for kind, t in cluster.page_totals.items():
            print(f"{'a page in Chromium, ' + kind:38} {'':7} {'':9} {t['received']:9} {t['missing']:7} {t['doubled']:7} {t['gaps']:5} "
                  f"{'':7} {t['opened']:10}")
            if t["opened"] == 0:
                faults.append(f"the page, {kind}: it has not connected again")
        if clients.unknown:
            faults.append(f"{clients.unknown} messages have an id that was not published")
        print()
        for i, port in enumerate(node.port for node in cluster.nodes):
            rss = max(node.rss for node in cluster.all_nodes if node.port == port)
            bound = cluster.nodes[i].base + cluster.most * cluster.nodes[i].each
            print(f"node {i + 1}: RssAnon at most {rss / 2**20:.1f} MiB; its bound for {cluster.most} connections: "
                  f"{bound / 2**20:.1f} MiB")
            if rss == 0 or rss > bound:
                faults.append("the memory exceeds the bound")
    finally:
        cluster.end()
    for fault in faults:
        print("FAULT:", fault)
    print(f"cluster, {time.monotonic() - began:.0f} s: " + ("nothing missed, nothing doubled, within the bounds" if not faults else "failed"))
    return 1 if faults else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("node", help="the program push_gateway")
    parser.add_argument("--clients", type=int, default=5000, help="half of them WebSockets (default 5000)")
    parser.add_argument("--nodes", type=int, default=3, help="at least 2 (default 3)")
    parser.add_argument("--rate", type=float, default=2, help="messages a second (default 2)")
    parser.add_argument("--outage", type=float, default=10, help="seconds without Redis (default 10)")
    parser.add_argument("--stagger", type=int, default=3, help="seconds over which a node sends its clients away (default 3)")
    parser.add_argument("--slowstart", type=int, default=3, help="of HAProxy, in seconds (default 3)")
    parser.add_argument("--redis-server", default=shutil.which("redis-server"), help="the program")
    parser.add_argument("--haproxy", default=shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin"), help="the program")
    parser.add_argument("--openssl", default=shutil.which("openssl"), help="the program, which makes a certificate")
    parser.add_argument("--browser", help="the program chromium; without it there is no page")
    options = parser.parse_args()
    for name in ("redis_server", "haproxy", "openssl"):
        if not getattr(options, name):
            print(f"cluster: there is no {name.replace('_', '-')}: apt-get install redis-server haproxy openssl")
            sys.exit(2)
    if options.nodes < 2 or options.clients < 50:
        parser.error("at least 2 nodes and 50 clients")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 2 * options.clients + 1000 > most:  # HAProxy's
        parser.error(f"--clients: at most {(most - 1000) // 2}, as the limit of descriptors is {most} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("cluster: ended by a signal"))
    with tempfile.TemporaryDirectory(prefix="push_cluster") as directory:
        sys.exit(run(options, directory))


main()
