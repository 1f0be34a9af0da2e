"""Rows HT (for these routes), AU and LG of the bad-input table."""
import json
import os
import random
import socket
import threading
import time
import unittest

from harness import FOLDER, SOON, Case, Server, in_parallel, main, story_from

JSON = {"Content-Type": "application/json"}


def head(method, path, body=b"", *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


BODY = json.dumps({"prompt": "a", "max_tokens": 3, "temperature": 0}).encode()


class Http(Case):
    def status(self, raw):
        return int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/") else None

    def test_HT1_paths_and_methods(self):
        s = self.server
        for path in ("/index.html", "/v2/models", "/v1", "/v1/chat", "/reload", "/sleep", "/x" * 500):
            self.check_error(s.post(path, {}), 404, "NotFoundError")
        status, headers, _ = s.request("GET", "/v1/chat/completions")
        self.assertEqual((status, headers["allow"]), (405, "OPTIONS, POST"))
        status, headers, _ = s.request("DELETE", "/v1/models")
        self.assertEqual((status, headers["allow"]), (405, "OPTIONS, GET, HEAD"))
        status, headers, raw = s.request("HEAD", "/health")
        self.assertEqual((status, raw), (200, b""))
        self.assertEqual(self.status(s.raw(b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n")), 501)
        self.assertEqual(self.status(s.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")), 400)
        self.assertEqual(self.status(s.raw(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")), 414)

    def test_HT2_header_bomb(self):
        self.assertEqual(self.status(self.server.raw(
            b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100000)), 431)

    def test_HT3_HT4_framing(self):
        s = self.server
        for extra in (b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Content-Length: +5",
                      b"Content-Length: 5,5", b"Content-Length: 0x5", b"Content-Length : 5"):
            raw = s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                        b"application/json\r\n" + extra + b"\r\n\r\nhello")
            self.assertEqual(self.status(raw), 400, extra)
            self.assertEqual(raw.count(b"HTTP/1.1"), 1)
        raw = s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                    b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        self.assertEqual(self.status(raw), 400)
        chunks = b"".join(b"1\r\n" + bytes([b]) + b"\r\n" for b in BODY) + b"0\r\n\r\n"
        raw = s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                    b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        self.assertEqual(self.status(raw), 200)
        self.assertIn(b'"text":"bcd"', raw)

    def test_HT5_HT6_body(self):
        s = self.server
        raw = s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                    b"\r\nContent-Length: 99999999\r\n\r\n")
        self.assertEqual(self.status(raw), 413)
        raw = s.raw(head("POST", "/v1/completions", BODY, "Content-Encoding: gzip"))
        self.assertEqual(self.status(raw), 415)

    def test_HT7_no_body_and_content_type(self):
        s = self.server
        self.malformed(s.post("/v1/completions", b""))
        for kind in ("text/plain", "", "application/jsonp", "application/x-www-form-urlencoded"):
            self.malformed(s.post("/v1/chat/completions", b"{}", {"Content-Type": kind}), None,
                           "application/json")
        status, _, _ = s.request("POST", "/v1/completions", BODY,
                                 {"Content-Type": "Application/JSON; charset=utf-8"})
        self.assertEqual(status, 200)
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
            c.sendall(head("POST", "/v1/completions", BODY, "Expect: 100-continue",
                           "Connection: close")[:-len(BODY)])
            self.assertTrue(c.recv(100).startswith(b"HTTP/1.1 100 "))
            c.sendall(BODY)
            self.assertIn(b"bcd", b"".join(iter(lambda: c.recv(65536), b"")))
        self.assertEqual(self.status(s.raw(head("POST", "/v1/completions", BODY, "Expect: x"))), 417)

    def test_HT8_json(self):
        s = self.server
        deep = '{"prompt":' + "[" * 100 + "]" * 100 + "}"
        for text in ("[]", "3", '"a"', "null", "", "{", '{"prompt":"a"', '{"prompt":"a"}x', deep,
                     '{"prompt":"a","prompt":"b"}', '{"n":' + "1" * 10**6 + "}", '{"n":1e400}',
                     '{"prompt":"\\x"}', '{"prompt":"\\ud800"}', "{'a':1}", '{"a":1,}',
                     '\ufeff{"prompt":"a"}'):
            for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
                self.malformed(s.post(path, text.encode()), None, "at byte")
        self.malformed(s.post("/v1/completions", b'{"prompt":"\xff"}'), None, "at byte")

    def test_HT12_pipelined_and_split(self):
        s = self.server
        one = head("POST", "/v1/completions", BODY)
        last = head("POST", "/v1/completions", BODY, "Connection: close")
        raw = s.raw(one + one + last, wait=30)
        self.assertEqual(raw.count(b'"text":"bcd"'), 3)
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for b in last:
                c.sendall(bytes([b]))
            whole = b"".join(iter(lambda: c.recv(65536), b""))
        self.assertIn(b'"text":"bcd"', whole)

    def test_HT13_disconnect_in_every_state(self):
        s = self.server
        long = json.dumps({"prompt": "a" * 200, "max_tokens": 30000, "ignore_eos": True,
                           "stream": True}).encode()
        plain = json.dumps({"prompt": "a" * 200, "max_tokens": 30000, "ignore_eos": True}).encode()
        aborted = s.metric("vllm:request_success_total")
        for body in (long, plain):
            whole = head("POST", "/v1/completions", body)
            for sent, wait, how in ((20, 0, "close"), (len(whole) - 10, 0, "close"),
                                    (len(whole), 0, "close"), (len(whole), 0.05, "close"),
                                    (len(whole), 0.3, "close"), (len(whole), 0.2, "half"),
                                    (len(whole), 0.1, "reset")):
                c = socket.create_connection(("127.0.0.1", s.port))
                c.sendall(whole[:sent])
                time.sleep(wait)
                if how == "reset":
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                if how == "half":
                    c.shutdown(socket.SHUT_WR)
                    c.settimeout(30)
                    try:
                        while c.recv(65536):
                            pass
                    except ConnectionError:
                        pass
                c.close()
                s.wait_idle()
        m = s.metrics()
        stop = [v for k, v in m.items() if 'finished_reason="abort"' in k and "_total" in k]
        self.assertGreater(sum(stop), 4)
        self.assertGreaterEqual(s.metric("vllm:request_success_total"), aborted + 8)

    def test_HT14_spellings_of_a_path(self):
        s = self.server
        for path in ("/v1/models", "//v1//models", "/v1/models/", "/v1/%6dodels"):
            status, _, raw = s.request("GET", path)
            self.assertEqual(status, 200, path)
        for path in ("/v1/../health", "/%2e%2e/health", "/health%00"):
            self.assertEqual(s.request("GET", path)[0], 400, path)
        self.assertEqual(s.request("GET", "/V1/models")[0], 404)

    def test_HT16_cors(self):
        s = self.server
        status, headers, _ = s.request("OPTIONS", "/v1/chat/completions", None, {
            "Origin": "http://a.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type"})
        self.assertEqual((status, headers["access-control-allow-origin"]), (200, "*"))
        self.assertIn("POST", headers["access-control-allow-methods"])
        self.assertEqual(headers["access-control-allow-headers"], "authorization, content-type")
        status, headers, _ = s.request("GET", "/health", None, {"Origin": "http://a.example"})
        self.assertEqual(headers["access-control-allow-origin"], "*")
        self.assertNotIn("access-control-allow-origin", s.request("GET", "/health")[1])

    def test_small_routes(self):
        s = self.server
        self.assertEqual(s.request("GET", "/ping")[0], 200)
        self.assertEqual(s.request("POST", "/ping", b"")[0], 200)
        self.assertIn("version", json.loads(s.request("GET", "/version")[2]))
        self.assertEqual(json.loads(s.request("GET", "/load")[2]), {"server_load": 0})
        status, headers, raw = s.request("GET", "/metrics")
        self.assertEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        card = json.loads(s.request("GET", "/v1/models")[2])["data"][0]
        self.assertEqual((card["id"], card["object"], card["max_model_len"]),
                         ("tiny", "model", 32768))
        self.assertTrue(card["root"].endswith("/model"))
        self.assertEqual(len(card["permission"]), 1)

    # ---- logs and metrics ----

    def test_LG1_one_event_one_line(self):
        s = self.server
        s.raw(b"GET /a\x1b[31mb\x01 HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x1b[0m\r\n\r\n")
        self.check_error(s.complete(prompt="a", model="x\r\nWARN forged \x1b[31m" + "y" * 10**6),
                         404, "NotFoundError")
        for line in s.log_text().splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT[\d:]+Z (DEBUG|INFO|WARN|ERROR) ")
            self.assertLess(len(line), 1100)
            self.assertNotIn("\x1b", line)

    def test_LG3_labels_are_a_fixed_set(self):
        s = self.server
        before = None
        for i in range(60):
            s.request("GET", f"/path-{i}-{random.random()}")
            s.complete(prompt="a", model=f"model-{i}", request_id=f"id-{i}", max_tokens=1)
            if i == 4:
                before = set(s.metrics())
        self.assertEqual(set(s.metrics()), before)
        self.assertIn('http_requests_total{handler="none",method="GET",status="4xx"}', before)

    def test_LG5_metrics_under_load(self):
        s = self.server
        done = threading.Event()

        def load():
            while not done.is_set():
                s.complete(prompt="the a", max_tokens=100, temperature=1)

        threads = [threading.Thread(target=load) for _ in range(12)]
        for t in threads:
            t.start()
        slowest = 0
        for _ in range(20):
            for path in ("/metrics", "/health"):
                begin = time.monotonic()
                self.assertEqual(s.request("GET", path)[0], 200)
                slowest = max(slowest, time.monotonic() - begin)
        done.set()
        for t in threads:
            t.join()
        self.assertLess(slowest, SOON)


class MetricsCounts(Case):
    def test_counts_after_known_requests(self):
        """R requests of P prompt and T output tokens, one at a time."""
        s = self.server
        before = s.metrics()
        r, p, t = 4, 5, 6
        for _ in range(r):
            s.complete(prompt=[97] * p, max_tokens=t, ignore_eos=True)

        def grown(name):
            return sum(v - before.get(k, 0) for k, v in s.metrics().items()
                       if k.split("{")[0] == "vllm:" + name)

        for name, want in (("time_to_first_token_seconds_count", r),
                           ("inter_token_latency_seconds_count", r * (t - 1)),
                           ("e2e_request_latency_seconds_count", r),
                           ("request_queue_time_seconds_count", r),
                           ("request_prefill_time_seconds_count", r),
                           ("request_decode_time_seconds_count", r),
                           ("request_inference_time_seconds_count", r),
                           ("request_time_per_output_token_seconds_count", r),
                           ("request_prompt_tokens_sum", r * p),
                           ("request_generation_tokens_sum", r * t),
                           ("request_params_max_tokens_sum", r * t),
                           ("request_params_n_sum", r),
                           ("iteration_tokens_total_sum", r * (p + t)),
                           ("iteration_tokens_total_count", r * t),
                           ("prompt_tokens_total", r * p), ("generation_tokens_total", r * t),
                           ("request_success_total", r)):
            self.assertEqual(grown(name), want, name)
        labels = next(iter(s.metrics()))
        self.assertTrue(labels.endswith('{engine="0",model_name="tiny"}'), labels)
        ttft = [k for k in s.metrics() if k.startswith("vllm:time_to_first_token_seconds_bucket")]
        self.assertEqual(len(ttft), 23)
        self.assertIn('le="0.001"', ttft[0])
        self.assertIn('le="+Inf"', ttft[-1])


class Keys(Case):
    flags = ("--api-key", "first-key", "--api-key", "second", "--enable-request-id-headers",
             "--allowed-origins", '["http://good.example"]')
    GOOD = {"Authorization": "Bearer first-key"}

    def test_AU1_keys(self):
        s = self.server
        bad = [None, "", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-keyy",
               "Bearer first-key x", "Basic first-key", "first-key", "Bearer secon",
               "Bearer first-key,second", "Bearer " + "x" * 60000]
        for value in bad:
            status, _, raw = s.request("GET", "/v1/models", None,
                                       {} if value is None else {"Authorization": value})
            self.assertEqual((status, raw), (401, b'{"error":"Unauthorized"}'), value)
        for value in ("Bearer first-key", "bearer second", "BEARER  first-key"):
            self.assertEqual(s.request("GET", "/v1/models", None, {"Authorization": value})[0], 200)
        raw = s.raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first-key\r\n"
                    b"Authorization: Bearer first-key\r\n\r\n")
        self.assertTrue(raw.startswith(b"HTTP/1.1 400 "))

    def test_AU2_open_list(self):
        s = self.server
        page = ("/", "/page.css", "/page.js", "/page_markdown.js")  # the same for everybody; it asks for the key itself
        for path in ("/health", "/ping", "/version", "/metrics") + page:
            self.assertEqual(s.request("GET", path)[0], 200, path)
        for path in ("/index.html", "/page", "/v1/models", "//v1/models", "/v1/%6dodels", "/load", "/reload",
                     "/sleep", "/abort_requests", "/collective_rpc", "/nothing", "/healthx",
                     "/health/x"):
            self.assertEqual(s.request("GET", path)[0], 401, path)
        for path in ("/tokenize", "/detokenize", "/v1/completions"):
            self.assertEqual(s.post(path, {"prompt": "a"})[0], 401, path)
        self.assertEqual(s.request("GET", "/reload", None, self.GOOD)[0], 404)
        status, body = s.post("/v1/completions", {"prompt": "a", "max_tokens": 2, "temperature": 0},
                              self.GOOD)
        self.assertEqual(body["choices"][0]["text"], story_from("a", 2))

    def test_AU4_upload_without_key(self):
        s = self.server
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
            c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                      b"\r\nContent-Length: 30000000\r\n\r\n")
            self.assertTrue(c.recv(1000).startswith(b"HTTP/1.1 401 "))
            sent = 0
            try:
                while sent < 30000000:
                    sent += c.send(b"x" * 65536)
            except OSError:
                pass
        self.assertLess(sent, 30000000)
        self.assertLess(time.monotonic() - begin, 10)

    def test_request_id_and_origin(self):
        s = self.server
        for path in ("/health", "/nothing"):
            _, headers, _ = s.request("GET", path, None, {"X-Request-Id": "abc"})
            self.assertEqual(headers["x-request-id"], "abc")
        _, headers, _ = s.request("GET", "/health")
        self.assertRegex(headers["x-request-id"], "^[0-9a-f]{32}$")
        _, headers, _ = s.request("GET", "/health", None, {"Origin": "http://good.example"})
        self.assertEqual(headers["access-control-allow-origin"], "http://good.example")
        _, headers, _ = s.request("GET", "/health", None, {"Origin": "http://evil.example"})
        self.assertNotIn("access-control-allow-origin", headers)


class Queue(Case):
    flags = ("--max-num-seqs", "1", "--max-num-queued-reqs", "3", "--enable-server-load-tracking")

    def test_KV3_queue_full(self):
        s = self.server
        connections = []
        for i in range(3):
            c = s.connect()
            c.request("POST", "/v1/completions",
                      json.dumps({"prompt": "a", "max_tokens": 32000, "ignore_eos": True}), JSON)
            connections.append(c)
            end = time.monotonic() + 30
            while s.metric("vllm:num_requests_running") + s.metric(
                    "vllm:num_requests_waiting") < i + 1 and time.monotonic() < end:
                time.sleep(0.01)
        # One runs and two wait: exactly so many are taken, in one piece or not at all.
        status, headers, raw = s.request("POST", "/v1/completions", {"prompt": "b"})
        self.check_error((status, json.loads(raw)), 503, "ServiceUnavailableError")
        self.assertEqual(headers["retry-after"], "1")
        self.assertEqual(s.request("GET", "/health")[0], 200)
        self.assertEqual(json.loads(s.request("GET", "/load")[2])["server_load"], 3)
        for c in connections:
            c.close()
        s.wait_idle()
        status, body = s.complete(prompt="a", n=2, max_tokens=2, temperature=1)
        self.assertEqual(status, 200)
        status, body = s.complete(prompt="a", n=5, max_tokens=3000, temperature=1, ignore_eos=True)
        self.check_error((status, body), 503, "ServiceUnavailableError")
        s.wait_idle()

    def test_load_returns_to_zero(self):
        s = self.server
        in_parallel([lambda: s.complete(prompt="a", max_tokens=3)] * 2)
        end = time.monotonic() + 5
        while json.loads(s.request("GET", "/load")[2])["server_load"] and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(json.loads(s.request("GET", "/load")[2])["server_load"], 0)


class UnixSocket(unittest.TestCase):
    def test_uds(self):
        path = os.path.join(FOLDER, "socket")
        server = Server(uds=path)
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(path)
            c.sendall(head("POST", "/v1/completions", BODY, "Connection: close"))
            self.assertIn(b'"text":"bcd"', b"".join(iter(lambda: c.recv(65536), b"")))
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()
