#!/bin/sh
# with_venv.sh VENV SCRIPT...: runs a script in the folder that tools/venv makes, or says that it is absent.
venv=$1
shift
if [ ! -x "$venv/bin/python" ]; then
  echo "SKIP: $venv is not there (tools/venv makes it)"
  exit 77
fi
exec "$venv/bin/python" "$@"
