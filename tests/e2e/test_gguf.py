"""Rows CF, ST, TK and TP of the bad-input table for a GGUF file: octet serve on a bad one.

The tiny model is written as one file, with its vocabulary and template in the metadata. The cases in
full are unit tests of the same names (tests/unit/store, tests/unit/model, tests/unit/text).
"""
import json
import math
import os
import struct
import unittest

import test_files
from harness import Server, main, tiny_model

U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
PARTS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
ENDS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight"}


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, v):
    return text(v) if kind == STRING else struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], v)


def value(kind, v):
    if isinstance(v, list):
        return struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(scalar(kind, x) for x in v)
    return struct.pack("<I", kind) + scalar(kind, v)


def usual_to_gguf(name):
    if name in ENDS:
        return ENDS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{PARTS[rest.removesuffix('.weight')]}.weight"


def pairs(raw, heads, row):
    """Row a * d/2 + b of each head becomes row 2b + a."""
    d = len(raw) // row // heads
    rows = [raw[i * row:(i + 1) * row] for i in range(heads * d)]
    return b"".join(rows[h * d + i % 2 * (d // 2) + i // 2] for h in range(heads) for i in range(d))


class Gguf(test_files.Files):
    def setUp(self):
        super().setUp()
        config = json.loads(test_files.read(tiny_model(), "config.json"))
        tok = json.loads(test_files.read(tiny_model(), "tokenizer.json"))
        settings = json.loads(test_files.read(tiny_model(), "tokenizer_config.json"))
        ids = {**tok["model"]["vocab"], **{t["content"]: t["id"] for t in tok["added_tokens"]}}
        special = {t["id"] for t in tok["added_tokens"]}
        self.keys = {
            "general.architecture": (STRING, "llama"),
            "llama.block_count": (U32, config["num_hidden_layers"]),
            "llama.context_length": (U32, config["max_position_embeddings"]),
            "llama.embedding_length": (U32, config["hidden_size"]),
            "llama.feed_forward_length": (U32, config["intermediate_size"]),
            "llama.attention.head_count": (U32, config["num_attention_heads"]),
            "llama.attention.head_count_kv": (U32, config["num_key_value_heads"]),
            "llama.attention.layer_norm_rms_epsilon": (F32, config["rms_norm_eps"]),
            "llama.rope.freq_base": (F32, config["rope_theta"]),
            "tokenizer.ggml.model": (STRING, "gpt2"),
            "tokenizer.ggml.pre": (STRING, "gpt-2"),
            "tokenizer.ggml.tokens": (STRING, sorted(ids, key=ids.get)),
            "tokenizer.ggml.token_type": (I32, [3 if i in special else 1 for i in range(len(ids))]),
            "tokenizer.ggml.merges": (STRING, tok["model"]["merges"]),
            "tokenizer.ggml.bos_token_id": (U32, config["bos_token_id"]),
            "tokenizer.ggml.eos_token_id": (U32, config["eos_token_id"]),
            "tokenizer.chat_template": (STRING, settings["chat_template"]),
        }
        header, data = self.split()
        header.pop("__metadata__", None)
        self.tensors = {}
        for name, t in header.items():
            a, b = t["data_offsets"]
            raw, row = data[a:b], 2 * t["shape"][-1]
            if ".q_proj." in name or ".k_proj." in name:
                heads = config["num_attention_heads" if ".q_" in name else "num_key_value_heads"]
                raw = pairs(raw, heads, row)
            self.tensors[usual_to_gguf(name)] = (t["shape"], raw)

    def path(self):
        return os.path.join(self.folder, "m.gguf")

    def build(self, keys=None, tensors=None):
        """The file, with these values in place of its own; None removes."""
        keys = {k: v for k, v in {**self.keys, **(keys or {})}.items() if v}
        tensors = {k: v for k, v in {**self.tensors, **(tensors or {})}.items() if v}
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
        for k, v in keys.items():
            head += text(k) + value(*v)
        data = b""
        for name, (shape, raw) in tensors.items():
            head += text(name) + struct.pack("<I", len(shape))
            head += b"".join(struct.pack("<Q", d) for d in reversed(shape))
            head += struct.pack("<IQ", 30, len(data)) # BF16
            data += raw + b"\0" * (-len(raw) % 32)
        return head + b"\0" * (-len(head) % 32) + data

    def wrong(self, words, keys=None, tensors=None):
        self.put("m.gguf", self.build(keys, tensors))
        self.refused("m.gguf", *words)

    def test_a_good_file(self):
        self.put("m.gguf", self.build())
        self.assertEqual(self.served(), "bcd")

    def test_CF3_architecture(self):
        self.wrong(["mamba", "LlamaForCausalLM"], {"general.architecture": (STRING, "mamba")})

    def test_CF4_sizes(self):
        for v in ((U32, 0), (U32, 1 << 31), (F32, 2.5), (STRING, "2"), (I32, -2)):
            self.wrong(["llama.block_count"], {"llama.block_count": v})
        self.wrong(["llama.embedding_length is missing"], {"llama.embedding_length": None})

    def test_CF5_relations(self):
        self.wrong(["num_key_value_heads"], {"llama.attention.head_count_kv": (U32, 3)})
        self.wrong(["rope.freq_base"], {"llama.rope.freq_base": (F32, math.nan)})
        self.wrong(["eos_token_id"], {"tokenizer.ggml.eos_token_id": (U32, 1 << 20)})

    def test_ST1_ST2_head(self):
        good = self.build()
        for raw in (b"", b"GGU", good[:7], b"GGML" + good[4:], good[:4] + b"\1" + good[5:],
                    good[:8] + b"\xff" * 8 + good[16:]):
            self.put("m.gguf", raw)
            self.refused("m.gguf")
        self.wrong(["control character"], {"a\nb": (U32, 1)})

    def test_ST4_ST6_shapes_and_tiling(self):
        shape, raw = self.tensors["blk.0.attn_q.weight"]
        self.wrong(["overflow"], tensors={"blk.0.attn_q.weight": ([1 << 40, 1 << 40], raw)})
        self.wrong(["blk.", "overlaps"], tensors={"blk.0.attn_q.weight": ([2 * shape[0], shape[1]], raw)})
        self.put("m.gguf", self.build() + b"\0" * 64)
        self.refused("m.gguf", "64 bytes after the last tensor")

    def test_ST8_cut_anywhere(self):
        good = self.build()
        for at in (24, 100, 3000, len(good) // 2, len(good) - 33):
            self.put("m.gguf", good[:at])
            self.refused("m.gguf: ", *["incomplete download"] * (at > 3000))

    def test_ST10_missing_and_unused(self):
        self.wrong(["model.layers.1.mlp.up_proj.weight is missing"],
                   tensors={"blk.1.ffn_up.weight": None})
        self.put("m.gguf", self.build(tensors={"odd": ([32], b"\0" * 64)}))
        self.served("1 tensors of the checkpoint are not used: odd")

    def test_ST11_values(self):
        shape, raw = self.tensors["blk.0.attn_norm.weight"]
        self.wrong(["model.layers.0.input_layernorm.weight", "not finite at index 0"],
                   tensors={"blk.0.attn_norm.weight": (shape, b"\xc0\x7f" + raw[2:])})

    def test_ST12_one_part_of_many(self):
        self.wrong(["one of 3 parts"], {"split.count": (U32, 3)})

    def test_TK1_TK2_TK3_vocabulary(self):
        tokens = self.keys["tokenizer.ggml.tokens"][1]
        types = self.keys["tokenizer.ggml.token_type"][1]
        for key, v, word in (("model", (STRING, "t5"), "t5"), ("pre", (STRING, "nobody"), "nobody"),
                             ("tokens", None, "tokens"),
                             ("tokens", (STRING, tokens[:1] + tokens[:1] + tokens[2:]), "alike"),
                             ("tokens", (STRING, tokens + ["one more"]), "more entries than"),
                             ("token_type", (I32, types[:-1]), "unlike length"),
                             ("token_type", (I32, [9] + types[1:]), "type"),
                             ("merges", (STRING, ["t qqq"]), "merges[0]"),
                             ("merges", (STRING, ["th"]), "merges[0]")):
            self.wrong([word], {"tokenizer.ggml." + key: v})

    def test_TP1_template(self):
        self.put("m.gguf", self.build({"tokenizer.chat_template": (STRING, "{% for %}")}))
        server = Server(model=self.path(), env={"OCTET_E2E": "1"})
        try:
            self.assertIn(" WARN ", server.log_text())
            status, _ = server.chat(messages=[{"role": "user", "content": "a"}])
            self.assertEqual(status, 400)
            self.assertEqual(server.complete(prompt="a", max_tokens=1)[0], 200)
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()
