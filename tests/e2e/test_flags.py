"""The command line of octet serve: every flag that scripts for vLLM carry is answered, the grammar, --config, --help."""
import json
import os
import unittest
from concurrent.futures import ThreadPoolExecutor

from harness import FOLDER, Server, main, octet, run_serve, tiny_model

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "flags", "serve.tsv")
NOWHERE = "/nonexistent"


def start(*args, **how):
    """A start that ends where the model is looked for: status 3 when every flag was read."""
    return run_serve(*args, *([] if "--port" in args else ["--port", "0"]), **how)


def warnings(r):
    return [x for x in r.stderr.splitlines() if "has no effect here" in x]


class Flags(unittest.TestCase):
    def rows(self):
        with open(DATA, encoding="utf-8") as f:
            for line in f:
                if not line.startswith("#"):
                    yield line.rstrip("\n").split("\t")

    def one(self, row):
        name, value, answer = row
        values = value.split(" ") if name in ("served-model-name", "numa-bind-nodes") else [value] if value else []
        with_config = ["--host", "127.0.0.1"] if name != "host" else []
        r = start(NOWHERE, f"--{name}", *values, *with_config)
        last = r.stderr.strip().splitlines()[-1]
        found = {(3, 0): "honoured", (3, 1): "warned", (2, 0): "refused"}.get((r.returncode, len(warnings(r))))
        bare = name.removeprefix("no-").split(".")[0]
        named = bare in r.stderr or answer == "honoured"
        return None if found == answer and named else (row, r.returncode, last)

    def test_every_flag_is_answered(self):
        rows = list(self.rows())
        self.assertGreater(len(rows), 120)
        with ThreadPoolExecutor(4) as pool:
            wrong = [x for x in pool.map(self.one, rows) if x]
        self.assertEqual(wrong, [])

    def test_the_table_has_no_row_twice_and_none_of_ours(self):
        text = octet("serve", "--help=vLLM").stdout
        foreign = [x.split()[0] for x in text[text.index("Read and without"):].splitlines() if x.startswith("  --")]
        self.assertEqual(foreign, sorted(set(foreign)))
        ours = {x.split("\t")[0] for x in octet("serve", "--help=words").stdout.splitlines()}
        self.assertEqual(ours & set(foreign), set())


class Grammar(unittest.TestCase):
    def check(self, args, status, *words, absent=()):
        r = start(*args)
        self.assertEqual(r.returncode, status, (args, r.stderr))
        for w in words:
            self.assertIn(w, r.stderr)
        for w in absent:
            self.assertNotIn(w, r.stderr)

    def test_spellings(self):
        for args in (["--max_num_seqs", "4"], ["--max-num_seqs=4"], ["--no_enable_prefix_caching"],
                     ["--trust_remote_code"], ["-tp", "1"], ["-tp=1"], ["-pp=1"], ["-dp", "1"], ["-q", "int8"],
                     ["-q=int8"], ["-O3"], ["-O", "2"], ["-O=1"], ["-asc", "1"], ["-ac", "{}"],
                     ["-cc", '{"cudagraph_mode":"NONE"}'], ["-cc.cudagraph_mode", "NONE"], ["-cc.cudagraph_mode=NONE"],
                     ["-sc", '{"method":"ngram","num_speculative_tokens":2}'],
                     ["--h11_max_header_count", "200"], ["--served-model-name=a", "--served-model-name", "b"],
                     ["--served-model-name", "a", "b", "c", "--port", "0"], ["--api-key", "a", "b"]):
            with self.subTest(args=args):
                self.check([NOWHERE, *args], 3, "/nonexistent")
        self.check(["--served-model-name", "a", NOWHERE], 3)  # one value: the model has to come
        self.check(["--model", NOWHERE, "--served-model-name", "a", "b"], 3)
        for n in ("25.6k", "1g", "0.5M", "2K"):
            self.check([NOWHERE, "--kv-cache-memory-bytes", n], 2 if n in ("25.6k", "0.5M", "2K") else 3)

    def test_unknown_flags_are_told_with_the_nearest_name(self):
        for arg, near in (("--max-num-seq", "--max-num-seqs"), ("--max_model_length", "--max-model-len"),
                          ("--served-model-names", "--served-model-name"), ("--tensor-paralel-size", "--tensor-parallel-size"),
                          ("--no-enable-prefix-cache", None), ("--qwertyuiop", None), ("-x", None)):
            r = start(NOWHERE, arg)
            self.assertEqual(r.returncode, 2)
            self.assertIn(f"unknown flag (got {arg}", r.stderr)
            if near:
                self.assertIn(f"did you mean {near})", r.stderr)
        self.assertNotIn("did you mean", start(NOWHERE, "--qwertyuiop").stderr)

    def test_missing_values(self):
        for flag in ("--port", "--dtype", "--config", "--compilation-config.mode", "-q"):
            r = run_serve(NOWHERE, flag)
            self.assertEqual(r.returncode, 2)
            self.assertIn("missing value", r.stderr)

    def test_help(self):
        whole = octet("serve", "--help").stdout
        self.assertEqual(octet("serve", "--help=all").stdout, whole)
        self.assertIn("--max-num-seqs", whole)
        group = octet("serve", "--help=Scheduling").stdout
        self.assertIn("--scheduling-policy", group)
        self.assertNotIn("  --max-num-seqs", group)
        one = octet("serve", "--help=max_num_seqs").stdout
        self.assertIn("most sequences", one)
        self.assertNotIn("--port", one)
        self.assertIn("one device computes", octet("serve", "--help=tensor-parallel-size").stdout)
        self.assertIn("--config", octet("serve", "--help=config").stdout)
        self.assertIn("no flag or group", octet("serve", "--help=nothing", status=2).stderr)

    def test_environment(self):
        for value, status in (("7", 3), ("x", 2), ("-1", 2)):
            r = start(NOWHERE, env={"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": value})
            self.assertEqual(r.returncode, status, r.stderr)


class ConfigFile(unittest.TestCase):
    def write(self, text):
        path = os.path.join(FOLDER, "serve.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def refused(self, text, *words):
        r = start(NOWHERE, "--config", self.write(text))
        self.assertEqual(r.returncode, 2, r.stderr)
        for w in words:
            self.assertIn(w, r.stderr.strip().splitlines()[-1])

    def test_a_server_from_a_file(self):
        path = self.write("# settings\nport: 0\nserved-model-name: [one, two]\nmax_num_seqs: 3\n"
                          "enable-request-id-headers: true\nenable-prefix-caching: no\ntrust-remote-code: false\n"
                          "compilation-config: {cudagraph_mode: NONE}\nshutdown-timeout: 1.5\nrevision: null\n")
        server = Server("--config", path, "--max-num-seqs", "5", env={"VLLM_SERVER_DEV_MODE": "1"})
        try:
            status, head, raw = server.request("GET", "/v1/models")
            self.assertEqual([m["id"] for m in json.loads(raw)["data"]], ["tiny"])  # the command line's own list
            self.assertIn("x-request-id", head)
            config = json.loads(server.request("GET", "/server_info?config_format=json")[2])["vllm_config"]
            self.assertEqual((config["max_num_seqs"], config["enable_prefix_caching"], config["shutdown_timeout"],
                              json.loads(config["compilation_config"])), (5, False, 1.5, {"cudagraph_mode": "NONE"}))
            self.assertNotIn("has no effect", server.log_text())
        finally:
            self.assertEqual(server.stop(), 0)

    def test_lists_and_the_model(self):
        path = self.write(f"model: {tiny_model()}\nserved-model-name: [tiny, two]\nhost: 127.0.0.1\nport: 0\n"
                          "quantization: int8\napi-key:\n- k\n")
        self.assertEqual(start("--config", path, "--max-model-len", "1000000", "--port", "0").returncode, 2)
        r = start(NOWHERE, "--config=" + path, "--port", "0")  # the argument wins over the file's model
        self.assertEqual(r.returncode, 3, r.stderr)
        self.assertIn(NOWHERE, r.stderr)

    def test_refusals(self):
        self.refused("max-num-seq: 3\n", "serve.yaml: unknown flag", "max-num-seqs")
        self.refused("max-num-seqs: many\n", "--max-num-seqs")
        self.refused("max-num-seqs: [1, 2]\n", "want one value")
        self.refused("enable-prefix-caching: 3\n", "true or false")
        self.refused("config: other.yaml\n", "unknown flag")
        self.refused("- a\n", "flags and their values")
        self.refused("a: [1\n", "at line")
        self.refused("port: 1\nport: 2\n", "twice")
        self.refused("tensor-parallel-size: 2\n", "one device computes")
        r = start(NOWHERE, "--config", "/nonexistent.yaml")
        self.assertEqual(r.returncode, 2)
        self.assertIn("/nonexistent.yaml", r.stderr)
        self.assertEqual(len(warnings(start(NOWHERE, "--config", self.write("trust-remote-code: true\ndtype: half\n")))), 2)


if __name__ == "__main__":
    main()
