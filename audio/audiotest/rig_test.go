package audiotest

import (
	"context"
	"testing"
	"time"
)

func TestFeedReachesTheMicrophone(t *testing.T) {
	r := Start(t)
	listener := r.listen(context.Background(), "mic")
	listener.await(1)
	said := Chirp(time.Second)
	r.Feed(said)
	listener.WaitFor("the chirp", func(pcm []int16) bool { return Find(pcm, said[800:]) >= 0 })
	if at := Find(listener.PCM(), said); at < 0 {
		t.Log("the first 50 ms of the chirp differ")
	}
}

func TestKillAndRestart(t *testing.T) {
	r := Start(t)
	listener := r.Hear()
	r.Kill()
	select {
	case <-listener.done:
	case <-time.After(limit):
		t.Fatal("the loudspeaker still works without a server")
	}
	r.Restart()
	if len(r.Hear().PCM()) == 0 {
		t.Fatal("no sound after the restart")
	}
}

func TestFind(t *testing.T) {
	c := Chirp(100 * time.Millisecond)
	whole := append(make([]int16, 77), c...)
	if at := Find(whole, c[10:]); at != 87 {
		t.Errorf("found at %d, not at 87", at)
	}
	if at := Find(whole, []int16{-1, -1, -1}); at != -1 {
		t.Errorf("found at %d although it is missing", at)
	}
	if Loud(whole[:70]) || !Loud(whole) {
		t.Error("silence and sound are not distinguished")
	}
}
