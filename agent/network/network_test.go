package network

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// namespaceEnv makes the test binary, run in a network namespace of its own,
// set up interfaces and run the comparison there.
const namespaceEnv = "NETWORK_TEST_NAMESPACE"

const running = net.FlagUp | net.FlagRunning

func addrs(list ...string) (parsed []netip.Addr) {
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

// word4 returns an IPv4 address as this machine's kernel prints it in
// /proc/net/route.
func word4(a string) string {
	ip := netip.MustParseAddr(a).As4()
	return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(ip[:]))
}

func tree(routes4, routes6 string, wifi ...string) fstest.MapFS {
	root := fstest.MapFS{
		"proc/net/route":      {Data: []byte("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" + routes4)},
		"proc/net/ipv6_route": {Data: []byte(routes6)},
	}
	for _, path := range wifi {
		root[path] = &fstest.MapFile{Mode: os.ModeDir | 0o755}
	}
	return root
}

func default4(link, gateway string, metric int) string {
	return fmt.Sprintf("%s\t00000000\t%s\t0003\t0\t0\t%d\t00000000\t0\t0\t0\n", link, word4(gateway), metric)
}

const zero6 = "00000000000000000000000000000000"

func default6(link, hop, metric, flags string) string {
	return fmt.Sprintf("%s 00 %s 00 %s %s 00000002 00000000 %s %8s\n", zero6, zero6, hop, metric, flags, link)
}

func TestDescribe(t *testing.T) {
	const mac = "b8:27:eb:00:00:01"
	for name, test := range map[string]struct {
		links []link
		root  fstest.MapFS
		want  []Interface
	}{
		"wired with its gateway": {
			[]link{{"eth0", mac, running, addrs("10.0.0.5", "fd00::5")}},
			tree(default4("eth0", "10.0.0.1", 100)+"eth0\t"+word4("10.0.0.0")+"\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n", ""),
			[]Interface{{"eth0", "eth", "10.0.0.5", mac, "10.0.0.1"}},
		},
		"each its own gateway, the preferred one": {
			[]link{{"eth0", mac, running, addrs("10.0.0.5")}, {"wlan0", mac, running, addrs("192.168.1.5")}},
			tree(default4("wlan0", "192.168.1.254", 600)+default4("wlan0", "192.168.1.1", 300)+default4("eth0", "10.0.0.1", 0), "", "sys/class/net/wlan0/wireless"),
			[]Interface{{"eth0", "eth", "10.0.0.5", mac, "10.0.0.1"}, {"wlan0", "wifi", "192.168.1.5", mac, "192.168.1.1"}},
		},
		"Wi-Fi with a driver without the old interface": {
			[]link{{"wlp1s0", mac, running, addrs("10.0.0.5")}},
			tree("", "", "sys/class/net/wlp1s0/phy80211"),
			[]Interface{{"wlp1s0", "wifi", "10.0.0.5", mac, ""}},
		},
		"IPv6 alone": {
			[]link{{"eth0", mac, running, addrs("fe80::1", "2001:db8::5")}},
			tree("", default6("eth0", "fe800000000000000000000000000001", "00000400", "00450003")+default6("lo", zero6, "ffffffff", "00200200")),
			[]Interface{{"eth0", "eth", "2001:db8::5", mac, "fe80::1"}},
		},
		"a self-assigned address is better than none": {
			[]link{{"eth0", mac, running, addrs("169.254.7.7", "fe80::1")}, {"eth1", mac, running, addrs("169.254.7.8", "10.0.0.5")}},
			tree("", ""),
			[]Interface{{"eth0", "eth", "169.254.7.7", mac, ""}, {"eth1", "eth", "10.0.0.5", mac, ""}},
		},
		"a tunnel has no hardware address": {
			[]link{{"tun0", "", running, addrs("10.8.0.2")}},
			tree("", ""),
			[]Interface{{"tun0", "eth", "10.8.0.2", "", ""}},
		},
		"a kernel without route tables": {
			[]link{{"eth0", mac, running, addrs("10.0.0.5")}},
			fstest.MapFS{},
			[]Interface{{"eth0", "eth", "10.0.0.5", mac, ""}},
		},
		"unusable": {
			[]link{
				{"lo", "", running | net.FlagLoopback, addrs("127.0.0.1", "10.1.1.1")},
				{"down", mac, 0, addrs("10.0.0.5")},
				{"unplugged", mac, net.FlagUp, addrs("10.0.0.6")},
				{"no-address", mac, running, nil},
				{"link-local", mac, running, addrs("fe80::1")},
			},
			tree(default4("down", "10.0.0.1", 0), ""),
			[]Interface{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := describe(test.root, test.links)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("\ngot  %+v, %v\nwant %+v", got, err, test.want)
			}
		})
	}
}

func TestJSONNamesAreTheProtocols(t *testing.T) {
	text, err := json.Marshal(Interface{"eth0", "eth", "10.0.0.5", "b8:27:eb:00:00:01", "10.0.0.1"})
	const want = `{"name":"eth0","type":"eth","ip_address":"10.0.0.5","mac_address":"b8:27:eb:00:00:01","gateway_ip":"10.0.0.1"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestOddRoutesAreSkipped(t *testing.T) {
	for name, line := range map[string]string{
		"not the default": "eth0 0000000A 0100000A 0003 0 0 0 000000FF",
		"half of all":     "eth0 00000000 0100000A 0003 0 0 0 00000080", // 0.0.0.0/1, of a VPN
		"no gateway":      "eth0 00000000 00000000 0001 0 0 0 00000000",
		"down":            "eth0 00000000 0100000A 0002 0 0 0 00000000",
		"short":           "eth0 00000000 0100000A 0003",
		"not a number":    "eth0 00000000 zz00000A 0003 0 0 0 00000000",
		"no metric":       "eth0 00000000 0100000A 0003 0 0 x 00000000",
		"too long":        "eth0 00000000 9100000A00 0003 0 0 0 00000000",
	} {
		if routes, err := parseRoutes4(strings.NewReader(line + "\n")); err != nil || len(routes) > 0 {
			t.Errorf("%s: %v, %v", name, routes, err)
		}
	}
	for name, line := range map[string]string{
		"not the default": strings.Replace(default6("eth0", zero6, "00000400", "00000003"), " 00 ", " 40 ", 1),
		"no gateway":      default6("eth0", zero6, "00000400", "00000001"),
		"four bytes":      default6("eth0", "fe800001", "00000400", "00000003"),
		"odd":             default6("eth0", zero6+"0", "00000400", "00000003"),
	} {
		if routes, err := parseRoutes6(strings.NewReader(line)); err != nil || len(routes) > 0 {
			t.Errorf("%s: %v, %v", name, routes, err)
		}
	}
}

func TestEndlessLineIsAnError(t *testing.T) {
	if _, err := describe(tree(strings.Repeat("x", 1<<20), ""), nil); err == nil || !strings.Contains(err.Error(), "proc/net/route") {
		t.Errorf("error is %v", err)
	}
}

// ip runs ip(8) and decodes its output.
func ip(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"-j"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

// compareWithIP compares List with the output of ip(8).
func compareWithIP(t *testing.T) []Interface {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIPPED: no ip(8); install iproute2")
	}
	var links []struct {
		Name  string   `json:"ifname"`
		MAC   string   `json:"address"`
		Type  string   `json:"link_type"`
		Flags []string `json:"flags"`
		Addrs []struct {
			Family, Local, Scope string
		} `json:"addr_info"`
	}
	ip(t, &links, "addr")
	gateways := func(family string) map[string]string {
		var routes []struct{ Gateway, Dev string }
		ip(t, &routes, family, "route", "show", "default")
		found := map[string]string{}
		for _, r := range routes {
			if found[r.Dev] == "" {
				found[r.Dev] = r.Gateway // ip prints the preferred one first
			}
		}
		return found
	}
	gateways4, gateways6 := gateways("-4"), gateways("-6")

	want := map[string]Interface{}
	for _, l := range links {
		if l.Type == "loopback" || !slices.Contains(l.Flags, "LOWER_UP") {
			continue
		}
		for _, family := range []string{"inet6", "inet"} {
			for _, a := range l.Addrs {
				if a.Family != family || a.Scope != "global" {
					continue
				}
				gateway := gateways4[l.Name]
				if family == "inet6" {
					gateway = gateways6[l.Name]
				}
				want[l.Name] = Interface{Name: l.Name, IP: a.Local, MAC: l.MAC, Gateway: gateway}
				break
			}
		}
	}
	got, err := List("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range got {
		expected := want[in.Name]
		expected.Type = in.Type // not reported by ip
		if in != expected {
			t.Errorf("\ngot     %+v\nip says %+v", in, expected)
		}
	}
	if len(got) != len(want) {
		t.Errorf("\ngot     %+v\nip says %+v", got, want)
	}
	return got
}

func TestListOnThisMachine(t *testing.T) {
	if os.Getenv(namespaceEnv) == "" {
		t.Logf("%+v", compareWithIP(t))
	}
}

func TestListInANamespace(t *testing.T) {
	if os.Getenv(namespaceEnv) != "" {
		inNamespace(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can create a network namespace")
	}
	child := exec.Command(os.Args[0], "-test.run=^TestListInANamespace$", "-test.v")
	child.Env = append(os.Environ(), namespaceEnv+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func inNamespace(t *testing.T) {
	if got := compareWithIP(t); len(got) > 0 {
		t.Fatalf("an empty namespace has %+v", got)
	}
	for _, command := range []string{
		"link add veth0 type veth peer name peer0",
		"link add veth1 type veth peer name peer1",
		"addr add 10.9.8.2/24 dev veth0",
		"addr add fd01::2/64 dev veth1 nodad",
		"link set veth0 up", "link set peer0 up", "link set veth1 up", "link set peer1 up",
		"route add default via 10.9.8.1 dev veth0 metric 200",
		"route add default via 10.9.8.3 dev veth0 metric 100",
		"-6 route add default via fd01::1 dev veth1",
	} {
		ip(t, nil, strings.Fields(command)...)
	}
	awaitState(t, "veth0", "UP")
	awaitState(t, "veth1", "UP")
	gateways := map[string]string{}
	for _, in := range compareWithIP(t) {
		gateways[in.Name] = in.Gateway
	}
	if len(gateways) != 2 || gateways["veth0"] != "10.9.8.3" || gateways["veth1"] != "fd01::1" {
		t.Errorf("gateways are %v", gateways)
	}
	ip(t, nil, "link", "set", "peer0", "down")
	awaitState(t, "veth0", "LOWERLAYERDOWN")
	if got := compareWithIP(t); len(got) != 1 || got[0].Name != "veth1" {
		t.Errorf("with the cable unplugged: %+v", got)
	}
}

// awaitState waits for the kernel, which reports a change of the carrier later.
func awaitState(t *testing.T, name, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var links []struct{ Operstate string }
		ip(t, &links, "link", "show", name)
		if links[0].Operstate == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s, not %s", name, links[0].Operstate, want)
		}
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add(default4("eth0", "10.0.0.1", 100))
	f.Add(default6("eth0", "fe800000000000000000000000000001", "00000400", "00450003"))
	f.Fuzz(func(t *testing.T, text string) {
		routes4, _ := parseRoutes4(strings.NewReader(text))
		routes6, _ := parseRoutes6(strings.NewReader(text))
		for _, r := range slices.Concat(routes4, routes6) {
			if !r.gateway.IsValid() || gateway([]route{r}, r.link) == "" {
				t.Errorf("%q gives %+v", text, r)
			}
		}
	})
}
