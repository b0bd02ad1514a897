package agent

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	toml "github.com/pelletier/go-toml/v2"

	"lintod/agent/config"
	"lintod/packaging"
)

var (
	hiddenKey     = regexp.MustCompile(`(?m)^#([a-z_]+ = )`)
	hiddenExample = regexp.MustCompile(`(?m)^# (\[\[|[a-z_]+ = )`)
)

func parse(t *testing.T, text string) Config {
	t.Helper()
	c := Defaults()
	if err := config.Parse("lintod.toml", []byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The sample names its device and its broker; all else are the defaults.
func TestSampleShowsTheDefaults(t *testing.T) {
	sample := packaging.Sample()
	asItIs := parse(t, sample)
	want := Defaults()
	want.Device.Serial, want.Linto.Enabled, want.Linto.Broker = asItIs.Device.Serial, asItIs.Linto.Enabled, asItIs.Linto.Broker
	for name, got := range map[string]Config{
		"as it is":      asItIs,
		"all uncovered": parse(t, hiddenKey.ReplaceAllString(sample, "$1")),
	} {
		// Printed, because an empty list is as good as none.
		if got, want := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestSampleShowsEveryKey(t *testing.T) {
	var shown map[string]any
	if err := toml.Unmarshal([]byte(hiddenKey.ReplaceAllString(packaging.Sample(), "$1")), &shown); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[Config](), "") {
		at := any(shown)
		for part := range strings.SplitSeq(key, ".") {
			table, _ := at.(map[string]any)
			at = table[part]
		}
		if at == nil {
			t.Errorf("packaging/lintod.toml does not show %s", key)
		}
	}
}

// keys are those of all tables in t; lists of tables have their own test.
func keys(t reflect.Type, prefix string) []string {
	var list []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case name == "-", f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		case f.Anonymous && name == "":
			list = append(list, keys(f.Type, prefix)...)
		case name == "":
			list = append(list, prefix+f.Name+" (a field without a toml tag)")
		case f.Type.Kind() == reflect.Struct && slices.ContainsFunc(reflect.VisibleFields(f.Type), tagged):
			list = append(list, keys(f.Type, prefix+name+".")...)
		default:
			list = append(list, prefix+name)
		}
	}
	return list
}

func tagged(f reflect.StructField) bool { return f.Tag.Get("toml") != "" }

func TestExamplesOfTheSampleAreRight(t *testing.T) {
	c := parse(t, hiddenExample.ReplaceAllString(packaging.Sample(), "$1"))
	if len(c.Buttons) == 0 || len(c.LEDs) == 0 {
		t.Error("the sample has no example of a button or of a LED")
	}
}
