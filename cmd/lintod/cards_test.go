package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/cmd/lintosim/gateway"
)

// tone returns an MP3 of half a minute.
func tone(t *testing.T) []byte {
	t.Helper()
	for _, program := range []string{"sox", "lame"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, nothing was tested: %s is not installed", program)
		}
	}
	path := filepath.Join(t.TempDir(), "tone.mp3")
	if out, err := exec.Command("sh", "-c", "sox -n -r 16000 -c 1 -t wav - synth 30 sine 440 | lame --quiet - $0", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mp3, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return mp3
}

// A gateway's card is downloaded and played; afterwards it plays without a network,
// also after a kill.
func TestCardOfAGateway(t *testing.T) {
	mp3 := tone(t)
	gate := make(chan struct{})
	library := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".html") {
			fmt.Fprint(w, "<html>log in, please</html>")
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(mp3)))
		half := len(mp3) / 2
		_, _ = w.Write(mp3[:half])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		_, _ = w.Write(mp3[half:])
	}))
	defer library.Close()
	content := func(uid, skill, file string) map[string]any {
		return map[string]any{
			"type": "card_content", "rfid_uid": uid, "skill_id": skill, "skill_name": "The Fox", "version": 3,
			"audio": []any{map[string]any{"index": 1, "url": library.URL + "/" + file}},
		}
	}
	sim := gateway.New(gateway.Options{Cards: map[string]map[string]any{
		"04A1B2C3": content("04A1B2C3", "fox1", "a.mp3"), "04A1B2C4": content("04A1B2C4", "page", "a.html"), "04A1B2C5": content("04A1B2C5", "../../../etc", "a.mp3"),
		"04A1B2C6": content("04A1B2C6", "gone", "b.mp3"),
	}})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf("[xiaozhi]\nenabled = true\ntransport = \"mqtt\"\nota_url = %q\n", sim.OTA())})
	b.start()
	b.wait("the gateway", func(s agent.Status) bool { return s.Links["xiaozhi"].Connected })
	card := func(want string, args ...string) {
		t.Helper()
		code, out := b.run(append([]string{"card"}, args...)...)
		if (code == 0) != (want != "") || want != "" && strings.TrimSpace(out) != want {
			t.Errorf("card %v: exit %d, %q, want %q", args, code, out, want)
		}
	}

	card("", "04A1B2C9") // an unknown card
	card("", "04A1B2C5") // a path outside the directory
	card("downloads", "04A1B2C4")
	b.wait("an HTML page instead of sound", func(s agent.Status) bool { return s.Cards.Failed == 1 && s.Cards.Skills == 0 })

	card("downloads", "04A1B2C6")
	b.wait("the download", func(s agent.Status) bool { return s.Cards.Download != nil })
	if code, out := b.run("card", "-removed", "04A1B2C6"); code != 0 {
		t.Error(out)
	}
	b.wait("its end", func(s agent.Status) bool { return s.Cards.Download == nil })

	card("downloads", "04:a1:b2:c3")
	b.wait("half of it", func(s agent.Status) bool {
		d := s.Activity.Download
		return d != nil && d.Name == "The Fox" && d.Percent >= 40 && d.Percent <= 60 && strings.Contains(s.Line, "downloading")
	})
	close(gate)
	playing := func(s agent.Status) bool {
		return s.Cards.Playing != nil && s.Cards.Playing.Name == "The Fox" && !s.Cards.Playing.Paused && s.Cards.Playing.Seconds >= 2 // a tap within a second would count as the same one
	}
	b.wait("the story", playing)
	if b.state().Cards.Skills != 1 {
		t.Errorf("%+v", b.state().Cards)
	}

	library.Close()
	sim.Close()
	for range 2 {
		b.kill()
		b.start()
		began := time.Now()
		card("plays", "04A1B2C3")
		elapsed := time.Since(began)
		b.wait("the story without a network", func(s agent.Status) bool {
			return playing(s) && time.Since(began) > time.Second // before that the card does not count as lifted
		})
		t.Logf("lintod card returned after %v", elapsed)
		card("paused", "04A1B2C3")
	}
	if peak := func() (most int16) {
		for _, v := range b.heard() {
			most = max(most, v)
		}
		return most
	}(); peak < 5000 {
		t.Errorf("no sound: peak %d", peak)
	}
}
