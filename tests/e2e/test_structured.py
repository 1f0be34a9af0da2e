"""Structured output: what is generated satisfies what was asked, nobody else's answer changes, and what
cannot be taken is refused before the queue. Rows SO of bad-input by id.

OCTET_GENERATIONS more answers are checked (20); with the jsonschema package (tools/venv) by that, too.
"""
import json
import os
import random
import re
import threading
import time
import unittest

from harness import FOLDER, Case, Server, in_parallel, main
import make_tiny

try:
    import jsonschema
except ImportError:
    jsonschema = None

N = int(os.environ.get("OCTET_GENERATIONS", 20))
SEED = int(os.environ.get("OCTET_SEED", random.randrange(1 << 30)))
CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"


# ---- a small validator: what the schemas below use ----

def is_type(name, v):
    return {"object": isinstance(v, dict), "array": isinstance(v, list), "string": isinstance(v, str),
            "boolean": isinstance(v, bool), "null": v is None,
            "integer": isinstance(v, int) and not isinstance(v, bool),
            "number": isinstance(v, (int, float)) and not isinstance(v, bool)}[name]


def conforms(schema, v, root=None):
    root = root or schema
    if schema is True:
        return True
    if "$ref" in schema:
        at = root
        for step in schema["$ref"].split("/")[1:]:
            at = at[step]
        return conforms(at, v, root)
    if "enum" in schema and v not in schema["enum"]:
        return False
    if "anyOf" in schema and not any(conforms(s, v, root) for s in schema["anyOf"]):
        return False
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(t, v) for t in types):
        return False
    if isinstance(v, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        return all(k in v for k in schema.get("required", [])) and all(
            conforms(known[k], x, root) if k in known else more is not False and conforms(more, x, root)
            for k, x in v.items())
    if isinstance(v, list):
        return (schema.get("minItems", 0) <= len(v) <= schema.get("maxItems", len(v)) and
                all(conforms(schema.get("items", True), x, root) for x in v))
    if isinstance(v, str):
        return (schema.get("minLength", 0) <= len(v) <= schema.get("maxLength", len(v)) and
                bool(re.search(schema.get("pattern", ""), v)))
    if is_type("number", v):
        return schema.get("minimum", v) <= v <= schema.get("maximum", v)
    return True


# ---- random schemas whose answers end ----

def random_schema(dice, depth=0):
    kind = dice.choice(["string", "integer", "number", "boolean", "enum", "pattern"] +
                       ["object", "array", "anyOf"] * (depth < 3))
    if kind == "string":
        return {"type": "string", "minLength": dice.randrange(3), "maxLength": dice.randrange(3, 12)}
    if kind == "integer":
        low = dice.randrange(-1000, 1000)
        return {"type": "integer", "minimum": low, "maximum": low + dice.randrange(3000)}
    if kind == "number":
        low = dice.randrange(-99, 99) / 4
        return {"type": "number", "minimum": low, "maximum": low + dice.randrange(1, 99) / 8}
    if kind == "boolean":
        return {"type": ["boolean", "null"]}
    if kind == "enum":
        return {"enum": dice.sample(["red", "blue", 1, 2.5, None, "grün", True], 3)}
    if kind == "pattern":
        return {"type": "string", "pattern": dice.choice(["^[a-z]{2,5}$", "^\\d{3}-\\d{2}$", "^(ab|c)+d?$"])}
    if kind == "array":
        low = dice.randrange(2)
        return {"type": "array", "items": random_schema(dice, depth + 1), "minItems": low,
                "maxItems": low + dice.randrange(1, 3)}
    if kind == "anyOf":
        return {"anyOf": [random_schema(dice, depth + 1) for _ in range(2)]}
    names = dice.sample(["name", "age", "née", "a b", "x", "xy", "quo\"te"], dice.randrange(1, 5))
    return {"type": "object", "properties": {n: random_schema(dice, depth + 1) for n in names},
            "required": [n for n in names if dice.random() < 0.7], "additionalProperties": False}


class Structured(Case):
    def whole(self, path=COMPLETE, **body):
        body.setdefault("max_tokens", 400)
        if path == COMPLETE:
            body.setdefault("prompt", "ab")
        else:
            body.setdefault("messages", [{"role": "user", "content": "Hi"}])
        status, r = self.server.post(path, body)
        self.assertEqual(status, 200, r)
        return r["choices"][0]

    def test_answers_satisfy_their_schemas(self):
        dice = random.Random(SEED)
        jobs = []
        for _ in range(N):
            schema = random_schema(dice)
            jobs.append((schema, dice.randrange(1 << 30)))

        def one(job):
            schema, seed = job
            return self.whole(seed=seed, temperature=1.0, max_tokens=900, response_format={
                "type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        ended = 0
        for begin in range(0, N, 8):
            part = jobs[begin:begin + 8]
            for (schema, seed), c in zip(part, in_parallel([lambda j=j: one(j) for j in part])):
                if c["finish_reason"] != "stop":
                    continue
                ended += 1
                value = json.loads(c["text"])
                self.assertTrue(conforms(schema, value), (SEED, seed, schema, c["text"]))
                if jsonschema:
                    jsonschema.validate(value, schema)
        self.assertGreater(ended, N * 0.9, SEED)

    def test_a_recursive_schema(self):
        schema = {"$ref": "#/$defs/n", "$defs": {"n": {
            "type": "object", "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [
                {"$ref": "#/$defs/n"}, {"type": "null"}]}}, "required": ["v", "next"],
            "additionalProperties": False}}}
        for seed in range(3):
            c = self.whole(seed=seed, guided_json=schema, max_tokens=600)
            if c["finish_reason"] == "stop":
                self.assertTrue(conforms(schema, json.loads(c["text"])), c)

    def test_every_kind_and_name(self):
        for body, pattern in (
                ({"structured_outputs": {"regex": "\\d{4}-\\d\\d"}}, "\\d{4}-\\d\\d"),
                ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
                ({"structured_outputs": {"grammar": "root ::= \"<\" [a-z]{3} \">\""}}, "<[a-z]{3}>"),
                ({"structured_outputs": {"json": {"enum": [12]}}}, "12"),
                ({"structured_outputs": {"json": '{"enum": [12]}'}}, "12"),
                ({"structured_outputs": {"json": {"type": "object", "properties": {"a": {"enum": [1]}},
                                                  "required": ["a"]}, "disable_any_whitespace": True}},
                 '\\{"a":1\\}'),
                ({"structured_outputs": {"json": {"type": "object", "properties": {"a": {"enum": [1]}},
                                                  "required": ["a"]}, "whitespace_pattern": "_"}},
                 '\\{_"a"_:_1_\\}'),
                ({"guided_regex": "x{3}"}, "xxx"), ({"guided_choice": ["q"]}, "q"),
                ({"guided_grammar": "root ::= \"z\"{2}"}, "zz"), ({"guided_json": {"const": True}}, "true"),
                ({"grammar": "root ::= \"z\""}, "z"), ({"json_schema": {"const": 1}}, "1"),
                ({"response_format": {"type": "json_object", "schema": {"const": [1]}}}, "\\[\\s*1\\s*\\]"),
                ({"response_format": {"type": "json_schema", "schema": {"const": "é"}}}, '"é"'),
                ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 2}}},
                  "structured_outputs": {"regex": "never"}}, "2")):
            c = self.whole(**body)
            self.assertRegex(c["text"], f"^(?:{pattern})$", body)
            self.assertEqual((c["finish_reason"], c["stop_reason"]), ("stop", None), body)

    def test_any_object(self):
        c = self.whole(CHAT, response_format={"type": "json_object"}, temperature=0,
                       logit_bias={str(ord("}")): 8, str(ord('"')): 4})
        if c["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(c["message"]["content"]), dict)

    def test_streams_and_choices(self):
        body = {"prompt": "ab", "seed": 3, "temperature": 1, "max_tokens": 300, "n": 3,
                "structured_outputs": {"regex": "([a-f]{2,9},){2}\\d+\\."}}
        status, r = self.server.post(COMPLETE, body)
        self.assertEqual(status, 200, r)
        texts = [""] * 3
        for e in self.server.events(COMPLETE, body):
            for c in e["choices"] if e != "[DONE]" else ():
                texts[c["index"]] += c["text"]
        self.assertEqual(texts, [c["text"] for c in r["choices"]])
        self.assertGreater(len(set(texts)), 1)
        for t in texts:
            self.assertRegex(t, "^([a-f]{2,9},){2}\\d+\\.$")

    def test_nobody_else_changes(self):
        """Free answers beside constrained ones, and these beside each other, are those given alone."""
        free = [{"prompt": p, "seed": i, "temperature": 1.0, "max_tokens": 60, "ignore_eos": True}
                for i, p in enumerate(("ab", "cd", "xyz"))]
        bound = [{"prompt": "ab", "seed": i, "temperature": 1.0, "max_tokens": 60,
                  "structured_outputs": {"regex": "[a-z ]{50}"}} for i in range(3)]
        bound.append({"prompt": "ab", "seed": 7, "temperature": 1.0, "max_tokens": 60,
                      "repetition_penalty": 1.2, "structured_outputs": {"regex": "(a|bc|d)*"}})
        alone = [self.whole(**b) for b in free + bound]
        for _ in range(3):
            among = in_parallel([lambda b=b: self.whole(**b) for b in free + bound])
            self.assertEqual([c["text"] for c in among], [c["text"] for c in alone])

    def test_ends(self):
        c = self.whole(structured_outputs={"regex": "a{50}"}, max_tokens=5)
        self.assertEqual((c["finish_reason"], c["text"]), ("length", "aaaaa"))
        c = self.whole(structured_outputs={"regex": "abcdef"}, stop=["d"])
        self.assertEqual((c["finish_reason"], c["text"], c["stop_reason"]), ("stop", "abc", "d"))
        for more in ({"ignore_eos": True}, {"min_tokens": 9, "max_tokens": 20},
                     {"stop_token_ids": [ord("b")]}, {"logprobs": 2}):
            c = self.whole(structured_outputs={"choice": ["xyz"]}, **more)
            self.assertEqual((c["finish_reason"], c["text"]), ("stop", "xyz"), more)

    def test_logprobs(self):
        c = self.whole(structured_outputs={"regex": "[0-9]{4}"}, logprobs=3, temperature=0)
        self.assertEqual(len(c["logprobs"]["tokens"]), 4)
        self.assertEqual("".join(c["logprobs"]["tokens"]), c["text"])

    def test_RQ10_nothing_left(self):
        status, r = self.server.post(COMPLETE, {
            "prompt": "ab", "max_tokens": 9, "structured_outputs": {"regex": "[0-9]+"},
            "allowed_token_ids": [ord("a")]})
        self.assertEqual(status, 500, r)
        self.assertIn("no token allowed", r["error"]["message"])
        c = self.whole(structured_outputs={"regex": "a*"}, allowed_token_ids=[ord("b")], max_tokens=9)
        self.assertEqual((c["finish_reason"], c["text"]), ("stop", ""))

    # ---- refusals ----

    def test_SO1_what_is_no_schema(self):
        def format_of(schema):
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
        for body, param, word in (
                (format_of([]), "response_format", "schema"),
                (format_of({"type": "strin"}), "response_format", "type"),
                (format_of({"$ref": "http://127.0.0.1:1/x"}), "response_format", "$ref"),
                (format_of({"pattern": "("}), "response_format", "pattern"),
                (format_of({"not": {}}), "response_format", "not"),
                ({"response_format": {"type": "json_schema"}}, "response_format", "missing"),
                ({"response_format": {"type": "xml"}}, "response_format", "type"),
                ({"response_format": {"type": "structural_tag"}}, "response_format", "type"),
                ({"structured_outputs": {}}, "structured_outputs", "one of"),
                ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "only one"),
                ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs", "structural_tag"),
                ({"structured_outputs": {"choice": []}}, "structured_outputs", "choice"),
                ({"structured_outputs": {"json": "{"}}, "structured_outputs", "schema"),
                ({"guided_grammar": "x"}, "guided_grammar", "grammar"),
                ({"guided_json": {"type": "object", "minProperties": 9}}, "guided_json", "minProperties")):
            for path in (COMPLETE, CHAT):
                status, r = self.server.post(path, dict(
                    body, prompt="a", messages=[{"role": "user", "content": "a"}]))
                self.assertEqual((status, r["error"]["param"], r["error"]["type"]),
                                 (400, param, "BadRequestError"), (body, r))
                self.assertIn(word, r["error"]["message"])
        for body, param in (({"response_format": 1}, "response_format"),
                            ({"structured_outputs": []}, "structured_outputs"),
                            ({"structured_outputs": {"regex": 1}}, "structured_outputs"),
                            ({"guided_choice": "a"}, "guided_choice"),
                            ({"guided_choice": [1]}, "guided_choice")):
            status, r = self.server.post(COMPLETE, dict(body, prompt="a"))
            self.assertEqual((status, r["error"]["param"], r["error"]["type"]), (400, param, "Bad Request"), r)

    def test_SO2_SO3_hostile_text(self):
        deep = schema = {}
        for _ in range(20):
            deep["items"] = {}
            deep = deep["items"]
        for body in ({"structured_outputs": {"regex": "(" * 30000}},
                     {"structured_outputs": {"regex": "(" * 3000}},
                     {"structured_outputs": {"regex": "a{1,1000000}"}},
                     {"structured_outputs": {"regex": "((a{500}){500}){500}"}},
                     {"structured_outputs": {"regex": "(?<=a)b"}},
                     {"structured_outputs": {"regex": "(a|b)*a(a|b){25}"}},
                     {"guided_json": {"pattern": "a{1,1000000}"}},
                     {"structured_outputs": {"grammar": "root ::= root \"a\" | \"a\""}},
                     {"structured_outputs": {"grammar": "root ::= " + "(" * 3000}},
                     {"guided_json": {"$ref": "#"}}):
            status, r = self.server.post(COMPLETE, dict(body, prompt="a"))
            self.assertEqual(status, 400, (str(body)[:100], r))
        self.whole(guided_json=schema, max_tokens=3)
        c = self.whole(structured_outputs={"regex": "(a+)+$"}, max_tokens=50)
        self.assertRegex(c["text"], "^a*$")

    def test_SO4_compiling_delays_nobody(self):
        gaps, stop = [], threading.Event()

        def stream():
            last = None
            while not stop.is_set():
                now = time.monotonic()
                self.whole(prompt="ab", max_tokens=1)
                if last is not None:
                    gaps.append(time.monotonic() - now)
                last = now
        t = threading.Thread(target=stream)
        t.start()
        try:
            for k in range(4):
                schema = {"properties": {f"p{k}{i}": {"type": "integer"} for i in range(1500)}}
                status, r = self.server.post(COMPLETE, {"prompt": "a", "guided_json": schema})
                self.assertEqual(status, 400, r)
        finally:
            stop.set()
            t.join()
        self.assertLess(sorted(gaps)[len(gaps) // 2], 0.5)

    def test_SO5_many_schemas(self):
        before = self.server.resident_mib()
        for i in range(150):
            c = self.whole(guided_json={"const": f"value {i}"}, max_tokens=30)
            self.assertEqual(c["text"], f'"value {i}"')
        self.assertLess(self.server.resident_mib() - before, 96)


class Demanded(Case):
    """Calls that tool_choice demands, and constraints behind reasoning."""
    speeches = {"~": ["<think>hm</think>", "So"], "#": ["So ", "what"]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"], "additionalProperties": False}}},
             {"type": "function", "function": {"name": "g", "parameters": {
                 "$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {
                     "s": {"enum": ["x", "y"]}}, "required": ["s"]}}}}}]

    @classmethod
    def setUpClass(cls):
        path = os.path.join(FOLDER, "demanded")
        if not os.path.exists(path):
            make_tiny.make(path, cls.speeches)
        cls.server = Server("--reasoning-parser", "qwen3", "--chat-template",
                            "{{ messages[-1].content }}", model=path)

    def ask(self, content="~", **more):
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 200}
        status, r = self.server.post(CHAT, dict(body, **more))
        self.assertEqual(status, 200, r)
        return r["choices"][0]

    def test_a_grammar_begins_behind_reasoning(self):
        c = self.ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}}})
        self.assertEqual(c["message"]["reasoning"], "hm")
        self.assertEqual(json.loads(c["message"]["content"]), {"a": 1})
        self.assertEqual(c["finish_reason"], "stop")

    def test_required(self):
        for more in ({}, {"parallel_tool_calls": False}):
            c = self.ask(tools=self.tools, tool_choice="required", temperature=1, seed=5,
                         max_tokens=600, **more)
            if c["finish_reason"] == "length":
                continue
            calls = c["message"]["tool_calls"]
            self.assertGreaterEqual(len(calls), 1)
            if more:
                self.assertEqual(len(calls), 1)
            for call in calls:
                args = json.loads(call["function"]["arguments"])
                if call["function"]["name"] == "f":
                    self.assertTrue(0 <= args["n"] <= 99)
                else:
                    self.assertIn(args["s"], ("x", "y"))
            self.assertEqual(c["finish_reason"], "tool_calls")

    def test_named(self):
        for name, key in (("f", "n"), ("g", "s")):
            c = self.ask(tools=self.tools, tool_choice={"type": "function", "function": {"name": name}})
            call = c["message"]["tool_calls"][0]["function"]
            self.assertEqual(call["name"], name)
            self.assertEqual(list(json.loads(call["arguments"])), [key])
            self.assertEqual(c["finish_reason"], "stop")

    def test_SO1_tools_that_are_none(self):
        named = {"type": "function", "function": {"name": "f"}}
        for function, choice in (({"name": "f g"}, "required"), ({"name": "f", "parameters": None}, "required"),
                                 ({"name": "f", "parameters": {"type": "x"}}, named),
                                 ({"name": "", "parameters": {}}, "required")):
            status, r = self.server.post(CHAT, {
                "messages": [{"role": "user", "content": "~"}], "tool_choice": choice,
                "tools": [{"type": "function", "function": function}]})
            self.assertEqual((status, r["error"]["param"]), (400, "tools"), (function, r))
        status, r = self.server.post(CHAT, {
            "messages": [{"role": "user", "content": "~"}], "tools": self.tools, "tool_choice": "required",
            "response_format": {"type": "json_object"}})
        self.assertEqual((status, r["error"]["param"]), (400, "tool_choice"), r)


if __name__ == "__main__":
    main()
