"""octet bench load: a small model runs, and every figure is there and fits the others."""
import json
import os
import unittest

from harness import SANITIZED, main, octet, tiny_model


class Load(unittest.TestCase):
    def bench(self, *flags):
        return octet("bench", "load", tiny_model(), "--repeats", "2", *flags)

    def test_figures(self):
        for threads in ("1", "2"):
            run = self.bench("--json", "--threads", threads)
            got = json.loads(run.stdout)
            size = sum(os.path.getsize(os.path.join(tiny_model(), name))
                       for name in os.listdir(tiny_model()) if name.endswith(".safetensors"))
            self.assertEqual(got["threads"], int(threads))
            self.assertEqual(got["file_bytes"], size)
            self.assertGreater(got["packed_bytes"], 0)
            for key in ("read_gb_per_s", "read_new_gb_per_s", "load_gb_per_s", "load_s"):
                self.assertGreater(got[key], 0, key)
            self.assertAlmostEqual(got["load_gb_per_s"] / got["read_gb_per_s"],
                                   got["load_of_read"], delta=0.02 + 0.1 * got["load_of_read"])
            self.assertGreater(got["load_of_read_new"], 0)
            if not SANITIZED:
                self.assertGreater(got["peak_bytes"], 0)
                self.assertLess(got["peak_bytes"], 64 << 20)

    def test_for_people(self):
        run = self.bench()
        self.assertIn("read into new memory", run.stdout)
        self.assertIn("peak memory", run.stdout)

    def test_no_model(self):
        self.assertIn("/nonexistent", octet("bench", "load", "/nonexistent", status=3).stderr)


if __name__ == "__main__":
    main()
