"""octet bench serve and startup: against our own server, and against one whose times are known."""
import http.server
import json
import os
import tempfile
import threading
import time
import unittest

from harness import SANITIZED, Case, main, octet, tiny_model

REPORT = ["Successful requests:", "Failed requests:", "Benchmark duration (s):", "Total input tokens:", "Total generated tokens:",
          "Request throughput (req/s):", "Output token throughput (tok/s):", "Peak output token throughput (tok/s):",
          "Peak concurrent requests:", "Total token throughput (tok/s):", "Mean TTFT (ms):", "P99 TPOT (ms):", "Median ITL (ms):"]


class Known(http.server.BaseHTTPRequestHandler):
    """First event after 0.2 s, three more 0.05 s apart, usage. Prompts that say FAIL and MUTE get something else."""
    protocol_version = "HTTP/1.1"
    bodies, ids, n_open, most_open, lock = [], [], 0, 0, threading.Lock()

    def log_message(self, *_):
        pass

    def send(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        card = {"data": [{"id": "known", "root": tiny_model()}]}
        if self.path == "/v1/models":
            self.send(200, "application/json", json.dumps(card).encode())
        else:
            self.send(404, "application/json", b"{}")

    def event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Known.lock:
            Known.bodies.append(body)
            Known.ids.append(self.headers["X-Request-Id"])
            Known.n_open += 1
            Known.most_open = max(Known.most_open, Known.n_open)
        try:
            self.answer(body)
        finally:
            with Known.lock:
                Known.n_open -= 1

    def answer(self, body):
        text = body.get("prompt") or body["messages"][0]["content"][0]["text"]
        if "FAIL" in text:
            return self.send(503, "application/json", b'{"error": "busy"}')
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for i in range(0 if "MUTE" in text else 4):
            time.sleep(0.05 if i else 0.2)
            what = {"delta": {"content": "x"}} if "messages" in body else {"text": "x"}
            self.event({"choices": [{"index": 0, **what}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}})
        self.wfile.write(b"data: [DONE]\n\n")


class KnownTimes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Known)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_address[1]}"

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()

    def setUp(self):
        Known.bodies, Known.ids, Known.most_open = [], [], 0

    def bench(self, *flags, status=0):
        return octet("bench", "serve", "--base-url", self.url, *flags, status=status)

    def custom(self, *prompts):
        file = tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            for p in prompts:
                file.write(json.dumps({"prompt": p, "output_tokens": 3}) + "\n")
        return ["--dataset-name", "custom", "--dataset-path", file.name, "--num-prompts", str(len(prompts))]

    def test_times_and_counts(self):
        got = json.loads(self.bench("--json", "--num-prompts", "6", "--random-input-len", "5", "--random-output-len", "4",
                                    "--max-concurrency", "2", "--percentile-metrics", "ttft,tpot,itl,e2el").stdout)
        self.assertEqual((got["completed"], got["failed"]), (6, 0))
        self.assertEqual((got["total_input_tokens"], got["total_output_tokens"]), (42, 24))
        self.assertEqual(Known.most_open, 2)
        for key, least in (("ttft", 200), ("tpot", 50), ("itl", 50), ("e2el", 350)):
            self.assertGreaterEqual(got[f"median_{key}_ms"], least - 1, key)
            if not SANITIZED:
                self.assertLess(got[f"median_{key}_ms"], 3 * least, key)
        self.assertGreaterEqual(got["duration"], 3 * 0.35)
        body = Known.bodies[0]
        self.assertEqual((body["model"], body["max_tokens"], body["stream"], body["ignore_eos"]), ("known", 4, True, True))
        self.assertEqual(body["stream_options"], {"include_usage": True})
        self.assertNotIn("temperature", body)
        self.assertEqual(len(set(Known.ids)), 6)

    def test_chat_bodies_and_what_was_given(self):
        self.bench("--backend", "openai-chat", *self.custom("one"), "--custom-output-len", "9", "--temperature", "0.5",
                   "--extra-body", '{"user": "u"}', "--request-id-prefix", "me-")
        body = Known.bodies[0]
        self.assertEqual(body["messages"], [{"role": "user", "content": [{"type": "text", "text": "one"}]}])
        self.assertEqual((body["max_completion_tokens"], body["temperature"], body["user"]), (9, 0.5, "u"))
        self.assertNotIn("ignore_eos", body)
        self.assertEqual(Known.ids, ["me-0"])

    def test_failures_are_counted_and_told(self):
        run = self.bench("--json", "--save-detailed", *self.custom("FAIL", "MUTE", "good"))
        got = json.loads(run.stdout)
        self.assertEqual((got["completed"], got["failed"]), (1, 2))
        self.assertIn("HTTP 503", got["errors"][0])
        self.assertIn("without events", got["errors"][1])
        self.assertEqual(got["generated_texts"][2], "xxxx")
        self.assertIn("a request failed: HTTP 503", run.stderr)
        self.bench(*self.custom("FAIL"), status=4)

    def test_arrivals_end_where_the_rate_says(self):
        got = json.loads(self.bench("--json", "--save-detailed", *self.custom(*["p"] * 10), "--request-rate", "20").stdout)
        starts = got["start_times"]
        self.assertEqual(starts, sorted(starts))
        self.assertGreaterEqual(starts[-1], 0.5)
        if not SANITIZED:
            self.assertLess(starts[-1], 0.8)

    def test_a_seed_names_the_prompts(self):
        flags = ["--num-prompts", "3", "--random-input-len", "8", "--random-range-ratio", "0.5", "--seed"]
        texts = []
        for seed in ("1", "1", "2"):
            Known.bodies = []
            self.bench(*flags, seed)
            texts.append(sorted(b["prompt"] for b in Known.bodies))
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_prefixes_come_again(self):
        self.bench("--dataset-name", "prefix_repetition", "--num-prompts", "6", "--prefix-repetition-prefix-len", "12",
                   "--prefix-repetition-suffix-len", "20", "--prefix-repetition-num-prefixes", "2")
        heads = [b["prompt"][:6] for b in Known.bodies]
        self.assertEqual(len(set(heads)), 2)
        self.assertEqual(len({b["prompt"] for b in Known.bodies}), 6)

    def test_conversations(self):
        turn = lambda n: {"from": "human", "value": "word " * n}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump([{"conversations": [turn(6), turn(5)]}, {"conversations": [turn(1)]}, {"conversations": [turn(5000), turn(9)]}], f)
            f.flush()
            self.bench("--dataset-name", "sharegpt", "--dataset-path", f.name, "--num-prompts", "2")
        self.assertEqual({b["prompt"] for b in Known.bodies}, {"word " * 6})

    def test_report_and_drawing(self):
        with tempfile.TemporaryDirectory() as folder:
            image = os.path.join(folder, "run.svg")
            run = self.bench(*self.custom("a", "b"), "--save-result", "--result-dir", folder, "--label", "mine",
                             "--metadata", "who=me", "--goodput", "ttft:9000", "e2el:9000", "--plot", image)
            lines = run.stdout.splitlines()
            self.assertEqual(lines[0], "============ Serving Benchmark Result ============")
            self.assertEqual(lines[-1], "=" * 50)
            for label in REPORT + ["Request goodput (req/s):"]:
                self.assertTrue(any(line.startswith(f"{label:<40} ") for line in lines), label)
            saved = [n for n in os.listdir(folder) if n.startswith("mine-infqps-known-")]
            with open(os.path.join(folder, saved[0])) as f:
                self.assertEqual(json.load(f)["who"], "me")
            with open(image) as f:
                self.assertIn("TTFT", f.read())

    def test_wrong_flags(self):
        for flags, word in ((["--request-rate", "-1"], "--request-rate"), (["--goodput", "itl:3"], "--goodput"),
                            (["--percentile-metrics", "x"], "--percentile-metrics"), (["--extra-body", "[]"], "--extra-body"),
                            (["--header", "x"], "--header"), (["--ramp-up-strategy", "linear"], "--ramp-up"),
                            (["--dataset-name", "custom"], "--dataset-path"), (["stray"], "stray")):
            self.assertIn(word, self.bench(*flags, status=2).stderr)


class OurServer(Case):
    def test_our_own(self):
        got = json.loads(octet("bench", "serve", "--port", str(self.server.port), "--num-prompts", "8",
                               "--random-input-len", "6", "--random-output-len", "5", "--json").stdout)
        self.assertEqual((got["completed"], got["failed"], got["total_output_tokens"]), (8, 0, 40))


class Startup(unittest.TestCase):
    def test_times(self):
        got = json.loads(octet("bench", "startup", tiny_model(), "--num-iters-cold", "1", "--num-iters-warmup", "0",
                               "--num-iters-warm", "2", "--json", "--", "--max-model-len", "64").stdout)
        self.assertEqual((len(got["cold_startup_times"]), len(got["warm_startup_times"])), (1, 2))
        self.assertGreater(got["avg_warm_startup_time"], 0)
        self.assertGreater(got["avg_warm_first_token_time"], got["avg_warm_startup_time"])

    def test_no_model(self):
        self.assertIn("/nonexistent", octet("bench", "startup", "/nonexistent", status=3).stderr)


if __name__ == "__main__":
    main()
