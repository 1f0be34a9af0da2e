"""Rows HT9 to HT11, HT15, RQ, OS6 to OS8, SM4: limits of connections, requests and the machine."""
import json
import os
import re
import resource
import socket
import subprocess
import time
import unittest

from harness import PRELOAD, SANITIZED, Case, Server, main, preloaded, run_serve, tiny_model

JSON = {"Content-Type": "application/json"}
POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def status_of(raw):
    return int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else None


class Limits(Case):
    flags = ("--max-request-line-bytes", "512", "--max-header-bytes", "4k", "--max-header-fields",
             "16", "--max-body-bytes", "1M", "--max-unsent-bytes", "64K", "--max-json-depth", "8",
             "--max-prompts", "8", "--max-n", "4", "--max-choices", "16", "--max-stop-strings", "2",
             "--max-stop-bytes", "10", "--max-logit-bias", "3", "--max-bad-words", "2",
             "--max-tools", "1", "--header-timeout", "2", "--body-idle-timeout", "2",
             "--body-timeout", "5", "--keep-alive-timeout", "2", "--stall-timeout", "2")

    def flood(self, head, unit, most):
        """Sends head, then unit again and again until the server has had enough. Status, bytes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as c:
            sent, got = 0, b""
            try:
                c.sendall(head)
                while sent < most:
                    c.sendall(unit)
                    sent += len(unit)
            except OSError:
                pass
            try:
                while True:
                    piece = c.recv(65536)
                    if not piece:
                        break
                    got += piece
            except OSError:
                pass
            return status_of(got), sent

    def test_HT1_request_line(self):
        raw = self.server.raw(b"GET /" + b"a" * 600 + b" HTTP/1.1\r\n\r\n")
        self.assertEqual(status_of(raw), 414)

    def test_HT2_header_bombs(self):
        s = self.server
        before = s.resident_mib()
        most = 256 << 20
        for head, unit in ((b"GET /health HTTP/1.1\r\nA: ", b"x" * 65536),
                           (b"GET /health HTTP/1.1\r\n", b"A: b\r\n" * 8192)):
            status, sent = self.flood(head, unit, most)
            self.assertIn(status, (431, None))  # None: the answer went down with the reset
            self.assertLess(sent, 64 << 20)     # what fits into sockets, and no more
        raw = s.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20 + b"\r\n")
        self.assertEqual(status_of(raw), 431)
        self.assertLess(s.resident_mib() - before, 300 if SANITIZED else 32)

    def test_HT4_chunk_bombs(self):
        s = self.server
        before = s.resident_mib()
        for unit, want in ((b"1\r\nx\r\n", (400, 413, None)), (b"0" * 65536, (400, None))):
            status, _ = self.flood(CHUNKED, unit * (8192 if len(unit) < 10 else 1), 64 << 20)
            self.assertIn(status, want)
        for body, want in ((b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n", 400),
                           (b"0\r\n" + b"A: b\r\n" * 10**5, 400),
                           (b"ffffffffffffffff\r\n", 413), (b"10000000000000000\r\n", 400)):
            self.assertIn(status_of(s.raw(CHUNKED + body)), (want, None), body[:20])
        self.assertLess(s.resident_mib() - before, 300 if SANITIZED else 32)

    def test_HT5_body_found_too_large(self):
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        status, sent = self.flood(CHUNKED, chunk * 16, 512 << 20)
        self.assertIn(status, (413, None))
        self.assertLess(sent, 64 << 20)
        raw = self.server.raw(POST + b"Content-Length: 1048577\r\n\r\n")
        self.assertEqual(status_of(raw), 413)

    def test_HT6_codings(self):
        body = b'{"prompt":"a"}'
        raw = self.server.raw(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        self.assertEqual(status_of(raw), 501)
        for coding in (b"gzip", b"deflate", b"br", b"identity, gzip"):
            raw = self.server.raw(POST + b"Content-Encoding: " + coding +
                                  b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual(status_of(raw), 415, coding)

    def test_HT9_deadlines(self):
        """Silent, slow in the head, slow in the body: each is ended, in time."""
        port = self.server.port
        silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(100)]
        drips = [(b"GET /health HTTP/1.1\r\nA: ", b"x"),
                 (POST + b"Content-Length: 9999\r\n\r\n", b"x")]
        slow = []
        for head, unit in drips:
            c = socket.create_connection(("127.0.0.1", port), timeout=30)
            c.sendall(head)
            slow.append((c, unit))
        begin = time.monotonic()
        open_slow = list(slow)
        while open_slow and time.monotonic() - begin < 30:
            time.sleep(0.5)
            for c, unit in list(open_slow):
                try:
                    c.sendall(unit)
                    c.setblocking(False)
                    got = c.recv(4096)
                    c.setblocking(True)
                    self.assertEqual(status_of(got), 408)
                    open_slow.remove((c, unit))
                except BlockingIOError:
                    c.setblocking(True)
                except OSError:
                    open_slow.remove((c, unit))
        self.assertEqual(open_slow, [])
        for c in silent:
            self.assertEqual(c.recv(10), b"")
            c.close()
        for c, _ in slow:
            c.close()
        self.assertLess(time.monotonic() - begin, 30)

    def test_HT10_client_that_stops_reading(self):
        s = self.server
        before = sum(v for k, v in s.metrics().items() if 'finished_reason="abort"' in k)
        with socket.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # The other side's buffer has room for so many segments, which are 64 KiB long here if nobody says otherwise.
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            c.connect(("127.0.0.1", s.port))
            # Sixteen answers in one stream: what fits into sockets is full after few steps.
            body = json.dumps({"prompt": ["a"] * 8, "n": 2, "max_tokens": 32000, "ignore_eos": True,
                               "stream": True, "logprobs": 20}).encode()
            c.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            end = time.monotonic() + 60
            while True:
                status, answer = s.complete(prompt="a", max_tokens=2, temperature=0)
                self.assertEqual((status, answer["choices"][0]["text"]), (200, "bc"))
                after = sum(v for k, v in s.metrics().items() if 'finished_reason="abort"' in k)
                if after > before:
                    break
                self.assertLess(time.monotonic(), end)
        s.wait_idle()

    def test_RQ_limits_are_flags(self):
        s = self.server
        self.malformed(s.post("/v1/completions", '{"prompt":' + "[" * 9 + "]" * 9 + "}"), None,
                       "limit 8")
        for body, param, words in (({"prompt": ["a"] * 9}, "prompt", "at most 8"),
                                   ({"n": 5}, "n", "1 to 4"),
                                   ({"prompt": ["a"] * 8, "n": 3}, "n", "16"),
                                   ({"stop": ["a", "b", "c"]}, "stop", "at most 2"),
                                   ({"stop": "x" * 11}, "stop", "1 to 10"),
                                   ({"logit_bias": {str(i): 1 for i in range(4)}}, "logit_bias", "3"),
                                   ({"bad_words": ["a", "b", "c"]}, "bad_words", "at most 2")):
            body = dict({"prompt": "a"}, **body)
            self.refused(s.complete(**body), param, words)
        self.refused(s.chat(tools=[{"type": "function", "function": {"name": "f"}}] * 2), "tools",
                     "at most 1")

    def test_HT15_no_outbound_connection(self):
        """URLs in fields are refused and nobody is called."""
        with socket.socket() as trap:
            trap.bind(("127.0.0.1", 0))
            trap.listen()
            trap.settimeout(0.3)
            url = f"http://127.0.0.1:{trap.getsockname()[1]}/x"
            for part in ({"type": "image_url", "image_url": {"url": url}},
                         {"type": "input_audio", "input_audio": {"url": url}},
                         {"type": "video_url", "video_url": {"url": url}}):
                self.refused(self.server.chat(messages=[{"role": "user", "content": [part]}]),
                             "messages")
            schema = {"$ref": url}
            for body in ({"response_format": {"type": "json_schema", "json_schema": {
                    "name": "x", "schema": schema}}}, {"guided_json": schema}):
                self.refused(self.server.chat(**body))
            with self.assertRaises(socket.timeout):
                trap.accept()


class Connections(Case):
    flags = ("--max-connections", "8")

    def test_HT11_connections_past_the_limit(self):
        s = self.server
        held = [socket.create_connection(("127.0.0.1", s.port), timeout=30) for _ in range(8)]
        cpu = s.cpu_seconds()
        for _ in range(20):
            raw = s.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(status_of(raw), (503, None))
        time.sleep(0.5)
        self.assertLess(s.cpu_seconds() - cpu, 0.5)
        for c in held:
            c.close()
        end = time.monotonic() + 10
        while status_of(s.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) != 200:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)


class Machine(unittest.TestCase):
    def check_known(self, server, known):
        try:
            self.assertEqual(server.ask_known(), known)
        finally:
            self.assertEqual(server.stop(), 0)

    @classmethod
    def setUpClass(cls):
        server = Server()
        cls.known = server.known
        server.stop()

    def test_OS6_log_that_nobody_reads(self):
        """Lines are dropped and counted; serving goes on."""
        out, log = os.pipe()
        server = Server("--enable-log-requests", "--log-level", "debug", stderr=log)
        os.close(log)
        for _ in range(600):  # a pipe holds 64 KiB
            server.raw(b"BAD\r\n\r\n")
            self.assertEqual(server.request("GET", "/health")[0], 200)
            server.complete(prompt="a", max_tokens=1)
        got = b""
        os.set_blocking(out, False)
        for _ in range(3):
            while True:
                try:
                    piece = os.read(out, 65536)
                except BlockingIOError:
                    break
                got += piece
                if not piece:
                    break
            server.complete(prompt="a", max_tokens=1)
            time.sleep(0.05)
        self.assertGreater(len(got), 60000)
        self.assertTrue(b"lines of the log were dropped\n" in got)
        self.check_known(server, self.known)
        os.close(out)

    def test_OS6_full_disk_and_closed_pipe(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            self.check_known(Server("--enable-log-requests", stderr=full), self.known)
        out, log = os.pipe()
        server = Server("--enable-log-requests", stderr=log)
        os.close(log)
        os.close(out)
        self.check_known(server, self.known)

    def test_OS7_few_descriptors(self):
        def limit(n):
            return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))

        for n in range(6, 24, 3):
            r = subprocess.run([os.environ["OCTET"], "serve", tiny_model(), "--host", "127.0.0.1",
                                "--port", "70000"], preexec_fn=limit(n), capture_output=True,
                               text=True, check=False)
            self.assertEqual(r.returncode, 2, r.stderr)
        seen = set()
        for n in range(5, 28):
            p = subprocess.Popen([os.environ["OCTET"], "serve", tiny_model(), "--host", "127.0.0.1",
                                  "--port", "0", "-q", "int8"], preexec_fn=limit(n),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            line = p.stdout.readline()
            if "serving" in line:
                p.terminate()
            _, err = p.communicate(timeout=60)
            seen.add(p.returncode)
            if "serving" not in line:
                self.assertIn(p.returncode, (2, 3, 4), err)
                self.assertTrue(err.strip().splitlines()[-1].startswith("octet: error: "), err)
        self.assertTrue(4 in seen and 0 in seen, seen)

    def start(self, *flags, preexec=None, **faults):
        """(status, last line, did it serve) of a server that is told to end as soon as it serves."""
        env = {**os.environ, **(preloaded(**faults) if faults else {})}
        p = subprocess.Popen([os.environ["OCTET"], "serve", tiny_model(), "--host", "127.0.0.1", "--port", "0", "-q",
                              "int8", *flags], env=env, preexec_fn=preexec, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        served = "serving" in p.stdout.readline()
        if served:
            p.terminate()
        _, err = p.communicate(timeout=60)
        self.assertNotIn("Sanitizer", err)
        return p.returncode, (err.strip().splitlines() or [""])[-1], served

    def test_OS7_no_thread(self):
        """Whichever thread cannot be started, the start ends with 4 and names it; or needs it not."""
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        names = set()
        for n in range(1, 20):
            status, last, served = self.start("--threads", "2", "--async-scheduling", OCTET_THREAD_FAULT=str(n))
            if served:
                self.assertEqual(status, 0)
                continue
            found = re.search(r"^octet: error: .*thread (\S+) cannot be started: ", last)
            self.assertTrue(found, last)
            self.assertEqual(status, 4, last)
            names.add(found[1])
        self.assertTrue({"oct-signals", "octet-engine", "http-loop", "http-worker"} <= names, names)

    def test_OS7_no_random_bytes(self):
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        status, last, served = self.start(OCTET_RANDOM_FAULT="1")
        self.assertEqual((status, served), (1, False), last)
        self.assertIn("random", last)

    @unittest.skipIf(SANITIZED, "a sanitizer maps terabytes")
    def test_OS7_little_memory(self):
        """A limit on memory ends the start with 4, or it serves."""
        seen = set()
        for mib in (48, 80, 120, 200, 400, 1500, 4000):
            status, last, served = self.start(
                "--num-gpu-blocks-override", "64",
                preexec=lambda n=mib << 20: resource.setrlimit(resource.RLIMIT_AS, (n, n)))
            seen.add(status)
            self.assertEqual(status, 0 if served else 4, (mib, last))
            if not served:
                self.assertTrue(last.startswith("octet: error: "), (mib, last))
        self.assertTrue({0, 4} <= seen, seen)

    @unittest.skipIf(SANITIZED, "a sanitizer's frames are larger")
    def test_OS8_small_stacks(self):
        def small():
            resource.setrlimit(resource.RLIMIT_STACK, (256 << 10, 256 << 10))

        server = Server(preexec=small)
        deep = '{"messages":[{"role":"user","content":"a"}],"max_tokens":1,"tools":[' + \
            '{"a":' * 55 + "1" + "}" * 55 + '],"tool_choice":"none"}'
        self.assertIn(server.post("/v1/chat/completions", deep)[0], (200, 400))
        self.assertEqual(server.post("/v1/completions", "[" * 10**6)[0], 400)
        self.check_known(server, self.known)

    def test_SM4_one_byte_a_write(self):
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        server = Server(env=preloaded(OCTET_SEND_FAULT="1"))
        self.check_known(server, self.known)

    def test_CL2_unreadable(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        if not os.access(os.environ["OCTET"], os.X_OK):
            self.skipTest("no binary")
        try:
            r = subprocess.run([os.environ["OCTET"], "serve", tiny_model(), "--port", "0"],
                               user=65534, capture_output=True, text=True, check=False)
        except PermissionError:
            self.skipTest("the binary lies where others may not go")
        self.assertEqual(r.returncode, 3, r.stderr)  # its folder is for its owner only
        self.assertIn("Permission denied", r.stderr.strip().splitlines()[-1])

    def test_CL5_privileged_port(self):
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as f:
            first = int(f.read())
        if first < 2 or os.geteuid() != 0:
            self.skipTest("no port is privileged here, or this is not root")
        try:
            r = subprocess.run([os.environ["OCTET"], "serve", "/nonexistent", "--host", "127.0.0.1",
                                "--port", "1"], user=65534, capture_output=True, text=True,
                               check=False)
        except PermissionError:
            self.skipTest("the binary lies where others may not go")
        self.assertEqual(r.returncode, 4, r.stderr)
        self.assertIn("Permission denied", r.stderr.strip().splitlines()[-1])

    def test_CL7_closed_stdout(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        p = subprocess.Popen(["sh", "-c", f'exec "$OCTET" serve "{tiny_model()}" --host 127.0.0.1 '
                              f"--port {port} --served-model-name tiny -q int8 >&- 2>&-"])
        server = Server.__new__(Server)
        server.port = port
        end = time.monotonic() + 60
        while True:
            try:
                if server.request("GET", "/health")[0] == 200:
                    break
            except ConnectionError:
                pass
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(server.ask_known(), self.known)
        p.terminate()
        self.assertEqual(p.wait(60), 0)

    def test_CL1_limits(self):
        for args, word in ((["--max-n", "0"], "--max-n"), (["--max-json-depth", "9999"], "512"),
                           (["--stall-timeout", "0"], "--stall-timeout"),
                           (["--stuck-timeout", "9", "--device-timeout", "3"], "--stuck-timeout")):
            r = run_serve("/nonexistent", *args)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(word, r.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
