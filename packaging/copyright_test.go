package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// marks are the sentences that identify the text of a licence.
var marks = map[string]*regexp.Regexp{
	"Apache-2.0":    regexp.MustCompile(`Apache License\s+Version 2\.0`),
	"BSD-2-Clause":  regexp.MustCompile(`Redistributions in binary form must reproduce`),
	"BSD-3-Clause":  regexp.MustCompile(`(?s)Redistributions in binary form must reproduce.*Neither the name|Eclipse Distribution License`),
	"Expat":         regexp.MustCompile(`Permission is hereby granted, free of charge`),
	"public-domain": regexp.MustCompile(`(?i)public domain`),
}

// stanza is a paragraph of the copyright file.
type stanza map[string]string

func (s stanza) covers(path string) bool {
	return slices.ContainsFunc(strings.Fields(s["Files"]), func(f string) bool {
		return f == path || f != "*" && strings.HasSuffix(f, "*") && strings.HasPrefix(path, strings.TrimSuffix(f, "*"))
	})
}

func stanzas(t *testing.T) (list []stanza) {
	t.Helper()
	for paragraph := range strings.SplitSeq(read(t, "copyright"), "\n\n") {
		s := stanza{}
		for line := range strings.Lines(paragraph) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && line[0] != ' ' {
				s[name] = value
			}
		}
		list = append(list, s)
	}
	return list
}

// TestCopyrightNamesEachModule: each module that is linked into a program of the packages has a
// stanza with the licence that the module contains, and no other module has one.
func TestCopyrightNamesEachModule(t *testing.T) {
	modules := map[string]string{}
	for _, target := range []struct {
		system   string
		programs []string
	}{
		{"linux", []string{"lintod/cmd/lintod", "lintod/cmd/lintod-audio", "lintod/cmd/lintoctl"}},
		{"darwin", []string{"lintod/cmd/lintoctl"}},
		{"windows", []string{"lintod/cmd/lintoctl"}},
	} {
		list := exec.Command("go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}"}, target.programs...)...)
		if target.system != runtime.GOOS {
			list.Env = append(os.Environ(), "GOOS="+target.system)
		}
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				modules[path] = dir
			}
		}
	}
	if len(modules) < 5 {
		t.Fatalf("go list finds only %v", modules)
	}
	used := map[int]bool{}
	all := stanzas(t)
	for path, dir := range modules {
		i := slices.IndexFunc(all, func(s stanza) bool { return s.covers(path + "/") })
		if i < 0 {
			t.Errorf("%s has no stanza", path)
			continue
		}
		used[i] = true
		mark, ok := marks[all[i]["License"]]
		if !ok {
			t.Errorf("%s: unknown licence %q", path, all[i]["License"])
			continue
		}
		if !mark.MatchString(licence(t, dir)) {
			t.Errorf("%s is not licensed under %s", path, all[i]["License"])
		}
	}
	for i, s := range all {
		if strings.Contains(s["Files"], ".") && !strings.HasPrefix(s["Files"], "usr/") && !used[i] {
			t.Errorf("no program contains %s", s["Files"])
		}
	}
}

// licence is the text of all licence files of a module.
func licence(t *testing.T, dir string) (text string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := strings.ToUpper(e.Name()); strings.Contains(name, "LICEN") || strings.HasPrefix(name, "NOTICE") {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			text += string(data)
		}
	}
	return text
}

// TestCopyrightNamesEachFile: third-party files that scripts/package adds to a package have a
// stanza, and embedded files belong to this repository.
func TestCopyrightNamesEachFile(t *testing.T) {
	weights := regexp.MustCompile(`(?m)^weights=(\S+)$`).FindStringSubmatch(read(t, "../scripts/lib.sh"))
	foreign := regexp.MustCompile(`"\.cache/\S+" "\$root/(\S+)"`).FindAllStringSubmatch(read(t, "../scripts/package"), -1)
	if weights == nil || len(foreign) == 0 {
		t.Fatal("scripts/package installs nothing from .cache")
	}
	all := stanzas(t)
	for _, f := range foreign {
		path := strings.ReplaceAll(f[1], "$weights", weights[1])
		if !slices.ContainsFunc(all, func(s stanza) bool { return s.covers(path) && marks[s["License"]] != nil }) {
			t.Errorf("%s has no stanza", path)
		}
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{range .EmbedFiles}}{{.}}\n{{end}}{{end}}{{end}}",
		"lintod/cmd/lintod", "lintod/cmd/lintod-audio", "lintod/cmd/lintoctl").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		switch filepath.Ext(file) {
		case ".html", ".css", ".js", ".svg", ".json", ".toml":
		default:
			if !slices.ContainsFunc(all, func(s stanza) bool { return s.covers(file) }) {
				t.Errorf("embedded file %s has no stanza", file)
			}
		}
	}
}

// TestCopyrightHasEachLicence: the file contains the licence of each stanza, and no other.
func TestCopyrightHasEachLicence(t *testing.T) {
	named, texts := map[string]bool{}, map[string]bool{}
	for _, s := range stanzas(t) {
		if s["Files"] != "" {
			named[s["License"]] = true
			if s["Copyright"] == "" {
				t.Errorf("%s has no Copyright", s["Files"])
			}
		} else if s["License"] != "" {
			texts[s["License"]] = true
		}
	}
	for name := range named {
		if !texts[name] {
			t.Errorf("the text of %s is missing", name)
		}
	}
	for name := range texts {
		if !named[name] {
			t.Errorf("nothing is licensed under %s", name)
		}
	}
}
