package turn

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
)

// heardBy returns an exchange that listens, without a pump of its own.
func heardBy(t testing.TB) *Exchange {
	r := &Runner{
		Loudspeaker: &loudspeaker{}, Bus: &Bus{}, Log: slog.New(slog.DiscardHandler),
		Endpoint: endpoint.Config{Silence: time.Hour, MaxUtterance: 10000 * time.Hour},
	}
	r.init()
	x := r.begin(t.Context(), opening{trigger: ByTap, talker: stuck{}})
	x.mic = newMicrophone(x, &roomStream{room: &room{}}, time.Time{}, false)
	t.Cleanup(x.mic.cancel)
	return x
}

// Passing a frame from the microphone to the link allocates no memory.
func TestFramesAllocateNothing(t *testing.T) {
	x := heardBy(t)
	var in, out audio.Frame
	frame := func() {
		in.At = in.At.Add(audio.FrameTime)
		x.mic.take(&in)
		if err := x.Read(&out); err != nil {
			t.Fatal(err)
		}
	}
	frame() // allocates the buffers
	if n := testing.AllocsPerRun(1000, frame); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkFrame(b *testing.B) {
	x := heardBy(b)
	var in, out audio.Frame
	for b.Loop() {
		in.At = in.At.Add(audio.FrameTime)
		x.mic.take(&in)
		if err := x.Read(&out); err != nil {
			b.Fatal(err)
		}
	}
}

// instant is a speaker that starts immediately.
type instant struct {
	loudspeaker
	began chan struct{}
}

func (m *instant) Speak(ctx context.Context, _ string, started func()) error {
	return m.Play(ctx, nil, started)
}

func (m *instant) Play(ctx context.Context, _ audio.Sound, started func()) error {
	started()
	m.began <- struct{}{}
	return nil
}

// flat is a link that answers immediately.
type flat struct{}

func (flat) Name() string { return "flat" }
func (flat) Talk(ctx context.Context, x *Exchange) (Next, error) {
	x.Enough()
	return Over, x.Say(ctx, "yes")
}

// BenchmarkTriggerToSound measures the delay that a turn itself adds between
// the trigger and the first sample of the answer.
func BenchmarkTriggerToSound(b *testing.B) {
	m := &instant{began: make(chan struct{})}
	r := &Runner{
		Microphone: &room{}, Loudspeaker: m, Talkers: []Talker{flat{}}, Bus: &Bus{}, Log: slog.New(slog.DiscardHandler),
		Endpoint: endpoint.Config{Silence: time.Second, MaxUtterance: time.Minute},
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- r.Run(ctx) }()
	idle := r.Bus.Subscribe(64)
	for b.Loop() {
		if err := r.Trigger(Tap, ""); err != nil {
			b.Fatal(err)
		}
		<-m.began
		for n := range idle.C {
			if n.What == StateChanged && n.State == Idle {
				break
			}
		}
	}
	cancel()
	<-done
}
