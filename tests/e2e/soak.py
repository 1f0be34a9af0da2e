"""An hour of everything at once, and what has stayed behind: `ninja soak`.

    soak.py [--minutes 60] [--share 0.5] [--seed 1] [--csv FILE]

Rounds of mixed traffic, alike in kind and each from (seed, round): streams that are compared with
their solo runs, slow and one-byte readers, clients that leave, requests that are wrong, n > 1,
stop strings, shared beginnings, salts, scrapes. After each round everything must be at the base
line (requests, blocks, descriptors, threads); then memory is read, when nothing runs. Memory is
told by three figures: bytes of the heap in use, pages that are private and changed, resident
pages. The first sixth is warm-up (arenas take their shape); a line is laid through the rest by
least squares, with a 95 % interval from means of ten stretches, so that what neighbouring samples
share does not count twice. It fails (status 1) when a slope is not under 1 MiB an hour; a run
shorter than half an hour, whose slopes are noise times a large number, only when the whole
interval lies above. --share is the part of one processor that server and clients take together;
OCTET_SOAK_MINUTES is --minutes for `ninja soak`.
"""
import argparse
import os
import random
import sys
import time

import swarm
from harness import OCTET, SANITIZED, Server
from remains import Remains, watched
from swarm import Asker, Call, get, post

LIMIT = 1 << 20  # bytes an hour
N_KNOWN = 96     # streams whose solo run is known
FLAGS = ("--max-num-seqs", "48", "--num-gpu-blocks-override", "140", "--max-num-batched-tokens",
         "512", "--async-scheduling", "--enable-prompt-tokens-details", "--max-body-bytes",
         "200000")
# Two-sided 95 % quantile of Student's t for 8 degrees of freedom: ten stretches, two parameters.
T_8 = 2.306
N_STRETCHES = 10


def wrong(rng):
    """A request that is refused, and the statuses it may get."""
    word = "%x" % rng.getrandbits(40)
    return rng.choice((
        lambda: (post("/v1/completions", {"prompt": word, "max_tokens": -1}), (400,)),
        lambda: (post("/v1/completions", {"prompt": 5}), (400,)),
        lambda: (post("/v1/completions", {"prompt": word, "model": word}), (404,)),
        lambda: (post("/v1/completions", b'{"prompt": "' + word.encode()), (400,)),
        lambda: (post("/v1/completions", {"prompt": word, "temperature": "hot"}), (400,)),
        lambda: (post("/v1/completions", {"prompt": "a" * 40000}), (400,)),
        lambda: (post("/v1/completions", {"prompt": "a" * 300000}), (413,)),
        lambda: (post("/v1/completions", b"[" * 5000), (400,)),
        lambda: (post("/v1/completions", {"prompt": word, "n": 5000}), (400,)),
        lambda: (post("/v1/chat/completions", {"messages": [{"role": "fail", "content": word}]}),
                 (400,)),
        lambda: (post("/v1/chat/completions", {"messages": word}), (400,)),
        lambda: (post("/" + word, {}), (404,)),
        lambda: (get("/v1/" + word), (404,)),
        lambda: (get("/v1/completions"), (405,)),
        lambda: (get("/health", f"X-{word}: " + "y" * 70000 + "\r\n"), (431,)),
        lambda: (f"{word.upper()} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
                 (400, 404, 405, 501)),
        lambda: (f"{word}\r\n\r\n".encode(), (400,)),
    ))()


def right(rng):
    """Short requests of all other kinds."""
    word = "%x" % rng.getrandbits(40)
    return rng.choice((
        lambda: get("/metrics"), lambda: get("/metrics"), lambda: get("/health"),
        lambda: get("/v1/models"), lambda: get("/load"),
        lambda: post("/tokenize", {"prompt": word * rng.randint(1, 50)}),
        lambda: post("/detokenize", {"tokens": [rng.randrange(256) for _ in range(99)]}),
        lambda: post("/v1/completions", {"prompt": word, "max_tokens": 20, "prompt_logprobs": 2,
                                         "logprobs": 2}),
        lambda: post("/v1/completions", {"prompt": [word, word * 5], "max_tokens": 9, "n": 2},
                     f"X-Request-Id: {word}\r\n"),
        lambda: post("/v1/completions", {"prompt": word * 40, "max_tokens": 9,
                                         "cache_salt": word}),
        lambda: post("/v1/chat/completions", {"messages": [{"role": word, "content": word}],
                                              "max_tokens": 30, "stop": [word[:2]],
                                              "user": word}),
    ))()


def leaving(asker):
    """A client that leaves at a random byte or time."""
    r = asker.rng
    path, body = asker.body()
    body.update(max_tokens=3000, ignore_eos=True, temperature=1, n=r.randint(1, 3))
    raw = post(path, body)
    how = r.choice((swarm.CLOSE, swarm.RESET, swarm.HALF))
    kind = r.random()
    if kind < 0.3:
        return Call(raw, cut=r.randint(0, len(raw)), how=how)
    if kind < 0.5:
        return Call(raw, after=r.uniform(0, 0.05), how=how)
    return Call(raw, leave=int(r.expovariate(1 / 4000)), how=how, **asker.pace())


class Round:
    """The traffic of one round. told: what each known stream must tell."""

    def __init__(self, seed, number, known, told):
        rng = random.Random(f"{seed} {number}")
        asker = Asker(f"{seed} {number}", 300, 80)
        self.compared, self.statuses, self.left = [], [], []
        for i in rng.sample(range(len(known)), 24):
            self.compared.append((Call(post(*known[i]), **asker.pace()), told[i], i))
        for _ in range(16):
            self.statuses.append((Call(post(*asker.body()), **asker.pace()), (200,)))
        for _ in range(30):
            self.statuses.append((Call(right(rng)), (200,)))
        for _ in range(30):
            raw, want = wrong(rng)
            self.statuses.append((Call(raw), want))
        self.left = [leaving(asker) for _ in range(40)]
        self.calls = [c for c, *_ in self.compared + self.statuses] + self.left
        rng.shuffle(self.calls)

    def check(self):
        for call, want, i in self.compared:
            assert swarm.story_of(call)[1] == want, f"known stream {i} told something else"
        for call, want in self.statuses:
            status = swarm.answer(call)[0] if call.got else call.error
            assert status in want, (status, want, call.request[:300], bytes(call.got[:300]))


def slope(samples):
    """(bytes an hour, half of the 95 % interval) of [(seconds, bytes)]."""
    n = len(samples) // N_STRETCHES
    points = []
    for i in range(N_STRETCHES):
        part = samples[i * n:(i + 1) * n]
        points.append((sum(t for t, _ in part) / n / 3600, sum(b for _, b in part) / n))
    mid_t = sum(t for t, _ in points) / len(points)
    mid_b = sum(b for _, b in points) / len(points)
    spread = sum((t - mid_t) ** 2 for t, _ in points)
    k = sum((t - mid_t) * (b - mid_b) for t, b in points) / spread
    rest = sum((b - mid_b - k * (t - mid_t)) ** 2 for t, b in points)
    return k, T_8 * (rest / (len(points) - 2) / spread) ** 0.5


def judge(samples, minutes):
    """Prints the three slopes; whether they are under the limit."""
    warm = [s for s in samples if s[0] >= minutes * 10]
    if len(warm) < 2 * N_STRETCHES or SANITIZED:
        print("nothing to lay a line through: too few samples, or memory that is a sanitizer's")
        return True
    good = True
    for i, name in ((1, "heap in use"), (2, "private and changed"), (3, "resident")):
        k, half = slope([(s[0], s[i]) for s in warm])
        over = k - half >= LIMIT or (minutes >= 30 and k >= LIMIT)
        good = good and not over
        print(f"{name}: {warm[0][i] / 2**20:.3f} MiB at the first, {warm[-1][i] / 2**20:.3f} at "
              f"the last; slope {k / 2**20:+.4f} MiB/h, 95 % within {half / 2**20:.4f}"
              f"{': TOO MUCH' if over else ''}")
    return good


def rounds(args, server, remains, known, told):
    """Traffic for the time wanted; [(seconds, heap, changed, resident)] after each round."""
    base, samples, n_calls, number = None, [], 0, 0
    csv = open(args.csv, "w", encoding="ascii") if args.csv else None
    begin = time.monotonic()
    while time.monotonic() - begin < args.minutes * 60:
        at, used = time.monotonic(), server.cpu_seconds() + time.process_time()
        one = Round(args.seed, number, known, told)
        swarm.Swarm(server.port, width=40).run(one.calls)
        try:
            one.check()
            if base is None:
                server.wait_idle(30)
                time.sleep(1)
                base = remains.base()
            remains.settle(base, 20)
        except AssertionError as e:
            raise AssertionError(f"seed {args.seed}, round {number}: {e}") from e
        resident, changed = remains.memory()
        samples.append((time.monotonic() - begin, remains.heap_bytes(), changed, resident))
        if csv:
            csv.write("%.1f,%d,%d,%d\n" % samples[-1])
            csv.flush()
        n_calls += len(one.calls)
        number += 1
        used = server.cpu_seconds() + time.process_time() - used
        time.sleep(max(0.0, used / args.share - (time.monotonic() - at)))
    m = {k.split("{")[0]: v for k, v in server.metrics().items()}
    print(f"seed {args.seed}: {number} rounds, {n_calls} requests, "
          f"{m['vllm:generation_tokens_total']:.0f} tokens, "
          f"{m['vllm:num_preemptions_total']:.0f} preemptions, "
          f"{m['vllm:prefix_cache_hits_total']:.0f} cached tokens, {base}", flush=True)
    assert m["vllm:prefix_cache_hits_total"] > 0
    assert m["vllm:num_preemptions_total"] > 0 or number < 50
    return samples


def run(args):
    env = watched()
    asker = Asker(f"{args.seed} known", 300, 120)
    known = [asker.body() for _ in range(N_KNOWN)]
    plain = Server("--no-enable-prefix-caching", "--no-async-scheduling", "--enforce-eager")
    calls = swarm.Swarm(plain.port, width=1).run([Call(post(*k)) for k in known])
    told = [swarm.story_of(c)[1] for c in calls]
    assert plain.stop() == 0

    server = Server(*FLAGS, env=env)
    try:
        samples = rounds(args, server, Remains(server, env), known, told)
        good = judge(samples, args.minutes)
    finally:
        status = server.stop()
    assert status == 0, server.log_text()[-2000:]
    return good


if __name__ == "__main__":
    if not OCTET:
        print("SKIP: OCTET does not name the binary")
        sys.exit(77)
    p = argparse.ArgumentParser()
    p.add_argument("--minutes", type=float,
                   default=float(os.environ.get("OCTET_SOAK_MINUTES", "60")))
    p.add_argument("--share", type=float, default=0.5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--csv")
    sys.exit(0 if run(p.parse_args()) else 1)
