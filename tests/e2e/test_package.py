"""Man pages, completion, the unit and the Debian package, as they were built."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import OCTET, SANITIZED, main, octet

BUILD = os.path.dirname(OCTET)
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGES = os.path.join(BUILD, "pages")


def run(*args, **how):
    return subprocess.run(args, capture_output=True, text=True, check=False, **how)


@unittest.skipIf(SANITIZED or not os.path.isdir(PAGES), "no pages in this build")
class Pages(unittest.TestCase):
    def test_one_a_command(self):
        commands = octet("--help=words").stdout.split()
        self.assertIn("serve", commands)
        for c in ["", *("-" + c for c in commands), "-bench-serve"]:
            self.assertTrue(os.path.exists(f"{PAGES}/man1/octet{c}.1.gz"), c)
        self.assertEqual(set(commands), {x.split()[0] for x in octet("--help").stdout.split("Commands:\n")[1]
                                         .split("\n\n")[0].splitlines()})

    def test_they_say_what_the_help_says(self):
        page = octet("serve", "--help=man").stdout
        for line in octet("serve", "--help=words").stdout.splitlines():
            name = line.split("\t")[0]
            if not name.startswith("--no-") and name not in ("--help", "--config"):
                self.assertIn(name.replace("-", "\\-"), page, name)

    @unittest.skipUnless(shutil.which("man"), "no man here")
    def test_they_render_without_a_warning(self):
        for page in glob.glob(PAGES + "/man1/*.gz"):
            r = run("man", "-l", "--warnings", "-Tutf8", page, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
            self.assertEqual((r.returncode, r.stderr), (0, ""), page)
            self.assertIn("NAME", re.sub(".\x08", "", r.stdout))  # bold is a letter over itself

    def complete(self, *words):
        r = run("bash", "-c", f'. "{PAGES}/octet.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _octet; '
                'printf "%s\\n" "${COMPREPLY[@]}"', "bash", *words, cwd=BUILD)
        self.assertEqual(r.stderr, "")
        return r.stdout.split()

    @unittest.skipUnless(shutil.which("bash"), "no bash here")
    def test_completion(self):
        self.assertEqual(self.complete("octet", "ser"), ["serve"])
        self.assertEqual(self.complete("octet", "serve", "--max-num-s"), ["--max-num-seqs"])
        self.assertIn("--no-enable-prefix-caching", self.complete("octet", "serve", "--no-en"))
        self.assertEqual(self.complete("octet", "serve", "--scheduling-policy", "p"), ["priority"])
        self.assertEqual(self.complete("octet", "serve", "--port", ""), [])
        self.assertIn("pages", self.complete("octet", "serve", "page"))  # MODEL is a file or a folder
        self.assertIn("--request-rate", self.complete("octet", "bench", "serve", "--request-r"))
        self.assertEqual(self.complete("octet", "tokenize", "--scheduling"), [])


class Unit(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd here")
    def test_the_unit_is_right(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(SOURCE, "packaging", "octet.service"), encoding="utf-8") as f:
                text = f.read().replace("/usr/bin/octet", OCTET)
            path = os.path.join(folder, "octet.service")
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            r = run("systemd-analyze", "verify", "--man=no", path)
            self.assertNotIn("octet.service", r.stderr + r.stdout)

    def test_its_example_is_read(self):
        r = run(OCTET, "serve", "--config", os.path.join(SOURCE, "packaging", "serve.yaml"), "--port", "0")
        self.assertEqual(r.returncode, 3, r.stderr)
        self.assertIn("/var/lib/octet/model", r.stderr)


@unittest.skipIf(SANITIZED or not os.path.isdir(PAGES), "no package of this build")
@unittest.skipUnless(shutil.which("cpack") and shutil.which("dpkg-shlibdeps"), "no cpack or dpkg-dev here")
class Deb(unittest.TestCase):
    def test_it_builds_and_holds_what_it_should(self):
        with tempfile.TemporaryDirectory() as folder:
            r = run("cpack", "-G", "DEB", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", folder)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            deb, = glob.glob(folder + "/octet_*.deb")
            fields = run("dpkg-deb", "-f", deb).stdout
            for library in ("libc6", "libjansson4", "libevent-core", "libssl3", "libyaml-0-2", "libpcre2-8-0", "libhwloc15"):
                self.assertRegex(fields, rf"Depends: .*{library}")
            self.assertIn("Package: octet\n", fields)
            files = {x.split()[5] for x in run("dpkg-deb", "-c", deb).stdout.splitlines() if not x.startswith("d")}
            for name in ("usr/bin/octet", "usr/share/man/man1/octet.1.gz", "usr/share/man/man1/octet-serve.1.gz",
                         "usr/share/bash-completion/completions/octet", "usr/lib/systemd/system/octet.service",
                         "usr/share/doc/octet/serve.yaml", "usr/share/doc/octet/monitoring/grafana-octet.json",
                         "usr/include/octet/device.h", "usr/include/octet/octet.h"):
                self.assertIn("./" + name, files)
            for name in files:
                self.assertTrue(name.startswith(("./usr/bin/", "./usr/lib/", "./usr/include/octet/", "./usr/share/")), name)
            run("dpkg-deb", "-x", deb, folder + "/root")
            r = run(folder + "/root/usr/bin/octet", "--version")
            self.assertEqual((r.returncode, r.stdout), (0, octet("--version").stdout))


if __name__ == "__main__":
    main()
