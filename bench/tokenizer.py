#!/usr/bin/env python3
"""The tokenizer beside the PyPI package tokenizers, one thread each, over text that does not repeat itself.

    bench/tokenizer.py MODEL_FOLDER [--megabytes 10] [--rounds 5] [--octet build/release/octet]   (tools/venv makes build/venv)

The text is what a Debian machine has: a third each of documentation in English, of Chinese (translations: .mo and help files; fewer
where there are not enough) and of source code, every line once. Both encode the same texts of about 4 KiB, in turns; told are
the medians of the ratios within a round, and that the ids are the same.
"""
import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def files(folders, ends):
    for folder in folders:
        for where, dirs, names in os.walk(folder):
            dirs.sort()
            yield from (os.path.join(where, n) for n in sorted(names) if n.endswith(ends))


def text_of(path):
    data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read()
    if path.endswith(".mo"):  # the translations, which are NUL-terminated
        data = b"\n".join(p for p in data.split(b"\0") if any(b > 0xe2 for b in p))
    return data.decode("utf-8", "ignore").replace("\0", "")


def gather(paths, want):
    """Lines that were not there before, until there are enough."""
    seen, out, size = set(), [], 0
    for path in paths:
        try:
            lines = text_of(path).split("\n")
        except OSError:
            continue
        for line in lines:
            key = line.strip()
            if len(key) < 8 or key in seen:
                continue
            seen.add(key)
            out.append(line)
            size += len(line.encode()) + 1
            if size >= want:
                return "\n".join(out) + "\n"
    return "\n".join(out) + "\n"


def is_chinese(path):
    return "/zh" in path


def corpus(bytes_):
    third = bytes_ // 3
    share = ["/usr/share"]
    return {
        "english": gather((p for p in files(["/usr/share/doc", "/usr/share/man/man1", "/usr/share/man/man3", "/usr/share/perl"],
                                            (".gz", ".txt", "copyright", ".html", ".pod")) if not is_chinese(p)), third),
        "chinese": gather((p for p in files(share, (".mo", ".html", ".txt", ".gz", ".page", ".xml", ".json", ".pak.info"))
                           if is_chinese(p)), third),
        "code": gather(files(["/usr/include", "/usr/lib/python3", "/usr/lib/gcc", "/usr/share/cmake-3.25", "/usr/local"],
                             (".h", ".py", ".cmake", ".hpp", ".c")), third),
    }


def texts_of(text, piece=4096):
    """As octet bench text cuts them."""
    data, out, at = text.encode(), [], 0
    while at < len(data):
        end = len(data) if len(data) - at <= piece else data.find(b"\n", at + piece) + 1 or len(data)
        out.append(data[at:end].decode())
        at = end
    return out


def theirs(tok, texts):
    begun = time.perf_counter()
    n = sum(len(tok.encode(t, add_special_tokens=False).ids) for t in texts)
    return time.perf_counter() - begun, n


def ours(octet, model, path):
    out = subprocess.run([octet, "bench", "text", model, path, "--repeats", "1", "--json"], check=True, capture_output=True, text=True)
    got = json.loads(out.stdout)
    return got["encode_s"], got["tokens"], got["texts"]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("--megabytes", type=float, default=10)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--octet", default=os.path.join(ROOT, "build/release/octet"))
    a = p.parse_args()
    wrong = 0
    for name, text in corpus(int(a.megabytes * 1e6)).items():
        texts, ratios, rates = texts_of(text), [], []
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write(text)
            f.flush()
            for _ in range(a.rounds):
                tok = tokenizers.Tokenizer.from_file(os.path.join(a.model, "tokenizer.json"))  # its cache begins empty
                s, n = theirs(tok, texts)
                t, m, k = ours(a.octet, a.model, f.name)
                wrong += (n, len(texts)) != (m, k)
                ratios.append(s / t)
                rates.append((len(text.encode()) / s / 1e6, len(text.encode()) / t / 1e6))
        print(f"{name}: {len(text.encode()) / 1e6:.1f} MB, {len(texts)} texts, {m} tokens (theirs {n}): "
              f"{statistics.median(r[0] for r in rates):.1f} MB/s theirs, {statistics.median(r[1] for r in rates):.1f} ours, "
              f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    if wrong:
        sys.exit(f"{wrong} counts of tokens differ")


if __name__ == "__main__":
    main()
