package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settings are lines for the tables of a device's configuration. The zero value uses no sound
// hardware.
type settings struct {
	linto, audio, more string
	env                []string
}

// device starts lintod and waits until it is online.
func (b *bench) device(ctx context.Context, serial string, s settings) (*exec.Cmd, error) {
	conf := filepath.Join(b.dir, serial+".toml")
	if s.audio == "" {
		s.audio = "input = \"null\"\noutput = \"null\"\n"
	}
	text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\nvolume = 100\n[linto]\nenabled = true\nbroker = %q\nscope = \"bench\"\n%s[audio]\n%s%s",
		serial, filepath.Join(b.dir, serial), b.socket(serial), b.url(), s.linto, s.audio, s.more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// As in the systemd unit. The thread continues, because the servers that it has started end
	// with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(time.Millisecond), 0, 0, 0); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // 0: unchanged
	return b.launch(ctx, serial, s.env, "bin/lintod", "-config", conf)
}

func (b *bench) socket(serial string) string { return filepath.Join(b.dir, serial+".sock") }

func (b *bench) silent(ctx context.Context, serial string) (*exec.Cmd, error) {
	return b.device(ctx, serial, settings{})
}

// node starts the reference: a Node.js client that connects, publishes its status, and answers
// pings.
func (b *bench) node(ctx context.Context, serial string) (*exec.Cmd, error) {
	const script = `
const c = require('mqtt').connect(process.argv[1]), t = 'bench/', sn = process.argv[2]
c.on('connect', () => c.subscribe(t + 'tolinto/' + sn + '/#', () =>
  c.publish(t + 'fromlinto/' + sn + '/status', JSON.stringify({connexion: 'online', on: new Date()}))))
c.on('message', () => c.publish(t + 'fromlinto/' + sn + '/pong', '{}'))`
	return b.launch(ctx, serial, nil, "nodejs", "-e", script, b.url(), serial)
}

func (b *bench) launch(ctx context.Context, serial string, env []string, argv ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs:/usr/lib/nodejs")
	cmd.Env = append(cmd.Env, env...)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := b.expect("bench/fromlinto/" + serial + "/status"); err != nil {
		end(cmd)
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, log)
	}
	return cmd, nil
}

// end kills a process, and its group if it has its own: a shell does not end with its pipe.
func end(cmd *exec.Cmd) {
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
