"""--load-format dummy: presets and folders without weights are served, measured and looked at."""
import json
import os
import tempfile
import unittest

from harness import FOLDER, Server, main, octet, run_serve, tiny_model

TINY = json.dumps({"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96,
                   "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                   "vocab_size": 512, "bos_token_id": None, "eos_token_id": None,
                   "max_position_embeddings": 256, "num_experts": 4,
                   "num_experts_per_tok": 2, "moe_intermediate_size": 32})


def answer(model, *flags):
    """Greedy token ids after some raw ids, with their logprobs."""
    server = Server("--load-format", "dummy", "-q", "auto", *flags, model=model,
                    env={"OCTET_E2E": "1"})
    try:
        status, body = server.complete(prompt=[1, 2, 3, 4, 5], max_tokens=8, temperature=0,
                                       ignore_eos=True, logprobs=2, return_token_ids=True)
        if status != 200:
            raise AssertionError(body)
        refused, _ = server.chat()
        if refused == 200:
            raise AssertionError("a chat without a tokenizer")
        return body["choices"][0]["token_ids"], body["choices"][0]["logprobs"]["token_logprobs"]
    finally:
        if server.stop() != 0:
            raise AssertionError(server.log_text())


class Dummy(unittest.TestCase):
    def test_served(self):
        for preset in ("preset:qwen3-32b-w8a8c8", "preset:qwen3-30b-a3b-w8a8c8",
                       "preset:llama-3.1-8b"):
            one = answer(preset, "--hf-overrides", TINY, "--seed", "3")
            self.assertEqual(answer(preset, "--hf-overrides", TINY, "--seed", "3"), one)
            self.assertNotEqual(answer(preset, "--hf-overrides", TINY, "--seed", "4"), one)

    def test_folder_with_config_only(self):
        folder = tempfile.mkdtemp(dir=FOLDER)
        with open(os.path.join(tiny_model(), "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        self.assertEqual(len(answer(folder)[0]), 8)
        x = json.loads(octet("inspect", folder, "--json", status=3).stdout)
        self.assertEqual((x["family"], x["groups"]), ("llama", []))
        self.assertEqual(x["config"]["hidden"], config["hidden_size"])
        self.assertIn("model.safetensors is missing", x["refused"][0]["reason"])

    def test_overrides_of_files(self):
        server = Server("--hf-overrides", '{"max_position_embeddings": 64}', model=tiny_model(),
                        env={"OCTET_E2E": "1"})
        try:
            body = json.loads(server.request("GET", "/v1/models")[2])
            self.assertEqual(body["data"][0]["max_model_len"], 64)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_bench_step(self):
        r = octet("bench", "step", "preset:qwen3-0.6b-w8a8c8", "--load-format", "dummy",
                  "--hf-overrides", TINY, "--prefill", "16", "--context", "16", "--decode", "4",
                  "--repeats", "1", "--threads", "2", "--json")
        self.assertTrue(json.loads(r.stdout))

    def test_inspect_presets(self):
        x = json.loads(octet("inspect", "preset:qwen3-32b-w8a8c8", "--memory", "64GiB",
                             "--json").stdout)
        self.assertEqual(x["kv_bytes_per_token"], 2 * 64 * 8 * 128)
        self.assertEqual([g["scheme"] for g in x["groups"]], ["W8A8_DYNAMIC"])
        self.assertEqual(x["refused"], [])
        self.assertGreater(x["memory"]["tokens"], 100000)
        text = octet("inspect", "preset:qwen3-235b-a22b-w8a8").stdout
        self.assertIn("128 experts of 1536, 8 a token", text)
        self.assertIn("layers 0-93: W8A8_DYNAMIC; KV float32", text)

    def test_refused(self):
        for args, words in (
                (("preset:qwen3-32b-w8a8c8",), "--load-format dummy"),
                (("preset:nothing", "--load-format", "dummy"), "no such preset"),
                ((tiny_model(), "--load-format", "gguf"), "a folder of safetensors"),
                ((tiny_model(), "--load-format", "pt"), "unknown choice"),
                ((tiny_model(), "--hf-overrides", "{"), "--hf-overrides"),
                ((tiny_model(), "--hf-overrides", "[]"), "not a JSON object")):
            r = run_serve(*args, "--port", "0")
            self.assertEqual(r.returncode, 2, (args, r.stderr))
            self.assertIn(words, r.stderr)
        r = run_serve(tiny_model(), "--hf-overrides", '{"hidden_size": 0}', "--port", "0")
        self.assertEqual(r.returncode, 3)
        self.assertIn("hidden_size", r.stderr)

    def test_help_lists_presets(self):
        text = octet("serve", "--help=load-format").stdout
        for name in ("qwen3-0.6b", "qwen3-235b-a22b", "llama-3.1-70b", "minimax-m2", "-w8a8c8"):
            self.assertIn(name, text)


if __name__ == "__main__":
    main()
