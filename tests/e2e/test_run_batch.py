"""octet run-batch: OpenAI batch files, answers in order, errors line by line, interrupts."""
import json
import os
import signal
import subprocess
import time
import unittest

from harness import FOLDER, OCTET, PATIENCE, main, octet, story_from, tiny_model


def line(custom_id, url="/v1/chat/completions", **body):
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def run(text, *flags, status=0):
    source, target = (os.path.join(FOLDER, n) for n in ("batch-in", "batch-out"))
    with open(source, "w", encoding="utf-8") as f:
        f.write(text)
    r = octet("run-batch", "-i", source, "-o", target, tiny_model(), "-q", "int8", "--threads", "2",
              "--served-model-name", "tiny", *flags, status=status)
    with open(target, encoding="utf-8") as f:
        return [json.loads(x) for x in f], r


class Batch(unittest.TestCase):
    def test_answers_come_in_order(self):
        letters = "abcdefghijkl"
        out, r = run("\n".join(line(f"r{i}", "/v1/completions", model="tiny", prompt=c,
                                    temperature=0, max_tokens=1 + 2 * (i % 7))
                               for i, c in enumerate(letters)) + "\n")
        self.assertEqual([x["custom_id"] for x in out], [f"r{i}" for i in range(len(letters))])
        for i, (c, x) in enumerate(zip(letters, out)):
            self.assertEqual(set(x), {"id", "custom_id", "response", "error"})
            self.assertIsNone(x["error"])
            self.assertEqual(x["response"]["status_code"], 200)
            self.assertEqual(x["response"]["body"]["choices"][0]["text"],
                             story_from(c, 1 + 2 * (i % 7)))
        self.assertEqual(len({x["id"] for x in out}), len(letters))
        self.assertIn("12 requests", r.stderr)
        self.assertEqual(r.stdout, "")

    def test_every_route_and_every_error(self):
        hi = [{"role": "user", "content": "Hi"}]
        out, r = run("\n".join([
            line("chat", messages=hi, max_tokens=3),
            line("responses", "/v1/responses", input="Hi", max_output_tokens=3),
            line("messages", "/v1/messages", messages=hi, max_tokens=3),
            "", "  ",
            line("bad field", messages=hi, temperature=-1),
            line("no model", messages=hi, model="other"),
            line("no route", "/v1/nothing", x=1),
            line("stream", messages=hi, stream=True),
            "{broken", "[]", '{"custom_id": 3, "url": "/x", "body": {}}',
            '{"custom_id": "get", "method": "GET", "url": "/health", "body": {}}',
            '{"custom_id": "url", "url": "health me", "body": {}}',
            '{"custom_id": "body", "url": "/v1/completions"}',
            line("last", "/v1/completions", prompt="a", max_tokens=2)]))
        self.assertEqual([x["response"] and x["response"]["status_code"] for x in out],
                         [200, 200, 200, 400, 404, 404] + [None] * 7 + [200])
        self.assertEqual([x["custom_id"] for x in out[:6]],
                         ["chat", "responses", "messages", "bad field", "no model", "no route"])
        self.assertEqual(out[3]["response"]["body"]["error"]["param"], "temperature")
        for x in out[6:-1]:
            self.assertEqual(x["error"]["code"], "invalid_request")
        self.assertIn("stream", out[6]["error"]["message"])
        self.assertIn("at byte", out[7]["error"]["message"])
        self.assertIn("14 requests", r.stderr)
        self.assertIn("10 of them refused or failed", r.stderr)

    def test_an_empty_file(self):
        self.assertEqual(run("\n\n")[0], [])

    def test_pipes(self):
        r = octet("run-batch", "-i", "-", "-o", "-", "--model", tiny_model(), "-q", "int8",
                  input=line("a", "/v1/completions", prompt="a", max_tokens=2, temperature=0))
        self.assertEqual(json.loads(r.stdout)["response"]["body"]["choices"][0]["text"], "bc")

    def test_a_queue_that_is_full_is_waited_for(self):
        out, _ = run("\n".join(line(str(i), "/v1/completions", prompt="a", max_tokens=30)
                               for i in range(20)), "--max-num-queued-reqs", "1",
                     "--max-num-seqs", "8", "--max-num-batched-tokens", "64")
        self.assertEqual({x["response"]["status_code"] for x in out}, {200})

    def test_command_line(self):
        model = tiny_model()
        self.assertIn("-i FILE", octet("run-batch", model, status=2).stderr)
        r = octet("run-batch", "-i", "/nowhere", "-o", os.path.join(FOLDER, "x"), model, status=2)
        self.assertIn("/nowhere", r.stderr)
        r = octet("run-batch", "-i", "/dev/null", "-o", "/nowhere/x", model, status=4)
        self.assertIn("/nowhere/x", r.stderr)
        r = octet("run-batch", "-i", "/dev/null", "-o", "/dev/null", "/nowhere", status=3)
        self.assertNotIn("requests in", r.stderr)

    def test_an_output_that_is_full(self):
        source = os.path.join(FOLDER, "full-in")
        with open(source, "w", encoding="utf-8") as f:
            f.write(line("a", "/v1/completions", prompt="a", max_tokens=2))
        r = octet("run-batch", "-i", source, "-o", "/dev/full", tiny_model(), "-q", "int8", status=4)
        self.assertIn("/dev/full", r.stderr)

    def test_an_interrupt(self):
        source, target = (os.path.join(FOLDER, n) for n in ("int-in", "int-out"))
        with open(source, "w", encoding="utf-8") as f:
            f.write(line("first", "/v1/completions", prompt="a", max_tokens=2) + "\n")
            f.write(line("long", "/v1/completions", prompt="a", max_tokens=30000, ignore_eos=True))
        p = subprocess.Popen([OCTET, "run-batch", "-i", source, "-o", target, tiny_model(), "-q",
                              "int8"], stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not (os.path.exists(target) and os.path.getsize(target)):
            time.sleep(0.05)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=PATIENCE)
        self.assertEqual(p.returncode, 4, err)
        self.assertIn("interrupted after 1 lines", err)
        with open(target, encoding="utf-8") as f:
            self.assertEqual([json.loads(x)["custom_id"] for x in f], ["first"])


if __name__ == "__main__":
    main()
