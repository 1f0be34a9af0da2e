#!/bin/sh
# Fails on an #include that src/LAYERS does not allow.
cd "$(dirname "$0")/../src" || exit 2
# shellcheck disable=SC2046
awk 'NR == FNR { sub(":", "", $1); for (i = 1; i <= NF; i++) may[$1 "/" $i] = 1; room[$1] = 1; next }
     /^#include "[a-z0-9]+\// {
         split(FILENAME, f, "/"); split($2, t, /["\/]/)
         if (room[t[2]] && !may[f[1] "/" t[2]]) {
             print "src/" FILENAME ":" FNR ": " f[1] " may not include " t[2] " (src/LAYERS)"; bad = 1
         }
     }
     END { exit bad }' LAYERS $(find . -name '*.[ch]' | sed 's|^\./||')
