#!/bin/sh
# all.sh VENV DRIVER MUTANTS: every differential test, with a seed of its own where one is given.
#   all.sh build/venv build/release/tests/diff/diff_driver 10000 [SEED]
here=$(dirname "$0")
status=0
for name in safetensors tokenizer template; do
  PYTHONDONTWRITEBYTECODE=1 sh "$here/../e2e/with_venv.sh" "$1" "$here/diff_$name.py" "$2" --mutants "$3" --seed "${4:-1}"
  code=$?
  [ $code -eq 0 ] || [ $code -eq 77 ] || status=1
done
exit $status
