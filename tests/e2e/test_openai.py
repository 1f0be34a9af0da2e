"""The official openai client against octet serve."""
import sys

try:
    import openai
except ImportError:
    print("SKIP: the openai package is not there (tools/venv installs it)")
    sys.exit(77)

from harness import Case, main, story_from

MESSAGES = [{"role": "user", "content": "Tell me a story"}]
OPEN = {"continue_final_message": True, "add_generation_prompt": False}


class Client(Case):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.server.port}/v1",
                                    api_key="none", max_retries=0, timeout=60)

    def tearDown(self):
        self.client.close()
        super().tearDown()

    def test_models(self):
        models = list(self.client.models.list())
        self.assertEqual([m.id for m in models], ["tiny"])

    def test_chat(self):
        r = self.client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "say"},
                                    {"role": "assistant", "content": "a"}],
            temperature=0, max_tokens=5, extra_body=OPEN)
        self.assertEqual(r.choices[0].message.content, story_from("a", 5))
        self.assertEqual((r.choices[0].finish_reason, r.usage.completion_tokens), ("length", 5))
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + 5)
        self.assertTrue(r.id.startswith("chatcmpl-"))
        self.assertEqual((r.object, r.model), ("chat.completion", "tiny"))

    def test_chat_stream_with_usage(self):
        def ask(**more):
            return self.client.chat.completions.create(model="tiny", messages=MESSAGES, seed=3,
                                                       temperature=0.7, max_completion_tokens=30,
                                                       **more)
        whole = ask()
        chunks = list(ask(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(chunks[-2].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual({c.id for c in chunks}, {chunks[0].id})

    def test_logprobs(self):
        r = self.client.chat.completions.create(model="tiny", messages=MESSAGES, logprobs=True,
                                                top_logprobs=4, max_tokens=6, temperature=0)
        content = r.choices[0].logprobs.content
        self.assertEqual(len(content), r.usage.completion_tokens)
        for t in content:
            self.assertEqual(len(t.top_logprobs), 4)
            self.assertEqual(t.top_logprobs[0].token, t.token)
            self.assertLessEqual(t.logprob, 0)
            self.assertGreaterEqual(t.logprob, max(x.logprob for x in t.top_logprobs))
        text = b"".join(bytes(t.bytes) for t in content).decode("utf-8", "replace")
        self.assertEqual(text, r.choices[0].message.content)

    def test_n_and_stop(self):
        r = self.client.chat.completions.create(model="tiny", messages=MESSAGES, n=4, seed=1,
                                                temperature=1.5, max_tokens=12)
        self.assertEqual([c.index for c in r.choices], [0, 1, 2, 3])
        self.assertGreater(len({c.message.content for c in r.choices}), 1)
        r = self.client.completions.create(model="tiny", prompt="a", temperature=0, max_tokens=50,
                                           stop=["xyz", "jkl"])
        self.assertEqual((r.choices[0].text, r.choices[0].finish_reason), ("bcdefghi", "stop"))

    def test_completions(self):
        r = self.client.completions.create(model="tiny", prompt=["a", "K"], max_tokens=4, echo=True,
                                           temperature=0, logprobs=2)
        self.assertEqual([c.text for c in r.choices], ["abcde", "KLMNO"])
        lp = r.choices[0].logprobs
        self.assertEqual(lp.tokens, ["a", "b", "c", "d", "e"])
        self.assertEqual(lp.text_offset, [0, 1, 2, 3, 4])
        self.assertIsNone(lp.token_logprobs[0])
        self.assertIn("b", lp.top_logprobs[1])
        chunks = list(self.client.completions.create(model="tiny", prompt="a", max_tokens=4,
                                                     temperature=0, stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), "bcde")
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as e:
            self.client.chat.completions.create(model="other", messages=MESSAGES)
        self.assertEqual(e.exception.body["message"], "The model `other` does not exist.")
        with self.assertRaises(openai.BadRequestError) as e:
            self.client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=-1)
        self.assertEqual((e.exception.param, e.exception.status_code), ("temperature", 400))
        with self.assertRaises(openai.BadRequestError) as e:
            self.client.completions.create(model="tiny", prompt="a " * 40000)
        self.assertIn("maximum context length is", e.exception.message)

    def test_a_closed_stream_ends_the_request(self):
        stream = self.client.chat.completions.create(
            model="tiny", messages=MESSAGES, stream=True, max_tokens=30000,
            extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        self.server.wait_idle()


class Key(Case):
    flags = ("--api-key", "secret")

    def test_key(self):
        url = f"http://127.0.0.1:{self.server.port}/v1"
        with openai.OpenAI(base_url=url, api_key="secret", max_retries=0) as good:
            self.assertEqual(len(list(good.models.list())), 1)
        with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as bad:
            with self.assertRaises(openai.AuthenticationError):
                bad.models.list()


if __name__ == "__main__":
    main()
