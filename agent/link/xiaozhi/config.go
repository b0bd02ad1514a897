package xiaozhi

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/certificate"
	"lintod/agent/base/config"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/link/xiaozhi/udp"
)

// Config is the [xiaozhi] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	// Profile is the family of the server: "xiaozhi" or "cheeko".
	Profile string `toml:"profile"`
	// Transport is how the server is reached: "mqtt" (with UDP), "websocket", or "auto"
	// (decision C44).
	Transport string `toml:"transport"`
	// ota.Config is the provisioning server, which provides the following settings.
	// Without it:
	ota.Config
	// Broker is mqtt://host:port or mqtts://host:port.
	Broker         string `toml:"broker"`
	ClientID       string `toml:"client_id"`
	Username       string `toml:"username"`
	PasswordFile   string `toml:"password_file"`
	PublishTopic   string `toml:"publish_topic"`
	SubscribeTopic string `toml:"subscribe_topic"`
	// WebSocketURL is ws:// or wss://.
	WebSocketURL     string `toml:"websocket_url"`
	WebSocketVersion int    `toml:"websocket_version"`
	TokenFile        string `toml:"token_file"`
	// UDPIV is how the initial counter block of a packet is formed: "header", or
	// "nonce_seq" (decision C19).
	UDPIV string `toml:"udp_iv"`
	// UDPPing makes "ping:" and the session's id the first datagram; the profile
	// cheeko always sends it.
	UDPPing bool `toml:"udp_ping"`
	// Complexity of the encoder is from 0 (least CPU time) to 10 (best sound).
	Complexity int `toml:"complexity"`
	// Listening is who ends an utterance that was not started by holding a button.
	Listening message.Listening `toml:"listening"`
	// FullDuplex declares that the microphone does not pick up the speaker although
	// there is no echo cancellation, as with a headset.
	FullDuplex bool `toml:"full_duplex"`
	// SilenceTimeout ends a session without speech; 0 disables it (decision C60).
	SilenceTimeout config.Duration `toml:"silence_timeout"`
	// AllowRemoteSpeech lets the server speak without a request (decision C56).
	AllowRemoteSpeech bool `toml:"allow_remote_speech"`
	// AllowRemoteListening lets it open the microphone afterwards, if it asks a
	// question.
	AllowRemoteListening bool `toml:"allow_remote_listening"`
	// Tools are verbs that the server may call in addition to those that every device
	// offers.
	Tools []string `toml:"tools"`
	// FirmwareCommand is the program, with arguments, that receives firmware offers.
	FirmwareCommand []string `toml:"firmware_command"`
}

// The values of Config.Profile and Config.Transport.
const (
	plain        = "xiaozhi"
	cheeko       = "cheeko"
	auto         = "auto"
	useMQTT      = "mqtt"
	useWebSocket = "websocket"
)

// cheekoSilence is how long Cheeko's devices wait for speech.
const cheekoSilence = 30 * time.Second

// Defaults returns the values that the protocol recommends.
func Defaults() Config {
	return Config{
		Profile: plain, Transport: auto, Config: ota.Config{KeyFormat: "hex"}, PublishTopic: "device-server", UDPIV: string(udp.IVHeader),
		WebSocketVersion: 1, Listening: message.Auto, SilenceTimeout: config.Duration(time.Minute),
		AllowRemoteSpeech: true,
	}
}

// Validate reports invalid values. A disabled link is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	var ps config.Problems
	ps.OneOf("profile", c.Profile, plain, cheeko)
	ps.OneOf("transport", c.Transport, auto, useMQTT, useWebSocket)
	ps.OneOf("udp_iv", c.UDPIV, string(udp.IVHeader), string(udp.IVNonceSequence))
	ps.OneOf("listening", string(c.Listening), string(message.Auto), string(message.Manual), string(message.Realtime))
	ps.Within("silence_timeout", c.SilenceTimeout, 0, time.Hour)
	if c.WebSocketVersion < 1 || c.WebSocketVersion > 3 {
		ps.Add("websocket_version", c.WebSocketVersion, "1, 2 or 3")
	}
	if c.Complexity < 0 || c.Complexity > 10 {
		ps.Add("complexity", c.Complexity, "a number from 0 to 10")
	}
	if c.URL != "" {
		ps = append(ps, c.Config.Validate()...)
		for key, value := range map[string]string{"broker": c.Broker, "websocket_url": c.WebSocketURL} {
			if value != "" {
				ps.Add(key, value, "no value, because ota_url provides it")
			}
		}
		return ps
	}
	switch {
	case c.Broker == "" && c.WebSocketURL == "":
		ps.Add("ota_url", nil, "the server's address for devices, such as \"https://server.example/xiaozhi/ota/\"; or broker or websocket_url")
	case c.Transport == useMQTT && c.Broker == "":
		ps.Add("broker", c.Broker, "the gateway's address, because transport is \"mqtt\"")
	case c.Transport == useWebSocket && c.WebSocketURL == "":
		ps.Add("websocket_url", c.WebSocketURL, "the server's address, because transport is \"websocket\"")
	}
	if c.Broker != "" {
		addresses(&ps, "broker", c.Broker, "mqtt", "mqtts")
		for key, value := range map[string]string{"client_id": c.ClientID, "publish_topic": c.PublishTopic} {
			if value == "" || len(value) > 256 {
				ps.Add(key, value, "1 to 256 bytes")
			}
		}
		if len(c.SubscribeTopic) > 120 {
			ps.Add("subscribe_topic", c.SubscribeTopic, "at most 120 bytes: some gateways cannot read longer ones")
		}
	}
	if c.WebSocketURL != "" {
		addresses(&ps, "websocket_url", c.WebSocketURL, "ws", "wss")
	}
	return ps
}

func addresses(ps *config.Problems, key, value string, schemes ...string) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) || u.User != nil {
		ps.Add(key, config.Redact(value), "an address that starts with "+strings.Join(schemes, ":// or ")+"://, without a user")
	}
}

// silence is how long a session may last without speech.
func (c Config) silence() time.Duration {
	d := c.SilenceTimeout.Std()
	switch {
	case d == 0:
		return forever
	case c.Profile == cheeko:
		return min(d, cheekoSilence)
	}
	return d
}

// language is the language in hello: only Cheeko's servers use it.
func (c Config) language(tag string) string {
	if c.Profile != cheeko {
		return ""
	}
	short, _, _ := strings.Cut(tag, "-")
	return short
}

// pings reports whether the first datagram is a ping.
func (c Config) pings() bool { return c.UDPPing || c.Profile == cheeko }

// tls is the TLS configuration of all connections; nil for the system's CAs.
func (c Config) tls() (*tls.Config, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pool, err := certificate.Pool(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
