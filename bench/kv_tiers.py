#!/usr/bin/env python3
"""Time to first token of a prompt that is computed, found on the device, in host memory, or on disk after a restart.

    bench/kv_tiers.py OCTET MODEL [--tokens 2000] [--runs 5] [-- FLAGS OF octet serve]

Starts `OCTET serve MODEL` with a cache for one prompt, host memory (--kv-offloading-size) for all and a folder (--kv-store).
Each run takes a prompt of its own (random ids), asks for it, asks again, lets another prompt take the blocks and asks a third
time. Then the server ends, starts anew on the same folder, and is asked for all of them once more. Prints medians.
The folder's files are in the page cache by then: a cold disk takes its own time.
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time

from prefix_hit import first_token, free_port, wait_for

BLOCK = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octet")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="octet-kv-tiers-")
    n_blocks = args.tokens // BLOCK + 3
    times = {name: [] for name in ("computed", "device", "host memory", "folder")}

    def serve():
        port = free_port()
        server = subprocess.Popen(
            [args.octet, "serve", args.model, "--host", "127.0.0.1", "--port", str(port), "--enable-prompt-tokens-details",
             "--num-gpu-blocks-override", str(n_blocks), "--kv-offloading-size", str(args.gib), "--kv-store", folder,
             *args.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port, server)
        return server, port

    def ask(port, name, prompt, least):
        seconds, found = first_token(port, prompt)
        if not least <= found <= (len(prompt) if least else 0):
            raise SystemExit(f"{name}: {found} tokens were found in the cache")
        times[name].append(seconds)

    try:
        draw = random.Random(1)
        prompts = [[draw.randrange(1000, 20000) for _ in range(args.tokens)] for _ in range(args.runs + 1)]
        most = (args.tokens - 1) // BLOCK * BLOCK
        server, port = serve()
        first_token(port, prompts[-1][:64])  # pages of the weights
        for i in range(args.runs):
            ask(port, "computed", prompts[i], 0)
            ask(port, "device", prompts[i], most)
        for i in range(args.runs):  # the next prompt took its blocks
            ask(port, "host memory", prompts[i], most)
        begin = time.monotonic()
        server.terminate()
        server.wait()
        files = [os.path.join(folder, f) for f in os.listdir(folder)]
        print(f"ended in {time.monotonic() - begin:.2f} s, {len(files)} files, "
              f"{sum(os.path.getsize(f) for f in files) / 1e6:.0f} MB")
        server, port = serve()
        first_token(port, prompts[-1][:31])
        for i in range(args.runs):
            ask(port, "folder", prompts[i], most)
        server.terminate()
        server.wait()
    finally:
        if server.poll() is None:
            server.kill()
        shutil.rmtree(folder)
    for name, seconds in times.items():
        print(f"{name:12} {statistics.median(seconds) * 1e3:8.1f} ms "
              f"({' '.join(f'{s * 1e3:.1f}' for s in sorted(seconds))})")


if __name__ == "__main__":
    main()
