package tts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"lintod/agent/base/config"
	"lintod/audio"
	"lintod/audio/wav"
)

func speaker() *Speaker {
	return &Speaker{Config: Defaults(), Log: slog.New(slog.DiscardHandler)}
}

func needEspeak(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		t.Skip("SKIPPED: espeak-ng is not installed (apt install espeak-ng)")
	}
}

// alone returns the direct output of espeak-ng.
func alone(t testing.TB, voice, text string) []int16 {
	t.Helper()
	cmd := exec.Command("espeak-ng", "-v", voice, "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pcm, _, err := wav.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return pcm
}

// drain reads a sound to its end, which must be io.EOF unless it is an error.
func drain(ctx context.Context, s audio.Sound) (pcm []int16, err error) {
	block := make([]int16, 441)
	for {
		n, err := s.Read(ctx, block)
		pcm = append(pcm, block[:n]...)
		if errors.Is(err, io.EOF) {
			return pcm, nil
		}
		if err != nil {
			return pcm, err
		}
	}
}

func TestEveryLanguageSoundsLikeTheEngineAlone(t *testing.T) {
	needEspeak(t)
	texts := map[string]string{
		"fr-FR": "Il fera beau demain à Nîmes.", "en-US": "It is five o'clock.", "en-GB": "Aluminium schedule.",
		"es-ES": "Mañana será otro día.", "de-DE": "Schöne Grüße aus Köln.", "it-IT": "Perché no?",
	}
	heard := map[string][]int16{}
	for _, l := range Defaults().voices() {
		s, err := speaker().Speak(t.Context(), texts[l.language], l.language)
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(t.Context(), s)
		if err := errors.Join(err, s.Close()); err != nil {
			t.Error(l.language, err)
		}
		if want := alone(t, l.name, texts[l.language]); s.Rate() != 22050 || !slices.Equal(got, want) || len(got) < 22050/2 {
			t.Errorf("%s: %d samples at %d, the engine alone gives %d", l.language, len(got), s.Rate(), len(want))
		}
		heard[l.language] = got
	}
	if len(heard) != len(Defaults().Languages()) {
		t.Errorf("%d languages spoken, %d declared", len(heard), len(Defaults().Languages()))
	}
}

func TestHostileTextIsSpokenOrRejected(t *testing.T) {
	needEspeak(t)
	cases := map[string]struct{ text, same string }{ // same: text with the same sound; "" for rejected
		"an option":          {"--help", "--help"},
		"NUL and bells":      {"one\x00two\a\x1b three", "one two three"},
		"an engine command":  {"one \x01 150S two", "one 150S two"},
		"phonemes":           {"say [[h@l'oU]] now", "say [[h@l'oU]] now"},
		"open brackets":      {"say [[now", "say [ [now"},
		"no UTF-8":           {"caf\xe9 au lait", "caf au lait"},
		"lines":              {"one\r\n\r\ntwo", "one two"},
		"broken markup":      {"<b>one <two <i>three</b>", "one <two three"},
		"right-to-left mark": {"on\u202ee tw\u00ado", "one two"},
		"empty":              {"", ""},
		"blank":              {" \n\t\x00 ", ""},
		"dots":               {"...", ""},
		"a dash":             {"-", ""},
	}
	for name, c := range cases {
		s, err := speaker().Speak(t.Context(), c.text, "en-US")
		if c.same == "" {
			if !errors.Is(err, ErrNothing) {
				t.Errorf("%s: %v, want ErrNothing", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := drain(t.Context(), s)
		if err != nil || !slices.Equal(got, alone(t, "en-us", c.same)) {
			t.Errorf("%s: %v, %d samples that differ from %q", name, err, len(got), c.same)
		}
		s.Close()
	}
}

func TestLongTextIsCutAtASentence(t *testing.T) {
	cases := map[string]struct{ in, end string }{
		"a megabyte of sentences": {strings.Repeat("This is a sentence. ", 50000), "sentence."},
		"a megabyte of words":     {strings.Repeat("word ", 200000), "word"},
		"a megabyte of one word":  {strings.Repeat("é", 500000), "é"},
		"a megabyte of blanks":    {strings.Repeat(" ", 1<<20), ""},
		"brackets that grow":      {strings.Repeat("[", 1<<20), "["},
	}
	for name, c := range cases {
		got, cut := prepare(c.in, true, true)
		if !cut || len(got) > maxText || !strings.HasSuffix(got, c.end) || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, cut %v, ends with %q", name, len(got), cut, got[max(0, len(got)-12):])
		}
		if c.end != "" && len(got) < maxText/2 {
			t.Errorf("%s: only %d bytes remain", name, len(got))
		}
	}
	if got, cut := prepare("As it is.", true, true); got != "As it is." || cut {
		t.Errorf("%q %v", got, cut)
	}
}

func TestMissingEngineIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := speaker().Speak(t.Context(), "hello", "")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), EngineEspeak) {
		t.Error(err)
	}
}

// scripted is a Speaker whose engine is a shell script.
func scripted(t testing.TB, script string) *Speaker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	s := speaker()
	s.Config.Engine, s.Config.Command = EngineCommand, config.Strings{path, "{language}"}
	return s
}

// header is a WAV header in the notation of printf(1), with the length that
// espeak-ng writes.
func header(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, c := range wav.AppendHeader(nil, 16000, 0x7ffff000) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return "printf '" + b.String() + "'\n"
}

func TestCommandGetsTextAndLanguage(t *testing.T) {
	dir := t.TempDir()
	s := scripted(t, `cat >`+dir+`/text; echo "$1" >`+dir+`/language; env >`+dir+`/env`+"\n"+header(t)+`printf '\001\000\002\000\003'`)
	t.Setenv("NOTIFY_SOCKET", "planted-secret")
	snd, err := s.Speak(t.Context(), "Bonjour à tous", "fr")
	if err != nil {
		t.Fatal(err)
	}
	pcm, err := drain(t.Context(), snd)
	if err != nil || !slices.Equal(pcm, []int16{1, 2}) || snd.Rate() != 16000 {
		t.Errorf("%v at %d, %v", pcm, snd.Rate(), err)
	}
	snd.Close()
	for name, want := range map[string]string{"text": "Bonjour à tous", "language": "fr-FR\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if env, _ := os.ReadFile(filepath.Join(dir, "env")); len(env) == 0 || bytes.Contains(env, []byte("planted-secret")) {
		t.Errorf("environment of the engine: %q", env)
	}
}

func TestRawSamples(t *testing.T) {
	s := scripted(t, `printf '\001\000\377\377'`)
	s.Config.Rate = 8000
	snd, err := s.Speak(t.Context(), "x", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	if pcm, err := drain(t.Context(), snd); err != nil || !slices.Equal(pcm, []int16{1, -1}) || snd.Rate() != 8000 {
		t.Errorf("%v, %v", pcm, err)
	}
}

// planted is text that an engine or a service of the tests prints before it fails.
const planted = "planted-reason"

// errPlanted represents any error that contains the planted text.
var errPlanted = errors.New(planted)

func isWanted(err, want error) bool {
	if want == errPlanted {
		return err != nil && strings.Contains(err.Error(), planted)
	}
	return errors.Is(err, want)
}

// limitFor is short for an engine that hangs before any output, longer for one that
// hangs later, and otherwise so long that a slow machine does not matter.
func limitFor(want error, heard int) config.Duration {
	switch {
	case want != errHung:
		return config.Duration(time.Minute)
	case heard == 0:
		return config.Duration(300 * time.Millisecond)
	}
	return config.Duration(2 * time.Second)
}

// Each engine fails before it has produced sound: Speak returns the reason, soon.
func TestEngineThatFailsAtOnce(t *testing.T) {
	cases := map[string]struct {
		script string
		want   error
	}{
		"hangs":                    {`exec sleep 1000`, errHung},
		"hangs in a child process": {`sleep 1000 & wait`, errHung},
		"hangs after the header":   {header(t) + `exec sleep 1000`, errHung},
		"closes and hangs":         {`exec >&- 2>&-; exec sleep 1000`, errHung},
		"crashes":                  {`echo ` + planted + ` >&2; exit 3`, errPlanted},
		"is killed":                {`echo ` + planted + ` >&2; kill -SEGV $$`, errPlanted},
		"prints text":              {`echo usage: engine -t text, and then a good deal more of it`, wav.ErrNotWAV},
		"prints garbage forever":   {`exec cat /dev/urandom`, wav.ErrNotWAV},
		"prints nothing":           {`exit 0`, wav.ErrCut},
		"prints a header only":     {header(t), errNoSound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := scripted(t, c.script)
			s.Config.Timeout = limitFor(c.want, 0)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			snd, err := s.Speak(ctx, "hello", "")
			if err == nil {
				snd.Close()
			}
			if !isWanted(err, c.want) || ctx.Err() != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// Each engine fails after it has started to speak: Read returns the sound until
// then, then the reason.
func TestEngineThatFailsInTheMiddle(t *testing.T) {
	some := header(t) + "head -c 20000 /dev/zero\n"
	cases := map[string]struct {
		script string
		want   error
	}{
		"hangs":   {some + `exec sleep 1000`, errHung},
		"crashes": {some + `echo ` + planted + ` >&2; exit 1`, errPlanted},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := scripted(t, c.script)
			s.Config.Timeout = limitFor(c.want, 10000)
			snd, err := s.Speak(t.Context(), "hello", "")
			if err != nil {
				t.Fatal(err)
			}
			defer snd.Close()
			pcm, err := drain(t.Context(), snd)
			if !isWanted(err, c.want) || len(pcm) != 10000 {
				t.Errorf("%d samples, %v; want 10000 and %v", len(pcm), err, c.want)
			}
			if _, again := snd.Read(t.Context(), make([]int16, 1)); again != err {
				t.Errorf("the next Read returns %v", again)
			}
		})
	}
}

// A loudspeaker that is slower than the engine's limit does not count as a hang of
// the engine.
func TestEngineThatHasToWaitIsNotKilled(t *testing.T) {
	t.Parallel()
	s := scripted(t, header(t)+"head -c 400000 /dev/zero")
	s.Config.Timeout = config.Duration(3 * time.Second)
	snd, err := s.Speak(t.Context(), "hello", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	// The pause is the test: the engine is blocked on its full pipe.
	time.Sleep(3500 * time.Millisecond)
	if pcm, err := drain(t.Context(), snd); err != nil || len(pcm) != 200000 {
		t.Errorf("%d samples, %v", len(pcm), err)
	}
}

// talker is an engine that never stops, and prints its pid.
func talker(t *testing.T) (*Speaker, func() int) {
	file := filepath.Join(t.TempDir(), "pid")
	s := scripted(t, `echo $$ >`+file+"\n"+header(t)+"exec cat /dev/zero")
	return s, func() int {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
}

func TestCloseEndsTheEngineAndABlockedRead(t *testing.T) {
	s, pid := talker(t)
	snd, err := s.Speak(t.Context(), "hello", "")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() { _, err := drain(t.Context(), snd); read <- err }()
	snd.Close()
	if err := <-read; !errors.Is(err, audio.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if err := syscall.Kill(pid(), 0); err != syscall.ESRCH {
		t.Errorf("the engine is still running: %v", err)
	}
	snd.Close()
}

func TestEndOfContextEndsTheEngine(t *testing.T) {
	s, pid := talker(t)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	snd, err := s.Speak(ctx, "hello", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	cancel(enough)
	if _, err := drain(t.Context(), snd); !errors.Is(err, enough) {
		t.Errorf("Read: %v", err)
	}
	if err := syscall.Kill(pid(), 0); err != syscall.ESRCH {
		t.Errorf("the engine is still running: %v", err)
	}
	if _, err := s.Speak(ctx, "hello", ""); !errors.Is(err, enough) {
		t.Errorf("Speak: %v", err)
	}
}

func TestReadEndsWithItsOwnContext(t *testing.T) {
	s := scripted(t, header(t)+`printf '\001\000'; exec sleep 1000`)
	snd, err := s.Speak(t.Context(), "hello", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	pcm := make([]int16, 10)
	if n, err := snd.Read(t.Context(), pcm); err != nil || n != 1 {
		t.Fatalf("%d samples, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if n, err := snd.Read(ctx, pcm); !errors.Is(err, context.DeadlineExceeded) || n != 0 {
		t.Errorf("%d samples, %v", n, err)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	s, _ := talker(t)
	snd, err := s.Speak(t.Context(), "hello", "")
	if err != nil {
		t.Fatal(err)
	}
	defer snd.Close()
	frame, ctx := make([]int16, 441), t.Context()
	if n := testing.AllocsPerRun(2000, func() { snd.Read(ctx, frame) }); n > 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

const sentence = "The weather will be fine tomorrow, with a little wind from the west in the evening."

// For comparison: the time to the first sample.
func BenchmarkFirstSample(b *testing.B) {
	needEspeak(b)
	b.Run("engine-alone", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command("espeak-ng", "-v", "en-us", "-b", "1", "--stdin", "--stdout")
			cmd.Stdin = strings.NewReader(sentence)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, 46)); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			io.Copy(io.Discard, out)
			cmd.Wait()
			b.StartTimer()
		}
	})
	first := func(b *testing.B, s *Speaker) audio.Sound {
		snd, err := s.Speak(b.Context(), sentence, "en-US")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := snd.Read(b.Context(), make([]int16, 1)); n != 1 {
			b.Fatal(err)
		}
		return snd
	}
	b.Run("Speak", func(b *testing.B) {
		s := speaker()
		s.Config.Cache = 0
		for b.Loop() {
			snd := first(b, s)
			b.StopTimer()
			drain(b.Context(), snd)
			snd.Close()
			b.StartTimer()
		}
	})
	b.Run("Speak-again", func(b *testing.B) {
		s := speaker()
		if _, _, err := say(b, s, sentence, "en-US"); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			first(b, s).Close()
		}
	})
}
