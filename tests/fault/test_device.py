"""Rows DV3, DV4, DV5, KV10 and OS2: a device that fails, is lost or never comes back; while steps overlap and not."""
import http.client
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import FOLDER, PATIENCE, SOON, Case, Server, main, octet, run_serve, tiny_model  # noqa: E402

PLUGIN = os.environ.get("FAULT_PLUGIN", "")
ONCE, EVER, NEVER_RETURNS, NO_MEMORY, NO_ROOM = 1, 2, 3, 4, 5


class Fault:
    """What the plug-in of one process does; see plugin_fault.c."""

    def __init__(self, name, kind=0, countdown=0):
        self.path = os.path.join(FOLDER, name)
        with open(self.path, "wb") as f:
            f.write(struct.pack("<4i", kind, countdown, 0, 0))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 16)
        self.env = {"OCTET_FAULT_FILE": self.path}

    def arm(self, kind, countdown):
        self.map[12:16] = struct.pack("<i", 0)
        self.map[4:8] = struct.pack("<i", countdown)
        self.map[0:4] = struct.pack("<i", kind)

    def calls(self):
        return struct.unpack("<i", self.map[8:12])[0]

    def happened(self):
        return struct.unpack("<i", self.map[12:16])[0] == 1


def start(fault, *flags):
    return Server("--device", PLUGIN, "--num-gpu-blocks-override", "4096", *flags, env=fault.env)


LONG = {"prompt": "the a", "max_tokens": 30000, "ignore_eos": True, "temperature": 0}


class Load(unittest.TestCase):
    def test_DV4_every_call_while_loading(self):
        """Each ends the start with status 5 and names the call, nothing is left behind."""
        fault = Fault("load")
        server = start(fault)
        n_calls = fault.calls()
        self.assertEqual(server.stop(), 0, server.log_text())
        self.assertGreater(n_calls, 20)
        step = max(1, n_calls // 40)  # each costs a process
        for n in sorted(set(list(range(1, 12)) + list(range(12, n_calls + 1, step)))):
            fault = Fault("load", ONCE, n)
            r = run_serve(tiny_model(), "--device", PLUGIN, "-q", "int8", "--port", "0",
                          "--num-gpu-blocks-override", "64", "--host", "127.0.0.1", env=fault.env)
            last = r.stderr.strip().splitlines()[-1]
            self.assertEqual(r.returncode, 5, (n, r.stderr))
            self.assertTrue(last.startswith("octet: error: "), r.stderr)
            self.assertIn("fault in ", last)
            self.assertNotIn("serving", r.stdout)

    def test_DV3_no_memory_for_weights_and_cache(self):
        """What was wanted and what is free is told, for everything that loading makes."""
        seen, n = set(), 3
        while self.no_room(n, seen):
            n += 7
        for k in range(n - 6, n):  # the last of them one by one
            self.no_room(k, seen)
        self.assertTrue({"weights", "KV cache"} <= seen, seen)

    def no_room(self, n, seen):
        """False: everything was made before the n-th call."""
        fault = Fault("memory", NO_ROOM, n)
        r = octet("run", tiny_model(), "the a", "--raw", "--max-tokens", "1", "--device", PLUGIN,
                  "-q", "int8", status=None, timeout=PATIENCE, env={**os.environ, **fault.env})
        if not fault.happened():
            return False
        last = r.stderr.strip().splitlines()[-1]
        self.assertEqual(r.returncode, 5, r.stderr)
        found = re.search(r"^octet: error: .*no memory for (.*) \(got (\d+) bytes free, want "
                          r"(\d+)\): fault in (\w+)_create$", last)
        self.assertTrue(found, last)
        self.assertEqual(int(found[2]), 4 << 30)
        self.assertGreater(int(found[3]), 0)
        seen.add(found[1])
        return True

    def test_DV1_refused_plug_ins(self):
        for name, words in (("./plugin.so", "relative path"), ("/nonexistent/x.so", "no such"),
                            (tiny_model() + "/config.json", "does not load")):
            r = run_serve(tiny_model(), "--device", name, "--port", "0")
            self.assertEqual(r.returncode, 5, r.stderr)
            self.assertIn(words, r.stderr.strip().splitlines()[-1])

    def test_settings_reach_the_plug_in(self):
        """A step takes as long as it is told to; the CPU device knows no such word."""
        server = start(Fault("settings"), "--device-settings", "seed=2,step_us=200000")
        begun = time.monotonic()
        status, _ = server.complete(prompt="the", max_tokens=5, ignore_eos=True)
        self.assertEqual(status, 200)
        self.assertGreater(time.monotonic() - begun, 0.9)
        self.assertEqual(server.stop(), 0, server.log_text())
        r = run_serve(tiny_model(), "--device", "cpu", "--device-settings", "step_us=1", "--port", "0")
        self.assertEqual(r.returncode, 2, r.stderr)
        self.assertIn('bad setting (got "step_us=1", want mask=HEX or', r.stderr)

    def test_DV2_no_such_device(self):
        r = run_serve(tiny_model(), "--device", PLUGIN + ":7", "--port", "0")
        self.assertEqual(r.returncode, 5, r.stderr)
        self.assertIn("device 7", r.stderr.strip().splitlines()[-1])


IN_TURN, OVERLAP = ("--no-async-scheduling",), ("--async-scheduling",)


class Step(Case):
    flags = IN_TURN

    @classmethod
    def setUpClass(cls):
        cls.fault = Fault("step")
        cls.server = start(cls.fault, *cls.flags)
        cls.server.known = cls.server.ask_known()

    def test_steps_overlap_as_told(self):
        self.assertIn("steps overlap" if self.flags == OVERLAP else "steps follow each other", self.server.log_text())

    def test_DV4_every_call_of_a_request(self):
        """A plain error fails the step's requests; the next one is answered as ever."""
        s, fault = self.server, self.fault
        body = {"prompt": "the a", "max_tokens": 2, "ignore_eos": True, "temperature": 0}
        status, good = s.complete(**body)
        self.assertEqual(status, 200, good)
        before = fault.calls()
        s.complete(**body)
        n_calls = fault.calls() - before
        self.assertGreater(n_calls, 20)
        for n in range(1, n_calls + 1):
            fault.arm(ONCE, n)
            answer = s.complete(**body)
            self.check_error(answer, 500, "InternalServerError")
            self.assertNotIn("fault in", answer[1]["error"]["message"])  # that is for the log
            self.assertTrue(fault.happened())
            status, again = s.complete(**body)
            self.assertEqual((status, again["choices"]), (200, good["choices"]))
            self.assertEqual(s.request("GET", "/health")[0], 200)
        s.wait_idle()

    def test_DV4_no_memory_in_a_step(self):
        s = self.server
        self.fault.arm(NO_MEMORY, 9)
        self.assertIn(s.complete(**dict(LONG, max_tokens=2))[0], (500, 503))
        self.assertEqual(s.complete(**dict(LONG, max_tokens=2))[0], 200)

    def test_DV4_neighbours_in_other_steps(self):
        """A stream that began is ended by an event; what came later is served."""
        s = self.server
        c = s.connect()
        c.request("POST", "/v1/completions", json.dumps(dict(LONG, stream=True)),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        r.readline()
        self.fault.arm(ONCE, 50)
        events = r.read().decode().split("data: ")
        c.close()
        self.assertEqual(json.loads(events[-2])["error"]["code"], 500)
        self.assertEqual(events[-1], "[DONE]\n\n")
        self.assertEqual(s.complete(**dict(LONG, max_tokens=2))[0], 200)


class StepOverlap(Step):
    flags = OVERLAP


class Shutdown(unittest.TestCase):
    flags = IN_TURN

    def test_DV4_every_call_while_ending(self):
        """Idle or with a stream that runs: the process ends in order whatever the device says."""
        for busy in (False, True):
            n = 0
            while True:
                n += 1
                fault = Fault("ending")
                server = start(fault, "--shutdown-timeout", "0", *self.flags)
                stream = server.connect()
                if busy:
                    stream.request("POST", "/v1/completions", json.dumps(dict(LONG, stream=True)),
                                   {"Content-Type": "application/json"})
                    stream.getresponse().readline()
                fault.arm(ONCE, n)
                status = server.stop()
                stream.close()
                # A fault in a running step ends its requests; the signal still ends the process.
                self.assertEqual(status, 0, (busy, n, server.log_text()))
                self.assertNotIn("Sanitizer", server.log_text())
                if not fault.happened() or n > 20:
                    break
            print(f"busy {busy}: {n} ends")


class ShutdownOverlap(Shutdown):
    flags = OVERLAP


class Lost(unittest.TestCase):
    flags = IN_TURN

    def begin(self, server, bodies):
        answers = [None] * len(bodies)

        def ask(i):
            answers[i] = server.request("POST", "/v1/completions", bodies[i])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
        for t in threads:
            t.start()
        end = time.monotonic() + PATIENCE
        while server.metric("vllm:num_requests_running") < len(bodies):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        return threads, answers

    def check_answers(self, answers):
        for status, _, raw in answers:
            text = raw.decode()
            if status == 200:  # a stream
                events = text.split("data: ")
                self.assertEqual(json.loads(events[-2])["error"]["code"], 500)
                self.assertEqual(events[-1], "[DONE]\n\n")
            else:
                self.assertEqual(status, 500, text)
                self.assertEqual(json.loads(text)["error"]["type"], "InternalServerError")

    def check_end(self, server, words):
        self.assertEqual(server.process.wait(PATIENCE), 5, server.log_text())
        last = server.log_text().strip().splitlines()[-1]
        self.assertTrue(last.startswith("octet: error: --device"), last)
        self.assertIn(words, last)
        server.stop()

    def test_DV5_lost_device(self):
        """Every later call fails: all requests get their 500 and the process ends with 5."""
        fault = Fault("lost")
        server = start(fault, *self.flags)
        threads, answers = self.begin(server, [LONG, dict(LONG, stream=True), dict(LONG, n=1)])
        fault.arm(EVER, 7)
        for t in threads:
            t.join()
        self.check_answers(answers)
        self.check_end(server, "lost")

    def test_DV5_never_healthy_while_every_answer_fails(self):
        fault = Fault("lost2")
        server = start(fault, *self.flags)
        seen = []

        def watch():
            try:
                while True:
                    seen.append((fault.happened(), server.request("GET", "/health")[0]))
            except OSError:
                pass

        fault.arm(EVER, 60)
        watcher = threading.Thread(target=watch)
        watcher.start()
        status, _, raw = server.request("POST", "/v1/completions", LONG)
        answered = len(seen)
        self.assertEqual(status, 500, raw)
        self.check_end(server, "lost")
        watcher.join()
        for happened, health in seen[answered + 1:]:
            self.assertEqual((happened, health), (True, 503))

    def test_DV5_KV10_call_that_never_returns(self):
        fault = Fault("stuck")
        server = start(fault, "--stuck-timeout", "1", "--device-timeout", "3", *self.flags)
        threads, answers = self.begin(server, [LONG, dict(LONG, stream=True)])
        fault.arm(NEVER_RETURNS, 7)
        end = time.monotonic() + PATIENCE
        while server.request("GET", "/health")[0] == 200:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        begin = time.monotonic()
        self.assertEqual(server.request("GET", "/metrics")[0], 200)  # LG5
        self.assertLess(time.monotonic() - begin, SOON)
        for t in threads:
            t.join()
        self.check_answers(answers)
        self.check_end(server, "no step has finished")

    def test_OS2_second_signal_while_the_device_hangs(self):
        fault = Fault("signal")
        server = start(fault, *self.flags)
        thread = self.ask_in_vain(server)
        fault.arm(NEVER_RETURNS, 1)
        while not fault.happened():
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        begin = time.monotonic()
        self.assertEqual(server.stop(signal.SIGTERM), -signal.SIGTERM)
        self.assertLess(time.monotonic() - begin, SOON)
        thread.join()

    def ask_in_vain(self, server):
        def ask():
            try:
                server.request("POST", "/v1/completions", LONG)
            except (OSError, http.client.HTTPException):
                pass  # the server is killed

        thread = threading.Thread(target=ask)
        thread.start()
        return thread

    def test_OS2_signal_while_the_device_hangs_in_loading(self):
        fault = Fault("loading", NEVER_RETURNS, 15)
        p = subprocess.Popen([os.environ["OCTET"], "serve", tiny_model(), "--device", PLUGIN,
                              "--host", "127.0.0.1", "--port", "0"],
                             env={**os.environ, **fault.env}, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not fault.happened() and time.monotonic() < end:
            time.sleep(0.01)
        begin = time.monotonic()
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(PATIENCE), -signal.SIGTERM)
        self.assertLess(time.monotonic() - begin, SOON)


class LostOverlap(Lost):
    flags = OVERLAP


if __name__ == "__main__":
    main()
