#!/usr/bin/env python3
"""Time to first token with and without a cached beginning: a shared system prompt, over HTTP.

    bench/prefix_hit.py OCTET MODEL [--tokens 2000] [--runs 5] [-- FLAGS OF octet serve]

Starts `OCTET serve MODEL`. Each run takes a system prompt of its own (random ids) and asks twice, with different
questions of 16 tokens behind it: the first request computes the system prompt, the second one finds it. Prints both
times of every run, their medians and how many times shorter the second is; status 1 when that is below --want.
"""
import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, server):
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
            return
        except ConnectionRefusedError:
            if server.poll() is not None:
                raise SystemExit(f"octet serve ended with status {server.returncode}")
            time.sleep(0.01)


def first_token(port, prompt):
    """(seconds, prompt tokens found in the cache)"""
    body = json.dumps({"prompt": prompt, "max_tokens": 2, "temperature": 0, "stream": True, "ignore_eos": True,
                       "stream_options": {"include_usage": True}}).encode()
    request = (f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
               f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    with socket.create_connection(("127.0.0.1", port), timeout=600) as sock:
        start = time.monotonic()
        sock.sendall(request)
        answer, seconds = b"", None
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            answer += piece
            if seconds is None and b'"choices":[{' in answer:
                seconds = time.monotonic() - start
    if seconds is None:
        raise SystemExit(f"no token came: {answer[:300]!r}")
    mark = b'"cached_tokens":'
    at = answer.rfind(mark)
    return seconds, int(answer[at + len(mark):].split(b"}")[0]) if at >= 0 else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octet")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--want", type=float, default=0)
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    port = free_port()
    server = subprocess.Popen([args.octet, "serve", args.model, "--host", "127.0.0.1", "--port", str(port),
                               "--enable-prompt-tokens-details", *args.flags],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        draw = random.Random(1)
        ids = lambda n: [draw.randrange(1000, 20000) for _ in range(n)]
        first_token(port, ids(64))  # pages of the weights
        cold, warm = [], []
        for run in range(args.runs):
            system = ids(args.tokens)
            (a, none), (b, found) = (first_token(port, system + ids(16)) for _ in range(2))
            if none != 0 or found < args.tokens - 64:
                raise SystemExit(f"run {run}: {none} and {found} tokens were found in the cache")
            print(f"run {run}: first {a * 1e3:.1f} ms, second {b * 1e3:.1f} ms ({found} tokens found)")
            cold.append(a)
            warm.append(b)
    finally:
        server.terminate()
        server.wait()
    a, b = statistics.median(cold), statistics.median(warm)
    print(f"system prompt of {args.tokens} tokens: first {a * 1e3:.1f} ms, second {b * 1e3:.1f} ms, "
          f"{a / b:.1f} times shorter")
    sys.exit(a / b < args.want)


if __name__ == "__main__":
    main()
