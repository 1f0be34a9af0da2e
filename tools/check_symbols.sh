#!/bin/sh
# Every symbol that our libraries define for others begins with oct_ or octet_; the shared library exports octet_ alone.
#   tools/check_symbols.sh BUILD_FOLDER
build=${1:?build folder}
# Static libraries made by the sanitizers hold helpers of their own; check a plain build.
bad=$(find "$build/src" -name 'liboct_*.a' -exec nm -g --defined-only {} + 2>/dev/null |
      awk 'NF == 3 && $2 ~ /^[TDBRVWCG]$/ && $3 !~ /^oct(et)?_/ { print $3 }' | sort -u)
if [ -n "$bad" ]; then
  echo "symbols without the prefix oct_ or octet_:" >&2
  echo "$bad" | head -20 >&2
  exit 1
fi

if [ -e "$build/liboctet.so" ]; then
  bad=$(nm -D --defined-only "$build/liboctet.so" | awk '{ sub("@.*", "", $NF); if ($NF !~ /^octet_/) print $NF }')
  if [ -n "$bad" ] || ! nm -D --defined-only "$build/liboctet.so" | grep -q ' T octet_poll$'; then
    echo "liboctet.so exports other than octet_*:" >&2
    echo "$bad" | head -20 >&2
    exit 1
  fi
fi
