"""Headless Chromium over the DevTools protocol, spoken through a pair of pipes.

The browser reads commands from its file descriptor 3 and writes answers to 4, one JSON text each,
ended by a zero byte; so no package for web sockets is needed.
"""

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import time

__all__ = ["Browser", "Tab"]

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
LAUNCH = """
import os, sys
commands, answers = (os.dup(int(end)) for end in sys.argv[1:3])
for end, number in ((commands, 3), (answers, 4)):
    os.dup2(end, number)
    os.set_inheritable(number, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Brings the pipes to the numbers that the browser expects."""
PATIENCE = 20
"""Seconds until an answer that does not come fails the test."""


class Browser:
    """A running browser; ends with the `with` block."""

    def __init__(self, executable, profile):
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCH, str(read_there), str(write_there)),
                *(executable, *OPTIONS, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._in, self._out = write_here, read_here
        self._pending, self._count = b"", 0
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError, AssertionError):
            self.send("Browser.close")
        os.close(self._in)
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, method, session=None, **parameters):
        """Send a command and wait for its answer; what happens meanwhile goes to `events`."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._in, json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def tab(self, page, *, size=(1280, 900), dark=False, scripts=True, touch=False):
        """Open a page (a path) in a tab of its own."""
        return Tab(self, page, size=size, dark=dark, scripts=scripts, touch=touch)

    def _receive(self):
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            part = os.read(self._out, 1 << 20)
            assert part, "the browser has ended"
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)


class Tab:
    """A page in a browser, with everything that the browser complained of or asked the network."""

    def __init__(self, browser, page, *, size, dark, scripts, touch):
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        attached = browser.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        width, height = size
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        if touch:
            self.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.send("Page.navigate", url=page.as_uri())
        self._wait_for_load()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._browser.send("Target.closeTarget", targetId=self._target)

    def send(self, method, **parameters):
        return self._browser.send(method, self._session, **parameters)

    def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_until(self, expression):
        """Until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.05)

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start, end):
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        for share in (0.25, 0.5, 0.75, 1):
            x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def swipe(self, start, end):
        """One finger over the screen."""
        self._touch("touchStart", start)
        for share in (0.25, 0.5, 0.75, 1):
            self._touch("touchMove", [a + share * (b - a) for a, b in zip(start, end, strict=True)])
        self._touch("touchEnd")

    def _touch(self, kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def picture(self, *, whole=False):
        """A PNG of what is in view, or of the whole page."""
        parameters = {}
        if whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            parameters = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        shot = self.send("Page.captureScreenshot", format="png", **parameters)
        return base64.b64decode(shot["data"])

    @property
    def complaints(self):
        """Errors and warnings on the console, exceptions, and breaches of the page's policy."""
        found = []
        for event in self._events():
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"])
            elif event["method"] == "Runtime.consoleAPICalled":
                if parameters["type"] in ("error", "warning", "assert"):
                    found.append(parameters["args"])
            elif event["method"] == "Log.entryAdded":
                found.append(parameters["entry"]["text"])
        return found

    @property
    def requests(self):
        """Addresses that the page asked for, but its own and those it holds itself."""
        asked = [
            event["params"]["request"]["url"]
            for event in self._events()
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked[1:] if not url.startswith(("data:", "blob:"))]

    def _events(self):
        return [e for e in self._browser.events if e.get("sessionId") == self._session]

    def _wait_for_load(self):
        end = time.monotonic() + PATIENCE
        while not any(e["method"] == "Page.loadEventFired" for e in self._events()):
            assert time.monotonic() < end, "the page does not load"
            self.send("Page.getFrameTree")  # brings the events that came meanwhile
            time.sleep(0.02)
