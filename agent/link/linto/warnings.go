package linto

import (
	"strings"

	"lintod/agent/broker"
	"lintod/agent/link"
)

// Warnings describes valid but probably mistaken settings in the table: secrets
// that are sent unprotected, files that cannot be used, and secrets that others can
// read.
func (c Config) Warnings(at link.Place) (list []string) {
	if !c.Enabled {
		return nil
	}
	if strings.HasPrefix(c.Login.URL, "http://") {
		list = append(list, "linto.login.url: http:// sends the password unencrypted; use https:// if the platform supports it")
	}
	for _, address := range c.Broker {
		if c.Login.Enabled() && broker.Unprotected(address) {
			list = append(list, "linto.broker: "+address+" sends password and token of the login unencrypted; use mqtts:// or wss:// if the broker supports it")
		}
	}
	list = append(list, link.BrokerWarnings(Name, c.Config, at)...)
	list = append(list, link.SecretWarnings("linto.login.password_file", c.Login.PasswordFile, at)...)
	return append(list, link.PoolWarnings("linto.login.ca_file", c.Login.CAFile, at)...)
}
