"""What a server holds when nobody asks for anything: descriptors, threads, memory, requests."""
import os
import tempfile
import time

from harness import FOLDER, SANITIZED

HEAP_WATCH = os.environ.get("HEAP_WATCH", "")  # tests/fault/heap_watch.c
IDLE = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "octet:queued_prompt_tokens")


def watched():
    """Environment of a server whose heap is told (not under a sanitizer, which has its own)."""
    if not HEAP_WATCH or SANITIZED:
        return {}
    f = tempfile.NamedTemporaryFile(dir=FOLDER, suffix=".heap", delete=False)
    f.close()
    return {"LD_PRELOAD": HEAP_WATCH, "OCTET_HEAP_FILE": f.name}


class Remains:
    """Of one server process. heap: the file that heap_watch writes, or None."""

    def __init__(self, server, env):
        self.server, self.pid, self.heap = server, server.process.pid, env.get("OCTET_HEAP_FILE")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def heap_bytes(self):
        """Bytes in use, from a sample that was begun after the call."""
        if not self.heap:
            return 0

        def line():
            with open(self.heap, encoding="ascii") as f:
                return [int(x) for x in f.read().split()] or [0]

        first, end = line()[0], time.monotonic() + 60
        while line()[0] < first + 2:
            assert time.monotonic() < end, "the heap is not told"
            time.sleep(0.02)
        return line()[1]

    def memory(self):
        """(resident, changed and private to the process), bytes."""
        found = {}
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            for text in f:
                word = text.split()
                if word[0] in ("Rss:", "Private_Dirty:"):
                    found[word[0]] = int(word[1]) * 1024
        return found["Rss:"], found["Private_Dirty:"]

    def unlike(self, base):
        """What is not (yet) at the base line, "" when all is; base: {"descriptors", "threads"}."""
        m = {}
        for k, v in self.server.metrics().items():
            m[k.split("{")[0]] = m.get(k.split("{")[0], 0) + v
        out = [f"{n} {m[n]}" for n in IDLE if m[n] != 0]
        for name, n in (("descriptors", self.descriptors()), ("threads", self.threads())):
            if n != base[name]:
                out.append(f"{name} {n}, were {base[name]}")
        return ", ".join(out)

    def base(self):
        return {"descriptors": self.descriptors(), "threads": self.threads()}

    def settle(self, base, seconds):
        """Seconds until everything is at the base line; AssertionError after `seconds`."""
        begin = time.monotonic()
        while True:
            rest = self.unlike(base)
            took = time.monotonic() - begin
            if not rest:
                return took
            assert took < seconds, rest
            time.sleep(0.01)
