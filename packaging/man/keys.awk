# Turns the commented lintod.toml into the list of keys of lintod.toml(5).

/^#?\[/          { flush(); sub(/^#/, ""); table($0); next }
/^# -+$/         { flush(); text = sep = ""; next } # follows examples
/^$/             { flush(); if (!tables) text = sep = ""; if (text != "") sep = "\n.Pp\n"; next }
/^#?[a-z_.]+ = / { sub(/^#/, ""); item($0); next }
/^# /            { flush(); text = text sep mdoc(substr($0, 3)); sep = "\n" }
END              { flush(); print ".El" }

# A comment precedes the keys that it explains; mdoc requires it after them. flush prints it when
# its keys are complete.
function flush() {
  if (items) text_out()
}
function text_out() {
  if (text != "") print text
  text = sep = ""
  items = 0
}
function table(name) {
  if (tables++) print ".El"
  print ".Ss " name
  text_out()
  print ".Bl -tag -width Ds"
}
function item(line) {
  sub(/ = ""$/, "", line)
  sub(/ = /, " No = ", line)
  gsub(/"/, "\\(dq", line)
  print ".It Ic " line
  items++
}
function mdoc(line) {
  gsub(/\\/, "\\e", line)
  while (match(line, /`[^`]*`/))
    line = substr(line, 1, RSTART - 1) "\\fB" substr(line, RSTART + 1, RLENGTH - 2) "\\fR" substr(line, RSTART + RLENGTH)
  return line ~ /^[.']/ ? "\\&" line : line
}
