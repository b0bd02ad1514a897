package tts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/audio"
	"lintod/audio/wav"
	"lintod/audio/wyoming"
	"lintod/audio/wyoming/wyomingtest"
)

// stand writes a script that replaces a program.
func stand(t testing.TB, name, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// say speaks a text to its end.
func say(t testing.TB, s *Speaker, text, language string) (pcm []int16, rate int, err error) {
	t.Helper()
	snd, err := s.Speak(t.Context(), text, language)
	if err != nil {
		return nil, 0, err
	}
	defer snd.Close()
	pcm, err = drain(t.Context(), snd)
	return pcm, snd.Rate(), err
}

func lines(t testing.TB, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// model is a voice of Piper: a file, and its description.
func model(t testing.TB, description string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "voice.onnx")
	if err := os.WriteFile(path+".json", []byte(description), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPiperSpeaksALineWithTheModelOfTheLanguage(t *testing.T) {
	voice := model(t, `{"audio":{"sample_rate":16000,"quality":"x"},"espeak":{"voice":"fr"}}`)
	said := filepath.Join(t.TempDir(), "said")
	s := speaker()
	s.Config.Engine, s.Config.Language, s.Config.Voices = EnginePiper, "fr-FR", map[string]string{"fr-FR": voice}
	s.Config.Command = config.Strings{stand(t, "piper", `
echo "$*" >`+said+`
while read -r line; do echo "$line" >>`+said+`; printf '\001\000\002\000'; done`), "--length_scale", "1.2"}
	pcm, rate, err := say(t, s, "Un. <b>Deux</b> [[x]] et trois.\nQuatre.", "fr")
	if err != nil || rate != 16000 || !slices.Equal(pcm, []int16{1, 2}) {
		t.Errorf("%v at %d, %v", pcm, rate, err)
	}
	if got, want := lines(t, said), []string{"--length_scale 1.2 --model " + voice + " --output-raw", "Un. Deux et trois. Quatre."}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPiperThatCannotSpeak(t *testing.T) {
	mice := "#! /usr/bin/python3\nimport gi\nresource = Gio.resource_load(os.path.join('/usr/share/piper', 'piper.gresource'))\n"
	good := `{"audio":{"sample_rate":22050}}`
	for name, c := range map[string]struct {
		program, model string
		is             error
		names          string // the key or the file in the error
	}{
		"no program":     {"/nowhere/piper", model(t, good), fs.ErrNotExist, "[tts] command"},
		"mice":           {stand(t, "piper", mice), model(t, good), errForMice, "[tts] command"},
		"no description": {stand(t, "piper", ""), "/nowhere/x.onnx", fs.ErrNotExist, "/nowhere/x.onnx.json"},
		"no rate":        {stand(t, "piper", ""), model(t, `{}`), nil, "audio.sample_rate"},
		"garbage":        {stand(t, "piper", ""), model(t, `{{`), nil, ".json"},
		"nothing":        {stand(t, "piper", "cat >/dev/null"), model(t, good), errNoSound, ""},
		"a bad model":    {stand(t, "piper", "echo "+planted+" >&2; exit 1"), model(t, good), errPlanted, ""},
	} {
		s := speaker()
		s.Config.Engine, s.Config.Voices, s.Config.Command = EnginePiper, map[string]string{"en-US": c.model}, config.Strings{c.program}
		if _, _, err := say(t, s, "Hello.", ""); err == nil || c.is != nil && !isWanted(err, c.is) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v, want %v that names %q", name, err, c.is, c.names)
		}
	}
}

// pico replaces pico2wave: options, then the text; the sound is written to a file
// whose name must end in .wav.
func pico(t testing.TB, then string) (s *Speaker, said string) {
	said = filepath.Join(t.TempDir(), "said")
	s = speaker()
	s.Config.Engine, s.Config.Command = EnginePico, config.Strings{stand(t, "pico2wave", `
while getopts l:w: o; do case $o in l) l=$OPTARG;; w) w=$OPTARG;; *) exit 1;; esac; done
shift $((OPTIND - 1))
case $w in *.wav) ;; *) echo "Cannot open output wave file" >&2; exit 1;; esac
echo "$l:$#:$1" >>`+said+`
exec >"$w"
`+then)}
	t.Setenv("TMPDIR", t.TempDir())
	return s, said
}

func TestPicoWritesAFileForEachSentence(t *testing.T) {
	s, said := pico(t, header(t)+`printf '\001\000\002\000'`)
	pcm, rate, err := say(t, s, "-5 Grad. Es ist z.B. kalt! <speak>Ja</speak>.", "de")
	if err != nil || rate != 16000 || !slices.Equal(pcm, []int16{1, 2, 1, 2, 1, 2}) {
		t.Errorf("%v at %d, %v", pcm, rate, err)
	}
	if got, want := lines(t, said), []string{"de-DE:1: -5 Grad.", "de-DE:1:Es ist z.B. kalt!", "de-DE:1:Ja."}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPicoThatCannotSpeak(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   error
	}{
		"crashes":     {"echo " + planted + " >&2; exit 2", errPlanted},
		"hangs":       {"exec sleep 1000", errHung},
		"no file":     {`rm "$w"`, fs.ErrNotExist},
		"garbage":     {"head -c 1000 /dev/urandom | tr R x", wav.ErrNotWAV},
		"half header": {"printf RIFF", wav.ErrCut},
		"header only": {header(t), errNoSound},
		"fails later": {header(t) + "echo " + planted + " >&2; cat /dev/zero >&3", errPlanted},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := pico(t, c.script)
			s.Config.Timeout = limitFor(c.want, 0)
			if _, _, err := say(t, s, "Hello.", ""); !isWanted(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// An engine that takes one sentence at a time produces the next one while the first
// is played, as far as the buffer has room; the others wait.
func TestNextSentenceIsProducedDuringPlayback(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	// 16,000 samples a second: each sentence has 2 s.
	s := scripted(t, `cat >>`+said+`; echo >>`+said+"\n"+header(t)+"head -c 64000 /dev/zero")
	snd, err := s.Speak(t.Context(), "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. Eleven. Twelve.", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(lines(t, said)) < 4 { // nothing has been read yet
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("only %q was produced", lines(t, said))
		}
	}
	if n := len(lines(t, said)); n > 6 {
		t.Errorf("%d sentences were produced before the first was played", n)
	}
	if pcm, err := drain(ctx, snd); err != nil || len(pcm) != 12*32000 {
		t.Errorf("%d samples, %v", len(pcm), err)
	}
	if n := len(lines(t, said)); n != 12 {
		t.Errorf("%d sentences", n)
	}
}

// Close stops the whole text, not just the sentence.
func TestCloseStopsTheFollowingSentences(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := scripted(t, `cat >>`+said+`; echo >>`+said+"\n"+header(t)+"head -c 64000 /dev/zero; exec sleep 1000")
	snd, err := s.Speak(t.Context(), "One. Two. Three.", "")
	if err != nil {
		t.Fatal(err)
	}
	snd.Close() // returns when all processes have ended
	if got := lines(t, said); !slices.Equal(got, []string{"One."}) {
		t.Errorf("%q", got)
	}
	if _, err := drain(t.Context(), snd); !errors.Is(err, audio.ErrClosed) {
		t.Error(err)
	}
}

func TestEngineThatFailsInTheSecondSentence(t *testing.T) {
	s := scripted(t, header(t)+`read -r text; case $text in One.) printf '\001\000';; *) echo `+planted+` >&2; exit 1;; esac`)
	pcm, _, err := say(t, s, "One. Two.", "")
	if len(pcm) != 1 || !isWanted(err, errPlanted) {
		t.Errorf("%v, %v", pcm, err)
	}
}

func TestRawSamplesOfTwoChannels(t *testing.T) {
	s := scripted(t, `cat >/dev/null; printf '\002\000\004\000\377\377\375\377'`)
	s.Config.Rate, s.Config.Channels = 8000, 2
	if pcm, rate, err := say(t, s, "x", ""); err != nil || rate != 8000 || !slices.Equal(pcm, []int16{3, -2}) {
		t.Errorf("%v at %d, %v", pcm, rate, err)
	}
}

func TestVoiceOfACommand(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := scripted(t, `echo "$1 $2" >`+said+"\n"+header(t)+`printf '\001\000'`)
	s.Config.Command = append(s.Config.Command, "-v={voice}")
	s.Config.Voices = map[string]string{"ca-ES": "quim"}
	if _, _, err := say(t, s, "x", "ca"); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, said)[0]; got != "ca-ES -v=quim" {
		t.Error(got)
	}
}

// espeak-ng understands SSML: the markup is not spoken, and has its effect.
func TestEspeakObeysMarkup(t *testing.T) {
	needEspeak(t)
	length := func(text string) int {
		pcm, _, err := say(t, speaker(), text, "en-US")
		if err != nil {
			t.Fatal(err)
		}
		return len(pcm)
	}
	plain, bold := length("one two"), length("one <b>two</b>")
	if bold > plain*11/10 || bold < plain*9/10 {
		t.Errorf("%d samples with tags, %d without", bold, plain)
	}
	if paused := length("one <break time='2s'/> two"); paused < plain+22050*3/2 {
		t.Errorf("%d samples with a pause of 2 s, %d without", paused, plain)
	}
	if slow := length("<prosody rate='slow'>one two</prosody>"); slow <= plain {
		t.Errorf("%d samples when slow, %d otherwise", slow, plain)
	}
}

// wyomingSpeaker returns a Speaker with a Wyoming service that answers in the given
// way.
func wyomingSpeaker(t testing.TB, answer func(c *wyoming.Conn, text, voice string)) (*Speaker, *wyomingtest.Service) {
	t.Helper()
	fake := wyomingtest.New(t, func(c *wyoming.Conn) {
		e, err := c.Receive(0)
		if err != nil {
			return
		}
		var ask synthesize
		if err := e.Decode(&ask); err != nil || e.Type != "synthesize" {
			t.Errorf("asked for %s %s, %v", e.Type, e.Data, err)
			return
		}
		voice := ""
		if ask.Voice != nil {
			voice = ask.Voice.Name
		}
		answer(c, ask.Text, voice)
	})
	s := speaker()
	s.Config.Engine, s.Config.Address = EngineWyoming, fake.Address
	return s, fake
}

var speech = wyoming.Format{Rate: 22050, Width: 2, Channels: 1}

func TestWyomingSpeaksSentenceBySentence(t *testing.T) {
	said := make(chan string, 10)
	s, _ := wyomingSpeaker(t, func(c *wyoming.Conn, text, voice string) {
		said <- text + "|" + voice
		_ = c.Send(wyoming.AudioStart, speech)
		_ = c.SendChunk(speech, 0, []byte{1, 0, 2}) // a sample is cut in two
		_ = c.SendChunk(speech, 0, []byte{0})
		_ = c.Send("transcript", nil)
		_ = c.SendChunk(speech, 0, []byte{3, 0})
		_ = c.Send(wyoming.AudioStop, nil)
	})
	s.Config.Voices = map[string]string{"fr-FR": "siwis"}
	pcm, rate, err := say(t, s, "One. <b>Two</b>!", "")
	if err != nil || rate != 22050 || !slices.Equal(pcm, []int16{1, 2, 3, 1, 2, 3}) {
		t.Errorf("%v at %d, %v", pcm, rate, err)
	}
	if _, _, err := say(t, s, "Trois.", "fr-FR"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"One.|", "Two!|", "Trois.|siwis"} {
		if got := <-said; got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}
}

// The first samples are available while the service still produces the rest.
func TestWyomingIsPlayedAtOnce(t *testing.T) {
	goOn := make(chan struct{})
	s, _ := wyomingSpeaker(t, func(c *wyoming.Conn, _, _ string) {
		_ = c.Send(wyoming.AudioStart, speech)
		_ = c.SendChunk(speech, 0, []byte{1, 0})
		<-goOn
		_ = c.SendChunk(speech, 0, []byte{2, 0})
		_ = c.Send(wyoming.AudioStop, nil)
	})
	snd, err := s.Speak(t.Context(), "Hello.", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	pcm := make([]int16, 10)
	if n, err := snd.Read(t.Context(), pcm); n != 1 || pcm[0] != 1 || err != nil {
		t.Errorf("%v, %v", pcm[:n], err)
	}
	close(goOn)
	if rest, err := drain(t.Context(), snd); err != nil || !slices.Equal(rest, []int16{2}) {
		t.Errorf("%v, %v", rest, err)
	}
}

// Any fault of a service is reported, and the next text is spoken.
func TestWyomingThatCannotSpeak(t *testing.T) {
	start := func(c *wyoming.Conn) {
		_ = c.Send(wyoming.AudioStart, speech)
		_ = c.SendChunk(speech, 0, []byte{1, 0})
	}
	hang := func(c *wyoming.Conn) { _, _ = c.Receive(0) } // until the client disconnects
	other := wyoming.Format{Rate: 8000, Width: 2, Channels: 1}
	for name, c := range map[string]struct {
		answer func(c *wyoming.Conn)
		want   error
		heard  int
	}{
		"never answers":    {hang, errHung, 0},
		"starts and hangs": {func(c *wyoming.Conn) { _ = c.Send(wyoming.AudioStart, speech); hang(c) }, errHung, 0},
		"hangs in between": {func(c *wyoming.Conn) { start(c); hang(c) }, errHung, 1},
		"chatters": {func(c *wyoming.Conn) {
			for c.Send("ping", nil) == nil {
				time.Sleep(time.Millisecond)
			}
		}, errHung, 0},
		"hangs up":         {func(*wyoming.Conn) {}, errHungUp, 0},
		"hangs up halfway": {start, errHungUp, 1},
		"no sound":         {func(c *wyoming.Conn) { _ = c.Send(wyoming.AudioStop, nil) }, errNoSound, 0},
		"says why":         {func(c *wyoming.Conn) { _ = c.Send(wyoming.Failure, map[string]string{"text": planted}) }, errPlanted, 0},
		"changes":          {func(c *wyoming.Conn) { start(c); _ = c.SendChunk(other, 0, []byte{1, 0}); hang(c) }, errChanged, 1},
		"odd sound": {func(c *wyoming.Conn) {
			_ = c.Send(wyoming.AudioStart, map[string]int{"rate": 1, "width": 9, "channels": 99})
			hang(c)
		}, wyoming.ErrFormat, 0},
		"garbage": {func(c *wyoming.Conn) { _ = c.Send("\n\n\x00garbage", nil); hang(c) }, wyoming.ErrProtocol, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := wyomingSpeaker(t, func(conn *wyoming.Conn, text, _ string) {
				if text == "Next." {
					start(conn)
					_ = conn.Send(wyoming.AudioStop, nil)
					return
				}
				c.answer(conn)
			})
			s.Config.Timeout = limitFor(c.want, c.heard)
			pcm, _, err := say(t, s, "Hello.", "")
			if !isWanted(err, c.want) || len(pcm) != c.heard {
				t.Errorf("%v, %v; want %v", pcm, err, c.want)
			}
			s.Config.Timeout = config.Duration(time.Minute)
			if pcm, _, err := say(t, s, "Next.", ""); err != nil || len(pcm) != 1 {
				t.Errorf("the next text: %v, %v", pcm, err)
			}
		})
	}
}

func TestWyomingThatIsUnavailable(t *testing.T) {
	s, fake := wyomingSpeaker(t, nil)
	fake.Stop()
	if _, _, err := say(t, s, "Hello.", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestRepeatedTextComesFromTheCache(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := scripted(t, `cat >>`+said+`; echo " $1" >>`+said+"\n"+header(t)+`printf '\001\000\002\000'`)
	for range 3 {
		if pcm, rate, err := say(t, s, "One. Two.", ""); err != nil || rate != 16000 || !slices.Equal(pcm, []int16{1, 2, 1, 2}) {
			t.Fatal(pcm, rate, err)
		}
	}
	if _, _, err := say(t, s, "One. Two.", "fr-FR"); err != nil {
		t.Fatal(err)
	}
	if got, want := lines(t, said), []string{"One. en-US", "Two. en-US", "One. fr-FR", "Two. fr-FR"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := s.Stats(), (Stats{Texts: 4, Cached: 2, Bytes: 2 * (2*4 + len("One. Two.") + overhead)}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestCacheIsBounded(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := scripted(t, `read -r text; echo "$text" >>`+said+"\n"+header(t)+`case $text in
Long*) head -c 1000 /dev/zero;;
*) head -c 500 /dev/zero;; esac`)
	s.Config.Cache = 5 * (500 + 1 + overhead) // five of them, and a fourth is less than 1000
	for _, text := range []string{"a", "b", "c", "d", "e", "a", "e", "Long", "Long", "e", "c"} {
		if _, _, err := say(t, s, text, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(lines(t, said)), "[a b c d e Long Long]"; got != want {
		t.Errorf("produced %s, want %s", got, want)
	}
	// "b" is the least recently used and makes room for "f", then "d" for "b".
	for _, text := range []string{"f", "b", "a", "c", "d"} {
		if _, _, err := say(t, s, text, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(lines(t, said)), "[a b c d e Long Long f b d]"; got != want {
		t.Errorf("produced %s, want %s", got, want)
	}
	full := s.Stats().Bytes
	if full != int(s.Config.Cache) {
		t.Errorf("%d bytes", full)
	}
	s.Config.Cache = 0
	if _, _, err := say(t, s, "g", ""); err != nil || s.Stats().Bytes != full {
		t.Error(err, s.Stats())
	}
}

func TestOnlyCompleteSoundIsCached(t *testing.T) {
	s := scripted(t, header(t)+`printf '\001\000'; echo crash >&2; exit 1`)
	for range 2 {
		if _, _, err := say(t, s, "Hello.", ""); err == nil {
			t.Error("no error")
		}
	}
	cut, _ := talker(t)
	snd, err := cut.Speak(t.Context(), "Hello.", "")
	if err != nil {
		t.Fatal(err)
	}
	snd.Close()
	for _, s := range []*Speaker{s, cut} {
		if st := s.Stats(); st.Bytes != 0 || st.Cached != 0 {
			t.Errorf("%+v", st)
		}
	}
	if st := s.Stats(); st.Failures != 0 || st.Texts != 2 { // some sound was played
		t.Errorf("%+v", st)
	}
	if _, _, err := say(t, s, "...", ""); err == nil || s.Stats().Failures != 1 {
		t.Errorf("%v, %+v", err, s.Stats())
	}
}
