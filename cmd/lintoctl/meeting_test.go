package main

import (
	"fmt"
	"testing"
	"time"

	"lintod/agent/broker/brokertest"
)

// Devices report whether they record a meeting, and since when; older clients do
// not.
func TestMeetingList(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	playDevice(t, m, "old")
	startDevice(t, m, "hall", "[behaviors.managemeeting]\nenabled = true\n")
	list := func(want int, args ...string) map[string]map[string]any {
		t.Helper()
		status, out, errs := lintoctl(t.Context(), on(m, append([]string{"meeting", "list", "-json"}, args...)...)...)
		if status != want || errs != "" {
			t.Errorf("%v: status %d\n%s%s", args, status, out, errs)
		}
		bySerial := map[string]map[string]any{}
		for _, line := range lines(t, out) {
			bySerial[fmt.Sprint(line["serial"])] = line
		}
		return bySerial
	}
	before := list(0, "hall", "old")
	if before["hall"]["meeting"] != "no" || before["old"]["meeting"] != "unknown" {
		t.Errorf("before: %v", before)
	}
	if status, out, errs := lintoctl(t.Context(), on(m, "meeting", "start", "hall", "board")...); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	during := list(statusFailed, "hall", "old", "attic", "-timeout", "3s")
	if since, err := time.Parse(time.RFC3339Nano, fmt.Sprint(during["hall"]["since"])); err != nil || since.IsZero() ||
		during["hall"]["meeting"] != "yes" || during["hall"]["session"] != "board" || during["attic"]["meeting"] != "unknown" {
		t.Errorf("during: %v", during)
	}
	if status, out, errs := lintoctl(t.Context(), on(m, "meeting", "stop", "hall", "board")...); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	if after := list(0, "hall"); after["hall"]["meeting"] != "no" {
		t.Errorf("after: %v", after)
	}
	if got := list(statusUnreached, "attic", "-timeout", "500ms"); got["attic"]["meeting"] != "unknown" {
		t.Errorf("of an unreachable device: %v", got)
	}
}
