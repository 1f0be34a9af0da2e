"""Routes for operators and development, the settings of every answer, readiness."""
import http.client
import json
import os
import socket
import subprocess
import threading
import time
import unittest

import make_tiny
from harness import FOLDER, OCTET, PATIENCE, SANITIZED, Case, Server, in_parallel, main, run_serve, story_from, tiny_model

DEV = (("POST", "/reset_prefix_cache"), ("POST", "/pause"), ("POST", "/resume"), ("GET", "/is_paused"),
       ("POST", "/abort_requests"), ("GET", "/server_info"))


class NoDev(Case):
    def test_without_development_mode_they_do_not_exist(self):
        for method, path in DEV:
            status, _, raw = self.server.request(method, path, None)
            self.check_error((status, json.loads(raw)), 404, "NotFoundError")

    def test_server_load_without_tracking(self):
        self.assertEqual(json.loads(self.server.request("GET", "/load")[2]), {"server_load": 0})


class Dev(Case):
    dev = True
    flags = ("--enable-server-load-tracking",)

    def tearDown(self):
        self.call("POST", "/resume")  # whatever failed
        super().tearDown()

    def call(self, method, path, body=None, want=200):
        status, _, raw = self.server.request(method, path, body)
        self.assertEqual(status, want, raw)
        return json.loads(raw) if raw else None

    def begin(self, n, tokens=30000, request_id=None, stream=False, paused=False):
        """n requests that run; what they answer comes from the returned function."""
        s, got = self.server, [None] * n
        state = "vllm:num_requests_waiting" if paused else "vllm:num_requests_running"
        before = s.metric(state)

        def ask(i):
            got[i] = s.request("POST", "/v1/completions",
                               {"prompt": "a", "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                                "stream": stream},
                               {"X-Request-Id": f"{request_id}-{i}"} if request_id else None)
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
        for t in threads:
            t.start()
        end = time.monotonic() + PATIENCE
        while s.metric(state) < before + n:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

        def finish():
            for t in threads:
                t.join(PATIENCE)
            return got
        return finish

    def test_pause_abort(self):
        finish = self.begin(2)
        self.assertEqual(self.call("POST", "/pause"), {"status": "paused"})
        self.assertEqual(self.call("GET", "/is_paused"), {"is_paused": True})
        for status, _, raw in finish():
            choice = json.loads(raw)["choices"][0]
            self.assertEqual((status, choice["finish_reason"]), (200, "abort"))
            text = choice["text"].rstrip("\ufffd")  # a character of several tokens may have been cut
            self.assertEqual(text, story_from("a", len(text)))
        later = self.begin(1, 5, paused=True)
        time.sleep(0.1)
        self.assertEqual(self.server.metric("vllm:num_requests_waiting"), 1)
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        self.assertEqual(self.call("POST", "/resume"), {"status": "resumed"})
        self.assertEqual(json.loads(later()[0][2])["choices"][0]["text"], story_from("a", 5))
        self.assertEqual(self.call("GET", "/is_paused"), {"is_paused": False})

    def test_pause_keep_and_wait(self):
        finish = self.begin(2, 400 if SANITIZED else 3000)
        self.call("POST", "/pause?mode=keep&clear_cache=false")
        self.assertEqual(self.server.metric("vllm:num_requests_running"), 2)
        drawn = self.server.metric("vllm:generation_tokens_total")
        time.sleep(0.2)
        self.assertEqual(self.server.metric("vllm:generation_tokens_total"), drawn)
        self.call("POST", "/resume")
        self.call("POST", "/pause?mode=wait")
        for status, _, raw in finish():
            self.assertEqual(json.loads(raw)["choices"][0]["finish_reason"], "length")
        self.assertEqual(self.server.metric("vllm:num_requests_running"), 0)
        self.call("POST", "/resume")

    def test_a_resume_before_the_pause_holds(self):
        finish = self.begin(1)
        got = []
        t = threading.Thread(target=lambda: got.append(self.server.request("POST", "/pause?mode=wait")))
        t.start()
        while not self.call("GET", "/is_paused")["is_paused"]:
            time.sleep(0.01)
        self.call("POST", "/resume")
        t.join(PATIENCE)
        self.check_error((got[0][0], json.loads(got[0][2])), 409, "Conflict")
        self.call("POST", "/abort_requests", {"request_ids": []})
        finish()

    def test_pause_bad_queries(self):
        for query, param in (("mode=soon", "mode"), ("clear_cache=perhaps", "clear_cache"), ("mode=", "mode")):
            status, _, raw = self.server.request("POST", "/pause?" + query)
            self.check_error((status, json.loads(raw)), 400, "BadRequestError", param)
        self.assertEqual(self.call("GET", "/is_paused"), {"is_paused": False})
        self.assertEqual(self.server.request("GET", "/pause")[0], 405)

    def test_abort_requests(self):
        finish = self.begin(3, request_id="r")
        self.assertEqual(json.loads(self.server.request("GET", "/load")[2]), {"server_load": 3})
        self.assertEqual(self.call("POST", "/abort_requests", {"request_ids": ["nobody"]}),
                         {"status": "aborted", "aborted": 0})
        self.assertEqual(self.call("POST", "/abort_requests", {"request_ids": ["r-1", "cmpl-r-2"]}),
                         {"status": "aborted", "aborted": 2})
        end = time.monotonic() + PATIENCE
        while self.server.metric("vllm:num_requests_running") > 1 and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(self.server.metric("vllm:num_requests_running"), 1)
        self.assertEqual(self.call("POST", "/abort_requests"), {"status": "aborted", "aborted": 1})
        reasons = [json.loads(raw)["choices"][0]["finish_reason"] for _, _, raw in finish()]
        self.assertEqual(reasons, ["abort"] * 3)
        stream = self.begin(1, stream=True)
        self.assertEqual(self.call("POST", "/abort_requests", {})["aborted"], 1)
        raw = stream()[0][2]
        self.assertIn(b'"finish_reason":"abort"', raw)
        self.assertTrue(raw.endswith(b"data: [DONE]\n\n"))
        for body in ({"request_ids": "r"}, {"request_ids": [1]}):
            self.malformed(self.server.post("/abort_requests", body), "request_ids")
        self.malformed(self.server.post("/abort_requests", [1]))

    def test_server_info(self):
        info = self.call("GET", "/server_info")
        self.assertEqual(set(info), {"vllm_config", "vllm_env", "system_env"})
        self.assertIn("max_num_seqs=128", info["vllm_config"])
        info = self.call("GET", "/server_info?config_format=json")
        self.assertEqual((info["vllm_config"]["max_num_seqs"], info["vllm_config"]["enable_server_load_tracking"]),
                         (128, True))
        self.assertEqual(info["vllm_env"]["VLLM_SERVER_DEV_MODE"], "1")
        self.assertTrue(info["system_env"]["os"].startswith("Linux"))
        self.assertNotIn("api_key", info["vllm_config"])
        self.check_error((lambda r: (r[0], json.loads(r[2])))(
            self.server.request("GET", "/server_info?config_format=xml")), 400, "BadRequestError", "config_format")


class Secrets(unittest.TestCase):
    def test_server_info_tells_no_keys(self):
        server = Server("--api-key", "very-secret",
                        env={"VLLM_SERVER_DEV_MODE": "1", "VLLM_API_KEY": "hidden", "VLLM_SOME_TOKEN": "hidden"})
        try:
            good = {"Authorization": "Bearer very-secret"}
            self.assertEqual(server.request("GET", "/server_info")[0], 401)
            for query in ("", "?config_format=json"):
                _, _, raw = server.request("GET", "/server_info" + query, None, good)
                self.assertNotIn(b"very-secret", raw)
                self.assertNotIn(b"hidden", raw)
        finally:
            self.assertEqual(server.stop(), 0)


class Settings(Case):
    flags = ("--stream-interval", "4", "--enable-per-request-metrics", "--fingerprint-mode", "custom",
             "--fingerprint-value", "mine", "--root-path", "/octet/", "--allowed-methods", '["GET","POST"]',
             "--allowed-headers", "X-One, X-Two", "--allow-credentials")

    def test_stream_interval(self):
        s = self.server
        want = story_from("a", 11)

        def pieces(**body):
            events = s.events("/v1/completions", {"prompt": "a", "max_tokens": 11, "temperature": 0,
                                                  "logprobs": 0, "return_token_ids": True, **body})
            choices = [e["choices"][0] for e in events[:-1] if e["choices"]]
            self.assertEqual("".join(c["text"] for c in choices), want)
            for c in choices:
                self.assertEqual(len(c["token_ids"]), len(c["logprobs"]["tokens"]))
                self.assertEqual("".join(c["logprobs"]["tokens"]), c["text"])
            return [len(c["token_ids"]) for c in choices]
        self.assertEqual(pieces(), [1, 4, 4, 2])
        self.assertEqual(pieces(stream_interval=1), [1] * 11)
        self.assertEqual(pieces(stream_interval=100), [1, 10])
        events = s.events("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9,
                                                   "temperature": 0, "stream_options": {
                                                       "include_usage": True, "continuous_usage_stats": True}})
        n = [e["usage"]["completion_tokens"] for e in events[:-1]]
        self.assertEqual(n, [1, 1, 5, 9, 9])
        self.refused(s.complete(prompt="a", stream_interval=0), "stream_interval")

    def test_request_metrics(self):
        s = self.server
        status, body = s.complete(prompt="ab", max_tokens=5, temperature=0)
        self.assertEqual(set(body["metrics"]), {"time_to_first_token_ms", "generation_time_ms", "queue_time_ms",
                                                "mean_itl_ms", "tokens_per_second"})
        self.assertGreater(body["metrics"]["tokens_per_second"], 0)
        self.assertEqual((body["timings"]["prompt_n"] + body["timings"]["cache_n"], body["timings"]["predicted_n"]),
                         (2, 5))
        self.assertIsNone(s.complete(prompt="ab", max_tokens=5, n=2, temperature=1)[1]["metrics"])
        for options in ({}, {"stream_options": {"include_usage": True}}):
            events = s.events("/v1/completions", {"prompt": "ab", "max_tokens": 5, "temperature": 0, **options})
            self.assertEqual([("metrics" in e) for e in events[:-1]], [False] * (len(events) - 2) + [True])

    def test_fingerprint(self):
        self.assertEqual(self.server.complete(prompt="a", max_tokens=1)[1]["system_fingerprint"], "mine")

    def test_root_path(self):
        s = self.server
        for path in ("/health", "/octet/health", "/octet/v1/models"):
            self.assertEqual(s.request("GET", path)[0], 200, path)
        for path in ("/octetx/health", "/octet/octet/health"):
            self.assertEqual(s.request("GET", path)[0], 404, path)
        self.assertEqual(s.post("/octet/v1/completions", {"prompt": "a", "max_tokens": 2, "temperature": 0})[1]
                         ["choices"][0]["text"], story_from("a", 2))

    def test_cors(self):
        _, head, _ = self.server.request("OPTIONS", "/v1/models", None, {
            "Origin": "http://a.example", "Access-Control-Request-Headers": "X-Three"})
        self.assertEqual(head["access-control-allow-methods"], "GET, POST")
        self.assertEqual(head["access-control-allow-headers"], "X-One, X-Two")
        self.assertEqual(head["access-control-allow-credentials"], "true")
        self.assertEqual(head["access-control-allow-origin"], "http://a.example")


class Fingerprints(unittest.TestCase):
    def test_modes(self):
        for mode, want in (("full", r"octet-[\d.]+-[0-9a-f]{8}$"), ("hash", r"octet-[\d.]+-[0-9a-f]{8}$"),
                           ("none", None)):
            server = Server("--fingerprint-mode", mode)
            got = server.complete(prompt="a", max_tokens=1)[1]["system_fingerprint"]
            self.assertEqual(server.stop(), 0)
            if want:
                self.assertRegex(got, want)
            else:
                self.assertIsNone(got)
        r = run_serve(tiny_model(), "--fingerprint-mode", "custom")
        self.assertEqual(r.returncode, 2)
        self.assertIn("--fingerprint-value", r.stderr)


class Readiness(unittest.TestCase):
    def status(self, port, path="/health"):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            c.request("GET", path)
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def test_health_while_loading(self):
        model = FOLDER + "/large-ready"
        make_tiny.make_large(model)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        p = subprocess.Popen([OCTET, "serve", model, "--host", "127.0.0.1", "--port", str(port), "-q", "int8"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seen, end = set(), time.monotonic() + PATIENCE
        while 200 not in seen and time.monotonic() < end:
            try:
                status, raw = self.status(port)
            except OSError:
                time.sleep(0.002)
                continue
            seen.add(status)
            if status == 503:
                self.assertEqual(json.loads(raw)["error"]["message"], "Loading model")
        p.terminate()
        self.assertEqual(p.wait(PATIENCE), 0)
        p.stdout.close()
        self.assertEqual(seen, {200, 503})

    def test_health_while_draining(self):
        server = Server()
        t = threading.Thread(target=server.complete, kwargs={"prompt": "a", "max_tokens": 1500, "temperature": 0,
                                                            "ignore_eos": True})
        t.start()
        while server.metric("vllm:num_requests_running") < 1:
            time.sleep(0.005)
        server.process.terminate()
        seen = set()
        try:
            while True:  # new connections are still taken, and told
                seen.add(self.status(server.port)[0])
                seen.add(self.status(server.port, "/ping")[0])
        except OSError:
            pass
        t.join()
        self.assertEqual(server.process.wait(PATIENCE), 0)
        server.stop()
        self.assertIn(503, seen)


class ServiceManager(unittest.TestCase):
    def test_it_is_told(self):
        """READY when requests are answered, WATCHDOG while the engine makes progress, STOPPING at the end."""
        for name in (os.path.join(FOLDER, "notify"), "@octet-notify-%d" % os.getpid()):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.bind("\0" + name[1:] if name[0] == "@" else name)
                s.settimeout(PATIENCE)
                server = Server(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"})
                self.assertEqual(s.recv(100), b"READY=1")
                self.assertEqual(s.recv(100), b"WATCHDOG=1")
                self.assertEqual(s.recv(100), b"WATCHDOG=1")
                self.assertEqual(server.stop(), 0)
                words = {s.recv(100)}
                while b"STOPPING=1" not in words:
                    words.add(s.recv(100))
                self.assertLessEqual(words, {b"WATCHDOG=1", b"STOPPING=1"})

    def test_whatever_the_variable_holds(self):
        for name in ("", "x", "/nonexistent/socket", "/" + "x" * 200):
            self.assertEqual(Server(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "soon"}).stop(), 0)


if __name__ == "__main__":
    main()
