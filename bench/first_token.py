#!/usr/bin/env python3
"""Seconds from process start to the first token of a 32-token prompt over HTTP, files in the page cache.

    bench/first_token.py OCTET MODEL [--runs 5]

Each run starts `OCTET serve MODEL`, asks as soon as the port answers, and stops the server after the first
streamed token. The first run only warms the cache and is not counted. Prints every run and the median.
"""
import argparse
import json
import socket
import statistics
import subprocess
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def once(octet, model):
    port = free_port()
    body = json.dumps({"prompt": [i + 100 for i in range(32)], "max_tokens": 2, "temperature": 0, "stream": True,
                       "ignore_eos": True}).encode()
    request = (f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    start = time.monotonic()
    server = subprocess.Popen([octet, "serve", model, "--host", "127.0.0.1", "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", port), timeout=60)
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    raise SystemExit(f"octet serve ended with status {server.returncode}")
                time.sleep(0.002)
        with sock:
            sock.sendall(request)
            answer = b""
            while b'"choices":[{' not in answer:
                piece = sock.recv(65536)
                if not piece:
                    raise SystemExit(f"no token came: {answer[:300]!r}")
                answer += piece
        return time.monotonic() - start
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octet")
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    once(args.octet, args.model)
    runs = [once(args.octet, args.model) for _ in range(args.runs)]
    print("runs " + " ".join(f"{r:.3f}" for r in runs))
    print(f"median {statistics.median(runs):.3f} s from process start to first token")


if __name__ == "__main__":
    main()
