"""Clients of push_gateway, of both kinds and in any number, on one thread; and the process of a server.

For gateway_check.py and cluster_check.py.
SPDX-License-Identifier: BSL-1.0
"""
import ctypes, random, re, select, signal, socket, ssl, subprocess, sys, time

PROXY = b"PROXY TCP4 127.0.0.1 127.0.0.1 1000 2000\r\n"  # as a balancer sends it
EVENT = re.compile(rb"id: ([0-9a-f]+(?:-\d+)?)\n")  # begins with a literal, for which Python searches fast
SNAPSHOT = b"event: snapshot\n"  # before the id
RETRY = re.compile(rb"retry: (\d+)\n")
MESSAGE = re.compile(rb'\{"id":"([0-9a-f]+(?:-\d+)?)","event":"(\w+)"')


class Totals:
    def __init__(self):
        self.connected = self.received = self.missing = self.doubled = self.gaps = self.snapshots = self.refused = 0
        self.secured = 0  # of `connected`: over TLS


class Client:
    """One connection at a time, to the load's port or to one of its own. `last` is the id that it has had last, and `at` is
    what `Load.note` remembers of it."""

    def __init__(self, load, kind, reads=True):
        self.load, self.kind, self.reads = load, kind, reads
        self.totals = load.totals[kind if reads else "never read"]
        self.last = b""
        self.at = None
        self.socket = None
        self.port = None  # of a server behind a balancer: the client sends the balancer's header itself, without TLS
        self.tls = None  # the context, for the load's `tls_port`
        self.fresh = 0  # messages since the last (re)start of the server, by a connection since then
        self.restarts = 0  # of the server before its connection
        self.due = 0.0

    def connect(self):
        self.restarts = self.load.restarts
        self.head, self.buffer, self.retry = True, b"", None
        self.secure = self.tls is not None and self.port is None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if not self.reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        self.socket.connect_ex(("127.0.0.1", self.port or (self.load.tls_port if self.secure else self.load.port)))
        self.descriptor = self.socket.fileno()
        self.load.open[self.descriptor] = self
        self.load.epoll.register(self.socket, select.EPOLLOUT)
        self.connecting = True

    def end(self, wait):
        """Connects again after that time; None: not by itself."""
        if self.head and self.reads:
            self.totals.refused += 1
        del self.load.open[self.descriptor]
        self.load.epoll.unregister(self.descriptor)
        self.socket.close()
        self.socket = None
        if wait is not None:
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
            if self.secure and not self.handshake():
                return
            self.connecting = False
            proxy = PROXY if self.port else b""
            if self.kind == "ws":
                self.send(proxy + b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            else:
                more = b"Last-Event-ID: " + self.last + b"\r\n" if self.last else b""
                self.send(proxy + b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + more + b"\r\n")
            self.load.epoll.modify(self.socket, select.EPOLLIN if self.reads else select.EPOLLHUP)
            if not self.reads:
                self.totals.connected += 1
            return
        if not self.reads:
            return self.end(random.uniform(0.5, 2))
        try:
            while True:
                data = self.socket.recv(65536)
                self.buffer += data
                if not data or not self.secure or self.socket.pending() == 0:
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            return self.end(random.uniform(0.5, 2) if self.retry is None else self.retry / 1000)
        if self.head:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if self.buffer[9:12] not in (b"200", b"101"):
                if not self.load.may_refuse:
                    sys.exit(f"unexpected response: {self.buffer[:end].decode()}")
                return self.end(random.uniform(0.5, 2))
            self.head, self.buffer = False, self.buffer[end + 4:]
            self.totals.connected += 1
            self.totals.secured += self.secure
            if self.kind == "ws":
                self.frame(1, self.last)
        self.ws() if self.kind == "ws" else self.sse()

    def handshake(self):
        """Whether it is complete."""
        try:
            if not isinstance(self.socket, ssl.SSLSocket):
                self.socket = self.tls.wrap_socket(self.socket, server_hostname="localhost", do_handshake_on_connect=False)
            self.socket.do_handshake()
            return True
        except ssl.SSLWantReadError:
            self.load.epoll.modify(self.socket, select.EPOLLIN)
        except ssl.SSLCertVerificationError as error:
            sys.exit(f"the certificate: {error}")
        except OSError:
            self.end(random.uniform(0.5, 2))
        return False

    def sse(self):
        end = self.buffer.rfind(b"\n\n")
        if end >= 0:
            for event in EVENT.finditer(self.buffer, 0, end + 2):
                self.load.note(self, event[1], self.buffer.endswith(SNAPSHOT, 0, event.start()))
            for retry in RETRY.finditer(self.buffer, 0, end + 2):
                self.retry = int(retry[1])
                self.load.sent_away.append((time.monotonic(), self.retry))
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
                self.load.note(self, message[1], message[2] == b"snapshot")
            elif opcode == 8:
                self.load.close_codes.add(int.from_bytes(data[:2], "big"))
                self.frame(8, data[:2])
                return self.end(random.uniform(0.5, 2))
            elif opcode == 9:
                self.frame(10, data)
        self.buffer = self.buffer[at:]


class Load:
    """All clients, on one thread. `note(client, id, snapshot)`, of a derived class, is called for each message."""

    def __init__(self, port, kinds, count, never=0, may_refuse=False):
        self.may_refuse = may_refuse
        self.tls_port = None
        self.port, self.epoll, self.open, self.waiting, self.close_codes = port, select.epoll(), {}, [], set()
        self.longest_turn, self.turn_began = 0, time.monotonic()
        self.restarts = 0
        self.sent_away = []  # of clients of server-sent events: when, and the time to wait before the next attempt
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
        self.longest_turn, self.turn_began = max(self.longest_turn, now - self.turn_began), now
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

    def until(self, what, done, deadline=90, every=lambda: None, progress=lambda: None, at_most=1200):
        """Takes turns until `done()`. Exits where `progress()` has been the same for `deadline` seconds: a machine with other
        work is slow, and is no fault of the server's."""
        begun = changed = time.monotonic()
        last, at = 0, progress()
        while not done():
            self.turn()
            now = time.monotonic()
            if now - last <= 0.25:
                continue
            last = now
            every()
            if (reached := progress()) != at:
                changed, at = now, reached
            if now - changed > deadline or now - begun > at_most:
                sys.exit(f"no progress for {now - changed:.0f} s, {now - begun:.0f} s in all: {what} ({at}); "
                         + str({k: vars(t) for k, t in self.totals.items()}))

    def restarted(self):
        """The messages that still come by the connections of the last server are none of the new one's."""
        self.restarts += 1
        for client in self.clients:
            client.fresh = 0

    def until_served(self, what, every, messages=3):
        """Until each client that reads has had so many messages since the last (re)start. Progress is their number."""
        served = lambda: sum(client.fresh >= messages for client in self.reading)
        self.until(what, lambda: all(client.fresh >= messages for client in self.reading), every=every, progress=served)


def start(arguments, **more):
    """Starts a program that the kernel ends with this script, however that ends."""
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1
    return subprocess.Popen(arguments, preexec_fn=lambda: libc.prctl(pr_set_pdeathsig, signal.SIGKILL), **more)


class Server:
    def __init__(self, arguments, behind_balancer=False, **more):
        self.behind_balancer = behind_balancer
        self.process = start(arguments, stdout=subprocess.PIPE, text=True, **more)
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
        return self.figures(name)[0]

    def figures(self, name):
        """The values of a metric, with whichever label."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M)
        return [int(float(value)) for value in found]

    def get(self, path):
        """The response to a request, in text."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as to:
            to.sendall((PROXY if self.behind_balancer else b"") + f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return b"".join(iter(lambda: to.recv(65536), b"")).decode()

    def end(self, number):
        self.process.send_signal(number)
