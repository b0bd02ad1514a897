package linto

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/broker/brokertest"
)

// The example for Mosquitto lets the platform write to devices, and a device speak for itself
// only.
func TestMosquittoExample(t *testing.T) {
	dir, passwords := "../../../packaging/examples/mosquitto/", brokertest.Passwords(t, "secret", "linto", "kitchen")
	conf, err := os.ReadFile(dir + "lintod.conf")
	if err != nil {
		t.Fatal(err)
	}
	acl, err := filepath.Abs(dir + "lintod.acl")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("listener 1883\n", "", "/etc/mosquitto/lintod.passwd", passwords, "/etc/mosquitto/lintod.acl", acl).Replace(string(conf))
	m := brokertest.Start(t, text)
	m.As("kitchen", "secret")
	m.Publish("home/fromlinto/hall/probe", "forged", "-q", "1", "-r")
	m.Publish("home/fromlinto/kitchen/probe", "own", "-q", "1", "-r")
	m.As("linto", "secret")
	m.Publish("home/tolinto/kitchen/probe", "to kitchen", "-q", "1", "-r")
	m.Publish("home/tolinto/hall/probe", "to hall", "-q", "1", "-r")
	for user, want := range map[string]string{"linto": "own", "kitchen": "to kitchen"} {
		host, port, _ := strings.Cut(m.Addr(), ":")
		filter := map[string]string{"linto": "home/fromlinto/+/probe", "kitchen": "home/tolinto/#"}[user]
		out, err := exec.Command("mosquitto_sub", "-h", host, "-p", port, "-u", user, "-P", "secret", "-t", filter, "-C", "1", "-W", "30").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s reads %q, %v", user, out, err)
		}
	}
}
