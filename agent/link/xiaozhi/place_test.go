package xiaozhi

import "lintod/agent/link/xiaozhi/ota"

// place returns the settings of a server.
func place(mqtt, webSocket bool) (a ota.Answer) {
	if mqtt {
		a.MQTT = &ota.MQTT{URL: "mqtt://192.0.2.1", ClientID: "GID@@@aa@@@bb", PublishTopic: "device-server"}
	}
	if webSocket {
		a.WebSocket = &ota.WebSocket{URL: "ws://192.0.2.1/", Version: 1}
	}
	return a
}
