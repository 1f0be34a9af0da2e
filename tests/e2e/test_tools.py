"""Reasoning and tool calls: whole answers, streams, and what is refused."""
import json
import os

from harness import FOLDER, Case, Server, main
import make_tiny

# The prompt is the last message alone; its last character says what is answered. Each piece is one
# token, so tags come whole and in parts.
SPEECHES = {
    "@": ["<think>Let me", " see.</th", "ink>\n\nSo be", " it"],
    "#": ["Look:\n<tool", '_call>{"name": "f", "arguments": {"city": "Z', 'ürich"}}</tool_call>',
          '\n<tool_call>{"name": "g"}', "</tool_call>\n"],
    "%": ["<tool_call>", '{"name": 3}', "</tool_call> and"],
    "~": ["<think>hm</think>", '<tool_call>{"name": "f", "arguments": {"n":', " 1}}</tool_call>"],
    "$": ["Cut <tool_"],
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
         {"function": {"name": "g", "description": "G"}, "type": "function"}]
CHAT = "/v1/chat/completions"
TEMPLATE = "{{ messages[-1].content }}{% if tools and show %}{{ tools | tojson }}{% endif %}"


def speaker(name="speaker"):
    path = os.path.join(FOLDER, name)
    if not os.path.exists(path):
        make_tiny.make(path, SPEECHES)
    return path


class Speaking(Case):
    parsers = ("--reasoning-parser", "qwen3", "--tool-call-parser", "hermes",
               "--enable-auto-tool-choice")

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.parsers, "--chat-template", TEMPLATE, model=speaker())

    def body(self, content, **more):
        return dict({"messages": [{"role": "user", "content": content}], "temperature": 0,
                     "max_tokens": 50}, **more)

    def ask(self, content, **more):
        status, r = self.server.post(CHAT, self.body(content, **more))
        self.assertEqual(status, 200, r)
        return r["choices"][0]

    def gathered(self, content, **more):
        """A stream put together, as clients do."""
        events = self.server.events(CHAT, self.body(content, **more))
        out = {"content": "", "reasoning": "", "calls": [], "finish": None, "n": 0}
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        for e in events[1:-1]:
            choice = e["choices"][0]
            delta = choice["delta"]
            self.assertIsNone(out["finish"])
            out["n"] += 1
            out["content"] += delta.get("content", "")
            out["reasoning"] += delta.get("reasoning", "")
            self.assertEqual(delta.get("reasoning"), delta.get("reasoning_content"))
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    self.assertEqual(call["index"], len(out["calls"]))
                    self.assertEqual((call["type"], call["function"]["arguments"]), ("function", ""))
                    out["calls"].append([call["function"]["name"], "", call["id"]])
                else:
                    self.assertEqual(set(call), {"index", "function"})
                    out["calls"][call["index"]][1] += call["function"]["arguments"]
            out["finish"] = choice["finish_reason"]
        return out

    def both(self, content, **more):
        """A whole answer, which the stream must agree with."""
        whole = self.ask(content, **more)
        stream = self.gathered(content, **more)
        m = whole["message"]
        self.assertEqual(stream["content"], m["content"] or "")
        self.assertEqual(stream["reasoning"], m["reasoning"] or "")
        self.assertEqual(m["reasoning"], m["reasoning_content"])
        self.assertEqual([c[:2] for c in stream["calls"]],
                         [[c["function"]["name"], c["function"]["arguments"]]
                          for c in m.get("tool_calls", [])])
        self.assertEqual(stream["finish"], whole["finish_reason"])
        return whole

    # ---- reasoning ----

    def test_reasoning(self):
        c = self.both("@")
        self.assertEqual(c["message"]["reasoning"], "Let me see.")
        self.assertEqual(c["message"]["content"], "\n\nSo be it")
        self.assertEqual(c["finish_reason"], "stop")
        self.assertNotIn("tool_calls", c["message"])

    def test_the_prompt_says_whether_reasoning_is_open(self):
        self.assertEqual(self.both("<think>\n@")["message"]["reasoning"], "Let me see.")
        c = self.both("<think>\n\n</think>\n\n@")
        self.assertIsNone(c["message"]["reasoning"])
        self.assertEqual(c["message"]["content"], "<think>Let me see.</think>\n\nSo be it")
        # A tag of an earlier turn says nothing.
        c = self.both("<think>\n\n</think>x<|im_end|>@")
        self.assertEqual(c["message"]["reasoning"], "Let me see.")

    def test_thinking_may_be_off(self):
        for more in ({"chat_template_kwargs": {"enable_thinking": False}},
                     {"reasoning_effort": "none"}):
            self.assertIsNone(self.both("@", **more)["message"]["reasoning"])
        c = self.both("@", reasoning_effort="none", chat_template_kwargs={"enable_thinking": True})
        self.assertEqual(c["message"]["reasoning"], "Let me see.")

    def test_reasoning_that_is_cut_off(self):
        c = self.both("@", max_tokens=2)
        self.assertEqual(c["message"]["reasoning"], "Let me see.</th")
        self.assertIsNone(c["message"]["content"])
        self.assertEqual(c["finish_reason"], "length")

    def test_reasoning_is_left_out(self):
        c = self.both("@", include_reasoning=False)
        self.assertIsNone(c["message"]["reasoning"])
        self.assertEqual(c["message"]["content"], "\n\nSo be it")

    def test_thinking_token_budget(self):
        self.both("@", thinking_token_budget=-1)
        self.assertEqual(self.both("@", thinking_token_budget=3)["message"]["reasoning"],
                         "Let me see.")
        # The tag is made by force, and the model goes on from its last byte.
        for budget, text in ((1, "Let me"), (2, "Let me see.</th")):
            c = self.both("@", thinking_token_budget=budget, max_tokens=20, return_token_ids=True,
                          logprobs=True)
            self.assertEqual(c["message"]["reasoning"], text)
            self.assertTrue(c["message"]["content"])
            _, r = self.server.post("/detokenize", {"tokens": c["token_ids"][budget:]})
            self.assertTrue(r["prompt"].startswith("</think>"), r)
            self.assertEqual(len(c["logprobs"]["content"]), 20)
        c = self.both("@", thinking_token_budget=0, max_tokens=10)
        self.assertIsNone(c["message"]["reasoning"])
        # Where there is no reasoning there is nothing to end.
        c = self.both("<think></think>#", thinking_token_budget=0, tools=TOOLS)
        self.assertEqual(len(c["message"]["tool_calls"]), 2)
        self.refused(self.server.chat(thinking_token_budget=-2), "thinking_token_budget")
        for v in (1.0, True, "3"):
            self.malformed(self.server.chat(thinking_token_budget=v), "thinking_token_budget")

    # ---- calls ----

    def test_calls(self):
        c = self.both("<think></think>#", tools=TOOLS)
        m = c["message"]
        self.assertEqual((c["finish_reason"], m["content"]), ("tool_calls", "Look:\n"))
        self.assertEqual([f["function"] for f in m["tool_calls"]],
                         [{"name": "f", "arguments": '{"city": "Zürich"}'},
                          {"name": "g", "arguments": "{}"}])
        ids = [f["id"] for f in m["tool_calls"]]
        self.assertEqual(len(set(ids)), 2)
        for i in ids:
            self.assertRegex(i, "^chatcmpl-tool-[0-9a-f]{32}$")
        self.assertEqual(list(m["tool_calls"][0]), ["id", "type", "function"])

    def test_one_call(self):
        c = self.both("<think></think>#", tools=TOOLS, parallel_tool_calls=False)
        self.assertEqual(len(c["message"]["tool_calls"]), 1)

    def test_reasoning_then_a_call(self):
        c = self.both("~", tools=TOOLS, tool_choice="auto")
        self.assertEqual(c["message"]["reasoning"], "hm")
        self.assertIsNone(c["message"]["content"])
        self.assertEqual(c["message"]["tool_calls"][0]["function"]["arguments"], '{"n": 1}')

    def test_what_is_no_call_is_content(self):
        c = self.both("<think></think>%", tools=TOOLS)
        self.assertEqual(c["message"]["content"], '<tool_call>{"name": 3}</tool_call> and')
        self.assertEqual(c["finish_reason"], "stop")
        self.assertEqual(self.both("<think></think>$", tools=TOOLS)["message"]["content"],
                         "Cut <tool_")

    def test_none_finds_no_calls(self):
        c = self.both("<think></think>#", tools=TOOLS, tool_choice="none")
        self.assertIn("<tool_call>", c["message"]["content"])
        c = self.both("<think></think>#")
        self.assertIn("<tool_call>", c["message"]["content"])

    def test_tools_as_the_template_sees_them(self):
        _, r = self.server.post("/tokenize", self.body(
            "x", tools=TOOLS, chat_template_kwargs={"show": 1}))
        _, r = self.server.post("/detokenize", {"tokens": r["tokens"]})
        self.assertEqual(r["prompt"], "x" + json.dumps(
            [{"type": "function", "function": {"name": "f", "description": None,
                                               "parameters": {"type": "object"}}},
             {"type": "function", "function": {"name": "g", "description": "G",
                                               "parameters": None}}]))

    def test_a_step_that_says_nothing_sends_nothing(self):
        s = self.gathered("<think></think>#", tools=TOOLS)
        # Five tokens and an end; content, two names, two arguments, the end.
        self.assertEqual(s["n"], 6)
        events = self.server.events(CHAT, self.body("<think></think>#", tools=TOOLS, logprobs=True,
                                                    return_token_ids=True))
        choices = [e["choices"][0] for e in events[1:-1]]
        self.assertEqual(sum(len(c["logprobs"]["content"]) for c in choices if c["logprobs"]), 6)
        self.assertEqual(sum(len(c.get("token_ids", [])) for c in choices), 6)

    def test_required(self):
        tools = [{"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
            "additionalProperties": False}}}]
        c = self.both("<think></think>x", tools=tools, tool_choice="required", max_tokens=200,
                      seed=3)
        self.assertEqual((c["finish_reason"], c["message"]["content"]), ("tool_calls", ""))
        for call in c["message"]["tool_calls"]:
            self.assertEqual(call["function"]["name"], "f")
            self.assertIs(type(json.loads(call["function"]["arguments"])["n"]), int)
        # Behind the reasoning, where there is some.
        c = self.both("~", tools=tools, tool_choice="required", max_tokens=200)
        self.assertEqual(c["message"]["reasoning"], "hm")
        self.assertEqual(c["message"]["tool_calls"][0]["function"]["name"], "f")

    def test_named(self):
        tools = [TOOLS[0], {"type": "function", "function": {"name": "h", "parameters": {
            "type": "object", "properties": {"b": {"enum": ["u", "v"]}}, "required": ["b"],
            "additionalProperties": False}}}]
        c = self.both("<think></think>x", tools=tools, max_tokens=200,
                      tool_choice={"type": "function", "function": {"name": "h"}})
        self.assertEqual((c["finish_reason"], c["message"]["content"]), ("stop", ""))
        self.assertEqual(len(c["message"]["tool_calls"]), 1)
        self.assertEqual(c["message"]["tool_calls"][0]["function"]["name"], "h")
        self.assertIn(json.loads(c["message"]["tool_calls"][0]["function"]["arguments"])["b"], "uv")

    def test_choices_that_are_refused(self):
        s = self.server
        self.refused(s.chat(tools=TOOLS, tool_choice="perhaps"), "tool_choice")
        self.refused(s.chat(tool_choice="required"), "tool_choice", "needs tools")
        named = {"type": "function", "function": {"name": "h"}}
        self.refused(s.chat(tools=TOOLS, tool_choice=named), "tool_choice", "no such function")
        self.malformed(s.chat(tools=TOOLS, tool_choice={"type": "function"}), "tool_choice")
        self.malformed(s.chat(tools=TOOLS, tool_choice=3), "tool_choice")
        self.malformed(s.chat(tools=TOOLS, parallel_tool_calls=1), "parallel_tool_calls")


class ShortIds(Case):
    @classmethod
    def setUpClass(cls):
        path = os.path.join(FOLDER, "mistral")
        make_tiny.make(path, {"@": ["[TOOL_CALLS]f{", '"a": 1}']})
        cls.server = Server("--tool-call-parser", "mistral", "--enable-auto-tool-choice",
                            "--chat-template", TEMPLATE, model=path)

    def test_nine_characters(self):
        _, r = self.server.post(CHAT, {"messages": [{"role": "user", "content": "@"}],
                                       "temperature": 0, "tools": TOOLS})
        call = r["choices"][0]["message"]["tool_calls"][0]
        self.assertRegex(call["id"], "^[0-9A-Za-z]{9}$")
        self.assertEqual(call["function"], {"name": "f", "arguments": '{"a": 1}'})


class WithoutParsers(Case):
    def test_auto_needs_both_flags(self):
        self.refused(self.server.chat(tools=TOOLS), "tool_choice", "--enable-auto-tool-choice",
                     "--tool-call-parser")

    def test_a_budget_needs_a_parser(self):
        self.refused(self.server.chat(thinking_token_budget=5), "thinking_token_budget",
                     "--reasoning-parser")


if __name__ == "__main__":
    main()
