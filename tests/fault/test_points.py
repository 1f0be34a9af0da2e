"""Every named fault point (src/base/fault.h) once, under sixteen requests at a time.

A fault ends the request that it happens to, with one error, or, where it is a device's, those of the
step; the others get the bytes that they get alone, everything is given back, and the request that
failed is answered when it comes again. A point that is never reached fails the test, and so does one
that EXPECT does not know. Needs a build with OCT_DEBUG.

OCTET_SEED replays a run's choices, OCTET_POINT takes only the points whose name holds it.
"""
import http.client
import json
import mmap
import os
import random
import re
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import FOLDER, OCTET, Server, in_parallel, main  # noqa: E402

SEED = int(os.environ.get("OCTET_SEED", random.randrange(1 << 30)))
ONLY = os.environ.get("OCTET_POINT", "")

GONE, SAME, STEP = "gone", "same", "step"
NO_MEMORY, FAILED = (503,), (500,)
EXPECT = {
    "net: memory for a connection": (503, GONE),  # the refusal may be lost with the socket
    "net: memory for an exchange": NO_MEMORY,
    "net: memory for a head": NO_MEMORY,
    "net: memory for a body": NO_MEMORY,
    "net: queue of the workers is full": NO_MEMORY,
    "net: receiving fails": (GONE,),
    "net: sending fails": (GONE,),
    "net: memory for an answer": (GONE,),
    "net: client reads too slowly": (GONE,),
    "engine: random source fails": FAILED,
    "engine: value is not finite": FAILED,
    "engine: no token is allowed": FAILED,
    "engine: prompt's value is not finite": FAILED,
    "engine: drawn token does not exist": FAILED,
    "sched: no block for who runs": (SAME,),
    "sched: no blocks for who waits": (SAME,),
    "sched: no block for guesses": (SAME,),
    "kv: what was cached is forgotten": (SAME,),
    "kv: salt is forgotten": (SAME,),
}
# What keeps blocks is never needed: whatever fails there, nobody sees another answer.
for what in ("kv: what was computed is not entered", "kv: no shelf is free", "kv: what was read is not entered",
             "engine: copy to or from a shelf fails", "engine: copy of what is saved fails"):
    EXPECT[what] = (SAME,)
for what in ("no job is free", "file cannot be opened", "read is short", "memory for a key", "folder cannot be read",
             "file gets no name", "write is refused"):
    EXPECT["kvstore: " + what] = (SAME,)
for what in ("for a job", "for a parsed body", "for a list of ids", "for stop strings", "to render", "to tokenize",
             "for prompts", "for choices", "for an id", "for the prompt's text", "for an event", "for logprobs",
             "for the usage event", "for an answer's text", "for a whole answer"):
    EXPECT["api: memory " + what] = NO_MEMORY
for what in ("for a request", "for tokens", "for stop ids", "to find stop strings", "for stop strings", "for biases",
             "for bad words", "for a mask", "for a salt", "for prompt logprobs", "for a row's counts",
             "for a row's biases", "for a row's mask", "for a token's text", "for released text"):
    EXPECT["engine: memory " + what] = NO_MEMORY
for what in ("too many requests wait", "too many tokens wait", "inbox is closed", "time is up"):
    EXPECT["engine: " + what] = NO_MEMORY
EXPECT["model: recording does not begin"] = (STEP,)
for what in ("write", "embed", "feed", "norm", "linear", "attn_input", "attention", "act", "gather", "sample", "read",
             "event_record", "capture_end", "replay", "step"):
    EXPECT["device: " + what] = (STEP,)

TEXT = "the and all the "
STORY = "abcdefghijklmnopqrstuvwxyz"
SMALL = dict(max_tokens=14, ignore_eos=True)
WARM = dict(SMALL, temperature=0.9)
# One request of each kind; each with a prompt of its own behind a beginning that all share.
KINDS = [
    ("chat", dict(SMALL, stream=True, temperature=0, logprobs=True, top_logprobs=2)),
    ("text", dict(WARM, stream=True, logprobs=2)),
    ("text", dict(WARM, stream=True, repetition_penalty=1.3, frequency_penalty=0.2)),
    ("text", dict(WARM, stream=True, logit_bias={"98": 3, "99": -100})),
    ("text", dict(WARM, stream=True, allowed_token_ids=list(range(97, 123)))),
    ("text", dict(WARM, stream=True, bad_words=["b", "cd"], repetition_penalty=1.1)),
    ("text", dict(WARM, stop=["zyx", "qq"], stop_token_ids=[64], min_tokens=6)),
    ("text", dict(WARM, cache_salt="tenant", stream=True)),
    ("text", dict(SMALL, temperature=0, prompt_logprobs=2)),
    ("text", dict(WARM, stream=True, echo=True, logprobs=1)),
    ("text", dict(WARM, n=2, logprobs=1)),
    ("chat", dict(WARM, logprobs=True)),
    ("chat", dict(WARM, stream=True, stream_options={"include_usage": True})),
    ("text", dict(WARM, return_token_ids=True)),
    ("text", dict(SMALL, temperature=0, cache_salt="tenant")),
    ("text", dict(SMALL, temperature=1, top_k=1, stream=True)),  # without a seed
]
PLAIN = [("text", dict(SMALL, temperature=0, stream=i % 2 == 0)) for i in range(16)]


def requests_of(kinds):
    out = []
    for i, (route, fields) in enumerate(kinds):
        body = dict(fields)
        if not ("top_k" in body and "seed" not in body):
            body["seed"] = 1000 + i
        own = TEXT * 3 + STORY + STORY[i % 3:i % 3 + 5 + i]  # what follows can be guessed
        if route == "chat":
            body["messages"] = [{"role": "user", "content": own}]
        else:
            body["prompt"] = own
        out.append(("/v1/chat/completions" if route == "chat" else "/v1/completions", body, f"request-{i}"))
    return out


class Board:
    """The words that this test and the server share; see src/base/fault.h."""

    def __init__(self, name):
        self.path = os.path.join(FOLDER, name)
        open(self.path, "wb").close()
        self.map = None

    def open(self):
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.names = [self.map[at:at + 56].split(b"\0")[0].decode()
                      for at in range(32, 32 + 64 * self.word(3), 64)]

    def word(self, i):
        return struct.unpack_from("=I", self.map, 4 * i)[0]

    def who(self):
        return struct.unpack_from("=Q", self.map, 16)[0]

    def visits(self):
        return [struct.unpack_from("=Q", self.map, 32 + 64 * i + 56)[0] for i in range(len(self.names))]

    def arm(self, point, countdown):
        struct.pack_into("=I", self.map, 0, 0)
        struct.pack_into("=I", self.map, 4, countdown)
        struct.pack_into("=I", self.map, 8, 0)
        struct.pack_into("=I", self.map, 0, point + 1)

    def disarm(self):
        struct.pack_into("=I", self.map, 0, 0)
        return self.word(2)


class Way(unittest.TestCase):
    """One server. Points that it never passes are left to the others."""

    flags, kinds, share = (), KINDS, 1.0
    seqs, blocks = "12", "44"  # fewer than sixteen requests want
    beginnings = ("",)  # of the points that this way is for
    early = ()  # points that are passed only while there is something new
    reached, tried = set(), set()

    @classmethod
    def setUpClass(cls):
        cls.rng = random.Random(f"{SEED} {cls.__name__}")
        cls.board = Board(cls.__name__)
        cls.server = Server("--num-gpu-blocks-override", cls.blocks, "--max-num-seqs", cls.seqs, "--enable-server-load-tracking",
                            "--max-num-batched-tokens", "64", *cls.flags, env={"OCTET_FAULT_BOARD": cls.board.path,
                                 "VLLM_SERVER_DEV_MODE": "1"})
        cls.board.open()
        cls.requests = cls.make_requests()

    @classmethod
    def make_requests(cls):
        return requests_of(cls.kinds)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}: {cls.server.log_text()[-4000:]}")

    # ---- one request, sixteen requests ----

    def ask(self, i):
        """("ok", bytes), (status of its one error,) or ("gone",)"""
        path, body, label = self.requests[i]
        try:
            status, _, raw = self.server.request("POST", path, body, {"X-Request-Id": label})
        except (http.client.HTTPException, OSError):
            return (GONE,)
        if status != 200:
            error = json.loads(raw)["error"]
            self.assertEqual(error["code"], status)
            return (status,)
        text = re.sub(rb'"created":\d+', b"", raw)
        if not body.get("stream"):
            return ("ok", text)
        events = text.decode().split("\n\n")
        errors = [json.loads(e[6:])["error"]["code"] for e in events if e.startswith('data: {"error"')]
        self.assertEqual((events[-2], events[-1]), ("data: [DONE]", ""), (i, events[-4:]))
        self.assertEqual(text.count(b"[DONE]"), 1)
        self.assertLessEqual(len(errors), 1, (i, events))
        if errors:
            self.assertTrue(events[-3].startswith('data: {"error"'))
        return (errors[0],) if errors else ("ok", text)

    def ask_all(self):
        return in_parallel([lambda i=i: self.ask(i) for i in range(len(self.requests))])

    def run_with(self, point, countdown):
        """The answers and how often the point fired."""
        self.board.arm(point, countdown)
        answers = self.ask_all()
        return answers, self.board.disarm()

    # ---- what must hold ----

    def check_base(self, name):
        s = self.server
        s.wait_idle()
        self.assertEqual(s.request("GET", "/health")[0], 200, name)
        self.assertEqual(json.loads(s.request("GET", "/load")[2])["server_load"], 0, name)

    def check_answers(self, name, answers):
        """The answers are those of alone, but for the requests that failed; these, in a list."""
        failed = [i for i, a in enumerate(answers) if a[0] != "ok"]
        for i, answer in enumerate(answers):
            if i not in failed:
                self.assertEqual(answer, self.alone[i], (name, i))
        for i in failed:
            self.assertEqual(self.ask(i), self.alone[i], (name, "again", i))
        return failed

    def check_point(self, point, name, n_visits):
        want = EXPECT[name]
        for countdown in (self.rng.randint(1, n_visits), self.rng.randint(1, max(1, n_visits // 4)), 1):
            answers, n_fired = self.run_with(point, countdown)
            who = self.board.who()
            failed = self.check_answers(name, answers)
            self.check_base(name)
            if n_fired > 0:  # another course of things may have had fewer visits
                break
            self.assertEqual(failed, [], name)
        else:
            return None
        self.assertEqual(n_fired, 1, name)
        told = sorted({answers[i][0] for i in failed}, key=str)
        if want == (SAME,):
            self.assertEqual(failed, [], name)
        elif want == (STEP,):
            self.assertGreaterEqual(len(failed), 1, name)
            self.assertEqual(told, [500], name)
        else:
            self.assertEqual(len(failed), 1, (name, [(i, answers[i][0]) for i in failed]))
            self.assertIn(told[0], want, name)
            if 1000 <= who < 1000 + len(answers):
                self.assertEqual(failed[0], who - 1000, name)
        return len(failed)

    def walk(self):
        self.alone = [self.ask(i) for i in range(len(self.requests))]
        for i, a in enumerate(self.alone):
            self.assertEqual(a[0], "ok", (i, a))
        counts = {}
        for name in self.early:
            counts[name] = self.check_point(self.board.names.index(name), name, 1)
            Way.tried.add(name)
        for _ in range(2):
            before = self.board.visits()
            self.assertEqual(self.check_answers("no fault", self.ask_all()), [])
            visits = [b - a for a, b in zip(before, self.board.visits())]
        self.check_base("no fault")
        n_fds = len(os.listdir(f"/proc/{self.server.process.pid}/fd"))
        n_threads = len(os.listdir(f"/proc/{self.server.process.pid}/task"))
        for point, name in enumerate(self.board.names):
            if visits[point] == 0 or ONLY not in name or not name.startswith(self.beginnings):
                continue
            Way.reached.add(name)
            if name in Way.tried and self.rng.random() > self.share:
                continue
            n_failed = self.check_point(point, name, visits[point])
            if n_failed is not None:
                counts[name] = n_failed
                Way.tried.add(name)
        end = time.monotonic() + 10
        while len(os.listdir(f"/proc/{self.server.process.pid}/fd")) > n_fds and time.monotonic() < end:
            time.sleep(0.02)
        self.assertLessEqual(len(os.listdir(f"/proc/{self.server.process.pid}/fd")), n_fds)
        self.assertEqual(len(os.listdir(f"/proc/{self.server.process.pid}/task")), n_threads)
        print(f"{type(self).__name__}: {len(counts)} points, {sum(counts.values())} requests failed, seed {SEED}")


class Points1Overlap(Way):
    """Steps overlap; everything at once."""

    flags = ("--async-scheduling",)

    def test_KV8_KV9_SM3_every_point(self):
        self.walk()


class Points2InTurn(Way):
    """One step after the other, with guesses."""

    flags = ("--no-async-scheduling", "--enforce-eager", "--speculative-config",
             '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}')
    seqs, blocks = "32", "96"  # room for guesses
    share = 0.3

    def test_KV8_KV9_SM3_every_point(self):
        self.walk()


class Points3Recorded(Way):
    """Plain requests, whose steps are recorded and replayed."""

    flags = ("--async-scheduling", "--compilation-config", '{"cudagraph_mode": "FULL", "cudagraph_num_of_warmups": 0}')
    kinds = PLAIN
    share = 0.3
    early = ("device: capture_end", "model: recording does not begin")

    def test_KV8_KV9_SM3_every_point(self):
        self.walk()


class Points4Kept(Way):
    """Blocks go to host memory and to a folder. Each time from nothing: first all is computed, then found."""

    flags = ("--kv-store", os.path.join(FOLDER, "blocks"), "--kv-offloading-size", "0.0002", "--block-size", "32")
    seqs, blocks = "6", "40"
    beginnings = ("kv: ", "kvstore: ", "engine: copy")

    @classmethod
    def make_requests(cls):
        return [("/v1/completions", dict(SMALL, temperature=0, seed=1000 + i, stream=i % 2 == 0, logprobs=2,
                                         prompt=(STORY[i:] + STORY[:i]) * 5 + STORY[:i]), f"request-{i}")
                for i in range(16)]

    def wait_written(self):
        before, end = -1, time.monotonic() + 5
        while time.monotonic() < end:
            now = self.server.metric("octet:kv_store_blocks")
            if now == before:
                return
            before = now
            time.sleep(0.1)

    def ask_all(self):
        self.assertEqual(self.server.request("POST", "/reset_prefix_cache", None)[0], 200)
        first = super().ask_all()
        self.wait_written()
        again = super().ask_all()
        for i, answer in enumerate(first):
            if answer[0] == "ok":
                self.assertEqual(answer, self.alone[i])
        return [b if a[0] == "ok" else a for a, b in zip(first, again)]

    def test_KV4_KV10_OS4_every_point(self):
        self.walk()
        for name in ("octet:kv_store_reads", "octet:kv_offload_stores", "octet:kv_offload_loads"):
            self.assertGreater(self.server.metric(name + "_total"), 0)


class Points5All(unittest.TestCase):
    def test_no_point_is_left_out(self):
        if not ONLY:
            self.assertEqual(set(EXPECT) - Way.tried, set())
        self.assertEqual(Way.reached - set(EXPECT), set())
        self.assertGreaterEqual(len(EXPECT), 40)


def has_points():
    with open(OCTET, "rb") as f:
        return b"OCTET_FAULT_BOARD" in f.read()


if __name__ == "__main__":
    if OCTET and not has_points():
        print("SKIPPED: this build has no fault points (OCT_DEBUG)")
        sys.exit(77)
    print(f"seed {SEED}")
    main()
