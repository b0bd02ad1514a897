// Package linto is the link to a LinTO platform: topics, payloads and
// acknowledgements of its MQTT protocol, and nothing else. What a verb does is
// in behaviors, when the microphone is open in agent/turn, how the connection
// lives in agent/broker.
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
	// Login, where it has a URL, is instead of static credentials and Scope.
	Login login.Config `toml:"login"`
	// Scope is the application's level of the topic tree.
	Scope string `toml:"scope"`
	// StatusRetain makes the broker keep status and last will (decision C1).
	StatusRetain bool `toml:"status_retain"`
	// Speak is which spelling of an answer is spoken: "text" or "phonetic" (L15).
	Speak string `toml:"speak"`
	// MeetingAck answers managemeeting with a muteack too, as the document has it
	// (decision L1).
	MeetingAck bool `toml:"meeting_ack"`
	// AnswerTimeout is how long the platform may think.
	AnswerTimeout config.Duration `toml:"answer_timeout"`
	// Mode is how an utterance travels: as one "file" when it is over, or as a live
	// "stream" (protocol 1.5).
	Mode string `toml:"mode"`
	// Chunk is how much sound one message of a stream carries, in whole frames.
	Chunk config.Duration `toml:"chunk"`
	// TextRequest is where texts go, written ones and those that a stream
	// understood: "nlp", "chatbot", or "none" (1.4, 1.6).
	TextRequest string `toml:"text_request"`
	// DisplayCommand is the program, with arguments, that shows what the platform
	// wants shown; see programs.
	DisplayCommand []string `toml:"display_command"`
	// ActionCommand is the program that gets custom actions and chatbot answers.
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

// Defaults are those of the protocol's recommendations.
func Defaults() Config {
	return Config{
		Config:        broker.Defaults(),
		Scope:         "blk",
		Speak:         "text",
		MeetingAck:    true,
		AnswerTimeout: config.Duration(15 * time.Second),
		Mode:          fileMode,
		Chunk:         config.Duration(60 * time.Millisecond),
		TextRequest:   toNLP,
	}
}

// For completes the table for the device of that serial: the stock broker's ACL wants
// the user name to be the serial (protocol 1.2.1).
func (c Config) For(serial string) Config {
	if c.Username == "" && c.PasswordFile != "" && !c.Login.Enabled() {
		c.Username = serial
	}
	return c
}

// Validate reports values that cannot be right. A link that is not enabled is
// not checked.
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
