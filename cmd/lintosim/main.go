// Command lintosim simulates a platform of LinTO or of the xiaozhi family, or a FoloToy
// integration, so that a developer can test a device without a server.
//
// This package contains the flags, the prompt, and the screen output. The platforms are in the
// packages platform (LinTO), gateway (xiaozhi), and integrator (FoloToy), which the tests use as
// well.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
