"""octet bench throughput, latency and step over several sequences: the words and keys that other tools know."""
import json
import os
import re
import tempfile
import unittest

from harness import FOLDER, main, octet, tiny_model

TINY = json.dumps({"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96,
                   "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                   "vocab_size": 512, "bos_token_id": None, "eos_token_id": None,
                   "max_position_embeddings": 256, "num_experts": 4,
                   "num_experts_per_tok": 2, "moe_intermediate_size": 32})
DUMMY = ("preset:qwen3-0.6b-w8a8c8", "--load-format", "dummy", "--hf-overrides", TINY,
         "--threads", "2")
TINY_MODEL = ("-q", "int8", "--threads", "2")


class Throughput(unittest.TestCase):
    def bench(self, *flags, status=0):
        return octet("bench", "throughput", *flags, status=status)

    def test_report(self):
        text = self.bench(*DUMMY, "--num-prompts", "6", "--input-len", "20", "--output-len", "5",
                          "--num-warmups", "2").stdout
        self.assertRegex(text, r"\AThroughput: \d+\.\d\d requests/s, \d+\.\d\d total tokens/s, "
                               r"\d+\.\d\d output tokens/s\n"
                               r"Total num prompt tokens:  120\nTotal num output tokens:  30\n\Z")

    def test_json(self):
        file = os.path.join(tempfile.mkdtemp(dir=FOLDER), "out.json")
        run = self.bench(tiny_model(), *TINY_MODEL, "--num-prompts", "5", "--input-len", "9",
                         "--output-len", "4", "--n", "3", "--json", "--output-json", file)
        got = json.loads(run.stdout)
        with open(file, encoding="utf-8") as f:
            self.assertEqual(json.load(f), got)
        self.assertEqual((got["num_requests"], got["total_num_tokens"]), (5, 5 * 9 + 5 * 3 * 4))
        self.assertAlmostEqual(got["requests_per_second"] * got["elapsed_time"], 5, delta=0.01)
        self.assertAlmostEqual(got["tokens_per_second"] * got["elapsed_time"], 105, delta=0.1)

    def test_lengths(self):
        flags = (*DUMMY, "--num-prompts", "40", "--input-len", "20", "--output-len", "6",
                 "--random-range-ratio", "0.5", "--random-prefix-len", "7", "--json")
        one, two, other = (json.loads(self.bench(*flags, "--seed", seed).stdout)
                           for seed in ("3", "3", "4"))
        for got in (one, other):
            prompt, answer = got["total_num_prompt_tokens"], got["total_num_output_tokens"]
            self.assertTrue(40 * 17 <= prompt <= 40 * 37, prompt)
            self.assertTrue(40 * 3 <= answer <= 40 * 9, answer)
        self.assertEqual(one["total_num_prompt_tokens"], two["total_num_prompt_tokens"])
        self.assertEqual(one["total_num_output_tokens"], two["total_num_output_tokens"])
        self.assertNotEqual(one["total_num_tokens"], other["total_num_tokens"])

    def test_a_command_line_of_vllm(self):
        got = json.loads(self.bench("--model", *DUMMY, "--backend", "vllm", "--dataset-name", "random",
                                    "--random-input-len", "12", "--random-output-len", "3", "--num-prompts", "4",
                                    "--async-engine", "-tp", "1", "--trust-remote-code", "--dtype", "auto",
                                    "--enable-chunked-prefill", "--json").stdout)
        self.assertEqual(got["total_num_tokens"], 4 * 15)
        self.assertIn("a MODEL was given already", self.bench("--model", *DUMMY, "x", status=2).stderr)
        self.assertIn("want a MODEL", self.bench(status=2).stderr)
        self.assertIn("one device computes", self.bench(*DUMMY, "--tensor-parallel-size", "2", status=2).stderr)

    def test_blocks_are_kept(self):
        folder = os.path.join(tempfile.mkdtemp(dir=FOLDER), "blocks")
        flags = (*DUMMY, "--num-prompts", "6", "--input-len", "70", "--output-len", "4", "--kv-store", folder)
        for more in (("--kv-offloading-size", "0.0005", "--num-gpu-blocks-override", "8"), ()):
            self.bench(*flags, *more)
            self.assertGreaterEqual(len(os.listdir(folder)), 6)  # two whole blocks a prompt
        for command in ("throughput", "latency"):
            for flag in (("--kv-store", folder), ("--kv-offloading-size", "1")):
                said = octet("bench", command, *DUMMY, "--no-enable-prefix-caching", *flag, status=2).stderr
                self.assertIn(flag[0], said)
        octet("bench", "latency", *DUMMY, "--num-iters", "2", "--num-iters-warmup", "1", "--output-len", "4",
              "--enable-prefix-caching", "--kv-store", folder)

    def test_small_cache(self):
        """A cache for one sequence: the others wait, are preempted, and all of them end."""
        got = json.loads(self.bench(*DUMMY, "--num-prompts", "9", "--input-len", "30",
                                    "--output-len", "40", "--num-gpu-blocks-override", "4",
                                    "--json").stdout)
        self.assertEqual(got["total_num_output_tokens"], 9 * 40)

    def test_refused(self):
        self.assertIn("too long (got 300 tokens, want at most 64)", self.bench(
            *DUMMY, "--input-len", "290", "--output-len", "10", "--max-model-len", "64",
            status=2).stderr)
        self.assertIn("want a MODEL", self.bench(status=2).stderr)
        self.assertIn("unknown choice", self.bench(*DUMMY, "--backend", "hf", status=2).stderr)
        self.assertIn("/nonexistent", self.bench("/nonexistent", status=3).stderr)
        self.assertIn("/nonexistent/x", self.bench(
            *DUMMY, "--num-prompts", "1", "--input-len", "4", "--output-len", "1",
            "--output-json", "/nonexistent/x", status=4).stderr)


class Latency(unittest.TestCase):
    FLAGS = (*DUMMY, "--batch-size", "3", "--input-len", "12", "--output-len", "4",
             "--num-iters-warmup", "1", "--num-iters", "5")

    def test_report(self):
        lines = octet("bench", "latency", *self.FLAGS).stdout.splitlines()
        self.assertRegex(lines[0], r"^Avg latency: \d+\.\d+ seconds$")
        percents = [re.fullmatch(r"(\d+)% percentile latency: (\d+\.\d+) seconds", x)
                    for x in lines[1:]]
        self.assertEqual([int(m[1]) for m in percents], [10, 25, 50, 75, 90, 99])
        times = [float(m[2]) for m in percents]
        self.assertEqual(times, sorted(times))

    def test_json(self):
        got = json.loads(octet("bench", "latency", *self.FLAGS, "--json").stdout)
        times = sorted(got["latencies"])
        self.assertEqual(len(times), 5)
        self.assertAlmostEqual(got["avg_latency"], sum(times) / 5, places=6)
        self.assertEqual(list(got["percentiles"]), ["10", "25", "50", "75", "90", "99"])
        self.assertAlmostEqual(got["percentiles"]["50"], times[2], places=6)
        self.assertAlmostEqual(got["percentiles"]["10"], times[0] + 0.4 * (times[1] - times[0]),
                               places=6)


class Step(unittest.TestCase):
    def bench(self, *flags, status=0, model=DUMMY):
        return octet("bench", "step", *model, "--prefill", "40", "--decode", "3", "--repeats", "2",
                     *flags, status=status)

    def test_batches(self):
        got = json.loads(self.bench("--batch", "1,2,5", "--context", "16,100", "--json").stdout)
        steps = got["steps"]
        self.assertEqual([(s["context"], s["batch"]) for s in steps],
                         [(c, b) for c in (16, 100) for b in (1, 2, 5)])
        for s in steps:
            self.assertGreater(s["tpot_ms"], 0)
            self.assertAlmostEqual(s["tokens_per_s"] * s["tpot_ms"] / 1e3, s["batch"],
                                   delta=0.01 * s["batch"])
            self.assertAlmostEqual(s["step_bytes"] / s["tpot_ms"] / 1e6 / got["read_gb_per_s"],
                                   s["of_read"], delta=1e-3 + 0.02 * s["of_read"])
        # Weights are read once, the cache by each sequence; work is as many times as rows.
        kv = (steps[3]["step_bytes"] - steps[0]["step_bytes"]) / (100 - 16)
        self.assertGreaterEqual(kv, 2 * 2 * 2 * 32)  # layers, K and V, heads, width
        self.assertAlmostEqual(steps[2]["step_bytes"] - steps[0]["step_bytes"], 4 * 18 * kv)
        self.assertAlmostEqual(steps[2]["step_ops"], 5 * steps[0]["step_ops"], delta=1)

    def test_experts(self):
        """More rows touch more experts, but no more than there are."""
        model = ("preset:qwen3-30b-a3b-w8a8", *DUMMY[1:])
        got = json.loads(self.bench("--batch", "1,2,64", "--context", "1", "--json",
                                    model=model).stdout)["steps"]
        kv = 2 * 2 * 2 * 32 * 4 * 3  # float32, three tokens
        experts = 2 * 3 * 64 * 32  # one a layer
        weights = [s["step_bytes"] - s["batch"] * kv for s in got]
        self.assertAlmostEqual(weights[1] - weights[0], experts, delta=1)
        self.assertAlmostEqual(weights[2] - weights[0], 2 * experts, delta=1)

    def test_for_people(self):
        text = self.bench("--batch", "1,2", "--context", "20").stdout
        self.assertIn("prefill 40 tokens", text)
        self.assertRegex(text, r"batch 2 +at 20 tokens: [\d.]+ ms a step")
        self.assertIn("decode at 20 tokens", self.bench("--context", "20").stdout)

    def test_refused(self):
        for flags in (("--batch", "0"), ("--batch", "1,"), ("--batch", "a"),
                      ("--batch", ",".join("1" * 17)), ("--context", "5,6"), ("--context", "0")):
            self.assertIn(flags[0], self.bench(*flags, status=2).stderr)


if __name__ == "__main__":
    main()
