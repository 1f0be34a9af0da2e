"""Rows SM of the bad-input table, the form of streams, and the first promise: the same answer."""
import json
import os
import random
import socket
import time

from harness import SOON, STORY, Case, in_parallel, main

JSON = {"Content-Type": "application/json"}


def text_of(events):
    return "".join(e["choices"][0].get("text") or e["choices"][0].get("delta", {}).get("content", "")
                   for e in events[:-1] if e["choices"])


class Form(Case):
    def test_chat_events(self):
        s = self.server
        body = {"messages": [{"role": "user", "content": "x"},
                             {"role": "assistant", "content": "a"}],
                "continue_final_message": True, "add_generation_prompt": False, "max_tokens": 3,
                "temperature": 0, "echo": True, "return_token_ids": True}
        events = s.events("/v1/chat/completions", body, {"X-Request-Id": "e"})
        self.assertEqual(events[-1], "[DONE]")
        for e in events[:-1]:
            self.assertEqual((e["id"], e["object"], e["model"]),
                             ("chatcmpl-e", "chat.completion.chunk", "tiny"))
            self.assertNotIn("usage", e)
        choices = [e["choices"][0] for e in events[:-1]]
        self.assertEqual(choices[0], {"index": 0, "delta": {"role": "assistant", "content": ""},
                                      "logprobs": None, "finish_reason": None})
        self.assertIn("prompt_token_ids", events[0])
        self.assertEqual(choices[1]["delta"], {"content": "a"})
        self.assertEqual([c["delta"]["content"] for c in choices[2:]], ["b", "c", "d"])
        self.assertEqual([c["token_ids"] for c in choices[2:]], [[98], [99], [100]])
        self.assertEqual([c["finish_reason"] for c in choices], [None] * 4 + ["length"])
        self.assertIsNone(choices[-1]["stop_reason"])
        self.assertTrue(events[-2]["system_fingerprint"].startswith("octet-"))

    def test_usage(self):
        s = self.server
        base = {"prompt": "a", "max_tokens": 3, "temperature": 0}
        events = s.events("/v1/completions", dict(base, stream_options={"include_usage": True}))
        self.assertEqual(events[-2]["choices"], [])
        self.assertEqual(events[-2]["usage"],
                         {"prompt_tokens": 1, "total_tokens": 4, "completion_tokens": 3})
        self.assertTrue(all("usage" not in e for e in events[:-2]))
        self.assertNotIn("system_fingerprint", events[-3])
        events = s.events("/v1/completions", dict(base, stream_options={
            "include_usage": True, "continuous_usage_stats": True}))
        self.assertEqual([e["usage"]["completion_tokens"] for e in events[:-1]], [1, 2, 3, 3])

    def test_n_and_logprobs(self):
        s = self.server
        base = {"prompt": "the a", "max_tokens": 6, "temperature": 1.2, "seed": 4, "n": 3,
                "logprobs": 2, "echo": True}
        status, whole = s.complete(**base)
        events = s.events("/v1/completions", base)
        for i in range(3):
            mine = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == i]
            want = whole["choices"][i]
            self.assertEqual("".join(c["text"] for c in mine), want["text"])
            for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                self.assertEqual(sum((c["logprobs"][key] for c in mine), []),
                                 want["logprobs"][key])
        texts = [c["text"] for c in whole["choices"]]
        self.assertGreater(len(set(texts)), 1)
        alone = s.complete(**dict(base, n=1))[1]["choices"][0]["text"]
        self.assertEqual(alone, texts[0])

    def test_first_event_waits_for_the_engine(self):
        """No head leaves before the first token: clients measure by it."""
        s = self.server
        with socket.create_connection(("127.0.0.1", s.port), timeout=60) as c:
            body = json.dumps({"prompt": "a" * 3000, "max_tokens": 2, "stream": True}).encode()
            before = s.metric("vllm:generation_tokens_total")
            c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                      b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            c.recv(1)
            self.assertGreater(s.metric("vllm:generation_tokens_total"), before)


class Rows(Case):
    def test_SM1_characters_and_stops(self):
        s = self.server

        def told(**body):
            events = s.events("/v1/completions", dict(temperature=0, **body))
            for e in events[:-1]:
                e["choices"][0]["text"].encode()  # no half characters
            return text_of(events), events[-2]["choices"][0]

        self.assertEqual(told(prompt="y", max_tokens=4)[0], "z\u00e9A")
        self.assertEqual(told(prompt="y", max_tokens=2)[0], "z\ufffd")  # never completed
        self.assertEqual(told(prompt="x^", max_tokens=3)[0][0], "\ufffd")
        text, last = told(prompt="y", max_tokens=20, stop=["\u00e9A"])
        self.assertEqual((text, last["stop_reason"]), ("z", "\u00e9A"))
        text, last = told(prompt="a", max_tokens=8, stop=["defX", "ghij"])  # false starts
        self.assertEqual((text, last["finish_reason"]), ("bcdefghi", "length"))
        text, last = told(prompt="a", max_tokens=50, stop=["ghij"])
        self.assertEqual((text, last["stop_reason"]), ("bcdef", "ghij"))
        events = s.events("/v1/completions", {"prompt": "y", "max_tokens": 3, "temperature": 0})
        self.assertEqual([e["choices"][0]["text"] for e in events[:-1]], ["z", "", "\u00e9"])

    def test_SM2_disconnects(self):
        s = self.server
        rng = random.Random(5)
        fds = len(os.listdir(f"/proc/{s.process.pid}/fd"))
        request = json.dumps({"prompt": "the a" * 10, "max_tokens": 3000, "ignore_eos": True,
                              "stream": True, "temperature": 1, "n": 2}).encode()
        whole = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(request)) + request

        def one():
            with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
                c.sendall(whole)
                left = int(rng.expovariate(1 / 3000))
                while left > 0:
                    got = c.recv(min(left, 4096))
                    if not got:
                        raise AssertionError("closed by the server")
                    left -= len(got)

        for _ in range(25):
            in_parallel([one] * 8)
        s.wait_idle(seconds=2 * SOON)
        end = time.monotonic() + 2 * SOON
        while len(os.listdir(f"/proc/{s.process.pid}/fd")) > fds and time.monotonic() < end:
            time.sleep(0.02)
        self.assertLessEqual(len(os.listdir(f"/proc/{s.process.pid}/fd")), fds)

    def test_SM3_failure_before_and_after_the_head(self):
        """A request that fails before its first token is a 500; one that fails later, an event."""
        s = self.server
        body = {"prompt": "a", "max_tokens": 4, "min_tokens": 4, "stop_token_ids": [98],
                "allowed_token_ids": [98], "stream": True}
        self.check_error(s.complete(**body), 500, "InternalServerError")
        later = {"prompt": "a", "max_tokens": 9, "bad_words": ["bb"], "allowed_token_ids": [98]}
        self.check_error(s.complete(**later), 500, "InternalServerError", None,
                         ["no token allowed"])
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
            raw = json.dumps(dict(later, stream=True)).encode()
            c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                      b"\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
            got = b"".join(iter(lambda: c.recv(65536), b"")).decode()  # the server closes
        self.assertTrue(got.startswith("HTTP/1.1 200 "))
        events = got.split("data: ")[1:]
        self.assertEqual(len(events), 3)
        self.assertIn('"text":"b"', events[0])
        self.assertEqual(json.loads(events[1].split("\n\n")[0])["error"]["code"], 500)
        self.assertTrue(events[2].startswith("[DONE]\n\n"))
        errors = 'vllm:request_success_total{engine="0",model_name="tiny",finished_reason="error"}'
        self.assertGreaterEqual(s.metrics()[errors], 3)

    def test_SM5_streams_equal_their_solo_runs(self):
        s = self.server
        bodies = [{"prompt": STORY[i:i + 3] + " the " * (i % 7), "max_tokens": 40 + i, "seed": i,
                   "temperature": 0.0 if i % 4 == 0 else 1.0, "logprobs": 1} for i in range(32)]

        def ask(body):
            events = s.events("/v1/completions", body)
            return [e["choices"][0] for e in events[:-1]]

        alone = [ask(b) for b in bodies]
        together = in_parallel([lambda b=b: ask(b) for b in bodies])
        for i in range(32):
            self.assertEqual(together[i], alone[i], i)

    def test_SM7_one_line_of_json(self):
        s = self.server
        text = text_of(s.events("/v1/completions", {"prompt": "X", "max_tokens": 12,
                                                    "temperature": 0}))
        self.assertEqual(text, 'YZ\u2028"\\\n\U0001f601')


class Promise(Case):
    def test_the_same_answer_alone_and_among_16_others(self):
        s = self.server
        greedy = {"prompt": "the a" * 6 + "bcd", "max_tokens": 120, "temperature": 0,
                  "ignore_eos": True, "logprobs": 3, "return_token_ids": True}
        seeded = dict(greedy, temperature=1.3, seed=11, top_p=0.95, repetition_penalty=1.1)

        def ask(body):
            status, answer = s.complete(**body)
            self.assertEqual(status, 200, answer)
            c = answer["choices"][0]
            return c["token_ids"], c["logprobs"]["token_logprobs"]

        alone = [ask(greedy), ask(seeded)]
        self.assertEqual(s.metric("octet:shared_steps_total"), 0)

        def other(i):
            time.sleep(0.002 * i)
            return ask({"prompt": "and the " * (20 * i + 1), "max_tokens": 150 - 5 * i,
                        "temperature": 1, "seed": i, "logprobs": 0, "return_token_ids": True,
                        "ignore_eos": True})

        together = in_parallel([lambda i=i: other(i) for i in range(8)] +
                               [lambda: ask(greedy), lambda: ask(seeded)] +
                               [lambda i=i: other(i) for i in range(8, 16)])
        self.assertEqual(together[8:10], alone)
        self.assertGreater(s.metric("octet:shared_steps_total"), 10)
        self.assertGreater(s.metric("octet:mixed_steps_total"), 0)


class Truncated(Promise):
    """The same with prompts that are cut into pieces of 16 tokens."""
    flags = ("--long-prefill-token-threshold", "16")


if __name__ == "__main__":
    main()
