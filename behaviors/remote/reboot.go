package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lintod/agent/base/process"
	"lintod/agent/base/state"
	"lintod/behaviors"
)

const (
	rebootFile = "reboot.json" // in the state directory
	// bootFile names the kernel's present boot (random(4)).
	bootFile = "/proc/sys/kernel/random/boot_id"
	// shutdownLimit is how long systemd may take to stop lintod.
	shutdownLimit = 3 * time.Minute
	// systemdLimit is how long systemd may take to say when it started.
	systemdLimit = 30 * time.Second
)

// restart reboots the device, which stops the daemon; the daemon after the boot sends the answer.
type restart struct {
	stateDir string
	boot     func(context.Context) (string, error) // names the present boot
	reboot   func(context.Context) error
}

// rebooting is a reboot in progress.
type rebooting struct {
	Seq  uint64 `json:"seq"`  // of the request, in the ledger
	Boot string `json:"boot"` // the boot before it
}

// bootID names the present boot: that of the kernel, and the start of systemd. The first one
// alone stays the same when a container boots, and the second one may repeat itself where
// there is no clock.
func bootID(ctx context.Context) (string, error) {
	kernel, err := os.ReadFile(bootFile)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, systemdLimit)
	defer cancel()
	child, err := process.Start(ctx, process.Command{
		Argv:  []string{"systemctl", "show", "--property=UserspaceTimestamp,UserspaceTimestampMonotonic"},
		Stdin: strings.NewReader(""),
	})
	if err != nil {
		return "", err
	}
	systemd, err := io.ReadAll(io.LimitReader(child.Stdout, 1<<10))
	return string(kernel) + string(systemd), errors.Join(err, child.Wait())
}

func (r restart) do(ctx context.Context, call behaviors.Call) (any, error) {
	boot, err := r.boot(ctx)
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

func (r restart) resume(ctx context.Context, call behaviors.Call) (any, error) {
	raw, err := state.ReadFile(filepath.Join(r.stateDir, rebootFile), 1<<16)
	var began rebooting
	if err == nil {
		err = json.Unmarshal(raw, &began)
	}
	now, bootErr := r.boot(ctx)
	if bootErr != nil {
		return nil, behaviors.Fail(behaviors.Interrupted, "lintod was restarted, and perhaps the device: %v", bootErr)
	}
	if err != nil || began.Seq != call.Seq || began.Boot == now {
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
