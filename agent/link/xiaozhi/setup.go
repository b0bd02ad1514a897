package xiaozhi

import (
	"strings"

	"lintod/agent/link"
)

// Setup is what the owner of a device is asked for this link.
func Setup() link.Setup {
	return link.Setup{
		Name: Name, Title: "xiaozhi (Cheeko, ESP32 gateways, self-hosted servers)",
		Questions: []link.Question{
			{
				Key: "ota_url", Text: "Address for devices (OTA), such as https://server.example/xiaozhi/ota/", Complete: withScheme,
				Flag: "ota-url", Usage: "`ADDRESS` by which the server provisions devices",
			},
			{
				Key: "profile", Text: "Profile (xiaozhi or cheeko)", Preset: func(string) string { return plain },
				Flag: "profile", Usage: "`NAME` of the server's family, xiaozhi or cheeko",
			},
		},
	}
}

// withScheme completes what people leave out of an address.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "https://" + address
	}
	return address
}
