"""Rows KV3, RQ15: priorities, how much may wait, and requests whose time is up."""
import json
import threading
import time
import unittest

from harness import PATIENCE, SANITIZED, Case, main, run_serve, tiny_model


class Busy(threading.Thread):
    """A stream that is read until the test has seen enough; long enough for a machine that is busy, too."""

    def __init__(self, server, **fields):
        super().__init__()
        self.begun, self.enough, self.at_end = threading.Event(), threading.Event(), False
        self.body = json.dumps(dict({"prompt": "a", "max_tokens": 32000, "ignore_eos": True, "stream": True}, **fields))
        self.connection = server.connect()
        self.start()
        assert self.begun.wait(PATIENCE)

    def run(self):
        self.connection.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        while not self.enough.is_set() and not self.at_end:
            self.at_end = not answer.read1(65536)
            self.begun.set()
        answer.close()
        self.connection.close()

    def stop(self):
        """False: it came to its end, and what was seen proves nothing."""
        in_time = not self.at_end
        self.enough.set()
        self.join()
        return in_time


def wait_for(what):
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise AssertionError("not in time")
        time.sleep(0.01)


class Priority(Case):
    flags = ("--scheduling-policy", "priority", "--max-num-seqs", "1")

    def test_the_lowest_number_goes_first(self):
        s, ended = self.server, []

        def ask(priority):
            status, body = s.complete(prompt="a", max_tokens=20, priority=priority, ignore_eos=True)
            self.assertEqual(status, 200, body)
            ended.append(priority)

        busy = Busy(s, priority=0)
        threads = []
        for p in (9, 5):
            threads.append(threading.Thread(target=ask, args=(p,)))
            threads[-1].start()
        wait_for(lambda: s.metric("vllm:num_requests_waiting") == 2)
        ask(-7)
        self.assertEqual(ended, [-7])  # it took the place of the one that ran
        self.assertTrue(busy.stop())
        for t in threads:
            t.join()
        self.assertEqual(sorted(ended), [-7, 5, 9])  # the other two end close to one another
        for p in ("high", 1.5, [1]):
            status, body = s.complete(prompt="a", max_tokens=1, priority=p)
            self.assertEqual(status, 400, body)
            self.assertEqual(body["error"]["param"], "priority")


class Waiting(Case):
    flags = ("--max-num-queued-tokens", "64", "--max-num-seqs", "1")

    def test_KV3_tokens(self):
        s = self.server
        status, body = s.complete(prompt="a" * 65, max_tokens=1)
        self.assertEqual(status, 400, body)
        self.assertIn("64", body["error"]["message"])
        seen = []

        def ask():
            status, head, _ = s.request("POST", "/v1/completions", {"prompt": "a" * 60, "max_tokens": 40})
            seen.append((status, head.get("retry-after")))

        busy = Busy(s, n=4)  # one runs, three wait with a token each
        threads = [threading.Thread(target=ask) for _ in range(12)]
        for t in threads:
            t.start()
        wait_for(lambda: len(seen) == 11)
        self.assertTrue(busy.stop())
        for t in threads:
            t.join()
        self.assertEqual(seen, [(503, "1")] * 11 + [(200, None)])  # exact: 3 + 60 tokens may wait, 120 not
        self.assertEqual(s.complete(prompt="a" * 60, max_tokens=1)[0], 200)


class Timeout(Case):
    flags = ("--request-timeout", "10" if SANITIZED else "2", "--max-num-seqs", "1")

    def test_time_is_up(self):
        s, answers = self.server, []

        def ask(n):
            answers.append(s.complete(prompt="a", max_tokens=32000, ignore_eos=True, n=n))

        threads = [threading.Thread(target=ask, args=(32,)) for _ in range(2)]  # one runs, the other waits
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for status, body in answers:
            self.assertEqual((status, body["error"]["message"]), (503, "the request's time is up"))
        self.assertEqual(s.complete(prompt="a", max_tokens=1)[0], 200)


class Flags(unittest.TestCase):
    def test_CL1_ranges(self):
        for flag, value in (("--scheduling-policy", "lifo"), ("--max-num-queued-tokens", "-1"),
                            ("--max-decode-wait-ms", "x"), ("--max-long-partial-prefills", "99999")):
            p = run_serve(tiny_model(), flag, value)
            self.assertEqual(p.returncode, 2, p.stderr)
            self.assertIn(flag, p.stderr)


if __name__ == "__main__":
    main()
