"""Rows HT9, SM2, SM4 and SM5 in numbers: silent crowds, clients that leave, many streams.

OCTET_DISCONNECTS, OCTET_STREAMS and OCTET_ROUNDS raise the counts (the target `long` takes 10,000,
256 and 5); OCTET_SEED makes other streams. OCTET_LOAD_MODEL names another model for SM5,
OCTET_LOAD_SIZES "PROMPT OUTPUT BLOCKS" the longest parts of prompts (letters) and answers (tokens),
and the blocks of a small cache.
"""
import os
import resource
import socket
import threading
import time
import unittest

import swarm
from harness import PRELOAD, SANITIZED, SOON, Case, Server, main, preloaded
from remains import Remains, watched
from swarm import CLOSE, HALF, RESET, Asker, Call, Swarm, post

N_DISCONNECTS = int(os.environ.get("OCTET_DISCONNECTS", "200" if SANITIZED else "500"))
N_STREAMS = int(os.environ.get("OCTET_STREAMS", "64" if SANITIZED else "256"))
N_ROUNDS = int(os.environ.get("OCTET_ROUNDS", "1"))
SIZES = [int(n) for n in os.environ.get("OCTET_LOAD_SIZES", "400 200 140").split()]
LOAD_MODEL = os.environ.get("OCTET_LOAD_MODEL")


def raise_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))


class Drip(threading.Thread):
    """Clients that send a byte twice a second, each in its turn."""

    def __init__(self, clients):
        super().__init__()
        self.clients = clients
        self.ended = threading.Event()
        for i, c in enumerate(clients):
            c.sendall(b"x" if i % 2 == 0 else b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{")
        self.start()

    def run(self):
        while not self.ended.is_set():
            for c in self.clients:
                c.sendall(b" ")
                if self.ended.wait(0.5 / len(self.clients)):
                    return

    def stop(self):
        self.ended.set()
        self.join()


class Crowd(Case):
    flags = ("--max-connections", "1100", "--header-timeout", "60")

    def p99(self, n):
        """Of n requests, one after the other, on connections of their own."""
        times = []
        for _ in range(n):
            begin = time.monotonic()
            status, _ = self.server.complete(prompt="the a", max_tokens=4, temperature=0)
            times.append(time.monotonic() - begin)
            self.assertEqual(status, 200)
        return sorted(times)[n * 99 // 100]

    def test_HT9_good_clients_beside_a_thousand_silent_and_slow_ones(self):
        """The 99th percentile of good clients grows by half at most, in the best of some tries."""
        raise_descriptors()
        s = self.server
        self.p99(20)  # warm
        tries = []
        for _ in range(5):
            alone = self.p99(100)
            silent = []
            try:
                for i in range(1000):
                    c = socket.create_connection(("127.0.0.1", s.port), timeout=30)
                    if i % 2 == 0:
                        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nA: ")
                    silent.append(c)
                drip = Drip(silent[::5])  # heads and, of every second one, bodies
                try:
                    beside = self.p99(100)
                finally:
                    drip.stop()
            finally:
                for c in silent:
                    c.close()
            tries.append((alone, beside))
            if beside <= 1.5 * alone + 0.001:
                return
        self.fail(f"99th percentiles alone and beside: {tries}")


class Leaving(Case):
    """A few run, many wait, prompts take several steps; clients leave in each of these states."""
    flags = ("--max-num-seqs", "8", "--max-num-batched-tokens", "128", "--async-scheduling",
             "--enforce-eager", "--num-gpu-blocks-override", "600")
    seed = 5
    heap_kib = 512  # 52 bytes for each of ten thousand: no piece is lost each time

    @classmethod
    def setUpClass(cls):
        # Pieces that threads keep for themselves, up to 200 KiB each, count as in use; here none do.
        cls.env = dict(watched(), GLIBC_TUNABLES="glibc.malloc.tcache_count=0")
        cls.server = Server(*cls.flags, env=cls.env)
        cls.server.known = cls.server.ask_known()

    def clients(self, asker, n):
        r, out = asker.rng, []
        for _ in range(n):
            path, body = asker.body()
            body.update(max_tokens=3000, ignore_eos=True, temperature=1, n=r.choice((1, 1, 2, 3)))
            body.pop("stop", None)
            raw = post(path, body)
            call = Call(raw, how=r.choice((CLOSE, RESET, HALF)),
                        piece=r.choice((1, 100, 65536)))
            kind = r.random()
            if kind < 0.25:
                call.cut = r.randint(0, len(raw))
            elif kind < 0.5:
                call.after = r.expovariate(1 / 0.03)  # waiting, in the prompt, or later
            else:
                call.leave = int(r.expovariate(1 / 4000))
            out.append(call)
        return out

    def test_SM2_disconnects_at_random_bytes(self):
        """Nothing stays behind: requests, blocks, descriptors, threads, memory."""
        s, remains = self.server, Remains(self.server, self.env)
        asker = Asker(self.seed, 1500, 200)
        s.wait_idle()
        base = remains.base()
        # A fifth, until memory has its shape.
        Swarm(s.port, 48).run(self.clients(asker, max(60, N_DISCONNECTS // 5)))
        settled = [remains.settle(base, 2 * SOON)]
        before, (resident, _) = remains.heap_bytes(), remains.memory()
        n, begin = 0, time.monotonic()
        while n < N_DISCONNECTS:
            calls = self.clients(asker, min(500, N_DISCONNECTS - n))
            Swarm(s.port, 48).run(calls)
            settled.append(remains.settle(base, 2 * SOON))  # one step and a second
            n += len(calls)
            refused = [c for c in calls if not c.left]
            self.assertEqual([bytes(c.got[:300]) for c in refused], [], f"seed {self.seed}")
        took = time.monotonic() - begin
        heap, rss = remains.heap_bytes() - before, remains.memory()[0] - resident
        m = s.metrics()
        ended = {k.split('"')[-2]: int(v) for k, v in m.items()
                 if k.startswith("vllm:request_success_total")}
        print(f"seed {self.seed}, {n} disconnects in {took:.0f} s, at the base line after "
              f"{max(settled):.2f} s; heap {heap / 1024:+.1f} KiB, resident {rss / 1024:+.0f} "
              f"KiB; {ended}")
        self.assertGreater(ended["abort"], n // 3)
        if not SANITIZED:
            self.assertLess(heap, self.heap_kib << 10)
            self.assertLess(rss, 8 << 20)


class LeavingInTurn(Leaving):
    """The same where steps do not overlap and are recorded."""
    flags = Leaving.flags[:4] + ("--no-async-scheduling", "--num-gpu-blocks-override", "600")
    seed = 6
    heap_kib = 1 << 10  # up to 64 recordings


class Streams(unittest.TestCase):
    """Each stream beside its solo run, which a server made that shares, overlaps and records
    nothing, and had one request at a time."""

    @classmethod
    def setUpClass(cls):
        cls.seed = int(os.environ.get("OCTET_SEED", "1"))
        asker = Asker(cls.seed, *SIZES[:2])
        cls.asked = [asker.body() for _ in range(N_STREAMS)]
        plain = Server("--no-enable-prefix-caching", "--no-async-scheduling", "--enforce-eager",
                       model=LOAD_MODEL)
        try:
            calls = Swarm(plain.port, 1).run([Call(post(*a)) for a in cls.asked])
            cls.alone = [swarm.story_of(c)[1] for c in calls]
        finally:
            plain.stop()

    def together(self, n, *flags, env=None, rounds=1):
        """n streams at once; what the server counted meanwhile."""
        server = Server("--enable-prompt-tokens-details", *flags, env=env, model=LOAD_MODEL)
        try:
            n_before = server.metric("vllm:generation_tokens_total")
            for k in range(rounds):
                pace = Asker(self.seed * 1000 + k)
                order = list(range(n))
                pace.rng.shuffle(order)
                calls = [Call(post(*self.asked[i]), **pace.pace()) for i in order]
                begin = time.monotonic()
                Swarm(server.port, n, together=True).run(calls)
                took, names = time.monotonic() - begin, set()
                for i, call in zip(order, calls):
                    name, told = swarm.story_of(call)
                    names.add(name)
                    self.assertEqual(told, self.alone[i], f"seed {self.seed}, stream {i}")
                self.assertEqual(len(names), n)
            server.wait_idle()
            m = {}
            for key, v in server.metrics().items():
                m[key.split("{")[0]] = m.get(key.split("{")[0], 0) + v
                if 'le="128.0"' in key and "iteration_tokens" in key:
                    m["up to 128"] = v
            n_tokens = rounds * sum(len(c["ids"]) for a in self.alone[:n] for c in a.values())
            self.assertEqual(m["vllm:generation_tokens_total"] - n_before, n_tokens)
            print(f"seed {self.seed}, {rounds} x {n} streams of {n_tokens // rounds} tokens, "
                  f"{took:.1f} s: {m['octet:steps_total']:.0f} steps, "
                  f"{m['vllm:num_preemptions_total']:.0f} preemptions, "
                  f"{m['vllm:prefix_cache_hits_total']:.0f} cached tokens")
            return m
        finally:
            self.assertEqual(server.stop(), 0)

    def test_SM5_each_stream_equals_its_solo_run(self):
        """All run at once."""
        m = self.together(N_STREAMS, "--max-num-seqs", "512", "--async-scheduling",
                          rounds=N_ROUNDS)
        if N_STREAMS >= 256:
            self.assertGreater(m["vllm:iteration_tokens_total_count"] - m["up to 128"], 0)
        self.assertGreater(m["octet:mixed_steps_total"], 0)

    def check_preempted(self, m):
        self.assertGreater(m["vllm:num_preemptions_total"], 0 if LOAD_MODEL else N_STREAMS // 20)
        self.assertGreater(m["vllm:prefix_cache_hits_total"], 32)

    SMALL = ("--max-num-seqs", "256", "--max-num-batched-tokens", "512",
             "--num-gpu-blocks-override", str(SIZES[2]))

    def test_SM5_beginnings_shared_and_preempted(self):
        self.check_preempted(self.together(N_STREAMS, *self.SMALL, "--async-scheduling",
                                           rounds=N_ROUNDS))

    def test_SM5_the_same_in_turn(self):
        """Steps do not overlap; prompts in pieces of 48."""
        self.check_preempted(self.together(
            N_STREAMS, *self.SMALL, "--no-async-scheduling", "--long-prefill-token-threshold", "48",
            "--max-long-partial-prefills", "4", rounds=N_ROUNDS))

    def test_SM5_the_same_with_guesses(self):
        m = self.together(N_STREAMS, *self.SMALL, "--speculative-config",
                          '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, '
                          '"prompt_lookup_max": 3}', rounds=N_ROUNDS)
        self.check_preempted(m)
        self.assertGreater(m["vllm:spec_decode_num_accepted_tokens_total"], 100)

    def test_SM4_streams_of_one_byte_a_write(self):
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        self.together(min(16, N_STREAMS), "--async-scheduling",
                      env=preloaded(OCTET_SEND_FAULT="1"))


if __name__ == "__main__":
    main()
