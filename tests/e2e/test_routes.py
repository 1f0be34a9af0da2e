"""The routes beside chat and completions: rendering, ids in and out, batches, aliases."""
import json
import unittest

from harness import Case, Server, main, story_from, tiny_model

HI = [{"role": "user", "content": "Hi"}]
OPEN = {"continue_final_message": True, "add_generation_prompt": False}


def said(text):
    """A conversation whose answer goes on with this text."""
    return [{"role": "user", "content": "say"}, {"role": "assistant", "content": text}]


class Routes(Case):
    flags = ("--enable-tokenizer-info-endpoint",)

    def ok(self, answer):
        self.assertEqual(answer[0], 200, answer)
        return answer[1]

    # ---- rendering ----

    def test_apply_template(self):
        r = self.ok(self.server.post("/apply-template", {"messages": HI}))
        self.assertEqual(r, {"prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"})
        r = self.ok(self.server.post("/apply-template", {"messages": HI,
                                                         "add_generation_prompt": False}))
        self.assertEqual(r["prompt"], "<|im_start|>user\nHi<|im_end|>\n")
        self.malformed(self.server.post("/apply-template", {}), "messages")

    def test_chat_render(self):
        r = self.ok(self.server.post("/v1/chat/completions/render",
                                     {"messages": HI, "max_tokens": 7, "temperature": 0.5,
                                      "stop": ["x"], "return_prompt_text": True}))
        ids = self.ok(self.server.post("/tokenize", {"messages": HI}))["tokens"]
        self.assertEqual(r["token_ids"], ids)
        self.assertEqual((r["model"], r["stream"], r["features"]), ("tiny", False, None))
        p = r["sampling_params"]
        self.assertEqual((p["max_tokens"], p["temperature"], p["stop"], p["n"]), (7, 0.5, ["x"], 1))
        self.assertTrue(r["prompt_text"].startswith("<|im_start|>user"))
        self.refused(self.server.post("/v1/chat/completions/render",
                                      {"messages": HI, "temperature": -1}), "temperature")

    def test_completions_render(self):
        r = self.ok(self.server.post("/v1/completions/render", {"prompt": ["a", "bc"]}))
        self.assertEqual([x["token_ids"] for x in r], [[97], [98, 99]])
        self.assertEqual(r[0]["sampling_params"]["max_tokens"], 16)

    # ---- ids in, ids out ----

    def test_generate(self):
        r = self.ok(self.server.post("/inference/v1/generate", {
            "token_ids": [97], "request_id": "abc", "model": "tiny",
            "sampling_params": {"max_tokens": 4, "temperature": 0, "logprobs": 1}}))
        self.assertEqual(set(r), {"request_id", "choices", "prompt_logprobs", "kv_transfer_params"})
        c = r["choices"][0]
        self.assertEqual((r["request_id"], c["index"], c["finish_reason"]), ("abc", 0, "length"))
        self.assertEqual(bytes(c["token_ids"]).decode(), story_from("a", 4))
        self.assertEqual([t["token"] for t in c["logprobs"]["content"]],
                         [f"token_id:{i}" for i in c["token_ids"]])

    def test_generate_takes_what_render_gives(self):
        body = {"messages": said("a"), "max_tokens": 5, "temperature": 0, **OPEN}
        rendered = self.ok(self.server.post("/v1/chat/completions/render", body))
        r = self.ok(self.server.post("/inference/v1/generate", rendered))
        _, whole = self.server.post("/v1/chat/completions", body)
        self.assertEqual(bytes(r["choices"][0]["token_ids"]).decode(),
                         whole["choices"][0]["message"]["content"])

    def test_generate_refuses(self):
        def ask(**body):
            return self.server.post("/inference/v1/generate", body)
        self.malformed(ask(), "token_ids")
        self.malformed(ask(token_ids="a"), "token_ids")
        self.malformed(ask(token_ids=[1], sampling_params=[]), "sampling_params")
        self.refused(ask(token_ids=[]), "token_ids")
        self.refused(ask(token_ids=[10**6]), "token_ids")
        self.refused(ask(token_ids=[1], stream=True), "stream")
        self.refused(ask(token_ids=[1], sampling_params={"top_p": 0}), "top_p")

    # ---- several conversations ----

    def test_chat_batch(self):
        r = self.ok(self.server.post("/v1/chat/completions/batch", {
            "messages": [said("a"), said("K"), said("1")], "temperature": 0, "max_tokens": 3,
            **OPEN}))
        self.assertEqual([(c["index"], c["message"]["content"]) for c in r["choices"]],
                         [(0, "bcd"), (1, "LMN"), (2, "234")])
        self.assertEqual(r["usage"]["completion_tokens"], 9)
        s = self.server
        path = "/v1/chat/completions/batch"
        self.refused(s.post(path, {"messages": [HI], "stream": True}), "stream")
        self.refused(s.post(path, {"messages": [HI], "n": 2, "temperature": 1}), "n")
        self.refused(s.post(path, {"messages": [HI], "tools": []}), "tools")
        self.malformed(s.post(path, {"messages": HI}), "messages")
        self.malformed(s.post(path, {"messages": []}), "messages")

    # ---- aliases ----

    def test_invocations(self):
        r = self.ok(self.server.post("/invocations", {"prompt": "a", "max_tokens": 2,
                                                      "temperature": 0}))
        self.assertEqual((r["object"], r["choices"][0]["text"]), ("text_completion", "bc"))
        r = self.ok(self.server.post("/invocations", {"messages": HI, "max_tokens": 2}))
        self.assertEqual(r["object"], "chat.completion")
        self.assertTrue(r["id"].startswith("chatcmpl-"))
        self.malformed(self.server.post("/invocations", {"x": 1}))

    def test_v1_health(self):
        self.assertEqual(self.server.request("GET", "/v1/health")[0], 200)

    def test_tokenizer_info(self):
        status, _, raw = self.server.request("GET", "/tokenizer_info")
        info = json.loads(raw)
        self.assertEqual((status, info["eos_token"], info["tokenizer_class"]),
                         (200, "<|im_end|>", "PreTrainedTokenizerFast"))
        self.assertIn("im_start", info["chat_template"])


class Unasked(unittest.TestCase):
    def test_tokenizer_info_is_not_there(self):
        s = Server(model=tiny_model())
        try:
            self.assertEqual(s.request("GET", "/tokenizer_info")[0], 404)
        finally:
            s.stop()


if __name__ == "__main__":
    main()
