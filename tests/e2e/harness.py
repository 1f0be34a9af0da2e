"""What the end-to-end tests share: a tiny model, a server process, and a client that sends raw bytes.

OCTET names the binary; without it the tests cannot run. Standard library only.
"""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_tiny  # noqa: E402

OCTET = os.environ.get("OCTET", "")
STORY = make_tiny.STORY.decode()
FOLDER = tempfile.mkdtemp(prefix="octet-e2e-")
MODEL = os.path.join(FOLDER, "model")
PATIENCE = 60  # seconds; a server under a sanitizer is slow


def _is_sanitized():
    try:
        with open(OCTET, "rb") as f:
            text = f.read()
        return b"__asan_init" in text or b"__tsan_init" in text
    except OSError:
        return False


SANITIZED = _is_sanitized()  # memory and times are not the product's
# What must happen within a second does so on a machine that has nothing else to do.
SOON = 1.0 if os.getloadavg()[0] < (os.cpu_count() or 1) and not SANITIZED else 6.0


def _clean():
    shutil.rmtree(FOLDER, ignore_errors=True)


atexit.register(_clean)


def tiny_model():
    if not os.path.exists(MODEL):
        make_tiny.make(MODEL)
    return MODEL


def story_from(text, n):
    """The n characters that the model tells after this one."""
    at = STORY.index(text) + 1
    return "".join(STORY[(at + i) % len(STORY)] for i in range(n))


def octet(*args, status=0, timeout=120, **how):
    """A finished run of a command. status: what it must end with; None: whatever."""
    r = subprocess.run([OCTET, *args], timeout=timeout, capture_output=True, text=True,
                       check=False, **how)
    if status is not None and r.returncode != status:
        raise AssertionError((args, r.returncode, r.stderr))
    return r


def run_serve(*args, env=None, timeout=60):
    """A finished run of octet serve."""
    full = dict(os.environ)
    full.pop("VLLM_API_KEY", None)
    full.update(env or {})
    return octet("serve", *args, status=None, timeout=timeout, env=full)


# The wrapper of tests/fault/preload.c.
PRELOAD = os.environ.get("PRELOAD_FAULTS", "")


def preloaded(**faults):
    """Environment of a server between which and the C library the wrapper stands."""
    # It stands before a sanitizer's own, which complains unless told.
    return {"LD_PRELOAD": PRELOAD, **faults,
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}


class Server:
    """A running server. Its log goes to a file."""

    tls = None  # an ssl.SSLContext for clients

    def __init__(self, *flags, model=None, env=None, host="127.0.0.1", uds=None, stderr=None,
                 preexec=None, dev=False, tls=None):
        self.tls = tls
        self.log = tempfile.NamedTemporaryFile("w+", dir=FOLDER, suffix=".log", delete=False)
        full = dict(os.environ)
        full.pop("VLLM_API_KEY", None)
        full.pop("VLLM_SERVER_DEV_MODE", None)
        if dev:  # the routes for development
            full["VLLM_SERVER_DEV_MODE"] = "1"
        full.update(env or {})
        where = ["--uds", uds] if uds else ["--host", host, "--port", "0"]
        self.process = subprocess.Popen(
            [OCTET, "serve", model or tiny_model(), "--served-model-name", "tiny", "-q", "int8",
             "--threads", "2", *where, *flags],
            env=full, stdout=subprocess.PIPE, stderr=stderr or self.log, text=True,
            preexec_fn=preexec)
        line = self.process.stdout.readline()
        found = re.search(r"serving tiny on (?:https?://.*:(\d+)|unix:)", line)
        if not found:
            self.process.kill()
            raise AssertionError(f"no server: {line!r} {self.log_text()}")
        self.port = int(found.group(1) or 0)
        self.known = None
        self.known = self.ask_known() if not env and not uds and "--api-key" not in flags else None

    def log_text(self):
        with open(self.log.name, encoding="utf-8") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM, timeout=PATIENCE):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(timeout)
        self.process.stdout.close()
        self.log.close()
        return status

    # ---- requests ----

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(self, method, path, body=None, headers=None):
        """status, headers, bytes"""
        c = self.connect()
        try:
            h = dict(headers or {})
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            if body is not None:
                h.setdefault("Content-Type", "application/json")
            c.request(method, path, body, h)
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def post(self, path, body, headers=None):
        status, _, raw = self.request("POST", path, body, headers)
        return status, json.loads(raw)

    def complete(self, **body):
        return self.post("/v1/completions", body)

    def chat(self, **body):
        body.setdefault("messages", [{"role": "user", "content": "Hi"}])
        return self.post("/v1/chat/completions", body)

    def events(self, path, body, headers=None):
        """The data of all events of a stream, "[DONE]" included."""
        status, head, raw = self.request("POST", path, dict(body, stream=True), headers)
        assert status == 200, (status, raw)
        assert head["content-type"] == "text/event-stream; charset=utf-8", head
        text = raw.decode()
        assert text.endswith("data: [DONE]\n\n"), text[-200:]
        out = []
        for event in text.split("\n\n")[:-1]:
            assert event.startswith("data: ") and "\n" not in event, event
            out.append(event[6:])
        return [json.loads(e) for e in out[:-1]] + out[-1:]

    def raw(self, data, wait=15.0, half_close=False):
        """All bytes that come back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            got = b""
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    got += piece
            except (ConnectionError, socket.timeout):
                pass
            return got

    # ---- how it goes ----

    def metrics(self):
        status, _, raw = self.request("GET", "/metrics")
        assert status == 200
        out = {}
        for line in raw.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def metric(self, name):
        """The sum over all label values of a series."""
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name)

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(x.split()[1]) for x in f if x.startswith("VmRSS")) / 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_idle(self, seconds=10):
        """Nothing runs, waits or holds cache blocks."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting",
                 "vllm:kv_cache_usage_perc")
        end = time.monotonic() + seconds
        while True:
            m = {k.split("{")[0]: v for k, v in self.metrics().items()}
            if all(m[n] == 0 for n in names):
                return
            if time.monotonic() > end:
                raise AssertionError({n: m[n] for n in names})
            time.sleep(0.02)

    def ask_known(self):
        """A request whose answer must always be the same bytes (but for the time)."""
        out = b""
        for path, body in (
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Tell: a"}],
                                          "max_tokens": 24, "seed": 7, "temperature": 0.9,
                                          "logprobs": True, "top_logprobs": 3}),
                ("/v1/completions", {"prompt": "the a", "max_tokens": 16, "temperature": 0,
                                     "stream": True})):
            status, _, raw = self.request("POST", path, body, {"X-Request-Id": "known"})
            assert status == 200, raw
            out += re.sub(rb'"created":\d+|"(metrics|timings)":\{[^}]*\}', b"", raw)
        return out


class Case(unittest.TestCase):
    """Tests of one server; after each a known request must answer with the same bytes."""

    flags = ()
    dev = False

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags, dev=cls.dev)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}: {cls.server.log_text()[-2000:]}")

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the server ended")
        if self.server.known is not None:
            self.assertEqual(self.server.ask_known(), self.server.known)

    # ---- refusals ----

    def check_error(self, answer, status, kind, param=None, words=()):
        got, body = answer
        self.assertEqual(got, status, body)
        self.assertEqual(set(body), {"error"})
        e = body["error"]
        self.assertEqual(set(e), {"message", "type", "param", "code"})
        self.assertEqual((e["type"], e["code"]), (kind, status), e)
        if param is not None:
            self.assertEqual(e["param"], param, e)
        for w in words:
            self.assertIn(w, e["message"])
        self.assertLessEqual(len(json.dumps(body)), 4096)

    def refused(self, answer, param=None, *words):
        self.check_error(answer, 400, "BadRequestError", param, words)

    def malformed(self, answer, param=None, *words):
        self.check_error(answer, 400, "Bad Request", param, words)


def in_parallel(functions):
    """Runs all at once; their results in order."""
    results = [None] * len(functions)
    failures = []

    def work(i, fn):
        try:
            results[i] = fn()
        except BaseException as e:  # noqa: B902
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i, f)) for i, f in enumerate(functions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]
    return results


def main():
    if not OCTET:
        print("SKIP: OCTET does not name the binary")
        sys.exit(77)
    unittest.main(verbosity=1)
