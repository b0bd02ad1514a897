package websocket

import (
	"encoding/binary"
	"errors"
)

// The types of content in a binary message of version 2 or 3.
const (
	typeOpus = 0
	typeJSON = 1
)

var (
	errFrame = errors.New("not a valid frame")
	errType  = errors.New("a frame of an unknown type")
)

// appendFrame appends the binary message of an Opus packet to dst.
//
//	version 1: the packet
//	version 2: version, type (2 bytes each), reserved, timestamp in ms, size (4 bytes each), the packet
//	version 3: type, reserved (1 byte each), size (2 bytes), the packet
//
// Numbers are big endian. opus has 65535 bytes at most.
func appendFrame(dst []byte, version int, timestamp uint32, opus []byte) []byte {
	switch version {
	case 2:
		dst = append(dst, 0, 2, 0, typeOpus, 0, 0, 0, 0)
		dst = binary.BigEndian.AppendUint32(dst, timestamp)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(opus)))
	case 3:
		dst = append(dst, typeOpus, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(opus)))
	}
	return append(dst, opus...)
}

// parseFrame returns the payload of a binary message, which is a part of it. Bytes
// beyond the stated size are ignored.
func parseFrame(version int, message []byte) (json bool, payload []byte, err error) {
	kind, size := 0, len(message)
	switch version {
	case 2:
		if len(message) < 16 || binary.BigEndian.Uint16(message) != 2 {
			return false, nil, errFrame
		}
		kind = int(binary.BigEndian.Uint16(message[2:]))
		stated := binary.BigEndian.Uint32(message[12:])
		message = message[16:]
		if uint64(stated) > uint64(len(message)) {
			return false, nil, errFrame
		}
		size = int(stated)
	case 3:
		if len(message) < 4 {
			return false, nil, errFrame
		}
		kind, size = int(message[0]), int(binary.BigEndian.Uint16(message[2:]))
		message = message[4:]
		if size > len(message) {
			return false, nil, errFrame
		}
	}
	if kind != typeOpus && kind != typeJSON {
		return false, nil, errType
	}
	return kind == typeJSON, message[:size], nil
}
