package wake

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/wyoming"
	"lintod/audio/wyoming/wyomingtest"
)

// microphone is paced by the test, which sets its sound.
type microphone struct {
	frames chan audio.Frame
	opened atomic.Int32
	closed atomic.Int32
}

func newMicrophone() *microphone { return &microphone{frames: make(chan audio.Frame, 1000)} }

func (m *microphone) Listen() Stream  { m.opened.Add(1); return m }
func (m *microphone) Dropped() uint64 { return 0 }
func (m *microphone) Close() error    { m.closed.Add(1); return nil }

func (m *microphone) Read(ctx context.Context, f *audio.Frame) error {
	select {
	case *f = <-m.frames:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hear adds n frames, the first captured at the given time; each sample is value.
func (m *microphone) hear(at time.Time, n int, value int16) {
	for i := range n {
		f := audio.Frame{At: at.Add(time.Duration(i) * audio.FrameTime)}
		for j := range f.PCM {
			f.PCM[j] = value
		}
		m.frames <- f
	}
}

// fresh is a time for which no frame is too old, however slow the machine is.
func fresh() time.Time { return time.Now().Add(time.Hour) }

// listener runs a Listener until the test ends, repeatedly like the supervisor.
type listener struct {
	*Listener
	mic   *microphone
	awake atomic.Bool
	heard chan Detection
	fails chan error
}

func listen(t testing.TB, c Config) *listener {
	t.Helper()
	l := &listener{mic: newMicrophone(), heard: make(chan Detection, 100), fails: make(chan error, 100)}
	l.awake.Store(true)
	l.Listener = &Listener{
		Config: c, Listen: l.mic.Listen, Awake: l.awake.Load,
		Heard: func(d Detection) { l.heard <- d },
		Log:   discard(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := l.Run(ctx); ctx.Err() == nil {
				select {
				case l.fails <- err:
				default:
				}
				time.Sleep(time.Millisecond)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

const patience = time.Minute

func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
	}
	return v
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not %s within %v", what, patience)
		}
	}
}

// spotter is a service that detects a word in each chunk whose samples are word. It
// records its events.
type spotter struct {
	mu     sync.Mutex
	told   []string // the type of each event, and what was to be detected
	chunks int
	info   string
	silent bool // it sends no timestamps
}

const word = 1234

const jarvis = `{"wake":[{"name":"fake","models":[{"name":"hey_jarvis_v0.1","phrase":"hey jarvis"},{"name":"alexa"}]}]}`

func (s *spotter) handle(c *wyoming.Conn) {
	for {
		e, err := c.Receive(0)
		if err != nil {
			return
		}
		switch e.Type {
		case wyoming.Describe:
			s.mu.Lock()
			info := s.info
			s.mu.Unlock()
			_ = c.Send(wyoming.Info, json.RawMessage(info))
			continue
		case wyoming.AudioChunk:
			s.chunk(c, e)
			continue
		}
		s.mu.Lock()
		s.told = append(s.told, strings.TrimSpace(e.Type+" "+string(e.Data)))
		s.mu.Unlock()
	}
}

func (s *spotter) chunk(c *wyoming.Conn, e wyoming.Event) {
	s.mu.Lock()
	s.chunks++
	silent := s.silent
	s.mu.Unlock()
	if int(e.Payload[0])|int(e.Payload[1])<<8 != word {
		return
	}
	var at struct {
		Timestamp int64 `json:"timestamp"`
	}
	_ = e.Decode(&at)
	data := map[string]any{"name": "hey_jarvis_v0.1", "timestamp": at.Timestamp}
	if silent {
		data["timestamp"] = nil
	}
	_ = c.Send("detection", data)
}

func (s *spotter) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.told, "; ")
}

func heyJarvis(address string) Config {
	c := Defaults()
	c.Engine, c.Address, c.Words = EngineWyoming, address, []Word{{Name: "Hey Jarvis", Link: "linto"}}
	return c
}

func TestServiceDetectsAWord(t *testing.T) {
	spot := &spotter{info: jarvis}
	l := listen(t, heyJarvis(wyomingtest.New(t, spot.handle).Address))
	eventually(t, "listening", func() bool { return l.Status().State == Listening })
	began := fresh()
	l.mic.hear(began, 8, 0)
	l.mic.hear(began.Add(160*time.Millisecond), 4, word)
	if d := await(t, "detection", l.heard); d.Word.Name != "Hey Jarvis" || d.Word.Link != "linto" {
		t.Errorf("heard %+v", d)
	}
	// The service gets a new stream, because some detect only one word per stream.
	l.mic.hear(began.Add(240*time.Millisecond), 4, 0)
	const start = `detect {"names":["hey_jarvis_v0.1"]}; audio-start {"rate":16000,"width":2,"channels":1}`
	eventually(t, "a new stream", func() bool { return spot.story() == start+`; audio-stop {"timestamp":null}; `+start })
	eventually(t, "heard to the end", func() bool { return l.Status().Frames == 16 })
	if s := l.Status(); s.Detections != 1 || s.Dropped != 0 || s.Away != 0 {
		t.Errorf("status %+v", s)
	}
}

// Within the refractory time, and at times when words do not count, words are
// counted and ignored.
func TestWordsThatDoNotCount(t *testing.T) {
	spot := &spotter{info: jarvis}
	l := listen(t, heyJarvis(wyomingtest.New(t, spot.handle).Address))
	eventually(t, "listening", func() bool { return l.Status().State == Listening })
	now := fresh()
	l.mic.hear(now, 4, word)
	await(t, "detection", l.heard)
	l.mic.hear(now.Add(80*time.Millisecond), 4, word)
	eventually(t, "ignored", func() bool { return l.Status().Ignored == 1 })

	// While the device speaks, the service gets neither its sound nor the
	// reverberation.
	l.awake.Store(false)
	l.mic.hear(now.Add(160*time.Millisecond), 4, word)
	eventually(t, "passed over", func() bool { return len(l.mic.frames) == 0 })
	if s := l.Status().State; s != Paused {
		t.Errorf("state %s, want %s", s, Paused)
	}
	// The reader may still hold the last frame; after one more, it has processed it.
	l.mic.hear(now.Add(240*time.Millisecond), 1, word)
	eventually(t, "passed over", func() bool { return len(l.mic.frames) == 0 })
	l.awake.Store(true)
	l.mic.hear(now.Add(300*time.Millisecond), 4, word)
	l.mic.hear(now.Add(700*time.Millisecond), 4, 0)
	eventually(t, "listening again", func() bool { return l.Status().Frames == 12 })
	if s := l.Status(); s.Detections != 1 || s.Ignored != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestTry(t *testing.T) {
	spot := &spotter{info: jarvis}
	service := wyomingtest.New(t, spot.handle)
	c := heyJarvis(service.Address)
	if err := Try(t.Context(), c); err != nil {
		t.Error(err)
	}
	c.Words[0].Name = "alexandra"
	if err := Try(t.Context(), c); err == nil || !errors.Is(err, errNoModel) {
		t.Errorf("error %v", err)
	}
	service.Stop()
	if err := Try(t.Context(), c); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v", err)
	}
}

func TestEndOfAWord(t *testing.T) {
	began := time.Now()
	x := &connection{began: began}
	now := began.Add(time.Minute)
	for timestamp, want := range map[int64]time.Time{
		58000: began.Add(58 * time.Second),
		60000: now,
		60001: now, // in the future
		-1:    now,
		1000:  now, // longer ago than the stream reaches back
	} {
		if got := x.over(&timestamp, now); !got.Equal(want) {
			t.Errorf("timestamp %d: over %v before now, want %v", timestamp, now.Sub(got), now.Sub(want))
		}
	}
}

func TestServiceWithoutTimestamps(t *testing.T) {
	spot := &spotter{info: jarvis, silent: true}
	l := listen(t, heyJarvis(wyomingtest.New(t, spot.handle).Address))
	eventually(t, "listening", func() bool { return l.Status().State == Listening })
	before := time.Now()
	l.mic.hear(fresh(), 4, word)
	if d := await(t, "detection", l.heard); d.Over.Before(before) || d.Over.After(time.Now()) {
		t.Errorf("over at %v, want now", d.Over)
	}
}

// TestServiceRecovers: the engine becomes unavailable, and recovers by itself.
func TestServiceRecovers(t *testing.T) {
	spot := &spotter{info: jarvis}
	service := wyomingtest.New(t, spot.handle)
	l := listen(t, heyJarvis(service.Address))
	for round := range 5 {
		eventually(t, "listening", func() bool { return l.Status().State == Listening })
		l.mic.hear(fresh(), 4, word)
		await(t, "detection", l.heard)
		service.Stop()
		eventually(t, "away", func() bool { return l.Status().State == Away })
		await(t, "failure", l.fails)
		if l.mic.opened.Load() != int32(round+1) {
			t.Errorf("the microphone was opened %d times by round %d", l.mic.opened.Load(), round)
		}
		reason := l.Status().Reason
		eventually(t, "unavailable for another reason", func() bool {
			return l.Status().Reason != reason || strings.Contains(reason, syscall.ECONNREFUSED.Error())
		})
		service.Start()
		for len(l.fails) > 0 {
			if err := <-l.fails; errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("the failure was reported again, for another reason: %v", err)
			}
		}
		l.update(func(*Status) { clear(l.last) })
	}
	eventually(t, "microphone closed", func() bool { return l.mic.closed.Load() >= 5 })
}

// raw is a service that works on bytes.
func raw(t *testing.T, handle func(*net.TCPConn)) Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); handle(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return heyJarvis("tcp://" + listener.Addr().String())
}

var (
	errPlanted = errors.New("planted-reason") // text sent by a service or a program
	errType    = errors.New("any error of encoding/json")
	errExit    = errors.New("any exit of a program")
)

func isWanted(err, want error) bool {
	var wrong *json.UnmarshalTypeError
	var exited *exec.ExitError
	switch want {
	case nil:
		return err != nil
	case errPlanted:
		return err != nil && strings.Contains(err.Error(), want.Error())
	case errType:
		return errors.As(err, &wrong)
	case errExit:
		return errors.As(err, &exited)
	}
	return errors.Is(err, want)
}

func TestServicesThatFail(t *testing.T) {
	say := func(text string) func(*net.TCPConn) {
		return func(c *net.TCPConn) {
			_, _ = io.WriteString(c, text)
			_, _ = bufio.NewReader(c).ReadString(0) // until the other side hangs up
		}
	}
	info := fmt.Sprintf("{\"type\":\"info\",\"data_length\":%d}\n%s", len(jarvis), jarvis)
	for name, c := range map[string]struct {
		handle func(*net.TCPConn)
		want   error // nil: any
	}{
		"garbage":                      {say("SSH-2.0-OpenSSH_9.2\r\n"), wyoming.ErrProtocol},
		"a header of a gigabyte":       {say(`{"type":"info","data_length":1073741824}` + "\n"), wyoming.ErrTooLong},
		"garbage after a valid start":  {say(info + "\x00\x01\n"), wyoming.ErrProtocol},
		"hangs up at once":             {func(*net.TCPConn) {}, nil},
		"hangs up within a message":    {func(c *net.TCPConn) { _, _ = io.WriteString(c, info[:len(info)-5]) }, nil},
		"hangs up after a valid start": {func(c *net.TCPConn) { _, _ = io.WriteString(c, info) }, nil},
		"speech, not wake words":       {say(`{"type":"info","data":{"wake":[],"tts":[{}]}}` + "\n"), errNoWake},
		"other words":                  {say(`{"type":"info","data":{"wake":[{"models":[{"name":"alexa"}]}]}}` + "\n"), errNoModel},
		"an error":                     {say(`{"type":"error","data":{"text":"planted-reason"}}` + "\n"), errPlanted},
		"an error later":               {say(info + `{"type":"error","data":{"text":"planted-reason"}}` + "\n"), errPlanted},
		"data of another type":         {say(`{"type":"info","data":{"wake":"yes"}}` + "\n"), errType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, raw(t, c.handle))
			if err := await(t, "failure", l.fails); !isWanted(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if s := l.Status(); s.Away == 0 || s.Detections != 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// Invalid detections have no effect.
func TestInvalidDetectionsOfAService(t *testing.T) {
	l := listen(t, heyJarvis(wyomingtest.New(t, func(c *wyoming.Conn) {
		_ = c.Send(wyoming.Info, json.RawMessage(jarvis))
		for _, data := range []string{`{"name":7}`, `{"name":"who"}`, `{"name":null,"timestamp":-5}`} {
			_ = c.Send("detection", json.RawMessage(data))
		}
		_ = c.Send("transcript", nil)
		_ = c.Send("not-detected", nil)
		_, _ = c.Receive(0)
		for {
			if _, err := c.Receive(0); err != nil {
				return
			}
		}
	}).Address))
	if d := await(t, "the one valid detection", l.heard); time.Since(d.Over) > patience {
		t.Errorf("ended at %v", d.Over)
	}
	eventually(t, "alive", func() bool { s := l.Status(); return s.State == Listening && s.Detections == 1 && s.Away == 0 })
}

// A service that hangs is detected, although it gets no sound and there is no
// speech. Schedule: pinged every 10 s, given up after 30 s of silence.
func TestServiceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		answers := make(chan bool, 1)
		answers <- true
		answering := true
		go func() { // the service; it keeps reading, and answers until the limit
			defer there.Close()
			in := bufio.NewReader(there)
			for {
				e, err := wyoming.Read(in)
				if err != nil {
					return
				}
				select {
				case answering = <-answers:
				default:
				}
				if e.Type == wyoming.Describe && answering {
					_, _ = there.Write(wyoming.Append(nil, wyoming.Event{Type: wyoming.Info, Data: json.RawMessage(jarvis)}))
				}
			}
		}()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		conn := wyoming.NewConn(ctx, here)
		defer conn.Close()
		l := &Listener{Config: heyJarvis(""), Awake: func() bool { return true }, Log: discard()}
		x := &connection{Conn: conn, mic: &capture{listener: l}, began: time.Now(), asked: make(chan time.Time, 1)}
		ended := make(chan error, 2)
		go func() { ended <- x.pulse(ctx) }()
		go func() { ended <- x.receive(ctx) }()
		time.Sleep(5 * time.Minute)
		if len(ended) != 0 {
			t.Fatalf("a service that answers was given up: %v", <-ended)
		}
		answers <- false
		hung := time.Now()
		err := <-ended
		if after := time.Since(hung); !errors.Is(err, os.ErrDeadlineExceeded) || after > silenceLimit+pulseTime {
			t.Errorf("given up after %v: %v", after, err)
		}
		cancel(err)
		<-ended
	})
}

// A service that stops reading loses the oldest sound, which is counted, and then
// the connection.
func TestSlowServiceLosesTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mic := newMicrophone()
		l := &Listener{Config: heyJarvis(""), Listen: mic.Listen, Awake: func() bool { return true }, Log: discard()}
		e := &capture{listener: l}
		e.open()
		defer e.close()
		time.Sleep(10 * time.Second)
		now := time.Now()
		mic.hear(now.Add(-5*time.Second), 250, 0) // 3 s of it are too old
		var f audio.Frame
		gap, err := e.read(t.Context(), &f)
		if err != nil || gap || now.Sub(f.At) != maxLag {
			t.Errorf("the first frame is %v old, gap %v, %v; want %v", now.Sub(f.At), gap, err, maxLag)
		}
		if s := l.Status(); s.Dropped != 150 || s.MaxLagMS != 5000 || s.Frames != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestConfig(t *testing.T) {
	half, two := 0.5, 2.0
	good := Config{Engine: EngineWyoming, Address: "tcp://localhost:1", Refractory: Defaults().Refractory, Words: []Word{{Name: "a", Sensitivity: &half, Link: "linto"}}}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":                    {func(*Config) {}, ""},
		"none":                    {func(c *Config) { *c = Defaults() }, ""},
		"words without an engine": {func(c *Config) { c.Engine = "" }, ""},
		"unknown engine":          {func(c *Config) { c.Engine = "snowboy" }, "engine"},
		"no service":              {func(c *Config) { c.Address = "" }, "address"},
		"a wrong service":         {func(c *Config) { c.Address = "http://x" }, "address"},
		"no word":                 {func(c *Config) { c.Words = nil }, "word"},
		"no name":                 {func(c *Config) { c.Words[0].Name = "" }, "word[1].name"},
		"a name twice":            {func(c *Config) { c.Words = append(c.Words, Word{Name: "A_v2"}) }, "word[2].name"},
		"a name of two lines":     {func(c *Config) { c.Words[0].Name = "a\nb" }, "word[1].name"},
		"too sensitive":           {func(c *Config) { c.Words[0].Sensitivity = &two }, "word[1].sensitivity"},
		"unknown link":            {func(c *Config) { c.Words[0].Link = "folotoy" }, "word[1].link"},
		"a phrase with digits":    {func(c *Config) { c.Engine, c.Words[0].Phrase = EnginePocketsphinx, "route 66" }, "word[1].phrase"},
		"no rest":                 {func(c *Config) { c.Refractory = 0 }, "refractory"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			config.Words = append([]Word(nil), good.Words...)
			c.change(&config)
			problems := config.Validate([]string{"linto"})
			switch {
			case c.want == "" && len(problems) > 0, c.want != "" && (len(problems) != 1 || problems[0].Key != c.want):
				t.Errorf("problems %v, want one of %q", problems, c.want)
			}
		})
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
