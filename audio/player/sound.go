package player

import (
	"context"
	"io"

	"lintod/audio"
)

// PCM returns a Sound of samples in memory, mono at rate. The samples are not modified, so several
// sounds may share them.
func PCM(pcm []int16, rate int) audio.Sound { return &memory{pcm, rate} }

type memory struct {
	pcm  []int16
	rate int
}

func (m *memory) Rate() int { return m.rate }

func (m *memory) Read(ctx context.Context, pcm []int16) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if len(m.pcm) == 0 {
		return 0, io.EOF
	}
	n := copy(pcm, m.pcm)
	m.pcm = m.pcm[n:]
	return n, nil
}

func (m *memory) Close() error { return nil }
