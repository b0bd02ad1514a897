# Turns CHANGELOG.md into the Debian changelog of a package (-v package=NAME). A version without a
# date gets the current time.

/^## / {
  release()
  version = $2; gsub(/[][]/, "", version)
  date = $NF ~ /^[0-9-]+$/ ? $NF " 00:00:00" : now
  printf "%s (%s) stable; urgency=medium\n\n", package, version
}
/^- /     { entry(); text = substr($0, 3) }
/^  [^ ]/ { text = text " " substr($0, 3) }
END       { release() }

function release() {
  entry()
  if (!version) return
  ("LC_ALL=C date -Ru -d '" date "'") | getline stamp
  printf "\n -- %s  %s\n\n", maintainer, stamp
}
function entry(   i, n, words, line) {
  n = split(text, words, " ")
  if (!n) return
  line = "  *"
  for (i = 1; i <= n; i++) {
    if (length(line " " words[i]) > 78) { print line; line = "   " }
    line = line " " words[i]
  }
  print line
  text = ""
}
