"""Rows KV4, KV5, KV6, OS4, OS6 of cached blocks that outlive their place on the device, or the process."""
import glob
import os
import resource
import shutil
import signal
import stat
import tempfile
import time
import unittest

from harness import FOLDER, Server, main, run_serve, tiny_model

TEXT = "".join(chr(97 + (i * i + i // 7) % 20) for i in range(400))  # a letter is a token
FLAGS = ("--enable-prompt-tokens-details", "--block-size", "32", "--max-model-len", "256")


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Shelves(unittest.TestCase):
    def ask(self, server, prompt, **fields):
        """(text and logprobs, cached tokens)"""
        status, body = server.complete(prompt=prompt, max_tokens=6, temperature=0, logprobs=3, **fields)
        self.assertEqual(status, 200, body)
        details = body["usage"].get("prompt_tokens_details") or {"cached_tokens": 0}
        choice = body["choices"][0]
        return (choice["text"], choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]), \
            details["cached_tokens"]


class Memory(Shelves):
    def test_KV6_what_was_handed_out_comes_back(self):
        server = Server(*FLAGS, "--num-gpu-blocks-override", "8", "--kv-offloading-size", "0.1", dev=True)
        try:
            cold, cached = self.ask(server, TEXT[:200])
            self.assertEqual(cached, 0)
            self.ask(server, TEXT[200:])
            warm, cached = self.ask(server, TEXT[:200])
            self.assertEqual((warm, cached), (cold, 192))
            fetched = server.metric("vllm:external_prefix_cache_hits_total")
            self.assertGreaterEqual(fetched, 160)
            self.assertEqual(server.metric("octet:kv_offload_loads_total"), fetched / 32)
            self.assertGreater(server.metric("octet:kv_offload_stores_total"), 0)
            server.request("POST", "/reset_prefix_cache", None)
            self.assertEqual(self.ask(server, TEXT[:200]), (cold, 0))
        finally:
            self.assertEqual(server.stop(), 0)

    def test_flags_that_contradict(self):
        for flags, word in ((("--kv-offloading-size", "1", "--no-enable-prefix-caching"), "--kv-offloading-size"),
                            (("--kv-store", "x", "--no-enable-prefix-caching"), "--kv-store"),
                            (("--kv-store", ""), "--kv-store"),
                            (("--kv-offloading-size", "0.0000001"), "--kv-offloading-size"),
                            (("--kv-store", __file__), "--kv-store")):
            run = run_serve(tiny_model(), "--port", "0", *flags)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(word, run.stderr.splitlines()[-1])


class Store(Shelves):
    def setUp(self):
        self.folder = os.path.join(tempfile.mkdtemp(dir=FOLDER), "blocks")

    def server(self, *flags, **how):
        # An environment of its own: no other request comes before.
        return Server(*FLAGS, "--kv-store", self.folder, *flags, env={"VLLM_SERVER_DEV_MODE": "1"}, **how)

    def files(self):
        return sorted(glob.glob(os.path.join(self.folder, "*")))

    def left(self, prompt=TEXT[:200], **fields):
        """The answer of a server that left its blocks and went."""
        server = self.server()
        answer, cached = self.ask(server, prompt, **fields)
        self.assertEqual(cached, 0)
        self.assertEqual(server.stop(), 0)
        return answer

    def found(self, prompt=TEXT[:200], flags=(), **fields):
        server = self.server(*flags)
        try:
            answer = self.ask(server, prompt, **fields)
            self.counts = {n: server.metric("octet:kv_store_" + n) for n in ("reads_total", "ignored_total")}
            return answer
        finally:
            self.assertEqual(server.stop(), 0)
            self.log = server.log_text()

    def test_KV6_the_next_process_finds_it(self):
        cold = self.left()
        self.assertEqual(len(self.files()), 6)
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o700)
        for f in self.files():
            self.assertEqual(stat.S_IMODE(os.stat(f).st_mode), 0o600)
        self.assertEqual(self.found(), (cold, 192))
        self.assertEqual(self.counts["reads_total"], 6)
        self.assertEqual(self.found(TEXT[:199])[1], 192)
        self.assertEqual(self.found(TEXT[:192])[1], 160)
        self.assertEqual(self.found(TEXT[:64] + TEXT[300:350])[1], 64)
        self.assertEqual(self.found(TEXT[1:200])[1], 0)

    def test_OS4_killed(self):
        server = self.server()
        cold, _ = self.ask(server, TEXT[:200])
        until = time.monotonic() + 30
        while len(self.files()) < 6 and time.monotonic() < until:
            time.sleep(0.05)  # it writes while nobody asks
        server.stop(signal.SIGKILL)
        self.assertEqual(self.found(), (cold, 192))

    def test_KV5_salts(self):
        cold = self.left(cache_salt="one")
        self.assertEqual(self.found()[1], 0)
        self.assertEqual(self.found(cache_salt="two")[1], 0)
        self.assertEqual(self.found(cache_salt="one"), (cold, 192))

    def test_KV4_damage_is_ignored(self):
        def cut(data): return data[:-1]
        def longer(data): return data + b"x"
        def empty(_): return b""
        def flip(data): return data[:-77] + bytes([data[-77] ^ 4]) + data[-76:]
        def version(data): return data[:8] + b"\2" + data[9:]
        def ids(data): return data[:80] + bytes([data[80] ^ 1]) + data[81:]
        cold = self.left()
        kept = {f: read(f) for f in self.files()}
        for change in (cut, longer, empty, flip, version, ids, None):
            for f, data in kept.items():
                os.unlink(f)
                if change:
                    with open(f, "wb") as out:
                        out.write(change(data))
            self.assertEqual(self.found(), (cold, 0), change)
            self.assertEqual(self.counts["ignored_total"], 1 if change else 0)
            self.assertEqual(self.log.count("is ignored"), 1 if change else 0)
            # It wrote the right ones.
            self.assertEqual(self.found(), (cold, 192))

    def test_KV4_blocks_of_another_text_or_model_under_the_name(self):
        cold = self.left()
        first = self.files()
        blocks = {f: read(f) for f in first}
        names = list(blocks)
        for i, f in enumerate(names):
            with open(f, "wb") as out:
                out.write(blocks[names[(i + 1) % len(names)]])
        self.assertEqual(self.found(), (cold, 0))
        # Another type of cache is another model: nothing is found, and nothing is lost.
        other = self.found(flags=("--kv-cache-dtype", "int8_per_token_head"))
        self.assertEqual(other[1], 0)
        self.assertGreaterEqual(len(self.files()), 12)
        self.assertEqual(self.found(), (cold, 192))
        self.assertEqual(self.found(flags=("--kv-cache-dtype", "int8_per_token_head")), (other[0], 192))

    def test_RL6_reset_deletes(self):
        server = self.server()
        try:
            cold, _ = self.ask(server, TEXT[:200])
            until = time.monotonic() + 30
            while len(self.files()) < 6 and time.monotonic() < until:
                time.sleep(0.05)
            server.request("POST", "/reset_prefix_cache", None)
            self.assertEqual(self.ask(server, TEXT[:200]), (cold, 0))
        finally:
            server.stop()
        self.assertEqual(self.found(), (cold, 192))

    def test_the_bound(self):
        self.left()
        size = os.path.getsize(self.files()[0])
        gib = f"{(8 * size + 4096) / 2 ** 30:.9f}"
        if float(gib) < 0.001:
            gib = "0.001"
        most = int(float(gib) * 2 ** 30)
        n = most // size + 20
        server = self.server("--kv-store-size", gib)
        try:
            for i in range(n // 6 + 1):
                self.ask(server, f"{i:03}".translate(str.maketrans("0123456789", "abcdefghij")) + TEXT[:197])
                time.sleep(0.05)
        finally:
            self.assertEqual(server.stop(), 0)
        self.assertLessEqual(sum(os.path.getsize(f) for f in self.files()), most + size)

    def test_OS6_no_room_on_the_disk(self):
        limit = 1000  # less than a block's file

        def bound():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            server = self.server(stderr=nowhere, preexec=bound)
            try:
                for _ in range(2):
                    self.ask(server, TEXT[:200])
                time.sleep(0.3)
                self.assertGreaterEqual(server.metric("octet:kv_store_failures_total"), 1)
                self.assertEqual(server.metric("octet:kv_store_writes_total"), 0)
                self.assertEqual(server.request("GET", "/health")[0], 200)
            finally:
                self.assertEqual(server.stop(), 0)
        self.assertEqual(self.files(), [])
        self.assertEqual([f for f in os.listdir(self.folder) if f.startswith(".tmp-")], [])

    def test_OS6_the_folder_goes_away(self):
        server = self.server()
        try:
            self.ask(server, TEXT[:64])
            time.sleep(0.3)
            shutil.rmtree(self.folder)
            self.ask(server, TEXT[:200])
            self.ask(server, TEXT[100:200])
        finally:
            self.assertEqual(server.stop(), 0)

    def test_two_at_once(self):
        servers = [self.server() for _ in range(2)]
        try:
            answers = [self.ask(s, TEXT[:200])[0] for s in servers]
            self.assertEqual(answers[0], answers[1])
        finally:
            for s in servers:
                self.assertEqual(s.stop(), 0)
        self.assertEqual(len(self.files()), 6)
        self.assertEqual(self.found(), (answers[0], 192))


del Shelves

if __name__ == "__main__":
    main()
