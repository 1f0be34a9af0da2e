"""Rows KV3, RQ15: priorities, how much may wait, and requests whose time is up."""
import threading
import time
import unittest

from harness import Case, main, run_serve, tiny_model


class Priority(Case):
    flags = ("--scheduling-policy", "priority", "--max-num-seqs", "1")

    def test_the_lowest_number_goes_first(self):
        ended = []

        def ask(priority, n):
            status, body = self.server.complete(prompt="a", max_tokens=n, priority=priority,
                                                ignore_eos=True)
            ended.append((priority, status, body["choices"][0]["text"]))

        threads = [threading.Thread(target=ask, args=(0, 12000))]
        threads[0].start()
        time.sleep(0.05)
        for p in (9, 5, -7):
            threads.append(threading.Thread(target=ask, args=(p, 20)))
            threads[-1].start()
            time.sleep(0.01)
        for t in threads:
            t.join()
        self.assertEqual({s for _, s, _ in ended}, {200})
        self.assertEqual(ended[0][0], -7)  # the others end close to one another
        for p in ("high", 1.5, [1]):
            status, body = self.server.complete(prompt="a", max_tokens=1, priority=p)
            self.assertEqual(status, 400, body)
            self.assertEqual(body["error"]["param"], "priority")


class Waiting(Case):
    flags = ("--max-num-queued-tokens", "64", "--max-num-seqs", "1")

    def test_KV3_tokens(self):
        status, body = self.server.complete(prompt="a" * 65, max_tokens=1)
        self.assertEqual(status, 400, body)
        self.assertIn("64", body["error"]["message"])
        seen, lock = [], threading.Lock()
        busy = threading.Thread(target=self.server.complete, kwargs={
            "prompt": "a", "max_tokens": 12000, "ignore_eos": True})
        busy.start()
        time.sleep(0.1)

        def ask():
            status, head, _ = self.server.request(
                "POST", "/v1/completions", {"prompt": "a" * 60, "max_tokens": 40})
            with lock:
                seen.append((status, head.get("retry-after")))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for t in threads:
            t.start()
        for t in threads + [busy]:
            t.join()
        self.assertLessEqual(set(seen), {(200, None), (503, "1")})
        self.assertIn((200, None), seen)
        self.assertIn((503, "1"), seen)
        self.assertEqual(self.server.complete(prompt="a" * 60, max_tokens=1)[0], 200)


class Timeout(Case):
    flags = ("--request-timeout", "0.3", "--max-num-seqs", "1")

    def test_time_is_up(self):
        statuses = []

        def ask():
            statuses.append(self.server.complete(prompt="a", max_tokens=450, ignore_eos=True)[0])

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertLessEqual(set(statuses), {200, 503})
        self.assertEqual(self.server.complete(prompt="a", max_tokens=1)[0], 200)


class Flags(unittest.TestCase):
    def test_CL1_ranges(self):
        for flag, value in (("--scheduling-policy", "lifo"), ("--max-num-queued-tokens", "-1"),
                            ("--max-decode-wait-ms", "x"), ("--max-long-partial-prefills", "99999")):
            p = run_serve(tiny_model(), flag, value)
            self.assertEqual(p.returncode, 2, p.stderr)
            self.assertIn(flag, p.stderr)


if __name__ == "__main__":
    main()
