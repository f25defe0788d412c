"""A headless Chromium with the page of push_gateway.

For gateway_check.py and cluster_check.py.
SPDX-License-Identifier: BSL-1.0
"""
import base64, json, os, pathlib, select, signal, subprocess, sys, time


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
            preexec_fn=pipes, close_fds=False, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": os.path.dirname(profile)})  # it leaves files there
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
            self.process.wait()
        # Its helpers outlive it for a moment, and write to the profile, which the caller is going to remove.
        end = time.monotonic() + 10
        while time.monotonic() < end and self.has_helpers():
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
            time.sleep(0.01)

    def has_helpers(self):
        """Whether a process of the browser's group still runs. One that has ended stays in the group until it is reaped,
        which is for the system's first process to do: not each container's does."""
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has gone meanwhile
                continue
            if int(group) == self.process.pid and state not in "ZX":
                return True
        return False
