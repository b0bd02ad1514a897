package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"lintod/agent/turn"
	"lintod/audio/recorder"
	"lintod/behaviors/meeting"
)

// meetingDelay is how late the sound of a recording may arrive, because each batch
// of frames costs power.
const meetingDelay = 200 * time.Millisecond

// eventQueue is how many starts and ends of recordings wait to be reported.
const eventQueue = 16

// meetings connects the recorder to the device: LEDs and status follow it,
// and a recording that ends by itself is reported to the platform.
type meetings struct {
	recorder  *recorder.Recorder
	enabled   bool
	post      func(turn.Event)
	reporters []meetingReporter
	log       *slog.Logger
	events    chan recorder.Event
}

func (a *Agent) newMeetings() *meetings {
	m := &meetings{
		enabled: a.cfg.Behaviors.Managemeeting.Enabled, post: func(e turn.Event) { a.turns.Post(e) },
		events: make(chan recorder.Event, eventQueue), log: component(a.log, "recorder"),
	}
	m.recorder = &recorder.Recorder{
		Config: a.cfg.meetings().Config,
		Listen: func() recorder.Stream {
			s := a.hub.Listen(false)
			s.SetDelay(meetingDelay)
			return s
		},
		Muted:   func() bool { return a.settings.Get().Muted },
		Changed: m.note,
		Log:     m.log,
	}
	return m
}

// note must not block. The recorder makes few events. One that does not fit is
// only late, because the next one reports the state too.
func (m *meetings) note(e recorder.Event) {
	select {
	case m.events <- e:
	default:
		m.log.Warn("start or end of a recording not reported", "session", e.Session)
	}
}

// meetings returns the [behaviors.managemeeting] table, completed with values
// of the device.
func (c Config) meetings() meeting.Config {
	m := c.Behaviors.Managemeeting
	if m.Directory == "" {
		m.Directory = filepath.Join(c.Device.StateDir, "meetings")
	}
	return m
}

// report reports what the recorder does, until ctx ends.
func (m *meetings) report(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-m.events:
			m.changed(ctx, e)
		}
	}
}

func (m *meetings) changed(ctx context.Context, e recorder.Event) {
	event := turn.MeetingEnded
	if e.Recording {
		event = turn.MeetingBegan
	}
	m.post(event)
	if e.Recording || e.Err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, reporter := range m.reporters {
		reporter.ReportMeeting(ctx, e.Session, e.Err)
	}
}

// toggle starts or stops a recording by button.
func (m *meetings) toggle(ctx context.Context) error {
	if !m.enabled {
		return fmt.Errorf("recording is disabled; set enabled = true in [behaviors.managemeeting]")
	}
	if name, _ := m.recorder.Active(); name != "" {
		file, err := m.recorder.Stop(ctx, name)
		if err == nil {
			m.log.Info("recording stopped by button", "file", file.Path)
		}
		return err
	}
	return m.recorder.Start(ctx, "button-"+time.Now().Format("2006-01-02-1504"))
}
