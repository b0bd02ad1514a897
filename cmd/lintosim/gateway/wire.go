package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packet types of MQTT 3.1.1 that gateway A supports.
const (
	typeConnect     = 1
	typeConnAck     = 2
	typePublish     = 3
	typeSubscribe   = 8
	typeSubAck      = 9
	typePingRequest = 12
	typePingAnswer  = 13
	typeDisconnect  = 14
)

// brokenRule is the reason why gateway A closes a connection.
type brokenRule struct{ rule, text string }

func (b *brokenRule) Error() string { return b.rule + ": " + b.text }

func breaks(rule, format string, args ...any) error {
	return &brokenRule{rule, fmt.Sprintf(format, args...)}
}

var errIncomplete = errors.New("incomplete")

// nextPacket splits off the first received packet. It fails with errIncomplete while the packet is
// incomplete. limit is the maximum size of the whole packet.
func nextPacket(in []byte, limit int) (packet, rest []byte, err error) {
	length, size := 0, 0
	for shift := 0; ; shift += 7 {
		if size == 4 {
			return nil, nil, breaks("MQTT 2.2.3", "the remaining length has more than 4 bytes")
		}
		if len(in) < 2+size {
			return nil, nil, errIncomplete
		}
		digit := in[1+size]
		size++
		length |= int(digit&127) << shift
		if digit&128 == 0 {
			break
		}
	}
	whole := 1 + size + length
	if whole > limit {
		return nil, nil, breaks("G9", "a packet of %d bytes; the limit is %d", whole, limit)
	}
	if len(in) < whole {
		return nil, nil, errIncomplete
	}
	return in[:whole], in[whole:], nil
}

// body returns what follows the fixed header of a packet.
func body(packet []byte) []byte {
	i := 1
	for packet[i]&128 != 0 {
		i++
	}
	return packet[i+1:]
}

// field parses a string or bytes preceded by the length.
func field(b []byte) (value, rest []byte, err error) {
	if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
		return nil, nil, breaks("MQTT 1.5.3", "a field is truncated")
	}
	n := int(binary.BigEndian.Uint16(b))
	return b[2 : 2+n], b[2+n:], nil
}

// connect contains what gateway A uses of a CONNECT.
type connect struct {
	level                        byte
	flags                        byte
	keepAlive                    int // seconds
	clientID, username, password string
}

// readConnect does not support wills: the topic and message of a will are interpreted as user name
// and password, G2.
func readConnect(b []byte) (c connect, err error) {
	_, b, err = field(b) // any protocol name
	if err != nil {
		return c, err
	}
	if len(b) < 4 {
		return c, breaks("MQTT 3.1", "CONNECT is truncated")
	}
	c.level, c.flags, c.keepAlive = b[0], b[1], int(binary.BigEndian.Uint16(b[2:]))
	if c.level != 3 && c.level != 4 {
		return c, nil // the rest may have a different format
	}
	b = b[4:]
	for _, f := range []struct {
		present bool
		to      *string
	}{{true, &c.clientID}, {c.flags&0x80 != 0, &c.username}, {c.flags&0x40 != 0, &c.password}} {
		if !f.present {
			continue
		}
		var value []byte
		if value, b, err = field(b); err != nil {
			return c, err
		}
		*f.to = string(value)
	}
	return c, nil
}

// publish is a PUBLISH with QoS 0.
type publish struct {
	topic   string
	payload []byte
}

func readPublish(packet []byte) (p publish, err error) {
	if qos := packet[0] >> 1 & 3; qos != 0 {
		return p, breaks("G5", "PUBLISH with QoS %d; only 0 is supported", qos)
	}
	topic, payload, err := field(body(packet))
	if err != nil {
		return p, err
	}
	return publish{string(topic), payload}, nil
}

// subscribe contains what gateway A uses of a SUBSCRIBE: it reads the packet ID at a fixed offset,
// G6, and only the first topic, G7.
type subscribe struct {
	id    uint16
	topic string
	more  bool // topics after the first
}

func readSubscribe(packet []byte) (s subscribe, err error) {
	if len(packet) < 6 {
		return s, breaks("MQTT 3.8", "SUBSCRIBE is truncated")
	}
	s.id = binary.BigEndian.Uint16(packet[2:])
	b := body(packet)
	if len(b) < 2 {
		return s, breaks("MQTT 3.8", "SUBSCRIBE is truncated")
	}
	topic, rest, err := field(b[2:])
	if err != nil {
		return s, err
	}
	s.topic, s.more = string(topic), len(rest) > 1
	return s, nil
}

func connAck(code byte) []byte { return []byte{typeConnAck << 4, 2, 0, code} }

func subAck(id uint16) []byte { return []byte{typeSubAck << 4, 3, byte(id >> 8), byte(id), 0} }

func pingAnswer() []byte { return []byte{typePingAnswer << 4, 0} }

// publishPacket returns a PUBLISH with QoS 0 of any length.
func publishPacket(topic string, payload []byte) []byte {
	length := 2 + len(topic) + len(payload)
	b := []byte{typePublish << 4}
	for n := length; ; {
		digit := byte(n % 128)
		n /= 128
		if n == 0 {
			b = append(b, digit)
			break
		}
		b = append(b, digit|128)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	return append(append(b, topic...), payload...)
}
