"""octet run: one answer, a conversation through a pipe, Ctrl-C, and refusals. The model tells a known story."""
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import FOLDER, OCTET, PATIENCE, main, octet, story_from, tiny_model

FLAGS = ("-q", "int8", "--threads", "2", "--temperature", "0")


def run(*args, status=0, **how):
    return octet("run", tiny_model(), *FLAGS, *args, status=status, **how)


class Run(unittest.TestCase):
    def test_one_answer(self):
        got = run("abc", "--raw", "--max-tokens", "30")
        self.assertEqual(got.stdout, story_from("c", 29) + "\n")  # one character is two tokens
        self.assertEqual(got.stderr, "")
        # More than fit is as many as fit.
        long = run("abc", "--raw", "--max-model-len", "64", "--max-tokens", "1000").stdout
        self.assertTrue(long.startswith(story_from("c", 40)))

    def test_stats(self):
        self.assertRegex(run("abc", "--raw", "--max-tokens", "5", "--stats").stderr,
                         r"^\[3 tokens in, first after \d+ ms; 5 out, [\d.]+ tokens/s\]\n$")

    def test_conversation(self):
        """Each turn sees those before: the same line gets another sampled answer, and /clear the first one."""
        flags = ("--seed", "3", "--temperature", "2", "--top-p", "1", "--max-tokens", "12")
        lines = run(*flags, input="Tell: a\nTell: a\n/clear\nTell: a\n").stdout
        once = run("Tell: a", *flags).stdout
        self.assertTrue(lines.startswith(once), (lines, once))
        self.assertTrue(lines.endswith(once), (lines, once))
        self.assertNotEqual(lines, once * 3)
        system = run("Tell: a", *flags, "--system", "Be brief.").stdout
        self.assertNotEqual(system, once)

    def test_blocks_of_the_run_before(self):
        """--kv-store: the next run computes what is left of the prompt, and says the same."""
        folder = os.path.join(tempfile.mkdtemp(dir=FOLDER), "blocks")
        flags = ("abcdefghij" * 12, "--raw", "--max-tokens", "8", "--stats", "--block-size", "32", "--kv-store", folder)
        first, again = run(*flags), run(*flags)
        self.assertEqual(first.stdout, again.stdout)
        self.assertIn("[120 tokens in, first", first.stderr)
        self.assertIn("[120 tokens in (96 cached), first", again.stderr)
        self.assertIn("--kv-store", run("x", "--kv-store", "", status=2).stderr)
        self.assertIn("--kv-offloading-size", run("x", "--kv-offloading-size", "1e-9", status=2).stderr)

    def test_too_long(self):
        said = run("x" * 200, "--max-model-len", "64", status=2).stderr
        self.assertRegex(said, r"prompt: too long or empty \(got \d+ tokens, want 1 to 63")
        # A conversation says so and goes on.
        talk = run("--max-model-len", "64", "--max-tokens", "4", input="x" * 200 + "\nTell: a\n")
        self.assertIn("/clear begins anew", talk.stderr)
        self.assertNotEqual(talk.stdout, "")

    def test_interrupt(self):
        p = subprocess.Popen([OCTET, "run", tiny_model(), *FLAGS, "abc", "--raw"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            first = p.stdout.read(40)  # it is on its way to 32768 tokens
            self.assertEqual(first.decode(errors="replace")[:20], story_from("c", 20))
            p.send_signal(signal.SIGINT)
            end = time.monotonic() + PATIENCE
            rest = p.stdout.read()
            self.assertLess(time.monotonic(), end)
            self.assertTrue(rest.endswith(b"\n"))
            self.assertEqual(p.wait(PATIENCE), 0)
        finally:
            p.kill()
            p.wait()
            p.stdout.close()
            p.stderr.close()

    def test_refused(self):
        self.assertIn("want a MODEL", octet("run", status=2).stderr)
        self.assertIn("/nonexistent", octet("run", "/nonexistent", "x", status=3).stderr)
        self.assertIn("no such plug-in", run("x", "--device", "abacus", status=5).stderr)
        bare = tempfile.mkdtemp(dir=FOLDER)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(tiny_model(), name), bare)
        self.assertIn("tokenizer.json: missing",
                      octet("run", bare, "x", "-q", "int8", status=3).stderr)


if __name__ == "__main__":
    main()
