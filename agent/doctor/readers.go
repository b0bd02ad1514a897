package doctor

import (
	"context"
	"errors"

	"lintod/gpio/rfid"
)

// readers checks the card readers, if there are any.
func (x *exam) readers(ctx context.Context) {
	const do = "correct [cards.reader], or the wiring"
	if x.daemon != nil { // which has them open
		for _, r := range x.daemon.Cards.Readers {
			if r.Fault != "" {
				x.report("cards", Fail, errors.New(r.Reader+": "+r.Fault), do)
			} else {
				x.add("cards", OK, r.Reader+": the running daemon reads from it", "")
			}
		}
		return
	}
	for _, r := range (&rfid.Reader{Config: x.cfg.Cards.Reader, Host: x.Host, Root: x.Root}).Check(ctx) {
		if r.Err != nil {
			x.report("cards", Fail, errors.New(r.Reader+": "+r.Err.Error()), do)
		} else {
			x.add("cards", OK, r.Reader+": "+r.Text, "")
		}
	}
}
