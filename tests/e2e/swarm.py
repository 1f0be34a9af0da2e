"""Hundreds of raw HTTP clients in one thread, for test_load.py and soak.py.

Each is a Call: what it sends, how it reads (how many bytes at a time, how long it rests between
reads, how large its socket's buffer is) and when and how it leaves. What came back is parsed
strictly, after the end, so that the clients take as little of the machine as they can.
"""
import heapq
import json
import random
import selectors
import socket
import time

CLOSE, RESET, HALF = "close", "reset", "half"  # ways to leave
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class Call:
    """One request and its client.

    piece: bytes of a read; rest: seconds between reads; buffer: SO_RCVBUF (None: the system's);
    cut: bytes of the request that are sent before it leaves (None: all); leave: bytes of the
    answer that are read before it leaves (None: all); after: seconds after which it leaves;
    how: the way it leaves.
    """

    def __init__(self, request, piece=65536, rest=0.0, buffer=None, cut=None, leave=None,
                 after=None, how=CLOSE):
        self.request = request
        self.piece, self.rest, self.buffer = piece, rest, buffer
        self.cut, self.leave, self.after, self.how = cut, leave, after, how
        self.got = bytearray()
        self.sent = 0
        self.left = False      # on purpose
        self.error = None      # by the other side
        self.socket = None
        self.began = self.first = self.ended = None

    def leaves(self):
        return self.cut is not None or self.leave is not None or self.after is not None


def post(path, body, headers=""):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n").encode() + raw


def get(path, headers=""):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode()


class Swarm:
    """Runs calls, at most `width` at a time; `together` holds the last byte of each request back
    until all of them are connected."""

    def __init__(self, port, width=256, together=False, patience=120.0):
        self.port, self.width, self.together, self.patience = port, width, together, patience
        self.poll = selectors.DefaultSelector()
        self.timers = []  # (when, number, call, what)
        self.number = 0

    def run(self, calls):
        """Every call to its end; AssertionError when nothing moves for `patience` seconds."""
        waiting = list(reversed(calls))
        self.active = 0
        self.held = []
        last = time.monotonic()
        while waiting or self.active:
            while waiting and self.active < self.width:
                self.begin(waiting.pop())
            if self.together and not waiting and len(self.held) == self.active:
                self.together = False
                for c in self.held:
                    self.poll.modify(c.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, c)
            for key, events in self.poll.select(self.until_timer()):
                last = time.monotonic()
                c = key.data
                if c.socket is None:
                    continue
                if events & selectors.EVENT_WRITE:
                    self.write(c)
                if events & selectors.EVENT_READ and c.socket is not None:
                    self.read(c)
            self.fire()
            if time.monotonic() - last > self.patience:
                raise AssertionError(f"{self.active} clients are waiting, nothing moves")
        return calls

    # ---- one client ----

    def begin(self, c):
        self.active += 1
        c.began = time.monotonic()
        c.socket = socket.socket()
        if c.buffer is not None:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, c.buffer)
        c.socket.setblocking(False)
        c.socket.connect_ex(("127.0.0.1", self.port))
        self.poll.register(c.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, c)
        if c.after is not None:
            self.later(c.after, c, "leave")

    def write(self, c):
        end = len(c.request) if c.cut is None else min(c.cut, len(c.request))
        if self.together:
            end -= 1
        try:
            while c.sent < end:
                c.sent += c.socket.send(c.request[c.sent:end])
        except BlockingIOError:
            return
        except OSError as e:
            # Refused before all was sent: what it says is read.
            if c.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or c.sent == 0:
                return self.end(c, e)
        if self.together:
            self.poll.modify(c.socket, selectors.EVENT_READ, c)
            self.held.append(c)
        elif c.cut is not None:
            self.leave(c)
        else:
            self.poll.modify(c.socket, selectors.EVENT_READ, c)

    def read(self, c):
        for _ in range(1 if c.rest or c.piece > 64 else 256):
            n = c.piece if c.leave is None else min(c.piece, c.leave - len(c.got))
            if n <= 0 and not c.left:
                return self.leave(c)
            try:
                data = c.socket.recv(max(n, 1))
            except BlockingIOError:
                return None
            except OSError as e:
                return self.end(c, None if c.left else e)
            if not data:
                return self.end(c)
            if c.first is None:
                c.first = time.monotonic()
            c.got += data
        if c.rest:
            self.poll.unregister(c.socket)
            self.later(c.rest, c, "read")
        return None

    def leave(self, c):
        """On purpose. After a half-close the rest is read until the other side closes."""
        c.left = True
        if c.how == HALF:
            c.leave, c.piece, c.rest = None, 65536, 0.0
            try:
                c.socket.shutdown(socket.SHUT_WR)
                self.poll.modify(c.socket, selectors.EVENT_READ, c)
                return
            except OSError:
                pass
        if c.how == RESET:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.end(c)

    def end(self, c, error=None):
        try:
            self.poll.unregister(c.socket)
        except KeyError:
            pass
        c.socket.close()
        c.socket = None
        c.error = error
        c.ended = time.monotonic()
        self.active -= 1

    # ---- time ----

    def later(self, seconds, c, what):
        self.number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.number, c, what))

    def until_timer(self):
        return max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else 1.0

    def fire(self):
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            _, _, c, what = heapq.heappop(self.timers)
            if c.socket is None:
                continue
            if what == "read":
                self.poll.register(c.socket, selectors.EVENT_READ, c)
            elif not c.left:
                self.leave(c)


# ---- answers ----

def unchunk(raw):
    """The body of a chunked answer, which must be whole."""
    out, at = bytearray(), 0
    while True:
        end = raw.index(b"\r\n", at)
        n = int(raw[at:end], 16)
        if n == 0:
            assert raw[end:] == b"\r\n\r\n", raw[end:end + 80]
            return bytes(out)
        out += raw[end + 2:end + 2 + n]
        at = end + 2 + n
        assert raw[at:at + 2] == b"\r\n", (n, len(raw) - at)
        at += 2


def answer(call):
    """status, body of a whole answer."""
    assert call.error is None, (call.error, bytes(call.got[-200:]))
    head, _, body = bytes(call.got).partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    fields = {k.strip().lower(): v.strip() for k, _, v in
              (line.partition(b":") for line in head.split(b"\r\n")[1:])}
    if fields.get(b"transfer-encoding") == b"chunked":
        return status, unchunk(body)
    assert int(fields[b"content-length"]) == len(body), (fields, len(body))
    return status, body


def story_of(call):
    """(id, {choice: what a stream told}): text, ids, logprobs and end, in the order they came."""
    status, body = answer(call)
    assert status == 200, (status, body[:400])
    events = body.decode().split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]", events[-3:]
    ids, choices = set(), {}
    for event in events[:-2]:
        assert event.startswith("data: ") and "\n" not in event, event
        e = json.loads(event[6:])
        assert "error" not in e, e
        ids.add(e["id"])
        for c in e["choices"]:
            told = choices.setdefault(c["index"], {"text": "", "ids": [], "logprobs": [],
                                                   "end": None})
            assert told["end"] is None, "something after the end"
            told["text"] += c["text"] if "text" in c else c["delta"].get("content") or ""
            told["ids"] += c.get("token_ids") or []
            told["logprobs"] += logprobs_of(c.get("logprobs"))
            if c["finish_reason"] is not None:
                told["end"] = (c["finish_reason"], c.get("stop_reason"))
    assert len(ids) == 1 and all(c["end"] for c in choices.values()), (ids, choices.keys())
    return ids.pop(), choices


def logprobs_of(given):
    if not given:
        return []
    if "content" in given:
        return [json.dumps(x) for x in given["content"] or []]
    return [json.dumps(x) for x in zip(given["tokens"], given["token_logprobs"],
                                       given.get("top_logprobs") or given["tokens"])]


# ---- questions ----

class Asker:
    """Random requests for the model of make_tiny.py, of which a letter is a token."""

    def __init__(self, seed, most_prompt=400, most_output=200):
        self.rng = random.Random(seed)
        self.most_prompt, self.most_output = most_prompt, most_output
        self.beginnings = [self.letters(self.rng.randint(33, most_prompt)) for _ in range(12)]

    def letters(self, n):
        return "".join(self.rng.choices(ALPHABET, k=n))

    def prompt(self):
        r = self.rng
        if r.random() < 0.6:
            return r.choice(self.beginnings) + self.letters(r.randint(1, 60))
        return self.letters(r.randint(1, self.most_prompt))

    def body(self):
        """(path, body) of a stream whose answer depends on nothing but itself."""
        r = self.rng
        n_out = 1 + min(self.most_output - 1, int(r.expovariate(4 / self.most_output)))
        b = {"max_tokens": n_out, "seed": r.randrange(1 << 40), "stream": True,
             "return_token_ids": True, "temperature": 0 if r.random() < 0.25 else
             r.choice((0.7, 1, 1.5))}
        if r.random() < 0.6:
            b["ignore_eos"] = True
        if r.random() < 0.2 and b["temperature"]:
            b["n"] = r.randint(2, 3)
        if r.random() < 0.15:
            b["stop"] = [r.choice(("st", "Z", "no", "qr")), "\u2028"]
        if r.random() < 0.15:
            b.update(r.choice(({"repetition_penalty": 1.2}, {"presence_penalty": 0.5},
                               {"logit_bias": {"97": 2}}, {"bad_words": ["b"]}, {"top_k": 3},
                               {"min_tokens": min(5, n_out)}, {"top_p": 0.8}, {"min_p": 0.05})))
        if r.random() < 0.2:
            b["cache_salt"] = r.choice(("one", "two"))
        if r.random() < 0.3:
            b.update(messages=[{"role": "system", "content": self.prompt()},
                               {"role": "user", "content": "Hi"}],
                     logprobs=True, top_logprobs=r.randint(0, 2))
            return "/v1/chat/completions", b
        b.update(prompt=self.prompt(), logprobs=r.randint(0, 2))
        return "/v1/completions", b

    def pace(self):
        """How a client reads: most as fast as they can, some by the byte, some slowly."""
        kind = self.rng.random()
        if kind < 0.2:
            return {"piece": 1}
        if kind < 0.4:
            return {"piece": self.rng.randint(1000, 6000), "rest": self.rng.uniform(0.005, 0.03),
                    "buffer": 2304}
        if kind < 0.5:
            return {"piece": self.rng.randint(2, 64), "buffer": 4096}
        return {}
