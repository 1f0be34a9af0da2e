"""Rows CL and OS of the bad-input table: command line, sockets, signals."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import make_tiny
from harness import FOLDER, OCTET, PATIENCE, SANITIZED, SOON, Server, in_parallel, main, octet, run_serve, tiny_model


def comma_locale():
    """A folder with a locale `comma` that writes 1,5, made here because most machines have none."""
    folder = os.path.join(FOLDER, "locales")
    os.mkdir(folder)
    source = os.path.join(folder, "comma.src")
    with open(source, "w", encoding="ascii") as f:
        f.write('LC_NUMERIC\ndecimal_point ","\nthousands_sep "."\ngrouping 3;3\nEND LC_NUMERIC\n')
    # It complains of the categories that are left out, and makes the locale all the same (-c).
    subprocess.run([shutil.which("localedef") or "/usr/bin/localedef", "-c", "--no-archive", "-i", source,
                    os.path.join(folder, "comma")], capture_output=True, check=False)
    env = {"LOCPATH": folder, "LC_ALL": "comma"}
    shown = subprocess.run([sys.executable, "-c", "import locale; locale.setlocale(locale.LC_ALL, '');"
                            "print(locale.localeconv()['decimal_point'])"],
                           env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if shown.stdout.strip() != ",":
        raise unittest.SkipTest(f"no locale could be made: {shown.stderr}")
    return folder


class CommandLine(unittest.TestCase):
    def check(self, args, status, *words, env=None):
        r = run_serve(*args, env=env)
        self.assertEqual(r.returncode, status, (args, r.stderr))
        last = r.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("octet: error: "), r.stderr)
        for w in words:
            self.assertIn(w, last)
        self.assertNotIn("serving", r.stdout)

    def test_CL1_flags(self):
        m = tiny_model()
        for args, word in ((["--frobnicate"], "--frobnicate"), (["--port"], "--port"),
                           (["extra"], "extra"), (["--port", "80x"], "80x"),
                           (["--port", "99999999999999999999"], "65535"),
                           (["--shutdown-timeout", "1e999"], "1e999"),
                           (["--shutdown-timeout", "nan"], "nan"),
                           (["--gpu-memory-utilization", "0"], "0.01"),
                           (["--max-num-seqs", "0"], "--max-num-seqs"),
                           (["--max-num-seqs", "64", "--max-num-batched-tokens", "32"],
                            "--max-num-batched-tokens"),
                           (["--num-gpu-blocks-override", "4", "--kv-cache-memory-bytes", "4M"],
                            "--num-gpu-blocks-override"),
                           (["--logprobs-mode", "x"], "raw_logprobs"),
                           (["--default-chat-template-kwargs", "{"], "at byte"),
                           (["--default-chat-template-kwargs", "[]"], "object"),
                           (["--chat-template", "/nonexistent"], "--chat-template"),
                           (["--chat-template", "{% if %}"], "--chat-template"),
                           (["--override-generation-config", '{"temperature":-4}'],
                            "--override-generation-config"),
                           (["--model", "other"], "--model")):
            with self.subTest(args=args):
                self.check([m, "--port", "0", *args], 2, word)
        self.check([], 2, "MODEL")

    def test_CL2_model_path(self):
        empty = os.path.join(FOLDER, "empty")
        os.makedirs(empty, exist_ok=True)
        plain = os.path.join(FOLDER, "plain")
        with open(plain, "w", encoding="utf-8") as f:
            f.write("not a model")
        for path, word in (("/nonexistent", "/nonexistent"), (empty, "config.json"),
                           (plain, plain)):
            self.check([path, "--port", "0"], 3, word)
        for command in ("tokenize", "detokenize", "render"):
            r = octet(command, "/nonexistent", "--jsonl", status=3)
            self.assertIn("octet: error: /nonexistent: tokenizer.json: ", r.stderr)

    def test_CL3_sizes(self):
        m = tiny_model()
        self.check([m, "--port", "0", "--tensor-parallel-size", "2"], 2, "tensor-parallel-size")
        self.check([m, "--port", "0", "--max-model-len", "100000"], 2, "32768")
        self.check([m, "--port", "0", "--max-model-len", "4096", "--num-gpu-blocks-override", "3"],
                   4, "--max-model-len", "96")

    def test_CL4_keys(self):
        m = tiny_model()
        for key in ("", "  ", "\t"):
            self.check([m, "--port", "0", "--api-key", key], 2, "--api-key", "empty")
            self.check([m, "--port", "0"], 2, "VLLM_API_KEY", "empty", env={"VLLM_API_KEY": key})
        server = Server(env={"VLLM_API_KEY": "from-env"})
        try:
            self.assertEqual(server.request("GET", "/v1/models")[0], 401)
            self.assertEqual(server.request("GET", "/v1/models", None,
                                            {"Authorization": "Bearer from-env"})[0], 200)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_CL5_sockets_come_first(self):
        """Every refusal comes before the model is looked at: its path does not exist."""
        no_model = "/nonexistent"
        self.check([no_model, "--port", "70000"], 2, "70000")
        self.check([no_model, "--host", "no-such-host.invalid"], 2, "no-such-host.invalid")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.check([no_model, "--host", "127.0.0.1", "--port", str(port)], 4, str(port))
        path = os.path.join(FOLDER, "taken.sock")
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(path)
            live.listen()
            self.check([no_model, "--uds", path], 4, path)
        self.check([no_model, "--uds", path], 3, no_model)  # stale by now: replaced
        with open(path + ".txt", "w", encoding="utf-8") as f:
            f.write("keep me")
        self.check([no_model, "--uds", path + ".txt"], 4, path)
        with open(path + ".txt", encoding="utf-8") as f:
            self.assertEqual(f.read(), "keep me")
        self.check([no_model, "--uds", "/tmp/" + "x" * 200], 2, "--uds")

    def test_CL6_open_to_others(self):
        for host, warned in (("0.0.0.0", True), ("127.0.0.1", False)):
            server = Server(host=host)
            try:
                warnings = [x for x in server.log_text().splitlines() if " WARN " in x]
                self.assertEqual(len(warnings), int(warned), warnings)
                self.assertEqual(server.post("/collective_rpc", {})[0], 404)
            finally:
                self.assertEqual(server.stop(), 0)

    def test_CL7_locale_and_closed_descriptors(self):
        answers = set()
        comma = {"LOCPATH": comma_locale(), "LC_ALL": "comma"}
        for env, closed in (({"LC_ALL": "C"}, ""), (comma, ""), (comma, "<&-"), ({"TZ": ""}, "2>&-")):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            command = (f'exec "{OCTET}" serve "{tiny_model()}" --host 127.0.0.1 --port {port} '
                       f"--served-model-name tiny -q int8 {closed}")
            p = subprocess.Popen(["sh", "-c", command], env={**os.environ, **env},
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            line = p.stdout.readline()
            self.assertIn(b"serving tiny", line)
            self.assertNotIn(b",", re.search(rb"[\d.,]+ s\b|$", line)[0])
            server = Server.__new__(Server)
            server.port = port
            answers.add(server.ask_known())
            p.terminate()
            self.assertEqual(p.wait(PATIENCE), 0)
            p.stdout.close()
        self.assertEqual(len(answers), 1)


def bytes_read(process):
    """What a process has read so far; 0 when it is gone."""
    try:
        with open(f"/proc/{process.pid}/io", encoding="ascii") as f:
            return int(f.readline().split()[1])
    except (OSError, IndexError):
        return 0


class Signals(unittest.TestCase):
    def stream(self, server, max_tokens, got):
        c = server.connect()
        c.request("POST", "/v1/completions",
                  json.dumps({"prompt": "a", "max_tokens": max_tokens, "ignore_eos": True,
                              "temperature": 0, "stream": True}),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        got.append(r.status)
        started.set()
        try:
            got.append(r.read())
        except (http.client.HTTPException, OSError):
            pass  # the server was killed
        c.close()

    def begin(self, server, max_tokens):
        global started
        started = threading.Event()
        got = []
        t = threading.Thread(target=self.stream, args=(server, max_tokens, got))
        t.start()
        self.assertTrue(started.wait(PATIENCE))
        return t, got

    def test_OS1_idle(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            server = Server()
            begin = time.monotonic()
            self.assertEqual(server.stop(sig), 0)
            self.assertLess(time.monotonic() - begin, 5 * SOON)

    def test_OS1_running_streams_finish(self):
        server = Server()
        t, got = self.begin(server, 400)
        kept = server.connect()
        kept.request("GET", "/health")
        kept.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        try:  # a connection that is there is still answered
            kept.request("GET", "/health")
            self.assertEqual(kept.getresponse().status, 503)
        except (ConnectionError, OSError):
            pass  # everything had ended by then
        t.join()
        kept.close()
        self.assertEqual(server.process.wait(PATIENCE), 0)
        server.stop()
        self.assertEqual(got[0], 200)
        self.assertIn(b'"finish_reason":"length"', got[1])
        self.assertTrue(got[1].endswith(b"data: [DONE]\n\n"))

    def test_OS1_then_they_are_aborted(self):
        server = Server("--shutdown-timeout", "0.2")
        t, got = self.begin(server, 32000)
        self.assertEqual(server.stop(), 0)
        t.join()
        events = got[1].decode().split("\n\n")
        self.assertEqual(events[-2], "data: [DONE]")
        error = json.loads(events[-3][6:])["error"]
        self.assertEqual((error["code"], error["type"]), (503, "ServiceUnavailableError"))

    def test_OS2_second_signal(self):
        server = Server()
        t, got = self.begin(server, 32000)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        begin = time.monotonic()
        status = server.stop(signal.SIGINT)
        self.assertLess(time.monotonic() - begin, SOON)
        self.assertEqual(status, -signal.SIGINT)
        t.join()
        self.assertEqual(len(got), 1)

    def stopped_while_loading(self, model, n_bytes):
        """A server that stands still between the first and the last byte of its weights."""
        for _ in range(20):
            p = subprocess.Popen([OCTET, "serve", model, "--host", "127.0.0.1", "--port", "0",
                                  "-q", "int8", "--max-num-seqs", "1",
                                  "--max-num-batched-tokens", "64"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while bytes_read(p) < n_bytes // 8:
                self.assertIsNone(p.poll(), "the server ended")
                time.sleep(0.001)
            p.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, p.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if n_bytes // 8 <= bytes_read(p) < n_bytes // 2:
                return p
            p.kill()  # this machine had other things to do; once more
            out, err = p.communicate()
            self.assertEqual(p.returncode, -signal.SIGKILL, (out, err))
        raise AssertionError("never met while loading")

    def test_OS2_while_loading(self):
        model = os.path.join(FOLDER, "large")
        n_bytes = make_tiny.make_large(model)
        for sig in (signal.SIGTERM, signal.SIGINT):
            p = self.stopped_while_loading(model, n_bytes)
            begin = time.monotonic()
            p.send_signal(sig)
            p.send_signal(signal.SIGCONT)
            out, _ = p.communicate(timeout=PATIENCE)
            self.assertLess(time.monotonic() - begin, SOON)
            self.assertEqual((p.returncode, out), (-sig, b""))

    @unittest.skipIf(SANITIZED, "sanitizers tell of crashes themselves")
    def test_OS9_crash(self):
        """One line with the signal and the build, and the signal's own end."""
        for sig in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            server = Server("--api-key", "very-secret", "--enable-log-requests")
            server.request("POST", "/v1/completions", {"prompt": "most private", "max_tokens": 1},
                           {"Authorization": "Bearer very-secret"})
            self.assertEqual(server.stop(sig), -sig)
            text = server.log_text()
            self.assertRegex(text.splitlines()[-1],
                             rf"^octet: error: crash: signal {int(sig):02}, octet \S+, build [0-9a-f]{{16,40}}$")
            self.assertEqual(text.count("crash"), 1)
            self.assertNotIn("very-secret", text)
            self.assertNotIn("most private", text)

    def test_OS3_ignored_signals_and_OS4_restart(self):
        server = Server()
        for sig in (signal.SIGPIPE, signal.SIGHUP):
            server.process.send_signal(sig)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGCONT)
        self.assertEqual(server.ask_known(), server.known)
        port, known = server.port, server.known
        busy = [lambda: server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", wait=1)] * 4
        in_parallel(busy)
        server.process.kill()
        self.assertEqual(server.stop(), -signal.SIGKILL)
        again = Server("--port", str(port))
        self.assertEqual(again.port, port)
        self.assertEqual(again.ask_known(), known)
        self.assertEqual(again.stop(), 0)


if __name__ == "__main__":
    main()
