package setup

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"lintod/agent/base/process"
)

// StartService enables and starts lintod.service, or restarts it with a
// changed configuration.
func StartService(ctx context.Context) error {
	for _, verb := range []string{"enable", "restart"} {
		child, err := process.Start(ctx, process.Command{
			Argv:  []string{"systemctl", verb, "lintod.service"},
			Stdin: strings.NewReader(""),
		})
		if err != nil {
			return err
		}
		if err := child.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// HasService reports whether systemd runs here and has a unit lintod
// with that configuration.
func HasService(config string) bool {
	if filepath.Clean(config) != unitConfig {
		return false
	}
	for _, path := range []string{"/run/systemd/system", unitFile} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}
