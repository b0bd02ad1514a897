# Turns the commented lintod.toml into the list of keys of lintod.toml(5).

/^#?\[/          { flush(); sub(/^#/, ""); table($0); next }
/^# -+$/         { flush(); text = sep = ""; next } # examples stand before it
/^$/             { flush(); if (!tables) text = sep = ""; if (text != "") sep = "\n.Pp\n"; next }
/^#?[a-z_.]+ = / { sub(/^#/, ""); item($0); next }
/^# /            { flush(); text = text sep mdoc(substr($0, 3)); sep = "\n" }
END              { flush(); print ".El" }

# A comment stands before what it explains; mdoc wants it after. flush prints it
# once its keys are through.
function flush() {
  if (items) tell()
}
function tell() {
  if (text != "") print text
  text = sep = ""
  items = 0
}
function table(name) {
  if (tables++) print ".El"
  print ".Ss " name
  tell()
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
