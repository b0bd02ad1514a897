package network

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Flags of a route, <linux/route.h>.
const (
	routeUp      = 0x1
	routeGateway = 0x2
)

// route is a default route through a gateway.
type route struct {
	link    string
	gateway netip.Addr
	metric  uint64
}

// gateway returns the gateway of the preferred default route through link, or "".
func gateway(routes []route, link string) string {
	var best *route
	for i, r := range routes {
		if r.link == link && (best == nil || r.metric < best.metric) {
			best = &routes[i]
		}
	}
	if best == nil {
		return ""
	}
	return best.gateway.String()
}

// parseRoutes4 parses the default routes in the format of /proc/net/route:
//
//	Iface Destination Gateway  Flags RefCnt Use Metric Mask ...
//	eth0  00000000    0102A8C0 0003  0      0   100    00000000 ...
//
// Addresses are 32-bit words in the byte order of the machine.
func parseRoutes4(r io.Reader) ([]route, error) {
	return parseRoutes(r, func(f []string) (route, bool) {
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" || !throughGateway(f[3]) {
			return route{}, false
		}
		word, err1 := strconv.ParseUint(f[2], 16, 32)
		metric, err2 := strconv.ParseUint(f[6], 10, 32)
		if err1 != nil || err2 != nil {
			return route{}, false
		}
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], uint32(word))
		return route{f[0], netip.AddrFrom4(ip), metric}, true
	})
}

// parseRoutes6 parses the default routes in the format of
// /proc/net/ipv6_route, which has no header: destination, its prefix length,
// source, its prefix length, next hop, metric, references, uses, flags,
// device.
func parseRoutes6(r io.Reader) ([]route, error) {
	return parseRoutes(r, func(f []string) (route, bool) {
		if len(f) < 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" || !throughGateway(f[8]) {
			return route{}, false
		}
		hop, err1 := hex.DecodeString(f[4])
		metric, err2 := strconv.ParseUint(f[5], 16, 32)
		ip, ok := netip.AddrFromSlice(hop)
		if err1 != nil || err2 != nil || !ok || !ip.Is6() {
			return route{}, false
		}
		return route{f[9], ip, metric}, true
	})
}

func throughGateway(flags string) bool {
	n, err := strconv.ParseUint(flags, 16, 32)
	return err == nil && n&routeUp != 0 && n&routeGateway != 0
}

// parseRoutes keeps the lines that parse accepts.
func parseRoutes(r io.Reader, parse func(fields []string) (route, bool)) (routes []route, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if route, ok := parse(strings.Fields(lines.Text())); ok {
			routes = append(routes, route)
		}
	}
	return routes, lines.Err()
}
