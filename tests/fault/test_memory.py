"""Row OS5: the n-th request for memory of a whole `octet serve` is refused, once or for ever.

Libraries and the C library are refused as well (preload_memory.c). A start ends with status 4 or goes
well without; a request is answered or refused with 503, and the server goes on; a shutdown ends with
status 0; quantize and inspect give what they always give or end with status 4. No crash, no hang, and under ASan no leak.

In the suite a sample of all n, which OCTET_SEED replays; with OCTET_ALL=1 every one.
"""
import http.client
import json
import mmap
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import FOLDER, OCTET, PATIENCE, SANITIZED, Server, main, octet, tiny_model  # noqa: E402

SEED = int(os.environ.get("OCTET_SEED", 1))  # the suite's; `ninja long` takes others
ALL = os.environ.get("OCTET_ALL", "") not in ("", "0")
PRELOAD = os.environ.get("PRELOAD_MEMORY", "")
ONCE, EVER = 1, 2
# A sanitizer does not survive to be refused at the end of the process, when it looks for leaks.
TO_THE_END = (ONCE,) if SANITIZED else (ONCE, EVER)
FLAGS = ("--num-gpu-blocks-override", "64", "--max-num-seqs", "8", "--max-num-batched-tokens", "64",
         "--disable-log-stats")


class Board:
    def __init__(self, name):
        self.path = os.path.join(FOLDER, name)
        with open(self.path, "wb") as f:
            f.write(bytes(16))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 16)
        self.env = {"OCTET_MEMORY_BOARD": self.path, "LD_PRELOAD": PRELOAD,
                    # The sanitizer complains of what is loaded before it, and says itself when memory is short.
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
                    # Nor does it tell which of its own suppressions were used: octet's sentence is the last one.
                    "LSAN_OPTIONS": os.environ.get("LSAN_OPTIONS", "") + ":print_suppressions=0"}

    def word(self, i):
        return struct.unpack_from("=I", self.map, 4 * i)[0]

    def arm(self, what, n):
        struct.pack_into("=I", self.map, 0, 0)
        struct.pack_into("=2I", self.map, 8, 0, 0)
        struct.pack_into("=I", self.map, 4, n)
        struct.pack_into("=I", self.map, 0, what)

    def disarm(self):
        """How many requests for memory there were, and how many of them were refused."""
        struct.pack_into("=I", self.map, 0, 0)
        return self.word(2), self.word(3)


def some_of(n_all, n_wanted, what):
    """All of 1 .. n_all, or a sample: the last ones, and others of every part."""
    if ALL or n_all <= n_wanted:
        return list(range(1, n_all + 1))
    rng = random.Random(f"{SEED} {what}")
    parts = [n_all * i // n_wanted for i in range(n_wanted + 1)]
    return [rng.randint(a + 1, b) for a, b in zip(parts, parts[1:])]


class Start(unittest.TestCase):
    def run_once(self, board, what, n):
        """(exit status, stderr, did it serve)"""
        board.arm(what, n)
        p = subprocess.Popen([OCTET, "serve", tiny_model(), "-q", "int8", "--threads", "2", "--host", "127.0.0.1",
                              "--port", "0", "--served-model-name", "tiny", *FLAGS],
                             env={**os.environ, **board.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready, _, _ = select.select([p.stdout], [], [], PATIENCE)
        line = p.stdout.readline().decode() if ready else ""
        port = re.search(r"serving tiny on http://.*:(\d+)", line)
        self.n_asked, self.n_refused = board.disarm()
        if port:
            c = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=PATIENCE)
            c.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 4, "temperature": 0}),
                      {"Content-Type": "application/json"})
            self.assertEqual(json.loads(c.getresponse().read())["choices"][0]["text"], "bcde", (what, n))
            c.close()
            p.send_signal(signal.SIGTERM)
        try:
            _, err = p.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            p.kill()
            _, err = p.communicate()
            self.fail((what, n, "hangs", err.decode()))
        return p.returncode, err.decode(), bool(port)

    def test_OS5_start(self):
        board = Board("start")
        status, err, served = self.run_once(board, 0, 0)
        self.assertEqual((status, served), (0, True), err)
        n_all, ends = self.n_asked, {}
        for what in TO_THE_END:
            for n in some_of(n_all, 12 if SANITIZED else 25, what):
                status, err, served = self.run_once(board, what, n)
                last = err.strip().splitlines()[-1] if err.strip() else ""
                self.assertNotIn("Sanitizer", err, (what, n))
                if status == 127 and "memory for thread-local data: ABORT" in err:
                    continue  # the C library's loader ends the process itself
                self.assertEqual(status, 0 if served else 4, (what, n, err[-3000:]))
                if not served:
                    self.assertTrue(last.startswith("octet: error: "), (what, n, err))
                ends[(what, status)] = ends.get((what, status), 0) + 1
        print(f"start: {n_all} requests for memory; ends by (kind, status): {ends}, seed {SEED}")


BODIES = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Tell me of the a"}], "max_tokens": 6,
                              "temperature": 0, "stream": True, "logprobs": True, "top_logprobs": 2}),
    ("/v1/completions", {"prompt": ["the a", "and"], "n": 2, "max_tokens": 5, "temperature": 0.8, "seed": 3,
                         "logit_bias": {"98": 2}, "stop": ["zz"], "bad_words": ["q"], "repetition_penalty": 1.2,
                         "logprobs": 1, "cache_salt": "s"}),
    ("/v1/completions", {"prompt": "all the a", "max_tokens": 4, "temperature": 0, "prompt_logprobs": 1, "echo": True,
                         "allowed_token_ids": [98, 99, 100, 101]}),
    ("/tokenize", {"prompt": "the hand"}),
)
OTHERS = (("GET", "/metrics", None), ("GET", "/v1/models", None), ("POST", "/v1/completions", "{\"prompt\": "))


class Requests(unittest.TestCase):
    flags = ("--async-scheduling",)

    @classmethod
    def setUpClass(cls):
        cls.board = Board(cls.__name__)
        cls.server = Server(*FLAGS, *cls.flags, env=cls.board.env)
        cls.known = cls.server.ask_known()

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}: {cls.server.log_text()[-4000:]}")

    def ask(self, method, path, body):
        """None: the connection was closed; else status and text without times and ids."""
        try:
            status, _, raw = self.server.request(method, path, body, {"X-Request-Id": "x"})
        except (http.client.HTTPException, OSError):
            return None
        return status, re.sub(r'"created":\s*\d+', "", raw.decode())

    def check(self, method, path, body):
        s, board = self.server, self.board
        good = self.ask(method, path, body)
        board.arm(0, 0)
        self.assertEqual(good, self.ask(method, path, body) if path != "/metrics" else good)
        n_all, _ = board.disarm()
        ends = {}
        for what in (ONCE, EVER):
            for n in some_of(n_all, 30 if SANITIZED else 150, (what, path)):
                board.arm(what, n)
                answer = self.ask(method, path, body)
                board.disarm()
                where = (what, n, path)
                self.assertIsNone(s.process.poll(), (where, s.log_text()[-3000:]))
                end = "closed"
                if answer is not None:
                    end = answer[0]
                    refused = '"code":503' in answer[1]
                    self.assertIn(end, (good[0], 503), (where, answer))
                    if end == 503:
                        self.assertTrue(refused, (where, answer))
                    elif refused and "data: " in answer[1]:
                        end = "ended by an event"
                        self.assertTrue(answer[1].endswith("data: [DONE]\n\n"), (where, answer))
                    elif path != "/metrics":
                        self.assertEqual(answer, good, where)
                ends[end] = ends.get(end, 0) + 1
                if n % 8 == 0 or what == EVER:
                    self.assertEqual(s.ask_known(), self.known, where)
        s.wait_idle()
        self.assertEqual(s.ask_known(), self.known)
        self.assertEqual(s.request("GET", "/health")[0], 200)
        return n_all, ends

    def test_OS5_requests(self):
        for path, body in BODIES:
            n_all, ends = self.check("POST", path, body)
            print(f"{path}: {n_all} requests for memory: {ends}, seed {SEED}")
        for method, path, body in OTHERS:
            self.check(method, path, body)


class RequestsWithGuesses(Requests):
    flags = ("--no-async-scheduling", "--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3, '
             '"prompt_lookup_min": 1, "prompt_lookup_max": 3}')


class Shutdown(unittest.TestCase):
    def end(self, board, what, n):
        """A server with a stream that runs is told to end."""
        server = Server(*FLAGS, "--shutdown-timeout", "0", env=board.env)
        stream = server.connect()
        stream.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 2000, "temperature": 0,
                                                              "ignore_eos": True, "stream": True}),
                       {"Content-Type": "application/json"})
        stream.getresponse().readline()
        board.arm(what, n)
        status = server.stop()
        counts = board.disarm()
        stream.close()
        self.assertEqual(status, 0, (what, n, server.log_text()[-3000:]))
        self.assertNotIn("Sanitizer", server.log_text())
        return counts[0]

    def test_OS5_shutdown(self):
        board = Board("end")
        n_all = max(self.end(board, 0, 0) for _ in range(3))
        for what in TO_THE_END:
            for n in some_of(n_all, 4, what):
                self.end(board, what, n)
        print(f"shutdown: about {n_all} requests for memory, seed {SEED}")


def files_of(folder):
    """{} when there is none."""
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        with open(os.path.join(folder, name), "rb") as f:
            found[name] = f.read()
    return found


class Offline(unittest.TestCase):
    """quantize and inspect: the whole answer, or status 4."""

    def check(self, name, *args, makes=""):
        board, ends = Board(name), {}

        def once(what, n):
            shutil.rmtree(makes, ignore_errors=True)
            board.arm(what, n)
            r = subprocess.run([OCTET, *args, "--threads", "1"] if makes else [OCTET, *args], capture_output=True,
                               check=False, timeout=PATIENCE, env={**os.environ, **board.env})
            n_all, n_refused = board.disarm()
            return r.returncode, r.stdout, r.stderr.decode(), files_of(makes) if makes else {}, n_all, n_refused

        status, said, err, made, n_all, _ = once(0, 0)
        self.assertEqual(status, 0, err)
        for what in TO_THE_END:
            for n in some_of(n_all, 8 if SANITIZED else 30, (what, name)):
                status, out, err, files, _, n_refused = once(what, n)
                self.assertNotIn("Sanitizer", err, (what, n))
                if status == 127 and "memory for thread-local data: ABORT" in err:
                    continue  # as at a start
                if status == 0 and "octet: error: " not in err:
                    if not makes:  # what it makes, it also tells the time of
                        self.assertEqual(out, said, (what, n))
                    self.assertEqual(files, made, (what, n))
                else:
                    self.assertEqual(status, 4, (what, n, err[-3000:]))
                    self.assertTrue(err.strip().splitlines()[-1].startswith("octet: error: "), (what, n, err))
                ends[(what, status, n_refused > 0)] = ends.get((what, status, n_refused > 0), 0) + 1
        print(f"{name}: {n_all} requests for memory; ends by (kind, status, refused): {ends}, seed {SEED}")

    def test_OS5_quantize_and_inspect(self):
        for fmt, more in (("modelslim", ("--kv", "c8", "--max-shard-size", "16k")), ("quark", ("--kv", "tensor")),
                          ("compressed-tensors", ("--kv", "head"))):
            out = os.path.join(FOLDER, "memory-" + fmt)
            self.check(fmt, "quantize", tiny_model(), out, "--format", fmt, "--scheme", "w8a8", "--calib-tokens", "64",
                       *more, makes=out)
            octet("quantize", tiny_model(), out, "--format", fmt, "--scheme", "w8a8", "--calib-tokens", "64", *more)
            if fmt == "compressed-tensors":  # patterns, which another library reads
                path = os.path.join(out, "config.json")
                with open(path, encoding="utf-8") as f:
                    config = json.load(f)
                config["quantization_config"]["ignore"].append("re:.*(absent|missing)$")
                with open(path, "w", encoding="utf-8") as f:
                    json.dump(config, f)
            self.check("inspect " + fmt, "inspect", out, "--json", "--tensors")
            self.check("inspect two " + fmt, "inspect", tiny_model(), out, "--json")


if __name__ == "__main__":
    if not PRELOAD:
        print("SKIP: PRELOAD_MEMORY does not name the library")
        sys.exit(77)
    print(f"seed {SEED}{', all' if ALL else ''}{', sanitized' if SANITIZED else ''}")
    main()
