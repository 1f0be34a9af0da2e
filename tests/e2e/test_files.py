"""Rows CF, ST and TK of the bad-input table where they meet the user: octet serve on a bad folder.

Each refusal is exit status 3, one line on stderr, nothing served. The cases of each reader in full
are unit tests of the same names (tests/unit/store, tests/unit/text).
"""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

from harness import FOLDER, OCTET, PRELOAD, SANITIZED, Server, main, preloaded, tiny_model



def read(folder, name):
    with open(os.path.join(folder, name), "rb") as f:
        return f.read()


def write(folder, name, data):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=FOLDER)
        for name in os.listdir(tiny_model()):
            os.link(os.path.join(tiny_model(), name), os.path.join(self.folder, name))

    def tearDown(self):
        shutil.rmtree(self.folder)

    # ---- what a test does to the folder; links to the good files are cut first ----

    def put(self, name, data):
        self.remove(name)
        write(self.folder, name, data)

    def remove(self, name):
        path = os.path.join(self.folder, name)
        if os.path.lexists(path):
            os.unlink(path)

    def edit_json(self, name, **fields):
        """Fields as JSON text, so that any literal can be written; None removes."""
        value = json.loads(read(tiny_model(), name))
        parts = {k: json.dumps(v) for k, v in value.items()}
        for k, v in fields.items():
            if v is None:
                parts.pop(k, None)
            else:
                parts[k] = v
        text = ",".join(f"{json.dumps(k)}:{v}" for k, v in parts.items())
        self.put(name, "{" + text + "}")

    def split(self):
        """Header and data of the good model.safetensors."""
        raw = read(tiny_model(), "model.safetensors")
        n = struct.unpack("<Q", raw[:8])[0]
        return json.loads(raw[8:8 + n]), raw[8 + n:]

    def put_tensors(self, header, data, name="model.safetensors"):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.put(name, struct.pack("<Q", len(text)) + text + data)

    # ---- what octet says ----

    def path(self):
        """What is served."""
        return self.folder

    def run_once(self, env=None, flags=()):
        """exit status, stdout, stderr lines, CPU seconds, most resident MiB"""
        begin = time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            p = subprocess.Popen([OCTET, "serve", self.path(), "--host", "127.0.0.1", "--port", "0",
                                  "--num-gpu-blocks-override", "1024", *flags],
                                 stdout=out, stderr=err, env={**os.environ, **(env or {})})
            deadline = begin + 60
            while True:
                pid, status, usage = os.wait4(p.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    p.kill()
                time.sleep(0.002)
            p.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            return (p.returncode, out.read(), err.read().strip().splitlines(),
                    usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def refused(self, *words, status=3, env=None):
        got, out, lines, seconds, mib = self.run_once(env)
        self.assertEqual(got, status, (words, lines[-3:]))
        self.assertTrue(lines[-1].startswith("octet: error: "), lines)
        self.assertLess(len(lines[-1]), 600)
        for w in words:
            self.assertIn(w, lines[-1])
        self.assertNotIn("serving", out)
        if not SANITIZED:
            self.assertLess(mib, 300)
        return seconds

    def served(self, *warnings, flags=()):
        """It starts, with one warning for each of these words, and answers."""
        server = Server(*flags, model=self.path(), env={"OCTET_E2E": "1"})
        try:
            status, body = server.complete(prompt="a", max_tokens=3, temperature=0)
            self.assertEqual(status, 200, body)
            lines = [x for x in server.log_text().splitlines() if " WARN " in x]
            self.assertEqual(len(lines), len(warnings), lines)
            for w, line in zip(warnings, lines):
                self.assertIn(w, line)
            return body["choices"][0]["text"]
        finally:
            self.assertEqual(server.stop(), 0)


class Config(Files):
    def test_CF1_not_json(self):
        good = read(tiny_model(), "config.json")
        for text in (b"", b"{", good + b"x", good[:-1], b"[1]", b"\xef\xbb\xbf" + good,
                     good.replace(b"silu", b"si\xfflu"), b"nul"):
            self.put("config.json", text)
            self.refused("config.json")
        for text in (b"", b"{", good + b"x", good[:40]):
            self.put("config.json", text)
            self.refused("config.json", "byte")
        self.put("config.json", good[:-1] + b',"unused":NaN,"hidden_act":"silu"}')
        self.assertEqual(self.served("config.json: duplicate object key"), "bcd")
        self.edit_json("config.json", rms_norm_eps="NaN")
        self.refused("config.json", "rms_norm_eps")

    def test_CF2_bombs(self):
        for text in (b"[" * 10**6, b'{"a":' * 10**6,
                     b"{" + b",".join(b'"k%d":1' % i for i in range(10**6)) + b"}",
                     b'{"a":"' + b"x" * (17 << 20) + b'"}'):
            self.put("config.json", text)
            seconds = self.refused("config.json")
            if not SANITIZED:
                self.assertLess(seconds, 4)  # the row's second, on a machine that others use
        self.put("config.json", read(tiny_model(), "config.json"))
        for name in ("config.json", "tokenizer_config.json", "tokenizer.json",
                     "generation_config.json"):
            good = os.path.join(self.folder, name)
            os.rename(good, good + ".kept")
            write(self.folder, name, b"")
            os.truncate(good, 1 << 30)
            if name == "generation_config.json":
                self.served("generation_config.json")
            else:
                self.refused(name, "too large")
            os.rename(good + ".kept", good)

    def test_CF3_architecture_and_code(self):
        self.edit_json("config.json", architectures='["FooForCausalLM"]')
        self.refused("FooForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM")
        self.edit_json("config.json", auto_map='{"AutoModelForCausalLM":"evil.Model"}')
        self.put("evil.py", "open('/nonexistent/x', 'w')")
        self.assertEqual(self.served("auto_map is ignored"), "bcd")

    def test_CF4_sizes(self):
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers",
                     "num_attention_heads", "vocab_size"):
            for bad in ("0", "-1", "1.5", '"64"', "2147483648", "9223372036854775808", "1e300"):
                self.edit_json("config.json", **{name: bad})
                self.refused("config.json", name)
        # Legal alone, beyond the files or beyond 64 bits together.
        for more in ({"vocab_size": "2147483647"}, {"intermediate_size": "1048576"},
                     {"num_hidden_layers": "3"}, {"head_dim": "32"},
                     {"num_attention_heads": "1024", "head_dim": "512"}):
            self.edit_json("config.json", **more)
            self.refused()

    def test_CF5_relations(self):
        for name, bad in (("num_key_value_heads", "3"), ("num_key_value_heads", "0"),
                          ("head_dim", "15"), ("rope_theta", "0"), ("rope_theta", "-1"),
                          ("rope_theta", "Infinity"), ("rms_norm_eps", "0"),
                          ("rms_norm_eps", '"x"'), ("eos_token_id", "99999"),
                          ("eos_token_id", "-1"), ("bos_token_id", "1e9"),
                          ("rope_scaling", '{"type":"spiral","factor":2}'),
                          ("rope_scaling", '{"type":"linear","factor":0}'),
                          ("rope_scaling", '{"type":"yarn","factor":-2}'),
                          ("eos_token_id", "[" + ",".join(["1"] * 1025) + "]")):
            self.edit_json("config.json", **{name: bad})
            word = {"head_dim": "rotary"}.get(name, name)
            if name == "rope_scaling":
                word = "spiral" if "spiral" in bad else "factor"
            self.refused("config.json", word)

    def test_CF6_generation_config(self):
        for text, n in (("{", 1), ("[]", 1), ("", 1),
                        ('{"temperature":-1,"top_p":2,"top_k":1.5,"eos_token_id":[99999]}', 4)):
            self.put("generation_config.json", text)
            self.assertEqual(self.served(*["generation_config.json"] * n), "bcd")

    def test_CF7_quantisation_descriptions(self):
        for text, words in (('{"lm_head.weight":"W4A4"}', ["lm_head.weight", "W4A4"]),
                            ('{"lm_head.weight":"W8A8"}', ["lm_head"]),
                            ('{"absent.weight":"W8A8"}', ["absent.weight"]),
                            ("[]", ["quant_model_description.json"]),
                            ("{", ["quant_model_description.json"])):
            self.put("quant_model_description.json", text)
            self.refused(*words)
        self.remove("quant_model_description.json")
        self.edit_json("config.json", quantization_config='{"quant_method":"gptq","bits":4}')
        self.refused("gptq")

    def test_CF8_file_names(self):
        header, data = self.split()
        os.rename(os.path.join(self.folder, "model.safetensors"),
                  os.path.join(self.folder, "x.safetensors"))

        def index(name):
            self.put("model.safetensors.index.json",
                     json.dumps({"weight_map": {k: name for k in header}}))

        for name in ("/etc/passwd", "../x.safetensors", "sub/x.safetensors", "..", "a\\b",
                     "a\0b", ""):
            index(name)
            self.refused("model.safetensors.index.json")
        index("pipe.safetensors")
        os.mkfifo(os.path.join(self.folder, "pipe.safetensors"))
        self.refused("not a regular file")
        self.remove("pipe.safetensors")
        os.symlink("/dev/zero", os.path.join(self.folder, "pipe.safetensors"))
        self.refused("not a regular file")
        self.remove("pipe.safetensors")
        # The layout of the usual download cache.
        blobs = os.path.join(self.folder, "blobs")
        os.mkdir(blobs)
        os.rename(os.path.join(self.folder, "x.safetensors"), os.path.join(blobs, "0123"))
        os.symlink("blobs/0123", os.path.join(self.folder, "link.safetensors"))
        index("link.safetensors")
        self.assertEqual(self.served(), "bcd")
        self.assertGreater(len(data), 0)

    def test_CF9_only_pickles(self):
        self.remove("model.safetensors")
        for name in ("pytorch_model.bin", "model.pt", "model.ckpt"):
            self.put(name, b"\x80\x02")
            self.refused(name, "safetensors only")
            self.remove(name)
        self.refused("model.safetensors is missing")


class Tensors(Files):
    def first(self, header):
        return next(k for k in sorted(header) if k.endswith("q_proj.weight"))

    def test_ST1_length_field(self):
        raw = read(tiny_model(), "model.safetensors")
        for n in range(8):
            self.put("model.safetensors", raw[:n])
            self.refused("model.safetensors: ")
        for n in (0, len(raw) - 7, 100000001, 2**63, 2**64 - 1):
            self.put("model.safetensors", struct.pack("<Q", n) + raw[8:])
            self.refused("model.safetensors: ")

    def test_ST2_header(self):
        header, data = self.split()
        text = json.dumps(header).encode()
        name = self.first(header).encode()
        long = text.replace(name, b"n" * 4097)
        for bad in (b" " + text, b"[1]", text[:-1], text + b"x", text.replace(name, b""),
                    text.replace(name, name + b"\\u0000"), text.replace(name, name + b"\xff"),
                    long, text[:-1] + b"," + text[1:]):
            self.put_tensors(bad, data)
            self.refused("model.safetensors: ")

    def edited(self, **fields):
        """The header with fields of one tensor replaced."""
        header, data = self.split()
        one = header[self.first(header)]
        for k, v in fields.items():
            if v is None:
                del one[k]
            else:
                one[k] = v
        return header, data

    def test_ST3_ST4_ST5_fields(self):
        header, _ = self.split()
        name = self.first(header)
        shape, at = header[name]["shape"], header[name]["data_offsets"]
        rows = [{"dtype": v} for v in (None, 3, "I9", "F4")]
        rows += [{"shape": v} for v in (None, {}, [-1, 2], [1.5], [2**63], [1] * 9, ["64", 64],
                                        [4194305, 4194305, 211106198978564], [2**62, 4],
                                        [shape[0] + 1, shape[1]])]
        rows += [{"data_offsets": v} for v in (None, [0], [at[1], at[0]], [at[0], at[1] + 2],
                                               [at[0], 2**62], [-4, 0], ["0", 1], [at[0], at[0]])]
        for fields in rows:
            self.put_tensors(*self.edited(**fields))
            self.refused("model.safetensors: tensor ")
        header, data = self.split()
        header["__metadata__"] = {"k": 1}
        self.put_tensors(header, data)
        self.refused("__metadata__")

    def test_ST6_tiling(self):
        header, data = self.split()
        last = max(header, key=lambda k: header[k]["data_offsets"][1])
        for text, blob in ((header, data + b"x"), (header, data[:-2])):
            self.put_tensors(text, blob)
            self.refused("model.safetensors: ")
        a, b = header[last]["data_offsets"]
        header[last]["data_offsets"] = [a - 2, b - 2]  # overlaps, and a hole behind it
        self.put_tensors(header, data)
        self.refused("model.safetensors: ")
        header[last]["data_offsets"] = [a + 2, b + 2]
        self.put_tensors(header, data + b"xx")
        self.refused("hole")

    def test_ST7_any_order_and_empty(self):
        header, data = self.split()
        backwards = {k: header[k] for k in reversed(list(header))}
        backwards["empty"] = {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}
        backwards["scalar"] = {"dtype": "F32", "shape": [],
                               "data_offsets": [len(data), len(data) + 4]}
        self.put_tensors(backwards, data + b"\0" * 4)
        self.assertEqual(self.served("2 tensors of the checkpoint are not used"), "bcd")

    def test_ST8_cut_anywhere(self):
        raw = read(tiny_model(), "model.safetensors")
        n = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + n])
        cuts = set(range(0, 8 + n, max(1, n // (12 if SANITIZED else 60))))
        for t in header.values():
            cuts |= {8 + n + t["data_offsets"][1] + d for d in ((-1,) if SANITIZED else (-1, 0, 1))}
        for cut in sorted(c for c in cuts if c < len(raw)):
            self.put("model.safetensors", raw[:cut])
            self.refused("model.safetensors: ", "incomplete")

    def test_ST9_sparse_giant(self):
        header, data = self.split()
        header["giant"] = {"dtype": "U8", "shape": [1 << 40],
                           "data_offsets": [len(data), len(data) + (1 << 40)]}
        text = json.dumps(header).encode()
        self.put_tensors(text, data)
        path = os.path.join(self.folder, "model.safetensors")
        try:
            os.truncate(path, 8 + len(text) + len(data) + (1 << 40))
        except OSError:
            self.skipTest("no sparse file of 1 TiB here")
        got, _, lines, seconds, mib = self.run_once(flags=["--max-model-len", "1000000"])
        self.assertEqual(got, 2, lines)  # the length is refused: nothing of the giant was read
        name = self.first(header)
        header[name]["shape"] = [1 << 20, 1 << 18]
        header[name]["dtype"] = "BF16"
        size = 2 << 38
        header = {name: dict(header[name], data_offsets=[0, size])}
        self.put_tensors(header, b"")
        os.truncate(path, 8 + len(json.dumps(header)) + size)
        self.refused("missing or wrong")

    def test_ST10_missing_and_unused(self):
        header, data = self.split()
        for old in list(header)[:7]:
            header["gone." + old] = header.pop(old)
        self.put_tensors(header, data)
        got, _, lines, _, _ = self.run_once()
        self.assertEqual(got, 3)
        self.assertRegex(lines[-1], r"\d+ tensors are missing or wrong: .* is missing.*\.\.\.")
        header, data = self.split()
        name = self.first(header)
        header[name]["shape"] = header[name]["shape"][::-1] if header[name]["shape"][0] != \
            header[name]["shape"][1] else [header[name]["shape"][0] // 2, 2 * header[name]["shape"][1]]
        self.put_tensors(header, data)
        self.refused(name, "got BF16 [")
        header, data = self.split()
        for i in range(3):
            header[f"extra.{i}"] = {"dtype": "F32", "shape": [1],
                                    "data_offsets": [len(data) + 4 * i, len(data) + 4 * i + 4]}
        self.put_tensors(header, data + b"\0" * 12)
        self.assertEqual(self.served("3 tensors of the checkpoint are not used: extra."), "bcd")

    def test_ST11_values(self):
        header, data = self.split()
        at = header["model.norm.weight"]["data_offsets"][0]
        for bits in (0x7fc0, 0x7f80, 0xff80):
            self.put_tensors(header, data[:at + 10] + struct.pack("<H", bits) + data[at + 12:])
            self.refused("model.safetensors: tensor model.norm.weight", "index 5")

    def test_ST11_scales(self):
        out = os.path.join(self.folder, "out")
        r = subprocess.run([OCTET, "quantize", self.folder, out, "--scheme", "w8a8-dynamic",
                            "--calib-tokens", "256"], capture_output=True, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.folder, kept = out, self.folder
        path = next(f for f in os.listdir(out) if f.endswith(".safetensors"))
        raw = read(out, path)
        n = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + n])

        def changed(name, blob, index, size):
            at = 8 + n + header[name]["data_offsets"][0] + index * size
            write(out, path, raw[:at] + blob + raw[at + len(blob):])

        try:
            scale = next(k for k in sorted(header) if k.endswith("weight_scale"))
            kv = next(k for k in sorted(header) if k.endswith("kv_cache_scale"))
            weight = next(k for k in sorted(header)
                          if k.endswith("weight") and header[k]["dtype"] == "I8")
            for v in (float("nan"), float("inf"), -1.0):
                changed(scale, struct.pack("<f", v), 3, 4)
                self.refused(f"tensor {scale}", "index 3")
                changed(kv, struct.pack("<f", v), 1, 4)
                self.refused(f"tensor {kv}", "index 1")
            changed(kv, struct.pack("<f", 0), 0, 4)
            self.refused(f"tensor {kv}", "index 0")
            changed(scale, struct.pack("<f", 0), 3, 4)
            self.served("1 weight scales are 0")
            changed(weight, b"\x80", 5, 1)  # -128 is legal
            self.served()
        finally:
            self.folder = kept

    def test_ST12_index(self):
        header, data = self.split()
        names = list(header)
        half = len(names) // 2
        parts = (names[:half], names[half:])
        for i, part in enumerate(parts):
            small, blob = {}, b""
            for k in part:
                a, b = header[k]["data_offsets"]
                small[k] = dict(header[k], data_offsets=[len(blob), len(blob) + b - a])
                blob += data[a:b]
            self.put_tensors(small, blob, f"part-{i}.safetensors")
        self.remove("model.safetensors")
        good = {k: f"part-{i}.safetensors" for i, part in enumerate(parts) for k in part}

        def index(weight_map, total=len(data)):
            self.put("model.safetensors.index.json",
                     json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))

        index(good)
        self.assertEqual(self.served(), "bcd")
        index(good, 7)
        self.assertEqual(self.served("total_size"), "bcd")
        index(dict(good, absent="part-2.safetensors"))
        self.refused("part-2.safetensors is missing")
        index({k: v for k, v in good.items() if v.startswith("part-0")})
        self.refused()
        index(dict(good, **{names[0]: "part-1.safetensors"}))
        self.refused("part-1.safetensors", names[0])
        index({})
        self.refused("weight_map is empty")
        shutil.copy(os.path.join(self.folder, "part-0.safetensors"),
                    os.path.join(self.folder, "part-2.safetensors"))
        index(dict(good, **{names[0]: "part-2.safetensors"}))
        self.refused("in two shards")

    def fault(self, what):
        return preloaded(OCTET_READ_FAULT=what)

    def test_ST13_files_that_change_or_fail_while_they_are_read(self):
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        for what, words in (("error", "Input/output error"), ("shorten", "changed while"),
                            ("write", "changed while")):
            for n in (1, 2, 4, 12):
                shutil.copyfile(os.path.join(tiny_model(), "model.safetensors"),
                                os.path.join(self.folder, "copy"))
                self.remove("model.safetensors")
                os.rename(os.path.join(self.folder, "copy"),
                          os.path.join(self.folder, "model.safetensors"))
                if (what, n) == ("write", 1):
                    continue  # before the first byte was read: a file like any other
                # Cut while its head is checked it may be a short file like any other.
                early = what == "shorten" and n < 4
                self.refused("model.safetensors: ", "" if early else words,
                             env=self.fault(f"{what}:{n}"))

    def test_ST13_interrupted_and_short_reads(self):
        if not PRELOAD:
            self.skipTest("PRELOAD_FAULTS does not name the wrapper")
        for what in ("interrupt:3", "short:3"):
            server = Server(model=self.folder, env=self.fault(what))
            status, body = server.complete(prompt="a", max_tokens=3, temperature=0)
            self.assertEqual((status, body["choices"][0]["text"]), (200, "bcd"))
            self.assertEqual(server.stop(), 0)


class Tokenizers(Files):
    def setUp(self):
        super().setUp()
        self.text = read(tiny_model(), "tokenizer.json").decode()

    def changed(self, old, new, *words):
        self.assertIn(old, self.text)
        self.put("tokenizer.json", self.text.replace(old, new, 1))
        self.refused(*words)

    def test_TK1_unknown_parts(self):
        for old, new, word in (('"type": "BPE"', '"type": "Unigram"', "Unigram"),
                               ('"normalizer": null', '"normalizer": {"type": "Lowercase"}',
                                "Lowercase"),
                               ('"pre_tokenizer": {"type": "ByteLevel"',
                                '"pre_tokenizer": {"type": "UnicodeScripts"', "UnicodeScripts"),
                               ('"decoder": {"type": "ByteLevel"',
                                '"decoder": {"type": "WordPiece"', "WordPiece")):
            self.changed(old, new, "tokenizer.json", word)
        self.put("tokenizer.json", "{")
        self.refused("tokenizer.json")

    def test_TK2_ids(self):
        for new in ("-1", "2147483648", "98", "99999999999999999999", "1.5", '"97"'):
            self.changed('"a": 97', f'"a": {new}', "tokenizer.json")
        self.changed('"a": 97', '"a": 4000', "no embedding row")
        n = '"content": "<|im_end|>"'
        for new in ('""', '"' + "x" * 4097 + '"', '"the"'):
            self.changed(n, f'"content": {new}', "tokenizer.json")
        self.changed('"id": 265', '"id": 97', "tokenizer.json")

    def test_TK9_ids_without_text(self):
        """Rows of the embedding beyond the tokenizer's last id: drawn, they are empty text."""
        raw = read(tiny_model(), "model.safetensors")
        n = struct.unpack("<Q", raw[:8])[0]
        header, data = json.loads(raw[8:8 + n]), raw[8 + n:]
        padded, blob = {}, b""
        for k, t in header.items():
            a, b = t["data_offsets"]
            piece, shape = data[a:b], t["shape"]
            if shape[0] == self.vocab() and len(shape) == 2:
                piece += b"\0" * (4 * 2 * shape[1])
                shape = [shape[0] + 4, shape[1]]
            padded[k] = {"dtype": t["dtype"], "shape": shape,
                         "data_offsets": [len(blob), len(blob) + len(piece)]}
            blob += piece
        text = json.dumps(padded).encode()
        self.put("model.safetensors", struct.pack("<Q", len(text)) + text + blob)
        self.edit_json("config.json", vocab_size=str(self.vocab() + 4))
        server = Server(model=self.folder, env={"OCTET_E2E": "1"})
        try:
            none = self.vocab() + 2
            body = {"prompt": "a", "max_tokens": 40, "temperature": 1, "seed": 3, "logprobs": 1,
                    "ignore_eos": True, "logit_bias": {"98": 20, str(none): 20},
                    "allowed_token_ids": [98, none], "return_token_ids": True}
            status, whole = server.complete(**body)
            choice = whole["choices"][0]
            self.assertEqual((status, len(choice["token_ids"])), (200, 40))
            self.assertEqual(set(choice["token_ids"]), {98, none})
            self.assertEqual(choice["text"], "b" * choice["token_ids"].count(98))
            events = server.events("/v1/completions", body)[:-1]
            self.assertEqual("".join(e["choices"][0]["text"] for e in events), choice["text"])
            status, back = server.post("/detokenize", {"tokens": [98, none, 98]})
            self.assertEqual((status, back["prompt"]), (200, "bb"))
            self.assertEqual(server.complete(prompt=[98, none], max_tokens=1)[0], 200)
            self.assertEqual(server.complete(prompt=[98, none + 2], max_tokens=1)[0], 400)
        finally:
            self.assertEqual(server.stop(), 0)

    def vocab(self):
        return json.loads(read(tiny_model(), "config.json"))["vocab_size"]

    def test_TK2_gaps_are_legal(self):
        self.put("tokenizer.json", self.text.replace('"Q": 81, ', "", 1))
        self.assertEqual(self.served(), "bcd")

    def test_TK3_merges(self):
        for new in ('"t qqq"', '"qqq h"', '"t  h"', '"th"', '"t e"', "7", '"a b"'):
            self.changed('"t h"', new, "tokenizer.json")
        many = ",".join(['"t h"'] * (1 << 22) + ['"t h"'])
        self.put("tokenizer.json", self.text.replace('"t h"', many, 1))
        self.refused("tokenizer.json")

    def test_TK4_patterns(self):
        at = self.text.index('"pre_tokenizer": ') + len('"pre_tokenizer": ')
        end = at + self.text[at:].index("}") + 1
        for pattern in ("(a", "(a)\\\\1", "(a+)+b", "a{100000}", "((a*)*)*b", "(?R)"):
            split = ('{"type": "Split", "pattern": {"Regex": "' + pattern +
                     '"}, "behavior": "Isolated", "invert": false}')
            self.put("tokenizer.json", self.text[:at] + split + self.text[end:])
            self.refused("tokenizer.json")


if __name__ == "__main__":
    main()
