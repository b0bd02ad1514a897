package xiaozhi

import (
	"strings"

	"lintod/agent/link"
)

// Setup returns the questions of `lintod setup` for this link.
func Setup() link.Setup {
	return link.Setup{
		Name: Name, Title: "xiaozhi (Cheeko, ESP32 gateways, self-hosted servers)",
		Questions: []link.Question{
			{
				Key: "ota_url", Text: "Provisioning address (OTA), such as https://server.example/xiaozhi/ota/", Complete: withScheme,
				Flag: "ota-url", Usage: "`ADDRESS` at which the server provisions devices",
			},
			{
				Key: "profile", Text: "Profile (xiaozhi or cheeko)", Preset: func(string) string { return plain },
				Flag: "profile", Usage: "`NAME` of the server's family, xiaozhi or cheeko",
			},
		},
	}
}

// withScheme adds the scheme that people often omit.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "https://" + address
	}
	return address
}
