package udp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"testing"

	"lintod/agent/base/fuzzcost"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func settings(t testing.TB, mode Mode, nonce string) Settings {
	t.Helper()
	s := Settings{ConnectionID: 987654321, IV: mode}
	copy(s.Key[:], unhex(t, "0102030405060708090a0b0c0d0e0f10"))
	copy(s.Nonce[:], unhex(t, nonce))
	return s
}

const (
	realNonce = "010000003ade68b10000000000000000"
	seedNonce = "101112131415161718191a1b1c1d1e1f"
	twoBlocks = "f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5"
)

// vectors were generated with node, and checked with openssl enc -aes-128-ctr.
var vectors = []struct {
	name                string
	mode                Mode
	nonce               string
	timestamp, sequence uint32
	plain               string
	header, sealed      string
}{
	{"two blocks", IVHeader, realNonce, 60, 1, twoBlocks, "010000143ade68b10000003c00000001", "3958847711024da6c51a5bfcbd4207cee3295c5f"},
	{"the next packet", IVHeader, realNonce, 120, 2, twoBlocks, "010000143ade68b10000007800000002", "fdfacbe86f945d21e663a1e3a9545045cf345b0d"},
	{"the counter carries into the timestamp", IVHeader, realNonce, 60, 0xffffffff, twoBlocks, "010000143ade68b10000003cffffffff", "4e2629ce4e07664114f50fee54fc56963a3b4c3e"},
	{"three bytes", IVHeader, realNonce, 0x01020304, 7, "fcfffe", "010000033ade68b10102030400000007", "227072"},
	{"empty", IVHeader, realNonce, 0, 3, "", "010000003ade68b10000000000000003", ""},
	{"ping:abc", IVHeader, realNonce, 0, 1, hex.EncodeToString([]byte("ping:abc")), "010000083ade68b10000000000000001", "e81e7eb977fdadc0"},
	{"60 ms of silence", IVHeader, realNonce, 0, 1, "fb03fffefffefffe", "010000083ade68b10000000000000001", "6374ef20b262305d"},
	{"a timestamp in seconds since 1970", IVHeader, realNonce, 0x6a1f3c00, 1, twoBlocks, "010000143ade68b16a1f3c0000000001", "e04a7188a4cca28cd719186cdcdfcafb49869abf"},
	{"silence of a call that is not accepted yet", IVHeader, realNonce, 0, 2, "bb03fffefffefffe", "010000083ade68b10000000000000002", "3635a96ba0de1129"},
	{"the nonce does not matter in header mode", IVHeader, seedNonce, 60, 1, twoBlocks, "010000143ade68b10000003c00000001", "3958847711024da6c51a5bfcbd4207cee3295c5f"},
	{"the zero mode is header", "", seedNonce, 60, 1, twoBlocks, "010000143ade68b10000003c00000001", "3958847711024da6c51a5bfcbd4207cee3295c5f"},
	{"nonce and sequence", IVNonceSequence, seedNonce, 60, 1, twoBlocks, "010000143ade68b10000003c00000001", "bc6a9bde97589f21f09495e4308dc5d48673a741"},
}

func TestPacketsOfRealGateways(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			c := NewCipher(settings(t, v.mode, v.nonce))
			want := unhex(t, v.header+v.sealed)
			if got := c.Seal(nil, v.timestamp, v.sequence, unhex(t, v.plain)); !bytes.Equal(got, want) {
				t.Errorf("Seal returned %x, want %x", got, want)
			}
			h, opus, err := c.Open(bytes.Clone(want))
			if err != nil || !bytes.Equal(opus, unhex(t, v.plain)) || h != (Header{987654321, v.timestamp, v.sequence}) {
				t.Errorf("Open returned %+v %x %v, want %s", h, opus, err, v.plain)
			}
		})
	}
}

// The sample nonce of the first description, used as a template of the header as
// real devices do, has type 0x10, which every receiver drops.
func TestSampleNonceAsTemplateIsDropped(t *testing.T) {
	packet := unhex(t, "10110014141516170000003c00000001"+"dbf9af00e04e39fdffbc6bb31544cf7ef2ee2ab0")
	c := NewCipher(settings(t, IVHeader, seedNonce))
	if _, _, err := c.Open(packet); !errors.Is(err, errType) {
		t.Errorf("Open: %v, want %v", err, errType)
	}
	copy(c.counter[:], packet)
	c.crypt(packet) // the cipher itself matches the vector
	if got := hex.EncodeToString(packet[headerSize:]); got != twoBlocks {
		t.Errorf("decrypted to %s, want %s", got, twoBlocks)
	}
}

func TestKeystream(t *testing.T) {
	packet := append(unhex(t, "010000143ade68b10000003c00000001"), make([]byte, 32)...)
	NewCipher(settings(t, IVHeader, realNonce)).crypt(packet)
	if got, want := hex.EncodeToString(packet[headerSize:]), "c1af7282e5f1bf5735f5b51151a9ed270bcebaba11bacb2a88e02668685fbb6b"; got != want {
		t.Errorf("keystream %s, want %s", got, want)
	}
}

func TestInvalidPacketsAreRejected(t *testing.T) {
	large := NewCipher(settings(t, IVHeader, realNonce)).Seal(nil, 0, 1, make([]byte, MaxPayload+1))
	pcm := NewCipher(settings(t, IVHeader, realNonce)).Seal(nil, 0, 1, make([]byte, 2880))
	tests := []struct {
		name   string
		packet []byte
		want   error
	}{
		{"nothing", nil, errShort},
		{"15 bytes", unhex(t, "010000003ade68b100000000000000"), errShort},
		{"type 0", unhex(t, "000000003ade68b10000000000000001"), errType},
		{"type 2", unhex(t, "020000003ade68b10000000000000001"), errType},
		{"shorter than stated", unhex(t, "010000043ade68b10000000000000001aabbcc"), errLength},
		{"without its payload", unhex(t, "010000143ade68b10000000000000001"), errLength},
		{"another connection", unhex(t, "010000013ade68b20000000000000001aa"), errConnection},
		{"1501 bytes", large, errTooLarge},
		{"60 ms of PCM", pcm, errTooLarge},
		{"longer than the buffer", append(unhex(t, "0100ffff3ade68b10000000000000001"), make([]byte, bufferSize-headerSize)...), errTooLarge},
		{"longer than stated", unhex(t, "010000033ade68b10102030400000007227072ffff"), nil},
		{"flags", unhex(t, "01ff00033ade68b10102030400000007227072"), nil},
		{"1500 bytes", NewCipher(settings(t, IVHeader, realNonce)).Seal(nil, 0, 1, make([]byte, MaxPayload)), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := NewCipher(settings(t, IVHeader, realNonce)).Open(tt.packet); !errors.Is(err, tt.want) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
		})
	}
}

// The tail is ignored, and the flags are part of the counter block.
func TestTheStatedLengthIsUsed(t *testing.T) {
	c := NewCipher(settings(t, IVHeader, realNonce))
	_, opus, err := c.Open(unhex(t, "010000033ade68b10102030400000007227072ffff"))
	if err != nil || hex.EncodeToString(opus) != "fcfffe" {
		t.Errorf("Open returned %x, %v", opus, err)
	}
}

// FuzzOpen compares with the standard library's CTR.
func FuzzOpen(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.header+v.sealed), v.mode == IVNonceSequence)
	}
	f.Add(unhex(f, "010000033ade68b10102030400000007227072ffff"), false)
	f.Add(unhex(f, "01ff00203ade68b1fffffffffffffffe"+twoBlocks+twoBlocks), true)
	f.Fuzz(func(t *testing.T, packet []byte, nonce bool) {
		s := settings(t, IVHeader, "ffffffffffffffffffffffffffffffff")
		if nonce {
			s.IV = IVNonceSequence
		}
		c := NewCipher(s)
		received := bytes.Clone(packet)
		var h Header
		var opus []byte
		var err error
		fuzzcost.Check(t, func() { h, opus, err = c.Open(received) })
		if err != nil {
			if !bytes.Equal(received, packet) || opus != nil {
				t.Fatal("a rejected datagram was decrypted")
			}
			return
		}
		iv := bytes.Clone(packet[:16])
		if nonce {
			copy(iv, s.Nonce[:12])
		}
		block, _ := aes.NewCipher(s.Key[:])
		want := bytes.Clone(packet[16 : 16+len(opus)])
		cipher.NewCTR(block, iv).XORKeyStream(want, want)
		if !bytes.Equal(opus, want) {
			t.Fatalf("decrypted to %x, want %x", opus, want)
		}
		if packet[1] != 0 {
			return // we send no flags
		}
		if again := c.Seal(nil, h.Timestamp, h.Sequence, opus); !bytes.Equal(again, packet[:len(again)]) {
			t.Fatalf("sealed again: %x, want %x", again, packet)
		}
	})
}

var speech = bytes.Repeat([]byte{0x58, 1, 2, 3, 4, 5, 6, 7}, 15) // 120 bytes are typical

func BenchmarkSeal(b *testing.B) {
	c := NewCipher(settings(b, IVHeader, realNonce))
	packet := make([]byte, 0, bufferSize)
	b.ReportAllocs()
	for i := range uint32(b.N) {
		packet = c.Seal(packet[:0], i*60, i, speech)
	}
}

func BenchmarkOpen(b *testing.B) {
	c := NewCipher(settings(b, IVHeader, realNonce))
	packet := c.Seal(nil, 0, 1, speech)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Open(packet); err != nil { // the payload changes each time
			b.Fatal(err)
		}
	}
}

// A reference: the same packet with the standard library's CTR.
func BenchmarkReferenceCTR(b *testing.B) {
	s := settings(b, IVHeader, realNonce)
	block, _ := aes.NewCipher(s.Key[:])
	packet := NewCipher(s).Seal(nil, 0, 1, speech)
	b.ReportAllocs()
	for b.Loop() {
		cipher.NewCTR(block, packet[:16]).XORKeyStream(packet[16:], packet[16:])
	}
}

func TestPacketAllocatesNothing(t *testing.T) {
	c := NewCipher(settings(t, IVHeader, realNonce))
	packet := make([]byte, 0, bufferSize)
	n := testing.AllocsPerRun(100, func() {
		packet = c.Seal(packet[:0], 0, 1, speech)
		if _, _, err := c.Open(packet); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
