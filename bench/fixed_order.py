#!/usr/bin/env python3
"""What the fixed order of sums costs: this build beside builds of the same kernels that are free of it.

    bench/fixed_order.py MODEL [--threads 2] [--rounds 7] [--prefill 512] [--context 512] [--batch 1,4] [--built FOLDER]

A free build may contract and reassociate float expressions, and is tuned: sums of norms in four chains, float products
without chunks, and the best of several lengths of attention's spans. Each is built in build/free-NAME, then `octet bench step`
runs in turns, fixed and each free one: told are the medians of the ratios within a round, and the ratio of the best times,
which other programs disturb least. Integer sums are exact in both. With --built the programs are taken from a folder that
holds them as fixed and free-NAME, so that they can be built elsewhere.
"""
import argparse
import json
import os
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MATH = "-ffp-contract=fast;-fassociative-math;-fno-signed-zeros;-fno-trapping-math"
TUNED = "-DOCT_ORDER_CHAINS=4;-DOCT_ORDER_CHUNK=1048576"
FREE = {f"span{span}": f"{MATH};{TUNED};-DOCT_ORDER_SPAN={span}" for span in (64, 128, 192, 256)}


def build(name, flags):
    folder = os.path.join(ROOT, "build", name)
    subprocess.run(["cmake", "-B", folder, "-G", "Ninja", "-S", ROOT, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DBUILD_TESTING=OFF",
                    f"-DOCT_FREE_ORDER={flags}", *os.environ.get("CMAKE_ARGS", "").split()],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "octet"], check=True, stdout=subprocess.DEVNULL)
    return os.path.join(folder, "octet")


def measure(octet, a):
    dummy = ["--load-format", "dummy"] if a.model.startswith("preset:") else []
    out = subprocess.run([octet, "bench", "step", a.model, *dummy, "--json", "--device", "cpu", "--threads", str(a.threads), "--prefill", str(a.prefill),
                          "--batch", a.batch, "--context", str(a.context), "--decode", "32", "--repeats", "3"],
                         check=True, capture_output=True, text=True).stdout
    report = json.loads(out)
    return {f"prefill {report['prefill']}": report["prefill_tokens_per_s"],
            **{f"decode, batch {s['batch']} at {s['context']}": s["tokens_per_s"] for s in report["steps"]}}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--prefill", type=int, default=512)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--batch", default="1,4")
    p.add_argument("--built")
    a = p.parse_args()
    if a.built:
        fixed = os.path.join(a.built, "fixed")
        free = {name: os.path.join(a.built, f"free-{name}") for name in FREE}
    else:
        fixed = build("fixed", "")
        free = {name: build(f"free-{name}", flags) for name, flags in FREE.items()}
    ratios, best_fixed, best_free = {}, {}, {}
    for round_ in range(a.rounds):
        print(f"round {round_ + 1} of {a.rounds}", flush=True)
        one = measure(fixed, a)
        for name, octet in free.items():
            other = measure(octet, a)
            for what in one:
                best_fixed[what] = max(one[what], best_fixed.get(what, 0))
                best_free[what, name] = max(other[what], best_free.get((what, name), 0))
                ratios.setdefault(what, {}).setdefault(name, []).append(other[what] / one[what])
    for what, by_name in ratios.items():
        medians = {name: statistics.median(r) for name, r in by_name.items()}
        best = max(medians, key=medians.get)
        fastest = max(best_free[what, name] for name in free)
        told = "  ".join(f"{name} {value:.3f} ({min(by_name[name]):.3f}-{max(by_name[name]):.3f})" for name, value in medians.items())
        print(f"{what}: free/fixed {told}; fixed order costs {100 * (1 - 1 / medians[best]):.1f} % of the best ({best}); "
              f"best times {best_fixed[what]:.1f} fixed, {fastest:.1f} free tokens/s, {100 * (1 - best_fixed[what] / fastest):.1f} %")


if __name__ == "__main__":
    main()
