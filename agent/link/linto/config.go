// Package linto is the link to a LinTO platform: topics, payloads and
// acknowledgements of its MQTT protocol, and nothing else. What a verb does is
// in behaviors, when the microphone is open in agent/turn, and the connection
// in agent/broker.
//
// "Protocol 1.x" and "decision Lx, Cx" in comments refer to the tables in
// docs/linto.md.
package linto

import (
	"time"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/link/linto/login"
	"lintod/audio"
)

// Config is the [linto] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	broker.Config
	// Login, if it has a URL, replaces static credentials and Scope.
	Login login.Config `toml:"login"`
	// Scope is the application's level of the topic tree.
	Scope string `toml:"scope"`
	// StatusRetain makes the broker keep status and last will (decision C1).
	StatusRetain bool `toml:"status_retain"`
	// Speak is the spelling of answers that is spoken: "text" or "phonetic" (L15).
	Speak string `toml:"speak"`
	// MeetingAck also answers managemeeting with a muteack, as documented
	// (decision L1).
	MeetingAck bool `toml:"meeting_ack"`
	// AnswerTimeout is how long the platform may take to answer.
	AnswerTimeout config.Duration `toml:"answer_timeout"`
	// Mode is how an utterance is sent: as a "file" when it has ended, or as a live
	// "stream" (protocol 1.5).
	Mode string `toml:"mode"`
	// Chunk is the length of sound in one message of a stream, in whole frames.
	Chunk config.Duration `toml:"chunk"`
	// TextRequest is where texts are sent, written questions and
	// transcripts of streams: "nlp", "chatbot", or "none" (1.4, 1.6).
	TextRequest string `toml:"text_request"`
	// DisplayCommand is the program, with arguments, that shows what the platform
	// sends for display; see programs.
	DisplayCommand []string `toml:"display_command"`
	// ActionCommand is the program that receives custom actions and chatbot answers.
	ActionCommand []string `toml:"action_command"`
}

// The values of Config.Mode and Config.TextRequest.
const (
	fileMode   = "file"
	streamMode = "stream"
	toNLP      = "nlp"
	toChatbot  = "chatbot"
	toNobody   = "none"
)

// Defaults returns the values that the protocol recommends.
func Defaults() Config {
	return Config{
		Config:        broker.Defaults(),
		Scope:         "blk",
		Speak:         "text",
		MeetingAck:    true,
		AnswerTimeout: config.Duration(15 * time.Second),
		Mode:          fileMode,
		Chunk:         config.Duration(100 * time.Millisecond),
		TextRequest:   toNLP,
	}
}

// For completes the table for a device with that serial: the stock broker's ACL
// requires the serial as the user name (protocol 1.2.1).
func (c Config) For(serial string) Config {
	if c.Username == "" && c.PasswordFile != "" && !c.Login.Enabled() {
		c.Username = serial
	}
	return c
}

// Validate reports invalid values. A disabled link is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	var ps config.Problems
	if c.Login.Enabled() {
		ps = c.validateLogin()
	} else {
		ps = c.Config.Validate()
	}
	ps.In("login", c.Login.Validate())
	if !broker.TopicLevel(c.Scope) {
		ps.Add("scope", c.Scope, broker.WantLevel)
	}
	ps.OneOf("speak", c.Speak, "text", "phonetic")
	ps.Within("answer_timeout", c.AnswerTimeout, time.Second, 5*time.Minute)
	ps.OneOf("mode", c.Mode, fileMode, streamMode)
	ps.OneOf("text_request", c.TextRequest, toNLP, toChatbot, toNobody)
	if d := c.Chunk.Std(); d < audio.FrameTime || d > 5*audio.FrameTime || d%audio.FrameTime != 0 {
		ps.Add("chunk", c.Chunk, "20ms, 40ms, 60ms, 80ms, or 100ms")
	}
	return ps
}
