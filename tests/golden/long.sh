#!/usr/bin/env bash
# Golden cases made with other seeds, compared as those of the suite are:
#   long.sh PROGRAM VENV OUT [CASES] [SEED]      CASES: about so many (default 200); SEED: the first (default 1)
# PROGRAM is test_golden_models; make_golden.py of $OCTET_GOLDEN (default ../shared/golden beside the source) makes the
# cases in OUT/SEED with the NumPy of VENV, 27 for each seed, and make_families.py ten more where torch is there.
# Folders of a seed without a failure are removed. An INT8 case beyond its bound fails unless the oracle moves as far when
# values at rounding borders fall the other way (perturb.py).
set -uo pipefail
program=$1 venv=$2 out=$3 n_cases=${4:-200} seed=${5:-1}
golden=${OCTET_GOLDEN:-$(dirname "$0")/../../../shared/golden}
python=$venv/bin/python
skip() { echo "SKIPPED: $*"; exit 77; }
[ -e "$golden/make_golden.py" ] || skip "no make_golden.py at $golden (set OCTET_GOLDEN)"
[ -x "$python" ] && "$python" -c 'import numpy' || skip "no NumPy in $venv (tools/venv makes it)"

families=0
if "$python" -c 'import torch, transformers' 2>/dev/null; then
  families=1
else
  echo "SKIPPED: the families (make_families.py needs torch and transformers)"
fi
mkdir -p "$out"
out=$(realpath "$out")
made=0 failed=() borders=()
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-2}
while [ "$made" -lt "$n_cases" ]; do
  "$python" "$golden/make_golden.py" "$out/$seed" --seed "$seed" >"$out/$seed.log" 2>&1 || { cat "$out/$seed.log"; exit 1; }
  folders=("$out/$seed")
  if [ $families -eq 1 ]; then
    "$python" "$golden/make_families.py" "$out/$seed-families" --seed "$seed" >>"$out/$seed.log" 2>&1 || { cat "$out/$seed.log"; exit 1; }
    folders+=("$out/$seed-families")
  fi
  echo "== seed $seed"
  made=$((made + $(find "${folders[@]}" -name expected.safetensors | wc -l)))
  if "$program" "${folders[@]}" 2>&1 | tee "$out/$seed.out"; then
    rm -rf "${folders[@]}" "$out/$seed.log" "$out/$seed.out"
  else
    # Beyond the bound: by more than the oracle itself moves when values at rounding borders fall the other way?
    while read -r path; do
      bound=$("$python" "$(dirname "$0")/perturb.py" "$golden" "$path")
      rm -rf "$out/again" && mkdir -p "$out/again" && ln -s "$path" "$out/again/"
      if OCTET_GOLDEN_INT8_RMS=$bound "$program" "$out/again" >"$out/again.out" 2>&1; then
        borders+=("$path (the oracle with noise before each rounding: $bound)")
      else
        cat "$out/again.out"
        failed+=("$path (bound $bound)")
      fi
    done < <(sed -n 's#^\[  FAILED  \] \(/.*\)$#\1#p' "$out/$seed.out" | sort -u)
  fi
  seed=$((seed + 1))
done
echo "golden-long: $made cases, ${#borders[@]} moved by rounding borders alone, ${#failed[@]} failed"
printf '  border: %s\n' ${borders[@]+"${borders[@]}"} | grep / || true
printf '  FAILED: %s\n' ${failed[@]+"${failed[@]}"} | grep / || true
[ ${#failed[@]} -eq 0 ]
