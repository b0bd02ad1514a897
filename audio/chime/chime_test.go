package chime

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lintod/audio/wav"
)

const rate = 48000

func TestGeneratedChimesAreShortSoftAndDifferent(t *testing.T) {
	sounds, faults := Defaults().Load(rate)
	if len(sounds) != reflect.TypeFor[Config]().NumField() || faults != nil {
		t.Fatalf("%d sounds, %v", len(sounds), faults)
	}
	for name, pcm := range sounds {
		loudest := max(slices.Max(pcm), -slices.Min(pcm))
		if len(pcm) < rate/20 || len(pcm) > rate*15/100 || loudest < 7000 || loudest > 8200 || pcm[0] != 0 || pcm[len(pcm)-1] > 50 {
			t.Errorf("%s: %d samples, peak %d, ends %d…%d", name, len(pcm), loudest, pcm[0], pcm[len(pcm)-1])
		}
		for other, o := range sounds {
			if name != other && slices.Equal(pcm, o) {
				t.Errorf("%s and %s sound the same", name, other)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tone := notes(16000, 440)
	c := Defaults()
	c.Listening = write("tone", wav.Encode(tone, 16000)) // recognised by its contents
	c.Thinking = ""
	c.Error = filepath.Join(dir, "none.wav")
	c.Muted = write("text.wav", []byte("not a sound"))
	c.Unmuted = write("long.wav", wav.Encode(make([]int16, 16000*10), 16000))
	c.Nothing = filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(c.Nothing, 0o600); err != nil {
		t.Fatal(err)
	}
	sounds, faults := c.Load(rate)
	if n := len(sounds["listening"]); n != 3*len(tone) {
		t.Errorf("the file of %d samples at 16000 became %d at %d", len(tone), n, rate)
	}
	if _, on := sounds["thinking"]; on || len(sounds) != 5 {
		t.Errorf("%d sounds; the disabled sound is present: %v", len(sounds), on)
	}
	standard, _ := Defaults().Load(rate)
	for _, name := range []string{"error", "nothing", "muted", "unmuted"} {
		if !slices.Equal(sounds[name], standard[name]) {
			t.Errorf("%s is not the default", name)
		}
		if !slices.ContainsFunc(faults, func(err error) bool { return strings.HasPrefix(err.Error(), "sounds."+name+": ") }) {
			t.Errorf("no warning about %s: %v", name, faults)
		}
	}
	if len(faults) != 4 {
		t.Errorf("faults %v", faults)
	}
}
