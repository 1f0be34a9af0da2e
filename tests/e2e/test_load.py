"""Rows HT9, SM2 and SM5 in numbers: silent crowds, clients that leave, many streams.

OCTET_DISCONNECTS and OCTET_STREAMS raise the counts (the target `long` takes 10,000 and 256).
"""
import json
import os
import random
import resource
import socket
import threading
import time

from harness import SANITIZED, SOON, STORY, Case, in_parallel, main

N_DISCONNECTS = int(os.environ.get("OCTET_DISCONNECTS", "300"))
N_STREAMS = int(os.environ.get("OCTET_STREAMS", "64" if SANITIZED else "128"))


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
    def test_SM2_disconnects_at_random_bytes(self):
        """Nothing stays behind: requests, cache blocks, descriptors, memory."""
        s = self.server
        rng = random.Random(5)
        print(f"seed 5, {N_DISCONNECTS} disconnects")

        def fds():
            return len(os.listdir(f"/proc/{s.process.pid}/fd"))

        def one(body, cut, read, how):
            whole = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                     b"\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
            with socket.create_connection(("127.0.0.1", s.port), timeout=60) as c:
                c.sendall(whole[:cut] if cut else whole)
                while read > 0 and not cut:
                    got = c.recv(min(read, 4096))
                    if not got:
                        raise AssertionError("closed by the server")
                    read -= len(got)
                if how == 1:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                if how == 2:
                    c.shutdown(socket.SHUT_WR)
                    try:
                        while c.recv(65536):
                            pass
                    except ConnectionError:
                        pass

        def some(n):
            jobs = []
            for _ in range(n):
                body = json.dumps({"prompt": "the a" * rng.randint(1, 30), "max_tokens": 3000,
                                   "ignore_eos": True, "stream": True, "temperature": 1,
                                   "n": rng.randint(1, 3)}).encode()
                cut = rng.randint(1, 150 + len(body)) if rng.random() < 0.3 else 0
                jobs.append(lambda b=body, c=cut, r=int(rng.expovariate(1 / 2000)),
                            h=rng.randint(0, 2): one(b, c, r, h))
            in_parallel(jobs)

        base = fds()
        for _ in range(max(4, N_DISCONNECTS // 50)):  # a fifth, until memory has its shape
            some(10)
        s.wait_idle()
        before = s.resident_mib()
        for _ in range(N_DISCONNECTS // 10):
            some(10)
        end = time.monotonic() + 2 * SOON  # one step and a second
        while True:
            m = {k.split("{")[0]: v for k, v in s.metrics().items()}
            if m["vllm:num_requests_running"] == 0 and m["vllm:num_requests_waiting"] == 0 and \
                    m["vllm:kv_cache_usage_perc"] == 0 and fds() <= base:
                break
            self.assertLess(time.monotonic(), end, (m["vllm:num_requests_running"], fds(), base))
            time.sleep(0.02)
        if not SANITIZED:
            self.assertLess(s.resident_mib() - before, 8)


class Streams(Case):
    flags = ("--max-num-seqs", "256")

    def test_SM5_each_stream_equals_its_solo_run(self):
        s = self.server
        bodies = [{"prompt": STORY[i % 40:i % 40 + 3] + " the " * (i % 5), "max_tokens": 12 + i % 9,
                   "seed": i, "temperature": 0.0 if i % 4 == 0 else 1.0, "logprobs": 0}
                  for i in range(N_STREAMS)]

        def ask(body):
            return [e["choices"][0] for e in s.events("/v1/completions", body)[:-1]]

        alone = [ask(b) for b in bodies]
        together = in_parallel([lambda b=b: ask(b) for b in bodies])
        for i in range(N_STREAMS):
            self.assertEqual(together[i], alone[i], i)


if __name__ == "__main__":
    main()
