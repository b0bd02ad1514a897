package broker

import (
	"context"
	"slices"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// BenchmarkRoundTrip measures ping → pong through Mosquitto. One Conn asks;
// another and the bare library answer alternately, so that both are measured
// under the same load. The ratio is what matters.
func BenchmarkRoundTrip(b *testing.B) {
	m := newMosquitto(b)
	ctx := context.Background()
	pong := make(chan struct{}, 1)
	asker := start(b, []string{m.URL()}, func(d *device) {
		d.Config.ClientID = "asker"
		d.Subscribe = []string{"+/pong"}
		d.Handle = func(context.Context, Message) { pong <- struct{}{} }
	})
	<-asker.online
	defer asker.end(b)
	echo := start(b, []string{m.URL()}, func(d *device) {
		d.Config.ClientID = "echo"
		d.Subscribe = []string{"conn/ping"}
		d.Handle = func(ctx context.Context, m Message) {
			_ = d.Publish(ctx, Message{Topic: "conn/pong", Payload: m.Payload})
		}
	})
	<-echo.online
	defer echo.end(b)
	defer bareEcho(b, m.URL()).Disconnect(100)

	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, name := range []string{"conn", "paho"} {
			began := time.Now()
			if err := asker.Publish(ctx, Message{Topic: name + "/ping", Payload: []byte("{}")}); err != nil {
				b.Fatal(err)
			}
			<-pong
			times[name] = append(times[name], time.Since(began))
		}
	}
	at := func(name string, part float64) float64 {
		slices.Sort(times[name])
		return float64(times[name][int(part*float64(len(times[name])-1))].Microseconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at("conn", 0.5), "conn-p50-µs")
	b.ReportMetric(at("conn", 0.99), "conn-p99-µs")
	b.ReportMetric(at("conn", 0.5)/at("paho", 0.5), "p50-ratio")
	b.ReportMetric(at("conn", 0.99)/at("paho", 0.99), "p99-ratio")
}

// bareEcho answers with the library alone, as in its documentation.
func bareEcho(b *testing.B, url string) mqtt.Client {
	b.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("paho"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		b.Fatal(token.Error())
	}
	token := client.Subscribe("paho/ping", 0, func(c mqtt.Client, m mqtt.Message) {
		c.Publish("paho/pong", 0, false, m.Payload())
	})
	if token.Wait() && token.Error() != nil {
		b.Fatal(token.Error())
	}
	return client
}

// BenchmarkPublish publishes a frame of a live stream: 20 ms of 16 kHz PCM.
func BenchmarkPublish(b *testing.B) {
	m := newMosquitto(b)
	d := start(b, []string{m.URL()}, nil)
	<-d.online
	defer d.end(b)
	ctx, frame := context.Background(), make([]byte, 640)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if err := d.Publish(ctx, Message{Topic: "streaming/chunk", Payload: frame}); err != nil {
			b.Fatal(err)
		}
	}
}
