"""GET /metrics against the serving surface: names, labels, buckets, zeros; the dashboard; the log line."""
import json
import os
import re
import time
import unittest

from harness import Case, Server, main

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "monitoring")
TTFT = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0"
ITL = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0"
REQUEST = ("0.3 0.5 0.8 1.0 1.5 2.0 2.5 5.0 10.0 15.0 20.0 30.0 40.0 50.0 60.0 120.0 240.0 480.0 960.0 1920.0 "
           "7680.0")
TOKENS = "1.0 2.0 5.0 10.0 20.0 50.0 100.0 200.0 500.0 1000.0 2000.0 5000.0 10000.0 20000.0"  # 32768
ITERATION = "1.0 8.0 16.0 32.0 64.0 128.0 256.0 512.0 1024.0 2048.0 4096.0 8192.0 16384.0"
HIGH = ("0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0 7.5 10.0 30.0 60.0")
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": TTFT, "vllm:inter_token_latency_seconds": ITL,
    "vllm:request_time_per_output_token_seconds": ITL, "vllm:e2e_request_latency_seconds": REQUEST,
    "vllm:request_queue_time_seconds": REQUEST, "vllm:request_prefill_time_seconds": REQUEST,
    "vllm:request_decode_time_seconds": REQUEST, "vllm:request_inference_time_seconds": REQUEST,
    "vllm:request_prompt_tokens": TOKENS, "vllm:request_generation_tokens": TOKENS,
    "vllm:request_max_num_generation_tokens": TOKENS, "vllm:request_params_max_tokens": TOKENS,
    "vllm:request_prefill_kv_computed_tokens": TOKENS, "vllm:request_params_n": "1.0 2.0 5.0 10.0 20.0",
    "vllm:iteration_tokens_total": ITERATION,
}
COUNTERS = {
    "vllm:prompt_tokens": None, "vllm:prompt_tokens_cached": None, "vllm:generation_tokens": None,
    "vllm:num_preemptions": None, "vllm:prefix_cache_queries": None, "vllm:prefix_cache_hits": None,
    "vllm:external_prefix_cache_queries": None, "vllm:external_prefix_cache_hits": None,
    "vllm:mm_cache_queries": None, "vllm:mm_cache_hits": None, "vllm:corrupted_requests": None,
    "vllm:prompt_tokens_by_source": ("source", {"local_compute", "local_cache_hit", "external_kv_transfer"}),
    "vllm:request_success": ("finished_reason", {"stop", "length", "abort", "error", "repetition"}),
    "vllm:spec_decode_num_drafts": None, "vllm:spec_decode_num_draft_tokens": None,
    "vllm:spec_decode_num_accepted_tokens": None,
    "vllm:spec_decode_num_accepted_tokens_per_pos": ("position", {"0", "1", "2"}),
}
GAUGES = {
    "vllm:num_requests_running": None, "vllm:num_requests_waiting": None, "vllm:kv_cache_usage_perc": None,
    "vllm:num_requests_waiting_by_reason": ("reason", {"capacity", "deferred"}),
    "vllm:engine_sleep_state": ("sleep_state", {"awake", "weights_offloaded", "discard_all"}),
}
LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')


def read(text):
    """{name: [(labels, value)]}, and {family: type}"""
    series, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, line
            types[name] = kind
        elif not line.startswith("#"):
            m = LINE.fullmatch(line)
            assert m, line
            labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', m.group(2) or ""))
            series.setdefault(m.group(1), []).append((labels, float(m.group(3))))
    return series, types


class Metrics(Case):
    flags = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}',
             "--kv-offloading-size", "0.001")

    def served(self):
        status, head, raw = self.server.request("GET", "/metrics")
        self.assertEqual((status, head["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        return read(raw.decode())

    def test_names_labels_and_buckets(self):
        series, types = self.served()
        own = {"engine": "0", "model_name": "tiny"}
        for name, bounds in HISTOGRAMS.items():
            self.assertEqual(types[name], "histogram")
            les = [labels.pop("le") for labels, _ in series[name + "_bucket"]]
            self.assertEqual(les, [*bounds.split(), "+Inf"], name)
            for suffix in ("_bucket", "_sum", "_count", "_created"):
                for labels, _ in series[name + suffix]:
                    self.assertEqual(labels, own, name + suffix)
            self.assertEqual(types[name + "_created"], "gauge")
        for family, suffix, kind in ((COUNTERS, "_total", "counter"), (GAUGES, "", "gauge")):
            for name, extra in family.items():
                self.assertEqual(types[name + suffix], kind)
                values = set()
                for labels, _ in series[name + suffix]:
                    if extra:
                        values.add(labels.pop(extra[0]))
                    self.assertEqual(labels, own, name)
                self.assertEqual(values, extra[1] if extra else set(), name)
                if kind == "counter":
                    self.assertEqual(len(series[name + "_created"]), len(series[name + suffix]), name)
        (labels, value), = series["vllm:cache_config_info"]
        self.assertEqual(value, 1)
        self.assertEqual(labels["engine"], "0")
        for name in ("block_size", "cache_dtype", "num_gpu_blocks", "enable_prefix_caching", "gpu_memory_utilization"):
            self.assertIn(name, labels)
        self.assertNotIn("model_name", labels)

    def test_http_and_process(self):
        series, types = self.served()
        self.assertEqual(types["http_requests_total"], "counter")
        self.assertEqual(types["http_request_size_bytes"], "summary")
        statuses = {x["status"] for x, _ in series["http_requests_total"]
                    if x["handler"] == "/v1/chat/completions" and x["method"] == "POST"}
        self.assertLessEqual({"2xx", "4xx", "5xx"}, statuses)
        handlers = {x["handler"] for x, _ in series["http_requests_total"]}
        self.assertFalse(handlers & {"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
        les = [x["le"] for x, _ in series["http_request_duration_seconds_bucket"]
               if x["handler"] == "/v1/models" and x["method"] == "GET"]
        self.assertEqual(les, ["0.1", "0.5", "1.0", "+Inf"])
        self.assertEqual([x["le"] for x, _ in series["http_request_duration_highr_seconds_bucket"]],
                         [*HIGH.split(), "+Inf"])
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds",
                     "process_start_time_seconds", "process_max_fds", "process_virtual_memory_bytes"):
            (labels, value), = series[name]
            self.assertEqual(labels, {})
            self.assertGreater(value, 0, name)
        self.assertLess(series["process_start_time_seconds"][0][1], time.time() + 5)

    def test_http_counts(self):
        s = self.server
        key = 'http_requests_total{handler="/tokenize",method="POST",status="%s"}'
        sizes = 'http_request_size_bytes_sum{handler="/tokenize"}', 'http_response_size_bytes_sum{handler="/tokenize"}'
        before = s.metrics()
        body = json.dumps({"prompt": "abc"})
        _, _, answer = s.request("POST", "/tokenize", body)
        s.request("POST", "/tokenize", "{")
        after = s.metrics()
        self.assertEqual(after[key % "2xx"] - before[key % "2xx"], 1)
        self.assertEqual(after[key % "4xx"] - before[key % "4xx"], 1)
        self.assertEqual(after[sizes[0]] - before[sizes[0]], len(body) + 1)
        self.assertGreaterEqual(after[sizes[1]] - before[sizes[1]], len(answer))
        count = 'http_request_duration_seconds_count{handler="/tokenize",method="POST"}'
        self.assertEqual(after[count] - before[count], 2)

    def test_streams_are_counted_when_they_end(self):
        s = self.server
        name = 'http_response_size_bytes_sum{handler="/v1/completions"}'
        before = s.metrics()[name]
        _, _, raw = s.request("POST", "/v1/completions", {"prompt": "a", "max_tokens": 4, "stream": True})
        self.assertEqual(s.metrics()[name] - before, len(raw))

    def test_every_expression_of_the_dashboard_is_served(self):
        series, _ = self.served()
        with open(os.path.join(DOCS, "grafana-octet.json"), encoding="utf-8") as f:
            dashboard = json.load(f)
        expressions = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", ())]
        expressions += [re.search(r"\((.*), ", v["query"]["query"]).group(1)
                        for v in dashboard["templating"]["list"] if v["type"] == "query"]
        with open(os.path.join(DOCS, "alerts.yml"), encoding="utf-8") as f:
            expressions += re.findall(r"expr: (.*)", f.read())
        self.assertGreater(len(expressions), 50)
        used = set()
        for e in expressions:
            bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", e)
            names = {n for n in re.findall(r"[a-z]+:[a-z0-9_]+|(?:http|process)_[a-z_]+|\bup\b", bare)}
            self.assertTrue(names, e)
            used |= names - {"up"}
            for by in re.findall(r"by \(([a-z_, ]+)\)", e):
                for label in by.split(", "):
                    self.assertTrue(label == "instance" or any(label in x for n in names for x, _ in series[n]),
                                    (label, e))
        self.assertEqual({n for n in used if n not in series}, set())

    def test_every_octet_series_is_described(self):
        series, types = self.served()
        with open(os.path.join(DOCS, "..", "monitoring.md"), encoding="utf-8") as f:
            text = f.read()
        for name in types:
            if name.startswith("octet:") and not name.endswith("_created"):
                short = re.sub("_total$", "", name).split(":")[1]
                parts = short.split("_")
                tails = ["_" + "_".join(parts[i:]) for i in range(1, len(parts))]
                self.assertTrue(short in text or any(f"`{t}`" in text or f"`{t}{{" in text for t in tails), name)


class LogLine(unittest.TestCase):
    WORDS = (r"Engine 000: Avg prompt throughput: \d+\.\d tokens/s, Avg generation throughput: \d+\.\d tokens/s, "
             r"Running: \d+ reqs, Waiting: \d+ reqs,( Deferred: \d+ reqs,)?( Preemptions: \d+,)? "
             r"GPU KV cache usage: \d+\.\d%, Prefix cache hit rate: (\d+\.\d)%")

    def lines(self, server):
        return [x for x in server.log_text().splitlines() if "Engine 000:" in x]

    def test_words_interval_and_idle(self):
        server = Server(env={"VLLM_LOG_STATS_INTERVAL": "0.2"})
        try:
            time.sleep(0.7)
            self.assertEqual(self.lines(server), [], "an idle server says nothing")
            for _ in range(2):
                server.complete(prompt="the a" * 40, max_tokens=40, temperature=0)
            end = time.monotonic() + 20
            while not self.lines(server) and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(1.5)
            n = len(self.lines(server))
            time.sleep(0.8)
            self.assertEqual(len(self.lines(server)), n, "nor does one that has become idle")
            for line in self.lines(server):
                self.assertRegex(line, self.WORDS + "$")
            # the last one is of an interval in which nothing happened, behind one in which something did
            self.assertIn("Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.0 tokens/s", line)
            self.assertGreater(float(re.search(self.WORDS, line).group(3)), 30)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_an_interval_that_is_none(self):
        from harness import run_serve, tiny_model
        r = run_serve(tiny_model(), "--port", "0", env={"VLLM_LOG_STATS_INTERVAL": "often"})
        self.assertEqual(r.returncode, 2)
        self.assertIn("VLLM_LOG_STATS_INTERVAL", r.stderr)


if __name__ == "__main__":
    main()
