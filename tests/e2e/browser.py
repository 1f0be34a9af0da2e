"""A headless Chromium through chromedriver (the WebDriver protocol over HTTP), with the standard library alone."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"enter": "\ue007", "escape": "\ue00c", "tab": "\ue004", "shift": "\ue008"}


def missing():
    """Why there is no browser here, or None."""
    for name in ("chromium", "chromedriver"):
        if not shutil.which(name):
            return f"{name} is not installed"
    return None


class Browser:
    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.profile = tempfile.TemporaryDirectory()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}", "--log-level=SEVERE"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self.profile.name})
        self.session = None
        until = time.time() + 60
        while self.session is None:
            try:
                self.session = "/session/" + self.open_session()["sessionId"]
            except (ConnectionError, urllib.error.URLError):
                if time.time() > until or self.driver.poll() is not None:
                    self.close()
                    raise
                time.sleep(0.1)

    def open_session(self):
        flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                 f"--user-data-dir={self.profile.name}/profile", "--window-size=900,700"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        return self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError(json.load(e)["value"]["message"].splitlines()[0]) from None

    def go(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def script(self, text, *args):
        return self.call("POST", self.session + "/execute/sync", {"script": text, "args": list(args)})

    def find(self, css):
        return self.call("POST", self.session + "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.call("POST", f"{self.session}/element/{self.find(css)}/click", {})

    def write(self, css, text):
        self.call("POST", f"{self.session}/element/{self.find(css)}/value", {"text": text})

    def press(self, *names):
        """To whatever has the focus; several at once are held together."""
        down = [{"type": "keyDown", "value": KEYS.get(n, n)} for n in names]
        up = [{"type": "keyUp", "value": KEYS.get(n, n)} for n in reversed(names)]
        self.call("POST", self.session + "/actions", {"actions": [{"type": "key", "id": "keys", "actions": down + up}]})

    def text(self, css):
        return self.script("const e = document.querySelector(arguments[0]); return e ? e.innerText : null", css)

    def wait(self, script, seconds=60, what=None):
        """Until the script returns something true, which is returned."""
        until = time.time() + seconds
        while True:
            got = self.script(script)
            if got:
                return got
            if time.time() > until:
                raise AssertionError(f"waited in vain for {what or script}; page: {self.text('body')!r}")
            time.sleep(0.05)

    def log(self, kind):
        return self.call("POST", self.session + "/se/log", {"type": kind})

    def close(self):
        if self.session:
            try:
                self.call("DELETE", self.session)
            except (AssertionError, OSError):
                pass
        self.driver.terminate()
        self.driver.wait(30)
        self.profile.cleanup()
