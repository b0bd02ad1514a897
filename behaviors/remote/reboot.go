package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lintod/agent/base/state"
	"lintod/behaviors"
)

const (
	rebootFile = "reboot.json" // in the state directory
	// bootID identifies the current boot (random(4)).
	bootID = "/proc/sys/kernel/random/boot_id"
	// shutdownLimit is how long systemd may take to stop lintod.
	shutdownLimit = 3 * time.Minute
)

// restart reboots the device, which stops the daemon; the daemon after the boot sends the answer.
type restart struct {
	stateDir string
	bootID   string // file
	reboot   func(context.Context) error
}

// rebooting is a reboot in progress.
type rebooting struct {
	Seq  uint64 `json:"seq"`  // of the request, in the ledger
	Boot string `json:"boot"` // the boot before it
}

func (r restart) boot() (string, error) {
	raw, err := os.ReadFile(r.bootID)
	return strings.TrimSpace(string(raw)), err
}

func (r restart) do(ctx context.Context, call behaviors.Call) (any, error) {
	boot, err := r.boot()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(rebooting{call.Seq, boot})
	if err != nil {
		return nil, err
	}
	if err := state.ReplaceFile(filepath.Join(r.stateDir, rebootFile), raw); err != nil {
		return nil, behaviors.Fail(behaviors.Failed, "the start of the reboot could not be recorded: %v", err)
	}
	if err := r.reboot(ctx); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(shutdownLimit):
		return nil, fmt.Errorf("systemd has not stopped lintod within %v", shutdownLimit)
	}
}

func (r restart) resume(_ context.Context, call behaviors.Call) (any, error) {
	raw, err := state.ReadFile(filepath.Join(r.stateDir, rebootFile), 1<<16)
	var began rebooting
	if err == nil {
		err = json.Unmarshal(raw, &began)
	}
	now, bootErr := r.boot()
	if err != nil || bootErr != nil || began.Seq != call.Seq || began.Boot == now {
		return nil, behaviors.Fail(behaviors.Interrupted, "lintod was restarted, but the device was not")
	}
	return struct{}{}, nil
}

func rebootVerb(c Switch, stateDir string, reboot func(context.Context) error) behaviors.Verb {
	r := restart{stateDir, bootID, reboot}
	return behaviors.Verb{
		Name: "reboot", About: "Restart the device.", Power: behaviors.Privileged,
		Limits: c.limits("reboot"),
		Do:     r.do, Resume: r.resume,
	}
}
