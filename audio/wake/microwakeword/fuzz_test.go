package microwakeword

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/fuzzcost"
)

// Any file is rejected with one line or is a model that runs, at low cost.
func FuzzModel(f *testing.F) {
	file := newFile()
	g := testInput(file, 1)
	g.pick(g.in, channels, 7, testScale, 0)
	f.Add(file.bytes())
	file = newFile()
	g = testInput(file, 2)
	g.do(129, nil, nil, fields{0: int32(1)})
	handle := g.tensor(kindResource, nil, 0, 0, nil)
	g.do(142, nil, []int32{handle}, fields{1: "x"})
	in := g.tensor(kindInt8, []int32{1, 2, 1, channels}, testScale, 0, nil)
	g.do(22, []int32{g.in}, []int32{in}, nil)
	g.do(144, []int32{handle, in}, nil, nil)
	filter := g.tensor(kindInt8, []int32{1, 2, 1, channels}, 1, 0, make([]byte, 2*channels))
	depth := g.tensor(kindInt8, []int32{1, 1, 1, channels}, 1, 0, nil)
	g.do(4, []int32{in, filter}, []int32{depth}, fields{0: int8(1), 1: int32(1), 2: int32(1), 3: int32(1)})
	dense := g.tensor(kindInt8, []int32{1, 1, 1, channels}, 1, 0, make([]byte, channels))
	g.out = g.tensor(kindInt8, []int32{1, 1, 1, 1}, 1, 0, nil)
	g.do(3, []int32{depth, dense, -1}, []int32{g.out}, fields{0: int8(1), 1: int32(1), 2: int32(1)})
	second := file.graph()
	handle = second.tensor(kindResource, nil, 0, 0, nil)
	second.do(142, nil, []int32{handle}, fields{1: "x"})
	f.Add(file.bytes())
	if dir := os.Getenv("LINTOD_WAKE_MODELS"); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "*.tflite"))
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzcost.Check(t, func() {
			m, err := Parse(data)
			if err != nil {
				if text := err.Error(); strings.Contains(text, "\n") || len(text) > 300 {
					t.Errorf("%q is not one sentence", text)
				}
				return
			}
			heard := make([][channels]uint16, m.Stride())
			m.run(heard)
			heard[0][3] = 700
			m.run(heard)
			m.Reset()
		})
	})
}

// Any manifest is rejected with one line or has valid values.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"type":"micro","version":2,"wake_word":"x","model":"x.tflite","micro":{"probability_cutoff":0.9,"sliding_window_size":5}}`))
	f.Add([]byte(`{"type":"micro","version":1,"model":"../../etc/passwd"}`))
	path := filepath.Join(f.TempDir(), "x.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := ReadManifest(path)
		if err != nil {
			if text := err.Error(); strings.Contains(text, "\n") || len(text) > 500 {
				t.Errorf("%q is not one sentence", text)
			}
			return
		}
		if !filepath.IsLocal(m.Model) || len(m.WakeWord) > 110 || threshold(m.Micro.Cutoff, 0.5) >= 1 {
			t.Errorf("%+v", m)
		}
	})
}
