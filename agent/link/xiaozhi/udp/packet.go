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
	// bufferSize is the longest datagram that is read completely: the fallback of a
	// gateway whose encoder failed, 60 ms of PCM in one datagram, is then counted
	// as TooLarge.
	bufferSize = 4096
)

// Header is the header of a packet, 16 bytes, big endian: type, flags, length of
// the payload (2 bytes), connection id, timestamp, sequence (4 bytes each).
type Header struct {
	ConnectionID, Timestamp, Sequence uint32
}

// Why a datagram is not a valid packet.
var (
	errShort      = errors.New("shorter than a header")
	errType       = errors.New("not of type 1")
	errLength     = errors.New("shorter than the length in its header")
	errConnection = errors.New("of another connection id")
	errTooLarge   = errors.New("payload too large")
)

// Cipher encrypts or decrypts the packets of one session. The key is the same in
// both directions. It must not be used concurrently.
type Cipher struct {
	block      cipher.Block
	mode       Mode
	nonce      [16]byte
	connection uint32

	// Fields instead of local variables, so that a packet allocates nothing:
	// cipher.NewCTR allocates a stream for each packet.
	counter, stream [16]byte
}

// NewCipher makes the Cipher of a session. It uses Key, Nonce, ConnectionID and
// IV of s.
func NewCipher(s Settings) *Cipher {
	block, err := aes.NewCipher(s.Key[:])
	if err != nil {
		panic(err) // only for a key of invalid length
	}
	return &Cipher{block: block, mode: s.IV, nonce: s.Nonce, connection: s.ConnectionID}
}

// Seal appends the packet with opus to dst, and returns it. opus has at most
// 65535 bytes and must not overlap dst.
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

// Open decrypts a datagram in place. The returned payload is a part of
// packet. Bytes beyond the stated length and the flags are ignored.
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
	case length > MaxPayload: // before errLength: it may not have fit into the buffer
		return h, nil, errTooLarge
	case length > len(packet)-headerSize:
		return h, nil, errLength
	}
	packet = packet[:headerSize+length]
	c.crypt(packet)
	return h, packet[headerSize:], nil
}

// crypt encrypts or decrypts the payload of a packet, which is the same operation
// in AES-CTR (NIST SP 800-38A, 6.5): the counter block is one number of 128 bits.
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
