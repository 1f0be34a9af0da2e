"""Two readers of the same inputs: octet (diff_driver) and a reference library.

A test gives its mutants as lists of byte fields, a function that asks the reference, one that says
whether two verdicts agree, and a list of REASONS. Every disagreement must fall under a reason, which
is a sentence and a predicate; anything else is printed with its input and fails the test.

The reference runs in a child, so that a crash, a hang or an allocation of its own ends that one
case; the driver must survive everything.
"""
import argparse, collections, json, os, pickle, random, resource, signal, struct, subprocess, sys, time

CASE_SECONDS = 10


class Reason:
    """Where the two may differ: a name, the sentence, and when it applies.
    applies(case, ours, theirs): ours is the driver's answer, theirs ("ok", value), ("error", text) or
    ("died", why)."""

    def __init__(self, name, sentence, applies):
        self.name, self.sentence, self.applies = name, sentence, applies


# Holds for every test: no verdict to compare with.
NO_VERDICT = Reason("reference-ended", "the reference crashed, or used more than its time or memory",
                    lambda case, ours, theirs: theirs[0] == "died")


def octet(driver, kind, cases):
    records = b"".join(struct.pack("<I", len(f)) + f for case in cases for f in case)
    done = subprocess.run([driver, kind], input=records, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(lines) != len(cases):
        sys.stderr.write(done.stderr.decode("utf-8", "replace")[-4000:])
        sys.exit(f"diff_driver ended with {done.returncode} at case {len(lines)}: {cases[len(lines)]!r}")
    return [json.loads(line) for line in lines]


def child(ask, cases, first, pipe):
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # panics of native code are told there
    out = os.fdopen(pipe, "wb")
    for i in range(first, len(cases)):
        signal.alarm(CASE_SECONDS)
        try:
            verdict = ("ok", ask(*cases[i]))
        except MemoryError:
            verdict = ("died", "memory")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # a panic of native code is not an Exception
            verdict = ("error", f"{type(e).__name__}: {e}"[:400])
        pickle.dump((i, verdict), out)
        out.flush()
    os._exit(0)


def reference(ask, cases):
    verdicts = []
    while len(verdicts) < len(cases):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(ask, cases, len(verdicts), write)
        os.close(write)
        with os.fdopen(read, "rb") as answers:
            while True:
                try:
                    verdicts.append(pickle.load(answers)[1])
                except (EOFError, pickle.UnpicklingError):
                    break
        status = os.waitpid(pid, 0)[1]
        if len(verdicts) < len(cases):
            verdicts.append(("died", f"status {status}"))
    return verdicts


def shown(case):
    return " | ".join(f.decode("utf-8", "backslashreplace") for f in case)[:3000]


def run(kind, mutants, ask, agree, reasons, default=300, batch=250):
    """mutants(rng) gives one case. Exit status 1 with the first unexplained disagreements."""
    ap = argparse.ArgumentParser()
    ap.add_argument("driver")
    ap.add_argument("--mutants", type=int, default=default)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", default="", help="print the cases that fall under this reason")
    ap.add_argument("--most", type=int, default=10, help="disagreements to print")
    a = ap.parse_args()
    counts, bad, started = collections.Counter(), 0, time.time()
    for first in range(0, a.mutants, batch):
        cases = []
        for i in range(first, min(first + batch, a.mutants)):
            cases.append(mutants(random.Random(f"{a.seed}.{i}"), i))
        ours, theirs = octet(a.driver, kind, cases), reference(ask, cases)
        for i, (case, o, t) in enumerate(zip(cases, ours, theirs), first):
            if t[0] != "died" and (agree(case, o, t[1]) if t[0] == "ok" and "ok" in o
                                   else t[0] == "error" and "error" in o):
                counts["accepted by both" if "ok" in o else "refused by both"] += 1
                continue
            why = next((r for r in (*reasons, NO_VERDICT) if r.applies(case, o, t)), None)
            if why:
                counts[why.name] += 1
            else:
                bad += 1
            if (why is None and bad <= a.most) or (why and why.name == a.show):
                print(f"--- mutant {i}: {shown(case)}\n    octet:     {o}"[:4000] + f"\n    reference: {t}"[:1500])
    print(f"{kind}: {a.mutants} mutants, seed {a.seed}, {time.time() - started:.0f} s: "
          + ", ".join(f"{n} {c}" for n, c in counts.most_common()) + f", {bad} unexplained")
    for r in reasons:
        if counts[r.name]:
            print(f"  {r.name}: {r.sentence}")
    sys.exit(1 if bad else 0)
