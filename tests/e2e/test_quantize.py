"""octet quantize as its caller sees it: what a result that cannot be written says and leaves, what
a model that cannot be read says, and what is told about the choice of scales.
"""
import os
import resource
import shutil
import tempfile
import unittest

from harness import FOLDER, main, octet, tiny_model


def quantize(*args, **how):
    return octet("quantize", *args, "--calib-tokens", "64", **how)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))


class Quantize(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=FOLDER)
        self.out = os.path.join(self.folder, "out")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def refused(self, r, *words):
        last = r.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("octet: error: "), last)
        for word in words:
            self.assertIn(word, last)

    def test_OS_result_that_cannot_be_written(self):
        plain = os.path.join(self.folder, "plain")
        with open(plain, "wb"):
            pass
        for out, why in ((plain + "/out", "Not a directory"),
                         (self.folder + "/none/out", "No such file or directory")):
            self.refused(quantize(tiny_model(), out, status=4), out, why)
        # Python ignores the signal and hands that on, so that writing fails instead.
        r = quantize(tiny_model(), self.out, status=4, preexec_fn=small_files,
                     restore_signals=False)
        self.refused(r, self.out, "File too large")
        self.assertEqual([f for f in os.listdir(self.out) if "safetensors" in f], [])

    def test_CL_result_that_is_no_folder(self):
        with open(self.out, "wb"):
            pass
        self.refused(quantize(tiny_model(), self.out, status=2), self.out, "not a folder")

    def test_CF_file_of_the_model_that_cannot_be_read(self):
        model = os.path.join(self.folder, "model")
        shutil.copytree(tiny_model(), model)
        os.mkdir(os.path.join(model, "special_tokens_map.json"))
        self.refused(quantize(model, self.out, status=3), "special_tokens_map.json",
                     "not a regular file")

    def test_choices_are_two_lines(self):
        r = quantize(tiny_model(), self.out, "--scheme", "w8a8", "--dynamic-above", "0")
        told = [line for line in r.stdout.splitlines() if "static error" in line]
        self.assertEqual(len(told), 2, r.stdout)
        self.assertIn("keep a dynamic scale, in layers: ", told[0])
        self.assertIn("stay static, because 75.5 % of the bytes must, in layers: ", told[1])
        self.assertEqual(r.stderr, "")
        r = quantize(tiny_model(), self.out, "--scheme", "w8a8", "--dynamic-above", "0",
                     "--log-level", "debug", "--quiet")
        self.assertIn("layer 0 q, k, v: static error ", r.stderr)
        self.assertNotIn("static error", r.stdout)


if __name__ == "__main__":
    main()
