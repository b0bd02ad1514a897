package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent"
	"lintod/gpio"
)

func check(t *testing.T, f Finding, level Level, text string) {
	t.Helper()
	if f.Level != level || !strings.Contains(f.Text, text) {
		t.Errorf("found %s: %s; want %s: …%s…", f.Level, f.Text, level, text)
	}
	if level != OK && f.Do == "" {
		t.Errorf("does not say what to do: %s", f.Text)
	}
}

func TestJudgeUnit(t *testing.T) {
	for name, tt := range map[string]struct {
		unit  string
		level Level
		text  string
	}{
		"running":       {"LoadState=loaded ActiveState=active UnitFileState=enabled NRestarts=0", OK, ""},
		"reloading":     {"LoadState=loaded ActiveState=reloading UnitFileState=enabled NRestarts=0", OK, ""},
		"not installed": {"LoadState=not-found ActiveState=inactive", OK, "not installed"},
		"failed":        {"LoadState=loaded ActiveState=failed Result=watchdog UnitFileState=enabled", Fail, "failed (watchdog)"},
		"not enabled":   {"LoadState=loaded ActiveState=active UnitFileState=disabled", Warn, "boot"},
		"stopped":       {"LoadState=loaded ActiveState=inactive SubState=dead UnitFileState=enabled", Warn, "inactive (dead)"},
		"was restarted": {"LoadState=loaded ActiveState=active UnitFileState=enabled NRestarts=3", Warn, "restarted 3 times"},
	} {
		t.Run(name, func(t *testing.T) {
			unit := map[string]string{}
			for _, property := range strings.Fields(tt.unit) {
				key, value, _ := strings.Cut(property, "=")
				unit[key] = value
			}
			check(t, judgeUnit(unit), tt.level, tt.text)
		})
	}
}

func TestJudgeClock(t *testing.T) {
	yes, no := true, false
	now := time.Date(2027, 5, 1, 12, 0, 0, 0, time.UTC)
	check(t, judgeClock(time.Unix(3600, 0), nil), Fail, "1970-01-01 01:00:00")
	check(t, judgeClock(time.Unix(3600, 0), &yes), Fail, "not set")
	check(t, judgeClock(now, &no), Warn, "2027-05-01")
	check(t, judgeClock(now, &yes), OK, "2027-05-01")
	check(t, judgeClock(now, nil), OK, "2027-05-01")
}

func TestJudgeSpace(t *testing.T) {
	check(t, judgeSpace("/s", 5<<30, 1000, 500), OK, "5120 MB")
	check(t, judgeSpace("/s", 5<<30, 0, 0), OK, "5120 MB") // btrfs does not count files
	check(t, judgeSpace("/s", 100<<20, 1000, 500), Warn, "100 MB")
	check(t, judgeSpace("/s", 1<<20, 1000, 500), Fail, "full (1 MB")
	check(t, judgeSpace("/s", 5<<30, 1000, 0), Fail, "0 files")
}

// box returns an exam with a file system of its own.
func box(t *testing.T, files map[string]string) (*exam, *[]Finding) {
	t.Helper()
	var found []Finding
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &exam{
		Doctor: Doctor{Root: root, Host: gpio.Hardware{}, Report: func(f Finding) { found = append(found, f) }},
		cfg:    agent.Defaults(),
	}, &found
}

func TestHAT(t *testing.T) {
	const card = " 1 [seeed2micvoicec]: seeed-2mic-voic - seeed-2mic-voicecard\n"
	t.Run("without its card", func(t *testing.T) {
		x, found := box(t, map[string]string{"sys/bus/i2c/devices/1-001a/name": "wm8960"})
		x.hat()
		check(t, (*found)[0], Fail, "without its sound card")
	})
	t.Run("not used", func(t *testing.T) {
		x, found := box(t, map[string]string{"proc/asound/cards": card})
		x.hat()
		check(t, (*found)[0], Warn, "ReSpeaker 2-Mics Pi HAT")
		if !strings.Contains((*found)[0].Do, `preset = "respeaker-2mic"`) {
			t.Error((*found)[0].Do)
		}
	})
	t.Run("used", func(t *testing.T) {
		x, found := box(t, map[string]string{"proc/asound/cards": card})
		x.cfg.GPIO.Preset = "respeaker-2mic"
		x.hat()
		check(t, (*found)[0], OK, "ReSpeaker")
	})
}

func TestHolders(t *testing.T) {
	x, _ := box(t, map[string]string{
		"proc/asound/cards":                   " 1 [usb            ]: USB-Audio - USB\n                      USB\n",
		"proc/asound/card1/pcm0c/sub0/status": "state: RUNNING\nowner_pid   : 815\ntrigger_time: 1.0\n",
		"proc/asound/card1/pcm0p/sub0/status": "closed\n",
		"proc/815/comm":                       "arecord\n",
	})
	if got := x.holders(); got != "; sound cards are in use by arecord (pid 815)" {
		t.Error(got)
	}
}

func TestTimesync(t *testing.T) {
	x, _ := box(t, nil)
	if x.timesync() != nil {
		t.Error("timesyncd is reported although it is not installed")
	}
	x, _ = box(t, map[string]string{"run/systemd/timesync/synchronized": ""})
	if yes := x.timesync(); yes == nil || !*yes {
		t.Error("the synchronized file was not detected")
	}
}
