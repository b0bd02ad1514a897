# bash completion of lintod and lintoctl, from what they say of themselves.

_lintod() {
  local cur=$2 help command word
  help=$("$1" -help 2>&1)
  if [[ $3 == -*config || $3 == -*file || $3 == -*import ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    return
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ $word != -* ]] && grep -q "^  $word\>" <<<"$help"; then command=$word; fi
  done
  if [[ $cur == -* ]]; then # the flags of the command, and those of all
    help=$(grep -E "^  (-|${command:-run}\>)|^Usage" <<<"$help" | grep -oE -- '(^|[ [])-[a-z]+(-[a-z]+)*' | tr -d ' [')
  elif [[ $command ]]; then
    return
  else
    help=$(sed -nE "/^  ${1##*/} /d; s/^  ([a-z]+)( .*|\$)/\1/p" <<<"$help")
  fi
  mapfile -t COMPREPLY < <(compgen -W "$help" -- "$cur")
}
complete -F _lintod lintod lintoctl
