"""Overlap, recorded steps and guessed tokens as clients see them: not at all, but in /metrics."""
import json
import unittest

from harness import Case, Server, in_parallel, main, run_serve, story_from, tiny_model

WAYS = {
    "overlap": ("--async-scheduling",),
    "in turn": ("--no-async-scheduling", "--enforce-eager"),
    "all recorded": ("--compilation-config", '{"cudagraph_mode": "FULL", "cudagraph_num_of_warmups": 0, "mode": 3}'),
    "padded": ("--compilation-config.cudagraph_mode", "FULL_DECODE_ONLY",
               "--compilation_config.cudagraph_capture_sizes+", "1,4", "-cc.cudagraph_capture_sizes+=16"),
    "guesses": ("--async-scheduling", "-sc.prompt_lookup_max=3", "--speculative-config.num_speculative_tokens", "4", "--speculative-config",
                '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_min": 1}'),
    "prefetch": ("--additional-config", json.dumps({
        "enable_cpu_binding": False, "weight_prefetch_config": {"prefetch_ratio": {}}, "xlite_graph_config": {}}),
                 "--additional-config.weight_prefetch_config.enabled", "true",
                 "--additional-config.ascend_scheduler_config", '{"enabled": true, "max_num_seqs": 4}'),
}


class Steps(unittest.TestCase):
    def test_answers_are_the_same(self):
        for way, flags in WAYS.items():
            with self.subTest(way):
                server = Server(*flags)
                try:
                    self.ask(server)
                    if way in ("overlap", "in turn", "guesses"):
                        self.assertIn("steps overlap" if way == "overlap" else "steps follow each other", server.log_text())
                    if way == "guesses":
                        self.assertIn("do not overlap where --speculative-config guesses", server.log_text())
                        self.guessed(server)
                    else:
                        self.assertFalse([m for m in server.metrics() if m.startswith("vllm:spec_decode")])
                    if way == "prefetch":
                        self.assertIn("xlite_graph_config has no meaning here", server.log_text())
                finally:
                    server.stop()

    def ask(self, server):
        def one(i):
            last, n = "abcdefgh"[i], 3 + 2 * i
            status, body = server.complete(prompt="abcdefghijklmnopqrstuvwxyz" + last, max_tokens=n,
                                           temperature=0)
            self.assertEqual(status, 200, body)
            self.assertEqual(body["choices"][0]["text"], story_from(last, n))

        in_parallel([lambda i=i: one(i) for i in range(8)])

    def guessed(self, server):
        counts = [server.metric(f"vllm:spec_decode_num_{x}_total")
                  for x in ("drafts", "draft_tokens", "accepted_tokens")]
        self.assertGreater(counts[0], 0)
        self.assertGreaterEqual(counts[1], counts[2])
        self.assertGreater(counts[2], 0)
        name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
        places = [v for k, v in server.metrics().items() if k.startswith(name + "{")]
        self.assertEqual(len(places), 4)
        self.assertEqual(sum(places), counts[2])

    def test_json_that_is_refused(self):
        for flag, value, words in (
                ("--compilation-config", '{"cudagraph_mode": "SOME"}', "FULL_DECODE_ONLY"),
                ("--compilation-config", '{"cudagraph_capture_sizes": [0]}', "cudagraph_capture_sizes"),
                ("--compilation-config", "[]", "object"),
                ("--speculative-config", '{"method": "eagle"}', "ngram"),
                ("--speculative-config", '{"method": "ngram"}', "num_speculative_tokens"),
                ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 33}', "32"),
                ("--speculative-config",
                 '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_min": 3, "prompt_lookup_max": 2}',
                 "prompt_lookup_max"),
                ("--additional-config", '{"enable_cpu_binding": 1}', "true or false"),
                ("--additional-config", "{", "additional-config")):
            r = run_serve(tiny_model(), flag, value)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(words, r.stderr)

    def test_keys_that_are_refused(self):
        for flags, words in (
                (("--compilation-config.cudagraph_mode", "SOME"), "--compilation-config: cudagraph_mode: want"),
                (("--compilation-config.", "1"), "--compilation-config.: a key is empty"),
                (("--compilation-config..x", "1"), "--compilation-config..x: a key is empty"),
                (("-cc.cudagraph_mode.x=1", "-cc", '{"cudagraph_mode": "FULL"}'),
                 '-cc.cudagraph_mode.x: inside of what is no object (got "FULL")'),
                (("-cc.cudagraph_capture_sizes", "3", "-cc.cudagraph_capture_sizes+", "4"),
                 "-cc.cudagraph_capture_sizes+: not a list (got 3)"),
                (("--speculative-config.num_speculative_tokens", "4"), "--speculative-config: method"),
                (("--additional-config", "[1]", "--additional-config.x", "1"),
                 "--additional-config.x: the flag's own value is no object (got [1])"),
                (("--additional-config.weight_prefetch_config.enabled", "maybe"),
                 "--additional-config: weight_prefetch_config: enabled: want true or false"),
                (("--additional-config.x",), "--additional-config: missing value"),
                (("--max-num-seqs.x", "1"), "--max-num-seqs: takes no keys (got --max-num-seqs.x)"),
                (("--no-async-scheduling.x", "1"), "unknown flag (got --no-async-scheduling.x"),
                (tuple(f"-cc.k{i}=1" for i in range(65)), "--compilation-config: more than 64 keys")):
            r = run_serve(tiny_model(), *flags)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(words, r.stderr)


if __name__ == "__main__":
    main()
