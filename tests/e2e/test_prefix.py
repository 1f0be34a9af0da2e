"""Rows KV5, KV6, RQ14, RL6: cached beginnings as clients see them."""
import unittest

from harness import Case, main, story_from

TEXT = "".join(chr(97 + (i * i + i // 7) % 20) for i in range(400))  # a letter is a token
FLAGS = ("--enable-prompt-tokens-details", "--block-size", "32")


class Prefix(Case):
    flags = FLAGS
    dev = True

    def ask(self, prompt, n=4, **fields):
        """(text, cached tokens) of a completion; one letter is one token of this model."""
        status, body = self.server.complete(prompt=prompt, max_tokens=n, temperature=0, **fields)
        self.assertEqual(status, 200, body)
        details = body["usage"].get("prompt_tokens_details") or {"cached_tokens": 0}
        self.assertEqual(body["usage"]["prompt_tokens"], len(prompt))
        self.assertEqual(body["choices"][0]["text"], story_from(prompt[-1], n))
        return body["choices"][0]["text"], details["cached_tokens"]

    def reset(self):
        status, _, raw = self.server.request("POST", "/reset_prefix_cache", None)
        self.assertEqual((status, raw), (200, b""))

    def metric(self, name):
        _, _, raw = self.server.request("GET", "/metrics", None)
        for line in raw.decode().splitlines():
            if line.startswith(name + "{"):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(name)

    def test_KV6_the_second_time(self):
        self.reset()
        self.assertEqual(self.ask(TEXT[:200])[1], 0)
        for length in (1, 31, 32, 33, 64, 65, 199, 200):
            cached = self.ask(TEXT[:length])[1]
            self.assertEqual(cached, (length - 1) // 32 * 32)

    def test_RQ14_salts(self):
        self.reset()
        prompt = TEXT[:100]
        found = [self.ask(prompt, cache_salt=s) if s else self.ask(prompt)
                 for s in ("one", "two", None, "one", "two", None)]
        self.assertEqual([c for _, c in found], [0, 0, 0, 96, 96, 96])

    def test_RL6_reset(self):
        prompt = TEXT[:100]
        self.ask(prompt)
        self.assertEqual(self.ask(prompt)[1], 96)
        self.reset()
        self.assertEqual(self.metric("octet:prefix_cache_blocks"), 0)
        self.assertEqual(self.ask(prompt)[1], 0)
        self.assertEqual(self.server.request("GET", "/reset_prefix_cache", None)[0], 405)

    def test_metrics(self):
        self.reset()
        names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
                 "vllm:prompt_tokens_cached_total")
        before = [self.metric(n) for n in names]
        for _ in range(2):
            self.ask(TEXT[:100])
        self.assertEqual([self.metric(n) - b for n, b in zip(names, before)], [200, 96, 96])
        raw = self.server.request("GET", "/metrics", None)[2].decode()
        self.assertIn('enable_prefix_caching="True"', raw)

    def test_a_stream_and_prompt_logprobs(self):
        self.reset()
        self.ask(TEXT[:100])
        status, body = self.server.complete(prompt=TEXT[:100], max_tokens=3, prompt_logprobs=0)
        self.assertEqual(status, 200, body)
        self.assertEqual(len(body["choices"][0]["prompt_logprobs"]), 100)
        self.assertIsNone(body["usage"].get("prompt_tokens_details"))


    def test_choices_share_their_prompt(self):
        self.reset()
        status, body = self.server.complete(prompt=TEXT[:200], max_tokens=4, n=5, temperature=1, seed=1)
        self.assertEqual(status, 200, body)
        self.assertEqual(len(body["choices"]), 5)
        before = self.metric("octet:computed_prompt_tokens_total")
        self.reset()
        self.server.complete(prompt=TEXT[:200], max_tokens=4, n=5, temperature=1, seed=1)
        self.assertEqual(self.metric("octet:computed_prompt_tokens_total") - before, 200 + 4 * 8)


class Off(Prefix):
    flags = FLAGS + ("--no-enable-prefix-caching",)

    def test_KV6_the_second_time(self):
        for _ in range(2):
            self.assertEqual(self.ask(TEXT[:200])[1], 0)

    test_RQ14_salts = test_RL6_reset = test_metrics = None
    test_choices_share_their_prompt = None


if __name__ == "__main__":
    main()
