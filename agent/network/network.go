// Package network lists the network interfaces on which the device is reachable,
// as platforms show them to administrators.
//
// What must not live here: whether a broker can be reached (agent/broker), and
// any change to the network.
package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
)

// Interface is one of the device's network interfaces, with the JSON that links report.
type Interface struct {
	Name    string `json:"name"`
	Type    string `json:"type"` // "wifi" or "eth"
	IP      string `json:"ip_address"`
	MAC     string `json:"mac_address"` // empty if there is none, as for a tunnel
	Gateway string `json:"gateway_ip"`  // default gateway through this interface, of IP's family; may be empty
}

// List returns the interfaces that are up, connected and have an address that
// others can use, except the loopback interface. root is where sys and proc
// are mounted: "/". It does not use the network.
func List(root string) ([]Interface, error) {
	links, err := kernelLinks()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	list, err := describe(os.DirFS(root), links)
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	return list, nil
}

// link is the kernel's data about an interface, from netlink.
type link struct {
	name  string
	mac   string
	flags net.Flags
	addrs []netip.Addr
}

func kernelLinks() ([]link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	links := make([]link, len(interfaces))
	for i, in := range interfaces {
		links[i] = link{name: in.Name, mac: in.HardwareAddr.String(), flags: in.Flags}
		addrs, err := in.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", in.Name, err)
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				links[i].addrs = append(links[i].addrs, prefix.Addr())
			}
		}
	}
	return links, nil
}

// describe adds data from sys and proc in root to links.
func describe(root fs.FS, links []link) ([]Interface, error) {
	routes4, err := readRoutes(root, "proc/net/route", parseRoutes4)
	if err != nil {
		return nil, err
	}
	routes6, err := readRoutes(root, "proc/net/ipv6_route", parseRoutes6)
	if err != nil {
		return nil, err
	}
	list := []Interface{}
	for _, l := range links {
		ip, ok := l.address()
		if !ok {
			continue
		}
		routes := routes4
		if ip.Is6() {
			routes = routes6
		}
		list = append(list, Interface{
			Name:    l.name,
			Type:    mediumOf(root, l.name),
			IP:      ip.String(),
			MAC:     l.mac,
			Gateway: gateway(routes, l.name),
		})
	}
	return list, nil
}

// address is the one at which others reach the device: IPv4 before IPv6, and
// a self-assigned IPv4 address (RFC 3927) only if there is no better one.
func (l link) address() (netip.Addr, bool) {
	const up = net.FlagUp | net.FlagRunning
	if l.flags&up != up || l.flags&net.FlagLoopback != 0 {
		return netip.Addr{}, false
	}
	for _, fits := range []func(netip.Addr) bool{
		func(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() },
		func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() },
		func(a netip.Addr) bool { return a.Is4() && a.IsLinkLocalUnicast() },
	} {
		for _, a := range l.addrs {
			if fits(a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

func mediumOf(root fs.FS, name string) string {
	for _, mark := range []string{"wireless", "phy80211"} {
		if _, err := fs.Stat(root, path.Join("sys/class/net", name, mark)); err == nil {
			return "wifi"
		}
	}
	return "eth"
}

// readRoutes reads a table that does not exist if the kernel lacks that address
// family.
func readRoutes(root fs.FS, name string, parse func(io.Reader) ([]route, error)) ([]route, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	routes, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return routes, nil
}
