#!/usr/bin/env python3
"""Restarts a push_gateway under thousands of clients and a browser, and shows that no message was missed.

Starts the server, clients of both kinds (server-sent events and WebSocket) and, where one is given, a headless Chromium
with the server's page. Then it restarts the server: gracefully (SIGTERM, the ring is handed on), and with --kill by
SIGKILL too. Each client connects again by itself and names the last id that it has had. Prints a table; exits with 1 where
an id is missing or doubled, a gap is not as it must be, or the server's memory exceeds its plan.
SPDX-License-Identifier: BSL-1.0
"""
import argparse, base64, json, os, random, re, resource, select, signal, socket, subprocess, sys, tempfile, time, urllib.request

EVENT = re.compile(rb"(event: snapshot\n)?id: ([0-9a-f]+)-(\d+)\n")
MESSAGE = re.compile(rb'\{"id":"([0-9a-f]+)-(\d+)","event":"(\w+)"')


class Totals:
    def __init__(self):
        self.connected = self.received = self.missing = self.doubled = self.gaps = self.snapshots = 0


class Client:
    """One connection at a time. `last` is what it has had last, as epoch and number."""

    def __init__(self, load, kind, reads=True):
        self.load, self.kind, self.reads = load, kind, reads
        self.totals = load.totals[kind if reads else "never read"]
        self.last = None
        self.socket = None
        self.fresh = 0  # messages since the last (re)start of the server
        self.due = 0.0

    def connect(self):
        self.head, self.buffer = True, b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if not self.reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        self.socket.connect_ex(("127.0.0.1", self.load.port))
        self.load.open[self.socket.fileno()] = self
        self.load.epoll.register(self.socket, select.EPOLLOUT)
        self.connecting = True

    def end(self, wait):
        del self.load.open[self.socket.fileno()]
        self.load.epoll.unregister(self.socket)
        self.socket.close()
        self.socket = None
        self.load.later(self, wait)

    def send(self, data):
        try:
            self.socket.send(data)
        except OSError:
            pass  # reading finds the end

    def frame(self, opcode, data=b""):
        self.send(bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data)  # the mask is zero

    def ready(self):
        if self.connecting:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self.end(random.uniform(0.2, 1))  # the server is not there yet
            self.connecting = False
            last = f"{self.last[0]}-{self.last[1]}" if self.last else ""
            if self.kind == "ws":
                self.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            else:
                more = f"Last-Event-ID: {last}\r\n" if last else ""
                self.send(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{more}\r\n".encode())
            self.load.epoll.modify(self.socket, select.EPOLLIN if self.reads else select.EPOLLHUP)
            if not self.reads:
                self.totals.connected += 1
            return
        if not self.reads:
            return self.end(random.uniform(0.5, 2))
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.end(random.uniform(0.5, 2))
        self.buffer += data
        if self.head:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if self.buffer[9:12] not in (b"200", b"101"):
                sys.exit(f"unexpected response: {self.buffer[:end].decode()}")
            self.head, self.buffer = False, self.buffer[end + 4:]
            self.totals.connected += 1
            if self.kind == "ws":
                self.frame(1, f"{self.last[0]}-{self.last[1]}".encode() if self.last else b"")
        self.ws() if self.kind == "ws" else self.sse()

    def sse(self):
        end = self.buffer.rfind(b"\n\n")
        if end >= 0:
            for event in EVENT.finditer(self.buffer, 0, end + 2):
                self.note(event[2], int(event[3]), event[1] is not None)
            self.buffer = self.buffer[end + 2:]

    def ws(self):
        at = 0
        while len(self.buffer) - at >= 2:
            opcode, size, front = self.buffer[at] & 15, self.buffer[at + 1], 2
            if size == 126:
                front = 4
            elif size == 127:
                front = 10
            if len(self.buffer) - at < front:
                break
            if front != 2:
                size = int.from_bytes(self.buffer[at + 2:at + front], "big")
            if len(self.buffer) - at < front + size:
                break
            data = self.buffer[at + front:at + front + size]
            at += front + size
            if opcode == 1:
                message = MESSAGE.match(data)
                self.note(message[1], int(message[2]), message[3] == b"snapshot")
            elif opcode == 8:
                self.load.close_codes.add(int.from_bytes(data[:2], "big"))
                self.frame(8, data[:2])
                return self.end(random.uniform(0.5, 2))
            elif opcode == 9:
                self.frame(10, data)
        self.buffer = self.buffer[at:]

    def note(self, epoch, number, snapshot):
        epoch = epoch.decode()
        if snapshot:
            self.totals.snapshots += 1
            self.totals.gaps += self.last is not None
        else:
            self.totals.received += 1
            self.fresh += 1
            if self.last is None or self.last[0] != epoch or number > self.last[1] + 1:
                self.totals.missing += number - self.last[1] - 1 if self.last and self.last[0] == epoch else 1
            elif number <= self.last[1]:
                self.totals.doubled += 1
        self.last = (epoch, number)


class Load:
    def __init__(self, port, kinds, count, never):
        self.port, self.epoll, self.open, self.waiting, self.close_codes = port, select.epoll(), {}, [], set()
        self.totals = {"sse": Totals(), "ws": Totals(), "never read": Totals()}
        self.clients = [Client(self, kinds[i % len(kinds)]) for i in range(count)]
        self.clients += [Client(self, "sse", reads=False) for _ in range(never)]
        self.reading = self.clients[:count]
        for client in self.clients:
            self.later(client, 0)

    def later(self, client, wait):
        client.due = time.monotonic() + wait
        self.waiting.append(client)

    def turn(self, seconds=0.05):
        now, keep, begun = time.monotonic(), [], 0
        for client in self.waiting:
            if client.due <= now and begun < 100:  # not all in one burst
                client.connect()
                begun += 1
            else:
                keep.append(client)
        self.waiting = keep
        for fd, _ in self.epoll.poll(seconds):
            if fd in self.open:
                self.open[fd].ready()

    def until(self, what, done, deadline=90, every=lambda: None):
        end, last = time.monotonic() + deadline, 0
        while not done():
            self.turn()
            if time.monotonic() - last > 0.25:
                last = time.monotonic()
                every()
            if last > end:
                sys.exit(f"not within {deadline} s: {what}; " + str({k: vars(t) for k, t in self.totals.items()}))

    def restarted(self):
        for client in self.clients:
            client.fresh = 0

    def all_served(self, messages=3):
        return lambda: all(client.fresh >= messages for client in self.reading)


class Server:
    def __init__(self, arguments):
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        found = re.search(r":(\d+), pid", first)
        if not found:
            sys.exit(f"the server did not start: {first}")
        self.port = int(found[1])
        plan = ""
        while "ladder --plan" not in plan:
            plan = self.process.stdout.readline()
        self.base, self.each, _ = map(int, plan.split()[-1].split("+"))
        self.rss = 0

    def measure(self):
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                found = re.search(r"RssAnon:\s+(\d+)", status.read())
            self.rss = max(self.rss, int(found[1]) * 1024 if found else 0)
        except OSError:
            pass

    def figure(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as response:
            return int(re.search(rf"^{name} (\d+)$", response.read().decode(), re.M)[1])

    def end(self, number):
        self.process.send_signal(number)


class Browser:
    """A headless Chromium, spoken to over two pipes: each message of the DevTools protocol ends with a NUL."""

    def __init__(self, program, url, profile):
        to_child, self.to = os.pipe()
        self.out, from_child = os.pipe()

        def pipes():  # the child reads 3 and writes 4
            read, write = os.dup(to_child), os.dup(from_child)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-pipe", "--window-size=1100,1250", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        self.number, self.text, self.answers, self.session = 0, b"", {}, None
        self.poller = select.poll()
        self.poller.register(self.out, select.POLLIN)
        target = self.call("Target.createTarget", url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def post(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.number

    def poll(self, seconds=0.0):
        if not self.poller.poll(1000 * seconds):
            return
        part = os.read(self.out, 1 << 20)
        if not part:
            sys.exit("the browser has ended")
        *messages, self.text = (self.text + part).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self.answers[message["id"]] = message

    def call(self, method, meanwhile=lambda: None, **params):
        number, end = self.post(method, **params), time.monotonic() + 60
        while number not in self.answers:
            self.poll(0.02)
            meanwhile()
            if time.monotonic() > end:
                sys.exit(f"the browser does not answer {method}")
        answer = self.answers.pop(number)
        if "error" in answer:
            sys.exit(f"{method}: {answer['error']}")
        return answer["result"]

    def feeds(self, meanwhile):
        result = self.call("Runtime.evaluate", meanwhile, returnByValue=True, expression="JSON.stringify({feeds: window.feeds "
                           "|| {}, rows: document.querySelectorAll('#rows tr').length})")
        return json.loads(result["result"]["value"])

    def screenshot(self, path, scheme, meanwhile):
        self.call("Emulation.setEmulatedMedia", meanwhile, features=[{"name": "prefers-color-scheme", "value": scheme}])
        data = self.call("Page.captureScreenshot", meanwhile)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server", help="the program push_gateway")
    parser.add_argument("--clients", type=int, default=5000, help="that read (default 5000)")
    parser.add_argument("--kind", choices=("both", "sse", "ws"), default="both", help="of these clients (default both)")
    parser.add_argument("--never", type=int, default=50, help="clients of server-sent events that never read (default 50)")
    parser.add_argument("--until-behind", action="store_true", help="restarts once the queues of all that never read are full")
    parser.add_argument("--browser", help="the program chromium; without it there is no page")
    parser.add_argument("--report", default=".", help="the directory of the screenshots")
    parser.add_argument("--kill", action="store_true", help="ends the server by SIGKILL too: each client is notified of the gap")
    parser.epilog = "What follows -- is for the server."
    own = sys.argv[1:]
    split = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:split])
    options.arguments = own[split + 1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(prefix="push_gateway") as directory:
        sys.exit(run(options, directory))


def run(options, directory):
    count = options.clients + options.never
    arguments = [options.server, "--state", f"{directory}/state", "--max-connections", str(count + 100)] + options.arguments
    server = Server(arguments + ["--port", "0"])
    arguments += ["--port", str(server.port)]
    browser, servers, faults = None, [server], []
    try:
        kinds = {"both": ("sse", "ws")}.get(options.kind, (options.kind,))
        load = Load(server.port, kinds, options.clients, options.never)
        print(f"{count} clients connect, {options.never} of them never read", flush=True)
        load.until("all clients have messages", load.all_served(), every=lambda: servers[-1].measure())
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
            behind = {"number": 0}
            def ask():
                server.measure()
                behind["number"] = server.figure("holdfast_topic_behind")
            load.until("the queues of those that never read are full", lambda: behind["number"] >= options.never, every=ask)
            print(f"{behind['number']} clients are behind", flush=True)
        before = time.monotonic()
        server.end(signal.SIGTERM)
        load.until("the server drains", lambda: server.process.poll() is not None, every=server.measure)
        if server.process.returncode != 0:
            faults.append(f"the server ended with {server.process.returncode}")
        servers.append(Server(arguments))
        load.restarted()
        load.until("all clients are back", load.all_served(), every=lambda: servers[-1].measure())
        print(f"all clients are back and up to date {time.monotonic() - before:.1f} s after SIGTERM", flush=True)
        if browser:
            had = {kind: page["feeds"][kind]["received"] for kind in page["feeds"]}
            look(both(lambda feed: feed["opened"] >= 2))
            look(lambda p: all(p["feeds"][kind]["received"] > had[kind] + 5 for kind in had))
            os.makedirs(options.report, exist_ok=True)
            for scheme in ("light", "dark"):
                browser.screenshot(f"{options.report}/push_gateway_{scheme}.png", scheme, lambda: load.turn(0))
        if "ws" in kinds and load.close_codes != {1012}:
            faults.append(f"the WebSockets were closed with {load.close_codes}, not 1012")

        print(f"{'':22} {'connections':>11} {'received':>10} {'missing':>8} {'doubled':>8} {'gaps':>6} {'snapshots':>10}")
        rows = [("clients, " + kind, vars(load.totals[kind])) for kind in kinds]
        if browser:
            rows += [("browser, " + kind, {**feed, "connected": feed["opened"]}) for kind, feed in page["feeds"].items()]
        for name, t in rows:
            print(f"{name:22} {t['connected']:11} {t['received']:10} {t['missing']:8} {t['doubled']:8} {t['gaps']:6} "
                  f"{t['snapshots']:10}")
            faults += [f"{name}: {t[what]} {what}" for what in ("missing", "doubled", "gaps") if t[what]]
        if options.kill:
            server = servers[-1]
            server.end(signal.SIGKILL)
            server.process.wait()
            servers.append(Server(arguments))
            load.restarted()
            load.until("all clients are back", load.all_served(), every=lambda: servers[-1].measure())
            notified = sum(load.totals[kind].gaps for kind in ("sse", "ws"))
            print(f"after SIGKILL: {notified} of {options.clients} clients were notified of the gap and sent the state, "
                  f"missing {sum(t.missing for t in load.totals.values())}, "
                  f"doubled {sum(t.doubled for t in load.totals.values())}")
            if notified != options.clients:
                faults.append("a client was not notified of the gap")
            faults += [f"after SIGKILL, {kind}: missing or doubled" for kind in ("sse", "ws")
                       if load.totals[kind].missing or load.totals[kind].doubled]
        for each in servers:
            bound = each.base + count * each.each
            print(f"RssAnon of process {each.process.pid}: at most {each.rss / 2**20:.1f} MiB; its bound for {count} "
                  f"connections: {bound / 2**20:.1f} MiB")
            if each.rss == 0 or each.rss > bound:
                faults.append("the memory exceeds the bound")
    finally:
        if browser:
            browser.end()
        for each in servers:
            if each.process.poll() is None:
                each.process.kill()
    for fault in faults:
        print("FAULT:", fault)
    print("gateway: " + ("nothing missed, nothing doubled, within the bound" if not faults else "failed"))
    return 1 if faults else 0


main()
