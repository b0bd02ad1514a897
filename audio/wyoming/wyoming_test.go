package wyoming_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"lintod/audio/wyoming"
	"lintod/audio/wyoming/wyomingtest"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, wire    string
		kind          string
		data, payload string
		err           error
	}{
		{name: "a type only", wire: `{"type":"describe"}` + "\n", kind: "describe"},
		{name: "data in the header", wire: `{"type":"a","data":{"x":1}}` + "\n", kind: "a", data: `{"x":1}`},
		{name: "data behind it", wire: `{"type":"a","data_length":7}` + "\n" + `{"x":1}`, kind: "a", data: `{"x":1}`},
		{name: "both: the separate data wins", wire: `{"type":"a","data":{"x":1,"y":2},"data_length":7}` + "\n" + `{"x":3}`, kind: "a", data: `{"x":3,"y":2}`},
		{name: "a payload", wire: `{"type":"audio-chunk","payload_length":3}` + "\nabc", kind: "audio-chunk", payload: "abc"},
		{name: "nulls of a Python service", wire: `{"type":"a","data":null}` + "\n", kind: "a"},
		{name: "a version and unknown fields", wire: `{"type":"a","version":"9","new":[]}` + "\r\n", kind: "a"},

		{name: "end", wire: "", err: io.EOF},
		{name: "end within a header", wire: `{"type":`, err: io.ErrUnexpectedEOF},
		{name: "end within the data", wire: `{"type":"a","data_length":7}` + "\n{", err: io.ErrUnexpectedEOF},
		{name: "end before the payload", wire: `{"type":"a","payload_length":7}` + "\n", err: io.ErrUnexpectedEOF},
		{name: "not the protocol", wire: "HTTP/1.1 400 Bad Request\r\n", err: wyoming.ErrProtocol},
		{name: "no type", wire: "{}\n", err: wyoming.ErrProtocol},
		{name: "data that is not an object", wire: `{"type":"a","data":[1]}` + "\n", err: wyoming.ErrProtocol},
		{name: "a payload of a gigabyte", wire: `{"type":"a","payload_length":1073741824}` + "\n", err: wyoming.ErrTooLong},
		{name: "data of a gigabyte", wire: `{"type":"a","data_length":1073741824}` + "\n", err: wyoming.ErrTooLong},
		{name: "a negative length", wire: `{"type":"a","payload_length":-1}` + "\n", err: wyoming.ErrTooLong},
		{name: "a header without an end", wire: strings.Repeat("x", 1<<20), err: wyoming.ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := wyoming.Read(bufio.NewReader(strings.NewReader(c.wire)))
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Fatalf("error %v, want %v", err, c.err)
				}
				return
			}
			if err != nil || e.Type != c.kind || string(e.Data) != c.data || string(e.Payload) != c.payload {
				t.Fatalf("%s, data %s, payload %q, %v", e.Type, e.Data, e.Payload, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"type":"a","data":{"x":1},"data_length":7,"payload_length":1}` + "\n" + `{"x":1}p`))
	f.Add([]byte(`{"type":"detection","data":{"name":"ok_nabu","timestamp":12}}` + "\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		e, err := wyoming.Read(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return
		}
		_, _ = e.Format()
		_ = e.Failed()
		if strings.ContainsAny(e.Type, "\"\\<>&\u2028\u2029") || strings.ToValidUTF8(e.Type, "") != e.Type || strings.ContainsFunc(e.Type, func(r rune) bool { return r < ' ' }) {
			return // Append writes our own types only
		}
		again, err := wyoming.Read(bufio.NewReader(bytes.NewReader(wyoming.Append(nil, e))))
		if err != nil || again.Type != e.Type || !bytes.Equal(again.Data, e.Data) || !bytes.Equal(again.Payload, e.Payload) {
			t.Fatalf("after writing and reading, %+v is %+v, %v", e, again, err)
		}
	})
}

func TestHostPort(t *testing.T) {
	for address, want := range map[string]string{
		"wyoming://127.0.0.1:10400": "127.0.0.1:10400",
		"tcp://[::1]:10400":         "[::1]:10400",
		"127.0.0.1:10400":           "",
		"http://127.0.0.1:10400":    "",
		"wyoming://host":            "",
		"wyoming://host:1/path":     "",
		"wyoming://a:b@host:1":      "",
		"":                          "",
	} {
		if got, err := wyoming.HostPort(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
}

// The sound sent to a service is the sound that arrives there.
func TestConn(t *testing.T) {
	echo := wyomingtest.New(t, func(c *wyoming.Conn) {
		for {
			e, err := c.Receive(0)
			if err != nil {
				return
			}
			f, err := e.Format()
			if err != nil {
				_ = c.Send(wyoming.Failure, map[string]string{"text": "planted-reason"})
				continue
			}
			if c.SendChunk(f, 7, e.Payload) != nil {
				return
			}
		}
	})
	c, err := wyoming.Dial(t.Context(), echo.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendChunk(wyoming.Speech(), 20, []byte("samples")); err != nil {
		t.Fatal(err)
	}
	e, err := c.Receive(time.Minute)
	if f, _ := e.Format(); err != nil || e.Type != wyoming.AudioChunk || f != wyoming.Speech() || string(e.Payload) != "samples" {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := c.Send(wyoming.AudioStart, wyoming.Format{Rate: 16000, Width: 4, Channels: 1}); err != nil {
		t.Fatal(err)
	}
	if e, err = c.Receive(time.Minute); err != nil || e.Type != wyoming.Failure || !strings.Contains(e.Failed().Error(), "planted-reason") {
		t.Fatalf("%v, %v", e.Failed(), err)
	}
}

func TestServiceRestarts(t *testing.T) {
	s := wyomingtest.New(t, func(c *wyoming.Conn) { _ = c.Send(wyoming.Info, nil); _, _ = c.Receive(0) })
	for range 3 {
		c, err := wyoming.Dial(t.Context(), s.Address)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := c.Receive(time.Minute); err != nil || e.Type != wyoming.Info {
			t.Fatalf("%+v, %v", e, err)
		}
		s.Stop()
		if _, err := c.Receive(time.Minute); err == nil {
			t.Fatal("the connection outlived the service")
		}
		c.Close()
		if _, err := wyoming.Dial(t.Context(), s.Address); err == nil {
			t.Fatal("the stopped service answers")
		}
		s.Start()
	}
}

func TestNothingBlocksForever(t *testing.T) {
	silent := wyomingtest.New(t, func(c *wyoming.Conn) { _, _ = c.Receive(0) })

	t.Run("no answer", func(t *testing.T) {
		c, err := wyoming.Dial(t.Context(), silent.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Receive(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("the context ends", func(t *testing.T) {
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		c, err := wyoming.Dial(ctx, silent.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		failed := make(chan error)
		go func() { _, err := c.Receive(0); failed <- err }()
		cancel(stopped)
		if err := <-failed; !errors.Is(err, stopped) {
			t.Fatalf("error %v", err)
		}
	})
}

func BenchmarkSendChunk(b *testing.B) {
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	go func() {
		if conn, err := sink.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	c, err := wyoming.Dial(b.Context(), "tcp://"+sink.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	samples := make([]byte, 2560)
	b.ReportAllocs()
	b.SetBytes(int64(len(samples)))
	for b.Loop() {
		if err := c.SendChunk(wyoming.Speech(), 123456, samples); err != nil {
			b.Fatal(err)
		}
	}
}
