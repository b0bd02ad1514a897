package linto

import (
	"testing"

	"lintod/behaviors"
)

func TestWireAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer behaviors.Answer
		want   []string // topic and payload
	}{
		{
			"shellexec",
			behaviors.Answer{Verb: "shellexec", Code: behaviors.OK, Result: []byte(`{"stdout":"a","stderr":""}`)},
			[]string{`shellexec {"stderr":"","stdout":"a"}`},
		},
		{
			"a command that fails keeps its output",
			behaviors.Answer{
				Verb: "shellexec", ID: "7", Code: behaviors.Failed, Error: "failed: exit status 3", Result: []byte(`{"stdout":"a","stderr":"b","exit_code":3}`),
			},
			[]string{`shellexec {"exit_code":3,"id":"7","status":"failed: exit status 3","stderr":"b","stdout":"a"}`},
		},
		{
			"disabled",
			behaviors.Answer{Verb: "shellexec", Code: behaviors.Disabled, Error: "disabled: set the key"},
			[]string{`shellexec {"message":"disabled: set the key","status":"disabled"}`},
		},
		{
			"the tunnel is open",
			behaviors.Answer{Verb: "startreversessh", Code: behaviors.OK, Result: []byte(`{"remote_port":2222}`)},
			[]string{`startreversessh {"reversesshstatus":"ok"}`},
		},
		{
			"the tunnel is not open",
			behaviors.Answer{Verb: "startreversessh", Code: behaviors.Refused, Error: "refused: host"},
			[]string{`startreversessh {"reversesshstatus":"refused: host","status":"refused: host"}`},
		},
		{
			"a recording is running",
			behaviors.Answer{Verb: "managemeeting", Code: behaviors.OK, Result: []byte(`{"command":"startlocalrecording","sessionname":"s"}`)},
			[]string{`muteack {}`, `managemeeting {"command":"startlocalrecording","sessionname":"s","status":"ok"}`},
		},
		{
			"an unknown command of managemeeting has no muteack",
			behaviors.Answer{Verb: "managemeeting", Code: behaviors.BadRequest, Error: "command is wrong"},
			[]string{`managemeeting {"status":"command is wrong"}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			messages := wireAnswers(tt.answer, true)
			if len(messages) != len(tt.want) {
				t.Fatalf("%d messages, want %d", len(messages), len(tt.want))
			}
			for i, m := range messages {
				if got := m.Topic + " " + string(m.Payload); got != tt.want[i] {
					t.Errorf("message %d is\n%s, want\n%s", i, got, tt.want[i])
				}
			}
		})
	}
}
