package platform_test

import (
	"bytes"
	"os/exec"
	"testing"

	"lintod/cmd/lintosim/platform"
)

var accounts = map[string]string{"kitchen": "pw-kitchen", "cellar": "pw-cellar", "admin": "pw-admin"}

func login(user string) []string { return []string{"-u", user, "-P", accounts[user]} }

func TestUnknownClientsAreRejected(t *testing.T) {
	sim := start(t, platform.Options{Users: accounts})
	need(t, "mosquitto_pub")
	for _, args := range [][]string{
		nil,
		{"-u", "kitchen", "-P", "wrong"},
		{"-u", "nobody", "-P", "pw-kitchen"},
	} {
		d := &device{t: t, sim: sim, serial: "kitchen", login: args}
		if out, err := d.tryPublish("demo/fromlinto/kitchen/status", []byte("{}")); err == nil {
			t.Errorf("mosquitto_pub %v was accepted: %s", args, out)
		}
	}
	if got := sim.Messages(); len(got) > 0 {
		t.Errorf("messages of unknown clients: %+v", got)
	}
}

func TestOneDeviceCannotReachAnother(t *testing.T) {
	sim := start(t, platform.Options{Users: accounts})
	kitchen := newDevice(t, sim, "kitchen", login("kitchen")...)
	cellar := &device{t: t, sim: sim, serial: "cellar", login: login("cellar"), received: make(chan received, 10)}
	cellar.subscribe("demo/tolinto/kitchen/#") // answered with a failure code
	cellar.subscribe("#")
	cellar.subscribe("demo/tolinto/cellar/#")

	// Writing to another device's topics is ignored, as with mosquitto.
	for _, topic := range []string{"demo/tolinto/kitchen/shellexec", "demo/fromlinto/kitchen/status", "other"} {
		if out, err := cellar.tryPublish(topic, []byte(`{"from":"cellar"}`)); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// Reading is impossible: the first message that cellar gets is its own.
	for _, serial := range []string{"kitchen", "cellar"} {
		if _, err := sim.Publish("demo/tolinto/"+serial+"/ping", []byte("{}"), false); err != nil {
			t.Fatal(err)
		}
	}
	kitchen.next("ping") // not the shellexec
	cellar.next("ping")
	if got := sim.Messages(); len(got) > 0 {
		t.Errorf("forbidden messages: %+v", got)
	}
}

func TestAdministratorReachesAllDevices(t *testing.T) {
	sim := start(t, platform.Options{Users: accounts})
	kitchen := newDevice(t, sim, "kitchen", login("kitchen")...)
	admin := &device{t: t, sim: sim, serial: "kitchen", login: login("admin")}
	if out, err := admin.tryPublish("demo/tolinto/kitchen/ping", []byte("{}")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kitchen.next("ping")
}

func TestLastWillOnAnotherDevicesTopicIsRejected(t *testing.T) {
	need(t, "mosquitto_pub")
	sim := start(t, platform.Options{Users: accounts})
	d := &device{t: t, sim: sim, login: login("cellar")}
	for topic, allowed := range map[string]bool{
		"demo/fromlinto/cellar/status":  true,
		"demo/fromlinto/kitchen/status": false,
	} {
		cmd := exec.Command("mosquitto_pub", d.args("-t", "demo/fromlinto/cellar/x", "-m", "x",
			"--will-topic", topic, "--will-payload", "gone")...)
		var out bytes.Buffer
		cmd.Stderr = &out
		if err := cmd.Run(); (err == nil) != allowed {
			t.Errorf("will on %s: %v %s; want allowed=%v", topic, err, out.String(), allowed)
		}
	}
}

func TestAccountMayUseOnlyItsOwnTopics(t *testing.T) {
	for topic, want := range map[string]bool{
		"demo/tolinto/kitchen/#":          true,
		"+/tolinto/kitchen/#":             true,
		"demo/fromlinto/kitchen/status":   true,
		"demo/tolinto/kitchen":            true,
		"demo/tolinto/cellar/#":           false,
		"demo/tolinto/+/#":                false,
		"demo/+/kitchen/#":                false,
		"demo/#":                          false,
		"#":                               false,
		"#/tolinto/kitchen":               false,
		"$SYS/tolinto/kitchen":            false,
		"$share/tolinto/kitchen/tolinto":  false,
		"$share/g/demo/tolinto/kitchen/#": false,
		"":                                false,
	} {
		if got := platform.Allows(accounts, "kitchen", topic); got != want {
			t.Errorf("kitchen on %q: %v; want %v", topic, got, want)
		}
	}
	if !platform.Allows(nil, "", "#") {
		t.Error("without accounts everything is allowed")
	}
	if platform.Allows(map[string]string{"+": "x"}, "+", "demo/tolinto/+/x") {
		t.Error("a name with a wildcard has permissions")
	}
}
