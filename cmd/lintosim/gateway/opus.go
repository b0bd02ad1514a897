package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/opus"

	"lintod/agent/base/process"
	"lintod/cmd/lintosim/speech"
)

// Sound is encoded by opusenc and decoded by a decoder in Go. lintod uses neither, so that the same
// mistake is not in both.

const (
	frameLength = 60 * time.Millisecond
	longestPCM  = 5760 // samples of 120 ms at 48 kHz
	speakLimit  = 10 * time.Second
	maxSentence = 1 << 20 // bytes of encoded speech
)

// Voice synthesises text, and returns it as Opus packets of 60 ms. It is the default of
// Options.Speak, and requires espeak-ng and opusenc.
func Voice(ctx context.Context, text string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, speakLimit)
	defer cancel()
	wav, err := filter(ctx, []byte(text), "espeak-ng", "-v", "en-us", "-s", "150", "--stdin", "--stdout")
	if err != nil {
		return nil, fmt.Errorf("speak: %w", err)
	}
	// The header of espeak-ng is a dummy.
	ogg, err := filter(ctx, wav, "opusenc", "--quiet", "--ignorelength", "--framesize", "60", "--bitrate", "24", "-", "-")
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	packets, err := oggPackets(ogg)
	if err != nil {
		return nil, err
	}
	if len(packets) < 3 {
		return nil, errors.New("opusenc returned no sound")
	}
	return packets[2:], nil // after OpusHead and OpusTags
}

// filter runs a program with in on its standard input, and returns its output.
func filter(ctx context.Context, in []byte, argv ...string) ([]byte, error) {
	child, err := process.Start(ctx, process.Command{Argv: argv, Stdin: bytes.NewReader(in)})
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(child.Stdout, maxSentence+16<<20))
	if err != nil {
		child.Kill()
	}
	return out, errors.Join(err, child.Wait())
}

// oggPackets returns the packets of an Ogg stream, RFC 3533.
func oggPackets(file []byte) ([][]byte, error) {
	var packets [][]byte
	var packet []byte
	for len(file) > 0 {
		if len(file) < 27 || string(file[:4]) != "OggS" {
			return nil, errors.New("the output of opusenc is not Ogg")
		}
		table := int(file[26])
		if len(file) < 27+table {
			return nil, errors.New("an Ogg page is truncated")
		}
		segments, body := file[27:27+table], file[27+table:]
		for _, n := range segments {
			if len(body) < int(n) {
				return nil, errors.New("an Ogg page is truncated")
			}
			packet, body = append(packet, body[:n]...), body[n:]
			if n < 255 { // the lacing value that ends a packet
				packets, packet = append(packets, packet), nil
			}
		}
		file = body
	}
	return packets, nil
}

// decoder decodes the sound of one device.
type decoder struct {
	opus opus.Decoder
	out  []int16
}

func newDecoder() *decoder {
	d, err := opus.NewDecoderWithOutput(speech.Rate, 1)
	if err != nil {
		panic(err) // 16 kHz mono is a rate of Opus
	}
	return &decoder{opus: d, out: make([]int16, longestPCM)}
}

// decode returns the sound of one packet at speech.Rate, valid until the next call.
func (d *decoder) decode(packet []byte) ([]int16, error) {
	if len(packet) == 0 {
		return nil, errors.New("an empty packet is not Opus")
	}
	n, err := d.opus.DecodeToInt16(packet, d.out)
	if err != nil {
		return nil, err
	}
	return d.out[:n], nil
}

// rawPCM returns 60 ms of a tone at 24 kHz, as sent by a server whose encoder has failed.
func rawPCM() []byte {
	pcm := make([]byte, 0, 2880)
	for i := range 1440 {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(int16(8000*(1-i/24%2*2))))
	}
	return pcm
}
