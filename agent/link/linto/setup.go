package linto

import (
	"strings"

	"lintod/agent/link"
)

// Setup is what the owner of a device is asked for this link.
func Setup() link.Setup {
	return link.Setup{
		Name: Name, Title: "LinTO", Import: importLegacy,
		Questions: []link.Question{
			{
				Key: "broker", Text: "Broker, such as mqtt://192.168.1.2 or mqtts://broker.example", Complete: withScheme,
				Flag: "broker", Usage: "`ADDRESS` of the platform's broker",
			},
			{
				Key: "scope", Text: "Scope, the application's name in topics", Preset: func(string) string { return Defaults().Scope },
				Flag: "scope", Usage: "`NAME` of the application, the first level of its topics",
			},
			{
				// The stock broker's ACL wants the user name to be the serial (protocol 1.2.1).
				Key: "username", Text: "User at the broker (- for none)", Preset: func(serial string) string { return serial }, Optional: true,
				Flag: "username", Usage: "`NAME` of the account at the broker",
			},
			{
				Key: "password_file", Text: "Password (is not shown)", Needs: "username", Secret: true,
				Flag: "password-file", Usage: "`FILE` with the password of the account",
			},
		},
	}
}

// withScheme completes what people leave out of an address.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "mqtt://" + address
	}
	return address
}
