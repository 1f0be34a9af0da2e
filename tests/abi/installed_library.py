"""A stranger's way with the library: install it, look at what it exports, build examples/chat.c against the installation
alone (shared, and static), and talk with a small model.

    installed_library.py CMAKE BUILD SOURCE WORK CC NM "FLAGS"
"""
import os
import shutil
import subprocess
import sys

cmake, build, source, work, cc, nm, flags = sys.argv[1:8]
flags = flags.split()
sys.path.insert(0, os.path.join(source, "tests", "e2e"))
sys.dont_write_bytecode = True
import make_tiny  # noqa: E402


def run(*argv, **how):
    r = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240, **how)
    if r.returncode != 0:
        sys.exit(f"failed ({r.returncode}): {' '.join(argv)}\n{r.stdout}{r.stderr}")
    return r.stdout


def want(ok, words):
    if not ok:
        sys.exit(words)


shutil.rmtree(work, ignore_errors=True)
prefix = os.path.join(work, "prefix")
for component in ("headers", "library"):
    run(cmake, "--install", build, "--prefix", prefix, "--component", component)
found = [os.path.join(d, "octet.pc") for d, _, files in os.walk(prefix) if "octet.pc" in files]
want(len(found) == 1, f"octet.pc was not installed once: {found}")
lib = os.path.dirname(os.path.dirname(found[0]))

# Moved as a whole, it still works.
moved = os.path.join(work, "moved")
os.rename(prefix, moved)
lib = lib.replace(prefix, moved, 1)
env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(lib, "pkgconfig"), LD_LIBRARY_PATH=lib)
env.setdefault("ASAN_OPTIONS", "detect_leaks=1")

exported = [x.split()[-1].split("@")[0]
            for x in run(nm, "-D", "--defined-only", os.path.join(lib, "liboctet.so")).splitlines()]
want(exported and all(x.startswith("octet_") for x in exported), f"exports: {exported}")
with open(os.path.join(moved, "include", "octet", "octet.h"), encoding="utf-8") as f:
    header = f.read()
for name in exported:
    want(f"{name}(" in header, f"{name} is exported and not in octet.h")
want(header.count("\nOCTET_API ") == len(exported), f"octet.h promises other than {exported}")

chat = os.path.join(source, "examples", "chat.c")
model = os.path.join(work, "model")
make_tiny.make(model)
said = {}
for kind in ("shared", "static"):
    libs = run("pkg-config", "--cflags", "--libs", "octet", env=env).split()
    if kind == "static":  # the archive of ours alone: the libraries it needs stay shared
        below = run("pkg-config", "--print-requires-private", "octet", env=env).split()
        libs = [os.path.join(lib, "liboctet.a") if x == "-loctet" else x for x in libs]
        libs += run("pkg-config", "--libs", *below, env=env).split() + ["-lm", "-ldl", "-pthread"]
    program = os.path.join(work, "chat-" + kind)
    run(cc, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *flags, chat, "-o", program,
        *libs, env=env)
    needs = run("ldd", program, env=env)
    want(("liboctet.so" in needs) == (kind == "shared"), f"{kind}: {needs}")
    said[kind] = run(program, model, input="Tell: a\n\n", env=env)
    want(len(said[kind]) > 100, f"{kind}: said {said[kind]!r}")
    bad = subprocess.run([program, "/nonexistent"], capture_output=True, text=True, check=False,
                         env=env)
    want(bad.returncode == 1 and bad.stderr.startswith("chat: /nonexistent"), bad.stderr)
print("shared and static builds talk; exported:", " ".join(exported))
