"""octet inspect: what it says of a model, of a bad one, and of two."""
import json
import os
import shutil
import struct
import tempfile
import unittest

from harness import FOLDER, main, octet, tiny_model
import make_tiny

GOLDEN = os.environ.get("OCTET_GOLDEN", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                     "../../../shared/golden"))


def inspect(*args, status=0):
    """The JSON object, and what went to stderr."""
    r = octet("inspect", *args, "--json", status=status)
    return json.loads(r.stdout), r.stderr.strip()


def read_header(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(n)), f.read()


class Inspect(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = tiny_model()
        cls.quantised = os.path.join(FOLDER, "inspect-w8a8c8")
        octet("quantize", cls.model, cls.quantised, "--scheme", "w8a8-dynamic", "--kv", "c8",
              "--threads", "2")

    def copy(self):
        folder = tempfile.mkdtemp(dir=FOLDER)
        for name in os.listdir(self.model):
            shutil.copyfile(os.path.join(self.model, name), os.path.join(folder, name))
        return folder

    def rewrite(self, folder, change):
        header, data = read_header(folder)
        change(header)
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)

    # ---- one model ----

    def test_float(self):
        x, _ = inspect(self.model)
        header, data = read_header(self.model)
        self.assertEqual((x["family"], x["scheme"], x["architecture"]),
                         ("llama", "float", "LlamaForCausalLM"))
        self.assertEqual(x["config"]["n_layers"], make_tiny.LAYERS)
        self.assertEqual(x["config"]["hidden"], make_tiny.HIDDEN)
        self.assertEqual(x["tensors"], len(header))
        self.assertEqual(x["stored_bytes"], len(data))
        self.assertEqual(x["parameters"], len(data) // 2)
        self.assertEqual(x["active_parameters"], x["parameters"])
        self.assertEqual([(g["first"], g["last"], g["scheme"], g["kv"]) for g in x["groups"]],
                         [(0, make_tiny.LAYERS - 1, "BF16", "float32")])
        self.assertEqual(x["groups"][0]["stored_bytes"] + x["ends"]["stored_bytes"], len(data))
        self.assertEqual(x["ends"]["projections"], {"embed_tokens": "BF16", "lm_head": "BF16"})
        self.assertEqual(x["kv_bytes_per_token"],
                         4 * 2 * make_tiny.LAYERS * make_tiny.KV_HEADS * make_tiny.HEAD_DIM)
        self.assertEqual((x["refused"], x["unused"]["count"], x["memory"]), ([], 0, None))

    def test_quantised(self):
        x, _ = inspect(self.quantised)
        self.assertEqual(x["scheme"], "ascend")
        self.assertEqual(len(x["groups"]), 1)
        self.assertEqual(set(x["groups"][0]["projections"].values()), {"W8A8_DYNAMIC"})
        self.assertEqual(x["groups"][0]["kv"], "int8_per_channel")
        bytes_int8 = x["kv_bytes_per_token"]  # heads this narrow are padded
        self.assertGreaterEqual(bytes_int8,
                                2 * make_tiny.LAYERS * make_tiny.KV_HEADS * make_tiny.HEAD_DIM)
        x, _ = inspect(self.quantised, "--kv-cache-dtype", "float32")
        self.assertLess(bytes_int8, x["kv_bytes_per_token"])
        x, _ = inspect(self.quantised, "--kv-cache-dtype", "bfloat16")
        self.assertEqual(x["groups"][0]["kv"], "bfloat16")
        x, _ = inspect(self.quantised, "--kv-cache-dtype-skip-layers", "1")
        self.assertEqual([g["kv"] for g in x["groups"]], ["int8_per_channel", "float32"])

    def test_memory(self):
        x, _ = inspect(self.quantised, "--memory", "1GiB", "--max-model-len", "1024")
        m = x["memory"]
        self.assertEqual((m["bytes"], m["weights_fit"], m["sequence_tokens"]),
                         (1 << 30, True, 1024))
        tokens = ((1 << 30) - x["device_bytes"]) // x["kv_bytes_per_token"]
        self.assertLess(tokens - m["tokens"], 32)
        self.assertEqual(m["sequences"], m["tokens"] // 1024)
        x, _ = inspect(self.quantised, "--memory", "1k")
        self.assertEqual((x["memory"]["weights_fit"], x["memory"]["tokens"]), (False, 0))
        self.assertIn("do not fit", octet("inspect", self.quantised, "--memory", "1k").stdout)
        self.assertIn("sequences of 1024 tokens",
                      octet("inspect", self.quantised, "--memory", "1GiB", "--max-model-len",
                            "1024").stdout)

    def test_on_load(self):
        x, _ = inspect(self.model)
        y, _ = inspect(self.model, "-q", "int8")
        self.assertLess(y["device_bytes"], x["device_bytes"])
        self.assertEqual(y["stored_bytes"], x["stored_bytes"])

    def test_tensors(self):
        header, _ = read_header(self.model)
        x, _ = inspect(self.model, "--tensors")
        got = {t["name"]: t for t in x["tensor_list"]}
        self.assertEqual(set(got), set(header))
        for name, t in got.items():
            a, b = header[name]["data_offsets"]
            self.assertEqual((t["dtype"], t["shape"], t["bytes"], t["file"]),
                             ("BF16", header[name]["shape"], b - a, "model.safetensors"))
        text = octet("inspect", self.model, "--tensors").stdout
        for name in header:
            self.assertIn(name, text)

    # ---- what is refused is named, and the rest is still told ----

    def test_refused_tensor(self):
        folder = self.copy()
        gone = "model.layers.1.mlp.up_proj.weight"

        def rename(header):
            header["model.layers.1.mlp.other.weight"] = header.pop(gone)

        self.rewrite(folder, rename)
        x, said = inspect(folder, status=3)
        self.assertEqual(len(x["refused"]), 1)
        self.assertEqual(x["refused"][0]["kind"], "corrupt")
        self.assertIn(f"{gone} is missing", x["refused"][0]["reason"])
        self.assertIn(gone, said)
        self.assertEqual([g["projections"]["mlp.up_proj"] for g in x["groups"]], ["BF16", "?"])
        self.assertEqual(x["unused"]["count"], 1)
        text = octet("inspect", folder, status=3).stdout
        self.assertIn("layer 0: BF16", text)
        self.assertIn("refused: ", text)

    def test_refused_scheme(self):
        folder = self.copy()
        path = os.path.join(folder, "config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        config["quantization_config"] = {"quant_method": "awq"}
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        x, said = inspect(folder, status=3)
        self.assertEqual(x["unused"], {"count": 0, "names": ""})  # nobody asked
        self.assertEqual(x["scheme"], "refused")
        self.assertIn("awq", x["refused"][0]["reason"])
        self.assertIn("awq", said)
        self.assertEqual(x["groups"][0]["scheme"], "BF16")

    def test_refused_tokenizer_and_cache(self):
        folder = self.copy()
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write("{")
        x, _ = inspect(folder, status=3)
        self.assertEqual(len(x["refused"]), 1)
        self.assertIn("tokenizer.json", x["refused"][0]["reason"])
        x, _ = inspect(self.model, "--kv-cache-dtype", "int8_per_channel", status=3)
        self.assertEqual(len(x["refused"]), make_tiny.LAYERS)
        self.assertEqual(x["groups"][0]["scheme"], "BF16")

    def test_command_line(self):
        octet("inspect", status=2)
        octet("inspect", self.model, "--kv-cache-dtype", "int3", status=2)
        octet("inspect", self.model, "--kv-cache-dtype-skip-layers", "9", status=2)
        octet("inspect", os.path.join(FOLDER, "absent"), status=3)
        octet("inspect", self.model, self.model, self.model, status=2)

    # ---- two ----

    def test_same(self):
        x, _ = inspect(self.model, self.copy(), "--values")
        self.assertTrue(x["same"])
        self.assertEqual(x["values"], [])
        self.assertIn("no difference",
                      octet("inspect", self.model, self.copy(), "--values").stdout)

    def test_quantised_differs(self):
        x, _ = inspect(self.model, self.quantised)
        self.assertFalse(x["same"])
        self.assertEqual((x["config"], x["values"]), ([], None))
        schemes = {(d["name"], d["first"], d["last"]): (d["a"], d["b"]) for d in x["schemes"]}
        self.assertEqual(schemes[("mlp.down_proj", 0, make_tiny.LAYERS - 1)],
                         ("BF16", "W8A8_DYNAMIC"))
        self.assertEqual(schemes[("KV cache", 0, make_tiny.LAYERS - 1)],
                         ("float32", "int8_per_channel"))
        self.assertIn("model.layers.0.mlp.down_proj.weight_scale",
                      [t["name"] for t in x["added"]])
        changed = {d["name"]: (d["a"], d["b"]) for d in x["changed"]}
        self.assertEqual(changed["model.layers.0.mlp.down_proj.weight"],
                         (f"BF16 [{make_tiny.HIDDEN}, {make_tiny.MLP}]",
                          f"I8 [{make_tiny.HIDDEN}, {make_tiny.MLP}]"))
        text = octet("inspect", self.model, self.quantised).stdout
        self.assertIn(f"layers 0-{make_tiny.LAYERS - 1} mlp.down_proj: BF16 | W8A8_DYNAMIC", text)

    def test_values_and_config(self):
        folder = self.copy()
        header, _ = read_header(folder)
        name = "model.layers.1.mlp.down_proj.weight"
        at = header[name]["data_offsets"][0] + 2 * 7
        path = os.path.join(folder, "model.safetensors")
        with open(path, "r+b") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            f.seek(8 + n + at)
            f.write(struct.pack("<H", 0x4100))  # 8.0
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        config["rope_theta"] = 20000.0
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        x, _ = inspect(self.model, folder, "--values")
        self.assertEqual(x["config"], [{"field": "rope_theta", "a": 10000.0, "b": 20000.0}])
        self.assertEqual([(d["name"], d["different"], d["index"]) for d in x["values"]],
                         [(name, 1, 7)])
        self.assertAlmostEqual(x["values"][0]["largest"], 8, delta=0.2)

    # ---- models made by others ----

    def test_golden(self):
        cases = os.path.join(GOLDEN, "cases")
        if not os.path.isdir(cases):
            print("SKIP: no golden models")
            self.skipTest("no golden models")
        for name in sorted(os.listdir(cases)):
            model = os.path.join(cases, name, "model")
            x, _ = inspect(model if os.path.isdir(model) else os.path.join(cases, name))
            self.assertEqual(x["refused"], [], name)
            self.assertGreater(x["device_bytes"], 0, name)


if __name__ == "__main__":
    main()
