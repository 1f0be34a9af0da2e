#!/bin/sh
# Man pages and bash completion from the tables of flags: pages.sh OCTET FOLDER
# writes FOLDER/man1/octet*.1.gz and FOLDER/octet.bash.
set -eu
octet=$1 out=$2
rm -rf "$out"
mkdir -p "$out/man1"
"$octet" --help=man | gzip -9n >"$out/man1/octet.1.gz"
commands=$("$octet" --help=words)
subcommands="serve throughput latency startup"

page() { # name, arguments
  name=$1
  shift
  "$octet" "$@" --help=man | gzip -9n >"$out/man1/octet-$name.1.gz"
}
for c in $commands; do page "$c" "$c"; done
for s in $subcommands; do page "bench-$s" bench "$s"; done

# One case a command: its flags, and after each what may follow.
cases() { # arguments
  "$octet" "$@" --help=words | awk -F '\t' -v words="$*" '
    { flags = flags " " $1 }
    $2 ~ /\|/ { gsub(/\|/, " ", $2); values = values "      " $1 ") values=\"" $2 "\" ;;\n"; next }
    $2 ~ /FILE|FOLDER|PATH/ { values = values "      " $1 ") files=1 ;;\n" }
    $2 == "-" { switches = switches " " $1 }
    END {
      printf "    \"%s\")\n      flags=\"%s\"\n      switches=\"%s \"\n      case $prev in\n%s      esac ;;\n", words, substr(flags, 2), switches, values
    }'
}
{
  cat <<'END'
# bash completion for octet; made from the tables of flags when octet was built.
_octet() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command flags="" switches="" values="" files=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
END
  printf '    COMPREPLY=($(compgen -W "%s --help --version" -- "$cur"))\n' "$(echo $commands)"
  cat <<'END'
    return
  fi
  command=${COMP_WORDS[1]}
END
  printf '  if [ "$command" = bench ] && [ "$COMP_CWORD" -gt 2 ]; then\n'
  printf '    case ${COMP_WORDS[2]} in %s) command="bench ${COMP_WORDS[2]}" ;; esac\n  fi\n' "$(echo $subcommands | tr ' ' '|')"
  printf '  case $command in\n'
  for c in $commands; do cases "$c"; done
  for s in $subcommands; do cases bench "$s"; done
  cat <<'END'
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$cur"))
  else # a file, a folder, a model; or nothing that could be known
    [[ $prev == -* && -z $files && $switches != *" $prev "* ]] && return
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _octet octet
END
} >"$out/octet.bash"
