package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func status(connexion, firmware string, volume any, on time.Time) []byte {
	return fmt.Appendf(nil, `{"connexion":%q,"on":%q,"config":{"network":[{"name":"eth0","ip_address":"10.0.0.5"}],"firmware":%q,"sound":{"volume":%v,"tts_lang":"fr-FR"}}}`,
		connexion, on.Format(time.RFC3339Nano), firmware, volume)
}

func known(t *testing.T) *Known {
	t.Helper()
	k := Open(filepath.Join(t.TempDir(), "a", "devices.json"))
	for serial, payload := range map[string][]byte{
		"hall-01": status("online", "1.10", 40, now.Add(-time.Minute)),
		"hall-02": status("offline", "1.2~rc1", `"80"`, now.Add(-3*time.Hour)),
		"kitchen": status("online", "1.2", 60, now.Add(-time.Hour)),
		"old":     []byte(`{"connexion":"online","on":"yesterday"}`),
	} {
		if !k.Learn(serial, payload, now) {
			t.Fatalf("%s was not accepted as a status", payload)
		}
	}
	return k
}

func TestConditions(t *testing.T) {
	devices := known(t).All()
	for text, want := range map[string]string{
		"online":                   "hall-01 kitchen old",
		"away":                     "hall-02",
		"not online":               "hall-02",
		"firmware<1.2":             "hall-02",
		"firmware<=1.2 and online": "kitchen",
		"firmware>1.9":             "hall-01",
		"firmware=1.*":             "hall-01 hall-02 kitchen",
		"firmware!=1.2":            "hall-01 hall-02",
		"serial=HALL-*":            "hall-01 hall-02",
		"serial = hall-*,!hall-01": "hall-02",
		"volume>=60 or age<5m":     "hall-01 hall-02 kitchen",
		"(volume > 50) and not (language='fr-FR')": "",
		"not volume>50": "hall-01 old",
		`address="10.0.0.5" AND (online OR age>2h)`:   "hall-01 hall-02 kitchen",
		"online and firmware=1.2 or serial=hall-02":   "hall-02 kitchen",
		"online and (firmware=1.2 or serial=hall-02)": "kitchen",
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		chosen, left := Selection{Where: c}.Choose(devices, now)
		if got := strings.Join(chosen, " "); got != want || len(chosen)+len(left) != len(devices) {
			t.Errorf("%s selects %q (%d left out), not %q", text, got, len(left), want)
		}
		for _, l := range left {
			if l.Why == "" {
				t.Errorf("%s leaves out %s without a reason", text, l.Serial)
			}
		}
	}
}

func TestInvalidConditions(t *testing.T) {
	for _, text := range []string{
		"", "and", "online and", "online online", "(online", "online)", "firmware", "firmware<", "firmware ~ 1", "colour=red",
		"volume=loud", "age>1", "'online", "\"firmware\"=1", "firmware=<1", strings.Repeat("(", 60) + "online" + strings.Repeat(")", 60), strings.Repeat("x", 5000),
	} {
		if _, err := ParseCondition(text); err == nil {
			t.Errorf("%.60q was accepted", text)
		}
	}
}

func TestSelection(t *testing.T) {
	devices := known(t).All()
	for name, test := range map[string]struct {
		s    Selection
		want string
		left int
	}{
		"named":          {Selection{Names: []string{"kitchen", "attic", "kitchen"}}, "kitchen attic", 0},
		"pattern":        {Selection{Names: []string{"kitchen", "hall-*"}}, "kitchen hall-01 hall-02", 0},
		"all":            {Selection{All: true}, "hall-01 hall-02 kitchen old", 0},
		"limit":          {Selection{All: true, Limit: 1}, "hall-01", 3},
		"list":           {Selection{Serials: []string{"b", "a"}}, "b a", 0},
		"an empty list":  {Selection{Serials: []string{}}, "", 0},
		"list and where": {Selection{Serials: []string{"old", "attic"}, Where: must(t, "online")}, "old", 1},
	} {
		chosen, left := test.s.Choose(devices, now)
		if got := strings.Join(chosen, " "); got != test.want || len(left) != test.left {
			t.Errorf("%s: chose %q, left out %v", name, got, left)
		}
	}
	if (Selection{Names: []string{"a/b"}}).Validate() == nil || (Selection{Serials: []string{""}}).Validate() == nil {
		t.Error("an invalid serial was accepted")
	}
}

func must(t *testing.T, text string) *Condition {
	t.Helper()
	c, err := ParseCondition(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKnownDevicesAreSaved(t *testing.T) {
	k := known(t)
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	k.Learn("kitchen", status("offline", "1.3", 1, now), now.Add(time.Hour))
	k.Learn("hall-01", status("online", "1.3", 1, now), now.Add(time.Hour))
	k.Forget("old")
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	again := Open(k.path)
	kitchen, _ := again.Get("kitchen")
	hall, _ := again.Get("hall-01")
	if _, old := again.Get("old"); old || kitchen.Online || !kitchen.Since.Equal(now.Add(time.Hour)) || !hall.Since.Equal(now) || *hall.Volume != 1 || again.Heard() != 0 {
		t.Errorf("kept %+v, %+v", kitchen, hall)
	}
	if err := os.WriteFile(k.path, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := Open(k.path); len(again.All()) != 0 {
		t.Errorf("a broken file yields %v", again.All())
	}
}

func TestVersions(t *testing.T) {
	sorted := []string{"1.2~rc1", "1.2~rc2", "1.2", "1.2-1", "1.2.1", "1.10", "2.0.0"}
	shuffled := slices.Clone(sorted)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, compareVersions)
	if !slices.Equal(shuffled, sorted) {
		t.Errorf("sorted %v", shuffled)
	}
}

func FuzzCondition(f *testing.F) {
	for _, text := range []string{"firmware<1.2 and online", "not (age>2h or serial='hall *')", "volume!=50", "((", "\xff=\"", "~~1<2"} {
		f.Add(text, "1.2~rc1")
	}
	f.Fuzz(func(t *testing.T, text, firmware string) {
		c, err := ParseCondition(text)
		if err != nil {
			return
		}
		d := Device{Serial: "hall", Firmware: firmware, Said: now}
		yes, why := c.Match(d, now)
		if !yes && why == "" {
			t.Errorf("%q does not match without a reason", text)
		}
		if compareVersions(firmware, text) != -compareVersions(text, firmware) {
			t.Errorf("%q and %q are not ordered", firmware, text)
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add(status("online", "1.2", 40, now))
	f.Add([]byte(`{"connexion":"\u001b[2J","on":"x","config":{"sound":{"volume":[1]}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		d, ok := ParseStatus("hall", payload)
		if ok && strings.ContainsAny(d.Firmware+d.Address+d.Language, "\x1b\r\n\x07") {
			t.Errorf("%+v would control a terminal", d)
		}
	})
}

// A device that does not retain its status is found again after it has answered
// once; its status replaces that.
func TestDevicesThatAnswerAreKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.json")
	k := Open(path)
	k.LearnAnswer("kitchen", now)
	k.LearnAnswer("a/b", now)
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	k = Open(path)
	if all := k.All(); len(all) != 1 || all[0] != (Device{Serial: "kitchen", Online: true, Since: now}) {
		t.Errorf("%+v", all)
	}
	k.Learn("kitchen", status("offline", "1.2", 40, now), now)
	k.LearnAnswer("kitchen", now)
	if d, _ := k.Get("kitchen"); d.Online || d.Firmware != "1.2" {
		t.Errorf("%+v", d)
	}
}
