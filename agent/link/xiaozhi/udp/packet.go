package udp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math/bits"
)

const (
	headerSize = 16
	typeAudio  = 1
	// bufferSize is the longest datagram that is read whole: the fall-back of a
	// gateway whose encoder failed, 60 ms of PCM in one datagram, can be counted as
	// TooLarge then.
	bufferSize = 4096
)

// Header is what a packet says about itself. On the wire it has 16 bytes, big
// endian: type, flags, length of the payload (2 bytes), connection id, timestamp,
// sequence (4 bytes each).
type Header struct {
	ConnectionID, Timestamp, Sequence uint32
}

// Why a datagram is no valid packet.
var (
	errShort      = errors.New("shorter than a header")
	errType       = errors.New("not of type 1")
	errLength     = errors.New("shorter than its header says")
	errConnection = errors.New("of another connection id")
	errTooLarge   = errors.New("payload too large")
)

// Cipher encrypts or decrypts the packets of one session. The key is the same in
// both directions. One goroutine uses it at a time.
type Cipher struct {
	block      cipher.Block
	mode       Mode
	nonce      [16]byte
	connection uint32

	// Here, and not on the stack, so that a packet allocates nothing: cipher.NewCTR
	// allocates a stream for each.
	counter, stream [16]byte
}

// NewCipher makes the Cipher of a session; of s, it uses Key, Nonce, ConnectionID
// and IV.
func NewCipher(s Settings) *Cipher {
	block, err := aes.NewCipher(s.Key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	return &Cipher{block: block, mode: s.IV, nonce: s.Nonce, connection: s.ConnectionID}
}

// Seal appends the packet of opus to dst, and returns it. opus has 65535 bytes at
// most and does not overlap dst.
func (c *Cipher) Seal(dst []byte, timestamp, sequence uint32, opus []byte) []byte {
	start := len(dst)
	dst = append(dst, typeAudio, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(opus)))
	dst = binary.BigEndian.AppendUint32(dst, c.connection)
	dst = binary.BigEndian.AppendUint32(dst, timestamp)
	dst = binary.BigEndian.AppendUint32(dst, sequence)
	dst = append(dst, opus...)
	c.crypt(dst[start:])
	return dst
}

// Open decrypts a datagram in place. The payload that it returns is a part of
// packet; bytes beyond the stated length are ignored, and so are the flags.
func (c *Cipher) Open(packet []byte) (h Header, opus []byte, err error) {
	if len(packet) < headerSize {
		return h, nil, errShort
	}
	if packet[0] != typeAudio {
		return h, nil, errType
	}
	length := int(binary.BigEndian.Uint16(packet[2:]))
	h = Header{
		ConnectionID: binary.BigEndian.Uint32(packet[4:]),
		Timestamp:    binary.BigEndian.Uint32(packet[8:]),
		Sequence:     binary.BigEndian.Uint32(packet[12:]),
	}
	switch {
	case h.ConnectionID != c.connection:
		return h, nil, errConnection
	case length > MaxPayload: // before errLength: it may not have fitted in the buffer
		return h, nil, errTooLarge
	case length > len(packet)-headerSize:
		return h, nil, errLength
	}
	packet = packet[:headerSize+length]
	c.crypt(packet)
	return h, packet[headerSize:], nil
}

// crypt encrypts or decrypts the payload of a packet, which is the same in AES-CTR
// (NIST SP 800-38A, 6.5): the counter block is one number of 128 bits.
func (c *Cipher) crypt(packet []byte) {
	copy(c.counter[:], packet[:headerSize])
	if c.mode == IVNonceSequence {
		copy(c.counter[:12], c.nonce[:12])
	}
	high, low := binary.BigEndian.Uint64(c.counter[:]), binary.BigEndian.Uint64(c.counter[8:])
	var carry uint64
	for text := packet[headerSize:]; len(text) > 0; {
		c.block.Encrypt(c.stream[:], c.counter[:])
		n := min(len(text), len(c.stream))
		for i := range n {
			text[i] ^= c.stream[i]
		}
		text = text[n:]
		low, carry = bits.Add64(low, 1, 0)
		high += carry
		binary.BigEndian.PutUint64(c.counter[:], high)
		binary.BigEndian.PutUint64(c.counter[8:], low)
	}
}
