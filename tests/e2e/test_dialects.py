"""The Responses API and Anthropic's messages, with the official clients."""
import json
import os
import sys

try:
    import anthropic
    import openai
except ImportError:
    print("SKIP: the clients are not there (tools/venv installs them)")
    sys.exit(77)

from harness import FOLDER, Case, Server, main
import make_tiny

# The prompt is told whole by the template; its last character says what is answered.
SPEECHES = {
    "@": ["<think>Let me", " see.</th", "ink>So be", " it"],
    "#": ["<think></think>Look", ':<tool_call>{"name": "f", "arguments": {"city": "Z',
          'ürich"}}</tool_call>', '\n<tool_call>{"name": "g"}</tool_call>'],
    "~": ["<think>A</think>", "stop", " here", " or there"],
}
TEMPLATE = ("{% for m in messages %}{% if m.reasoning %}({{ m.reasoning }}){% endif %}"
            "{{ m.role[0] }}:{{ m.content }}"
            "{% for c in m.tool_calls or [] %}<{{ c.id }} {{ c.function.name }} "
            "{{ c.function.arguments | tojson }}>{% endfor %}"
            "{% if m.tool_call_id %}[{{ m.tool_call_id }}]{% endif %};{% endfor %}"
            "{% if tools %}{{ tools | tojson }}{% endif %}"
            "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
            "{{ messages[-1].content[-1:] }}")
TOOL = {"type": "function", "name": "f", "description": "F", "strict": None,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
USE = {"name": "f", "description": "F", "input_schema": TOOL["parameters"]}


class Dialects(Case):
    @classmethod
    def setUpClass(cls):
        path = os.path.join(FOLDER, "dialects")
        make_tiny.make(path, SPEECHES)
        cls.server = Server("--reasoning-parser", "qwen3", "--tool-call-parser", "hermes",
                            "--enable-auto-tool-choice", "--chat-template", TEMPLATE,
                            "--override-generation-config", '{"temperature": 0}', model=path)

    def setUp(self):
        url = f"http://127.0.0.1:{self.server.port}"
        self.openai = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0,
                                             timeout=60)

    def tearDown(self):
        self.openai.close()
        self.anthropic.close()
        super().tearDown()


class Chat(Dialects):
    """Tools and reasoning of the chat itself, as the official client reads them."""
    tools = [{"type": "function", "function": {k: TOOL[k] for k in ("name", "description",
                                                                   "parameters")}}]

    def ask(self, content, **more):
        return self.openai.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}], **more)

    def test_calls(self):
        r = self.ask("#", tools=self.tools).choices[0]
        self.assertEqual((r.finish_reason, r.message.content), ("tool_calls", "Look:"))
        self.assertEqual([(c.function.name, c.function.arguments) for c in r.message.tool_calls],
                         [("f", '{"city": "Zürich"}'), ("g", "{}")])
        with self.openai.chat.completions.stream(
                model="tiny", messages=[{"role": "user", "content": "#"}],
                tools=self.tools) as s:
            m = s.get_final_completion().choices[0]
        self.assertEqual((m.finish_reason, m.message.content), ("tool_calls", "Look:"))
        self.assertEqual([(c.function.name, c.function.arguments) for c in m.message.tool_calls],
                         [(c.function.name, c.function.arguments) for c in r.message.tool_calls])

    def test_the_answer_goes_back_as_it_came(self):
        first = self.ask("#", tools=self.tools).choices[0].message
        r = self.openai.chat.completions.create(
            model="tiny", tools=self.tools,
            messages=[{"role": "user", "content": "Where"}, first.model_dump(exclude_none=True),
                      *[{"role": "tool", "tool_call_id": c.id, "content": "@"}
                        for c in first.tool_calls]])
        self.assertEqual(r.choices[0].message.content, "So be it")

    def test_reasoning(self):
        chunks = list(self.ask("@", stream=True))
        deltas = [c.choices[0].delta for c in chunks]
        self.assertEqual("".join(getattr(d, "reasoning_content", None) or "" for d in deltas),
                         "Let me see.")
        self.assertEqual("".join(d.content or "" for d in deltas), "So be it")


class Responses(Dialects):
    def ask(self, **more):
        return self.openai.responses.create(model="tiny", **more)

    def test_text(self):
        r = self.ask(input="@", max_output_tokens=50, metadata={"a": "b"})
        self.assertEqual((r.status, r.output_text, r.object), ("completed", "So be it", "response"))
        self.assertEqual([i.type for i in r.output], ["reasoning", "message"])
        self.assertEqual(r.output[0].content[0].text, "Let me see.")
        self.assertEqual(r.metadata, {"a": "b"})
        self.assertTrue(r.id.startswith("resp_"))
        self.assertEqual(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens)
        self.assertEqual((r.usage.output_tokens, r.usage.output_tokens_details.reasoning_tokens),
                         (5, 2))

    def test_cut_off(self):
        r = self.ask(input="@", max_output_tokens=3)
        self.assertEqual((r.status, r.incomplete_details.reason), ("incomplete",
                                                                   "max_output_tokens"))
        self.assertEqual(r.output_text, "So be")

    def test_calls(self):
        r = self.ask(input="#", tools=[TOOL], instructions="Be")
        self.assertEqual([i.type for i in r.output], ["message", "function_call", "function_call"])
        self.assertEqual((r.output_text, r.instructions), ("Look:", "Be"))
        self.assertEqual((r.output[1].name, r.output[1].arguments), ("f", '{"city": "Zürich"}'))
        self.assertTrue(r.output[1].call_id.startswith("chatcmpl-tool-"))
        self.assertEqual(len({i.id for i in r.output}), 3)
        self.assertEqual(r.tools[0].name, "f")
        r = self.ask(input="#", tools=[TOOL], parallel_tool_calls=False)
        self.assertEqual([i.type for i in r.output], ["message", "function_call"])

    def test_demands(self):
        strict = dict(TOOL, parameters={"type": "object", "properties": {"b": {"enum": ["u", "v"]}},
                                        "required": ["b"], "additionalProperties": False})
        for choice in ("required", {"type": "function", "name": "f"}):
            r = self.ask(input="~", tools=[strict], tool_choice=choice, max_output_tokens=600)
            calls = [i for i in r.output if i.type == "function_call"]
            self.assertIn(json.loads(calls[0].arguments)["b"], "uv")
        schema = {"type": "json_schema", "name": "n", "schema": strict["parameters"]}
        r = self.ask(input="~", text={"format": schema}, max_output_tokens=600)
        self.assertIn(json.loads(r.output_text)["b"], "uv")

    def test_stream_is_the_whole_in_parts(self):
        for body in ({"input": "@"}, {"input": "#", "tools": [TOOL]}):
            whole = self.ask(**body)
            events = list(self.ask(stream=True, **body))
            self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
            self.assertEqual([e.type for e in events[:2]],
                             ["response.created", "response.in_progress"])
            self.assertEqual(events[0].response.status, "in_progress")
            last = events[-1]
            self.assertEqual(last.type, "response.completed")
            bare = [[dict(i.model_dump(), id=0, call_id=0) for i in r.output]
                    for r in (whole, last.response)]
            self.assertEqual(*bare)
            self.assertEqual(last.response.usage, whole.usage)
            self.check_parts(events, last.response)

    def check_parts(self, events, response):
        text, arguments, open_items = {}, {}, {}
        for e in events[2:-1]:
            i = e.output_index
            if e.type == "response.output_item.added":
                open_items[i] = e.item.id
            elif e.type == "response.output_item.done":
                self.assertEqual(open_items.pop(i), e.item.id)
                self.assertEqual(e.item, response.output[i])
            elif e.type in ("response.output_text.delta", "response.reasoning_text.delta"):
                text[i] = text.get(i, "") + e.delta
            elif e.type in ("response.output_text.done", "response.reasoning_text.done"):
                self.assertEqual(text[i], e.text)
            elif e.type == "response.function_call_arguments.delta":
                arguments[i] = arguments.get(i, "") + e.delta
            elif e.type == "response.function_call_arguments.done":
                self.assertEqual(arguments[i], e.arguments)
            else:
                self.assertIn(e.type, ("response.content_part.added",
                                       "response.content_part.done"))
            self.assertTrue(i in open_items or e.type.endswith("item.done"))
        self.assertEqual(open_items, {})

    def test_the_clients_own_gathering(self):
        with self.openai.responses.stream(model="tiny", input="@") as s:
            text = "".join(e.delta for e in s if e.type == "response.output_text.delta")
            self.assertEqual(s.get_final_response().output_text, text)

    def test_a_conversation_with_calls(self):
        first = self.ask(input="#", tools=[TOOL])
        call = first.output[1]
        items = [{"role": "user", "content": [{"type": "input_text", "text": "Where"}]},
                 {"type": "reasoning", "id": "rs_1", "summary": [],
                  "content": [{"type": "reasoning_text", "text": "hm"}]},
                 *[i.model_dump(exclude_none=True) for i in first.output],
                 {"type": "function_call_output", "call_id": call.call_id, "output": "there@"}]
        r = self.ask(input=items, tools=[TOOL], instructions="Be")
        self.assertEqual(r.output_text, "So be it")
        # What the template saw, by its length in tokens of a byte each.
        calls = "".join(f"<{c.call_id} {c.name} {c.arguments}>" for c in first.output[1:])
        tools = ('[{"type": "function", "function": {"name": "f", "description": "F", "parameters": '
                 '{"type": "object", "properties": {"city": {"type": "string"}}}}}]')
        text = f"s:Be;u:Where;(hm)a:Look:{calls};t:there@[{call.call_id}];{tools}@"
        _, t = self.server.post("/tokenize", {"prompt": text})
        self.assertEqual(r.usage.input_tokens, t["count"])

    def test_refusals(self):
        for more, param in (({"previous_response_id": "resp_1"}, "previous_response_id"),
                            ({"background": True}, "background"),
                            ({"input": []}, "input"), ({"input": 3}, "input"),
                            ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
                            ({"input": [{"role": 3, "content": "x"}]}, "input"),
                            ({"tools": [{"type": "web_search"}]}, "tools"),
                            ({"instructions": 3}, "instructions"),
                            ({"max_output_tokens": 0}, "max_output_tokens"),
                            ({"temperature": -1}, "temperature"),
                            ({"text": {"format": 3}}, "text")):
            body = dict({"model": "tiny", "input": "@"}, **more)
            status, r = self.server.post("/v1/responses", body)
            self.assertEqual((status, r["error"]["param"]), (400, param), r)
        with self.assertRaises(openai.NotFoundError):
            self.openai.responses.create(model="other", input="x")


class Messages(Dialects):
    def ask(self, content="@", **more):
        more.setdefault("max_tokens", 50)
        return self.anthropic.messages.create(
            model="tiny", messages=[{"role": "user", "content": content}], **more)

    def test_text(self):
        r = self.ask()
        self.assertEqual([b.type for b in r.content], ["thinking", "text"])
        self.assertEqual((r.content[0].thinking, r.content[1].text), ("Let me see.", "So be it"))
        self.assertEqual((r.stop_reason, r.role, r.type, r.model),
                         ("end_turn", "assistant", "message", "tiny"))
        self.assertEqual(r.usage.output_tokens, 5)
        self.assertTrue(r.id.startswith("msg_"))

    def test_stop(self):
        r = self.ask("~", stop_sequences=["here"])
        self.assertEqual((r.stop_reason, r.stop_sequence, r.content[1].text),
                         ("stop_sequence", "here", "stop "))
        r = self.ask("~", max_tokens=2)
        self.assertEqual((r.stop_reason, r.stop_sequence), ("max_tokens", None))

    def test_calls(self):
        r = self.ask("#", tools=[USE])
        self.assertEqual([b.type for b in r.content], ["text", "tool_use", "tool_use"])
        self.assertEqual((r.content[1].name, r.content[1].input), ("f", {"city": "Zürich"}))
        self.assertEqual((r.content[2].input, r.stop_reason), ({}, "tool_use"))
        r = self.ask("#", tools=[USE],
                     tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        self.assertEqual(len(r.content), 2)

    def test_stream_is_the_whole_in_parts(self):
        for content, more in (("@", {}), ("#", {"tools": [USE]}), ("~", {"stop_sequences": ["or"]})):
            whole = self.ask(content, **more)
            with self.anthropic.messages.stream(
                    model="tiny", max_tokens=50,
                    messages=[{"role": "user", "content": content}], **more) as s:
                types = [e.type for e in s]
                last = s.get_final_message()
            self.assertEqual((types[0], types[-1]), ("message_start", "message_stop"))
            bare = [[dict(b.model_dump(), id=0) for b in m.content] for m in (whole, last)]
            self.assertEqual(bare[0], bare[1])
            self.assertEqual((last.stop_reason, last.stop_sequence, last.usage.output_tokens),
                             (whole.stop_reason, whole.stop_sequence, whole.usage.output_tokens))

    def test_demands(self):
        use = dict(USE, input_schema={"type": "object", "properties": {"b": {"enum": ["u", "v"]}},
                                      "required": ["b"], "additionalProperties": False})
        for choice in ({"type": "any"}, {"type": "tool", "name": "f"}):
            r = self.ask("~", tools=[use], tool_choice=choice, max_tokens=600)
            calls = [b for b in r.content if b.type == "tool_use"]
            self.assertIn(calls[0].input["b"], "uv")

    def test_events_have_their_names(self):
        status, head, raw = self.server.request("POST", "/v1/messages", {
            "model": "tiny", "max_tokens": 9, "stream": True, "temperature": 0,
            "messages": [{"role": "user", "content": "@"}]})
        self.assertEqual((status, head["content-type"]),
                         (200, "text/event-stream; charset=utf-8"))
        for event in raw.decode().split("\n\n")[:-1]:
            name, data = event.split("\n")
            self.assertEqual(name, "event: " + json.loads(data[6:])["type"])

    def test_count_tokens_and_what_the_template_sees(self):
        text = ("s:Be;u:Where;(hm)a:Look<id1 f {\"city\": \"B\"}>;t:there[id1];u:Thanks;"
                '[{"type": "function", "function": {"name": "f", "description": "F", "parameters": '
                '{"type": "object", "properties": {"city": {"type": "string"}}}}}]Falses')
        messages = [
            {"role": "user", "content": "Where"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Look"},
                {"type": "tool_use", "id": "id1", "name": "f", "input": {"city": "B"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "id1",
                 "content": [{"type": "text", "text": "there"}]},
                {"type": "text", "text": "Thanks"}]}]
        r = self.anthropic.messages.count_tokens(
            model="tiny", messages=messages, tools=[USE], thinking={"type": "disabled"},
            system=[{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}])
        _, t = self.server.post("/tokenize", {"prompt": text})
        self.assertEqual(r.input_tokens, t["count"])

    def test_refusals(self):
        def refused(words, **more):
            body = dict({"model": "tiny", "max_tokens": 5,
                         "messages": [{"role": "user", "content": "@"}]}, **more)
            status, r = self.server.post("/v1/messages",
                                         {k: v for k, v in body.items() if v != "absent"})
            self.assertEqual((status, set(r), r["type"], r["error"]["type"]),
                             (400, {"type", "error", "request_id"}, "error",
                              "invalid_request_error"), r)
            self.assertIn(words, r["error"]["message"])
        refused("max_tokens", max_tokens="absent")
        refused("messages", messages=[])
        refused("role", messages=[{"role": "tool", "content": "x"}])
        refused("content", messages=[{"role": "user", "content": 3}])
        refused("image", messages=[{"role": "user", "content": [{"type": "image"}]}])
        refused("tools", tools=[{"type": "bash_20250124", "name": "bash"}])
        refused("tool_choice", tool_choice={"type": "x"})
        refused("thinking", thinking={"type": "x"})
        refused("system", system=3)
        with self.assertRaises(anthropic.NotFoundError) as e:
            self.anthropic.messages.create(model="other", max_tokens=5,
                                           messages=[{"role": "user", "content": "x"}])
        self.assertEqual(e.exception.body["error"]["type"], "not_found_error")


class Keys(Case):
    flags = ("--api-key", "secret")

    def test_x_api_key(self):
        url = f"http://127.0.0.1:{self.server.port}"
        messages = [{"role": "user", "content": "Hi"}]
        with anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0) as good:
            good.messages.create(model="tiny", max_tokens=3, messages=messages)
        with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as bad:
            with self.assertRaises(anthropic.AuthenticationError) as e:
                bad.messages.create(model="tiny", max_tokens=3, messages=messages)
        self.assertEqual(e.exception.body["error"]["type"], "authentication_error")


if __name__ == "__main__":
    main()
