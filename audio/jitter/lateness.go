package jitter

import "time"

const (
	minTarget   = 60 * time.Millisecond
	maxTarget   = 600 * time.Millisecond
	startTarget = 120 * time.Millisecond

	bucket  = 20 * time.Millisecond
	buckets = int(maxTarget/bucket) + 1
	// rare is the share of packets that may arrive after the target.
	rare = 0.03
	// memory is the time span of the histogram.
	memory = time.Minute
	// calm is the number of seconds of sound without late packets after which the target decreases.
	calm = 6
	// baseTime is how long the fastest packet is used as reference; the clocks of both sides drift.
	baseTime = 5 * time.Second
	// stallTime is the maximum length of a pause that is attributed to the network.
	stallTime = 2 * time.Second
)

// lateness measures the delay of packets relative to the fastest, assuming that all are sent at
// equal intervals.
type lateness struct {
	epoch time.Time

	// The server's time of a sequence number, starting at 0 for the first.
	sequence uint32
	at       time.Duration
	frame    time.Duration

	// The minimum difference between the two clocks, in the last baseTime and in the one before it.
	now, before minimum
	rotated     time.Duration
	paused      bool // it restarts with the next packet
	// A pause that has ended: of the server or of the network?
	stall, base, until time.Duration

	share  [buckets]float64
	packet int // seen by that share
	peaks  [calm]time.Duration
	peak   int           // the newest of them
	heard  time.Duration // sound received since the start of that one

	last   time.Duration
	jitter time.Duration
}

type minimum struct {
	time.Duration
	set bool
}

func (m *minimum) add(d time.Duration) {
	if !m.set || d < m.Duration {
		*m = minimum{d, true}
	}
}

// pause records that time passes without packets, because nothing was sent or nothing arrives.
func (l *lateness) pause(mayStall bool) {
	l.paused = true
	l.stall = 0
	if !mayStall {
		l.now.set, l.before.set = false, false
	}
}

// media returns when sequence was sent, on the server's clock.
func (l *lateness) media(sequence uint32) time.Duration {
	return l.at + time.Duration(int32(sequence-l.sequence))*l.frame
}

func (l *lateness) best() time.Duration {
	if l.before.set && l.before.Duration < l.now.Duration {
		return l.before.Duration
	}
	return l.now.Duration
}

// since returns the delay of a packet at now, relative to the fastest.
func (l *lateness) since(now time.Time, sequence uint32) time.Duration {
	return now.Sub(l.epoch) - l.media(sequence) - l.best()
}

// add records the arrival of a packet.
func (l *lateness) add(now time.Time, sequence uint32, duration time.Duration) {
	if l.epoch.IsZero() {
		l.epoch, l.sequence = now, sequence
		l.share[startTarget/bucket-1] = 1
		for i := range l.peaks {
			l.peaks[i] = startTarget - bucket
		}
	}
	if ahead := int32(sequence - l.sequence); ahead >= 0 || l.frame == 0 {
		l.at, l.sequence, l.frame = l.media(sequence), sequence, duration
	}
	t := now.Sub(l.epoch)
	d := t - l.media(sequence)
	switch {
	case l.paused || !l.now.set:
		if l.now.set && d-l.best() < stallTime {
			l.stall, l.base, l.until = d-l.best(), l.best(), t+stallTime
		}
		l.now, l.before, l.rotated, l.paused = minimum{d, true}, minimum{}, t, false
	case t-l.rotated > baseTime:
		l.now, l.before, l.rotated = minimum{d, true}, l.now, t
	default:
		l.now.add(d)
		l.jitter += ((d - l.last).Abs() - l.jitter) / 16
	}
	l.last = d
	// After a pause of the server, all packets are as late as the first. After one of the network,
	// the delayed packets arrive at once, and catch up.
	switch {
	case l.stall <= 0:
	case l.best() <= l.base+l.frame+bucket:
		l.count(l.stall)
		l.stall = 0
	case t > l.until:
		l.stall = 0
	}
	l.count(d - l.best())
}

// count adds one lateness to the decaying histogram.
func (l *lateness) count(late time.Duration) {
	l.packet++
	forget := max(1/float64(l.packet+1), float64(l.frame)/float64(memory))
	for i := range l.share {
		l.share[i] *= 1 - forget
	}
	l.share[min(int(late/bucket), buckets-1)] += forget

	if l.heard += l.frame; l.heard >= time.Second {
		l.heard = 0
		l.peak = (l.peak + 1) % calm
		l.peaks[l.peak] = 0
	}
	l.peaks[l.peak] = max(l.peaks[l.peak], late)
}

// target returns how long the fastest packets should wait: until all but rare of the last minute
// have arrived, or all of the last seconds.
func (l *lateness) target() time.Duration {
	i, later := buckets-1, 0.0
	for ; i > 0; i-- {
		if later += l.share[i]; later > rare {
			break
		}
	}
	peak := time.Duration(0)
	for _, p := range l.peaks {
		peak = max(peak, p)
	}
	return max(minTarget, min(time.Duration(i+1)*bucket, peak.Truncate(bucket)+bucket, maxTarget))
}
