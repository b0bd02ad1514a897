// Command lintosim is a platform in a box, of LinTO or of the xiaozhi family, or an
// integration of FoloToy: it shows in a minute what a device does, and lets a developer try one without a
// server.
//
// This package holds the flags, the prompt and what the screen shows. What the
// platforms do is in the packages platform (LinTO), gateway (xiaozhi) and integrator
// (FoloToy), which the tests use as well.
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
