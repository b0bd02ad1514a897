package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"lintod/agent"
	"lintod/agent/link"
)

// nobody is the answer that omits an optional value.
const nobody = "-"

// MaxImport limits the file of an older client, in bytes; a real one has 2 kB.
const MaxImport = 1 << 20

// Flags returns the flags of `lintod setup` that answer the platforms'
// questions, with their descriptions.
func Flags() map[string]string {
	flags := map[string]string{}
	for _, p := range append(agent.Platforms(), agent.Additional()...) {
		for _, q := range p.Questions {
			flags[q.Flag] = q.Usage
		}
	}
	return flags
}

// Import reads the configuration of a platform's older client as presets. Notes are
// clauses that describe what was not imported. The platform is Setup.Platform, or
// the first one with an older client.
func (s *Setup) Import(raw []byte) (notes []string, err error) {
	for _, p := range agent.Platforms() {
		if p.Import == nil || s.Platform != "" && s.Platform != p.Name {
			continue
		}
		got, err := p.Import(raw)
		s.Platform, s.Answers, s.platform.secret = p.Name, got.Answers, got.Secret
		return got.Notes, err
	}
	return nil, errors.New("this platform has no older client to import from")
}

// choosePlatform asks for the platform if there are several.
func (s *Setup) choosePlatform(ctx context.Context) error {
	all := agent.Platforms()
	var names, titles []string
	for _, p := range all {
		names, titles = append(names, p.Name), append(titles, p.Title)
	}
	for {
		name := s.Platform
		switch {
		case name == "" && (s.Yes || len(all) == 1):
			name = names[0]
		case name == "":
			var err error
			s.Terminal.say("Platforms:")
			if name, err = s.Terminal.choose(ctx, "Platform", names, titles, names[0]); err != nil {
				return err
			}
		}
		for _, p := range all {
			if p.Name == name {
				return s.setPlatform(p)
			}
		}
		if s.Platform != "" || s.Yes {
			return fmt.Errorf("unknown platform %q; want one of %s", name, strings.Join(names, ", "))
		}
		s.Terminal.say("Not in the list.")
	}
}

// setPlatform enables the link of a platform, and no other, and applies its flags
// and those of the additional links.
func (s *Setup) setPlatform(chosen link.Setup) error {
	secret := s.platform.secret // from an older client
	s.platform = chosenLink{Setup: chosen, secret: secret}
	s.Given = s.Given.over(nil)
	for _, p := range agent.Platforms() {
		s.Answers[p.Name+".enabled"] = fmt.Sprint(p.Name == chosen.Name)
	}
	keys := map[string]string{} // by flag
	for _, p := range append(agent.Additional(), chosen) {
		for _, q := range p.Questions {
			keys[q.Flag] = p.Name + "." + q.Key
		}
	}
	for flag, value := range s.Flags {
		if *value == "" {
			continue
		}
		key, known := keys[flag]
		if !known {
			return fmt.Errorf("-%s does not apply to %s", flag, chosen.Title)
		}
		s.Given[key] = *value
	}
	s.Answers = s.Given.over(s.Answers)
	s.normalise(&s.platform)
	for _, p := range agent.Additional() {
		l := chosenLink{Setup: p}
		for _, q := range p.Questions {
			if s.Given[l.key(q)] != "" {
				s.enable(&l)
				break
			}
		}
	}
	return nil
}

// enable adds a link that is used in addition to the platform's.
func (s *Setup) enable(l *chosenLink) {
	s.Answers[l.Name+".enabled"] = "true"
	s.normalise(l)
	s.beside = append(s.beside, l)
}

// chosenLink is a link that is being set up.
type chosenLink struct {
	link.Setup
	secret string // the answer that is written to a file of its own
}

// key is the key of the answer to q.
func (l *chosenLink) key(q link.Question) string { return l.Name + "." + q.Key }

// secretKey is the key of the secret's file; "" if there is none.
func (l *chosenLink) secretKey() string {
	for _, q := range l.Questions {
		if q.Secret {
			return l.key(q)
		}
	}
	return ""
}

// secretFile is the name of that file, which lintod.service passes to the daemon.
func (l *chosenLink) secretFile() string {
	if l.Additional {
		return l.Name + "-password"
	}
	return "password"
}

// chosen returns all links that are being set up, that of the platform first.
func (s *Setup) chosen() []*chosenLink { return append([]*chosenLink{&s.platform}, s.beside...) }

// normalise completes the answers for a link, and omits those with the answer "-".
func (s *Setup) normalise(l *chosenLink) {
	for _, q := range l.Questions {
		key := l.key(q)
		if q.Optional && s.Answers[key] == nobody {
			delete(s.Answers, key)
			s.leaveOut(l, q.Key)
		}
		if answer := s.Answers[key]; q.Complete != nil && answer != "" {
			s.Answers[key] = q.Complete(answer)
		}
	}
}

// leaveOut removes the answers that depend on another.
func (s *Setup) leaveOut(l *chosenLink, needed string) {
	for _, q := range l.Questions {
		if q.Needs != needed {
			continue
		}
		delete(s.Answers, l.key(q))
		if q.Secret {
			l.secret = ""
		}
	}
}

// offer sets up the additional links that flags request, and offers the others if a
// broker answers.
func (s *Setup) offer(ctx context.Context) error {
	for _, l := range s.beside {
		if err := s.link(ctx, l); err != nil {
			return err
		}
	}
	for _, p := range agent.Additional() {
		l := &chosenLink{Setup: p}
		if s.Answers[p.Name+".enabled"] != "" {
			continue
		}
		address, open := s.findBroker(ctx)
		if address == "" {
			continue
		}
		yes, err := s.Terminal.consent(ctx, fmt.Sprintf("\nA broker answers at %s. Show the device to %s there?", address, p.Title))
		if err != nil {
			return err
		}
		if !yes {
			continue
		}
		s.Given[p.Name+".broker"] = address
		if open {
			s.Given[p.Name+".username"] = nobody
		}
		s.Answers = s.Given.over(s.Answers)
		s.enable(l)
		if err := s.link(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// findBroker returns the first of s.Brokers that answers, "" if none does, and
// whether it accepts anonymous clients.
func (s *Setup) findBroker(ctx context.Context) (address string, open bool) {
	for _, address := range s.Brokers {
		if answers, open := link.Look(ctx, address); answers {
			return address, open
		}
	}
	return "", false
}

// link asks for a link's answers until its platform accepts the device, or the
// owner insists.
func (s *Setup) link(ctx context.Context, l *chosenLink) error {
	for {
		for _, q := range l.Questions {
			if err := s.question(ctx, l, q); err != nil {
				return err
			}
		}
		if s.connects(ctx, l) || s.allGiven(l) {
			return nil
		}
		again, err := s.Terminal.confirm(ctx, "Change the answers?")
		if err != nil || !again {
			return err
		}
		s.forget(l)
		if l.Additional {
			continue
		}
		if err := s.serial(ctx); err != nil {
			return err
		}
	}
}

// allGiven reports whether flags answer every question about a link.
func (s *Setup) allGiven(l *chosenLink) bool {
	for _, q := range l.Questions {
		if s.Given[l.key(q)] == "" {
			return false
		}
	}
	return true
}

// forget drops the answers that are most likely wrong, or depend on the serial.
func (s *Setup) forget(l *chosenLink) {
	for _, q := range l.Questions {
		key := l.key(q)
		switch {
		case s.Given[key] != "":
		case q.Secret:
			l.secret = ""
		case q.Preset != nil && s.Answers[key] == q.Preset(s.Answers[Serial]):
			delete(s.Answers, key)
		}
	}
}

func (s *Setup) question(ctx context.Context, l *chosenLink, q link.Question) error {
	key := l.key(q)
	if s.Given[key] != "" || q.Needs != "" && s.Answers[l.Name+"."+q.Needs] == "" {
		return nil
	}
	if q.Secret {
		text := q.Text
		if l.secret != "" {
			text += " [from the old client]"
		}
		secret, err := s.Terminal.secret(ctx, text)
		if secret != "" {
			l.secret = secret
		}
		return err
	}
	preset := s.Answers[key]
	if preset == "" && q.Preset != nil {
		preset = q.Preset(s.Answers[Serial])
	}
	return s.answer(ctx, q.Text, preset, key)
}

// answer asks until the configuration accepts the answer for key.
func (s *Setup) answer(ctx context.Context, text, preset, key string) (err error) {
	for {
		if s.Answers[key], err = s.Terminal.ask(ctx, text, preset); err != nil {
			return err
		}
		if s.Answers[key] == preset {
			preset = "" // not offered again if it was invalid
		}
		for _, l := range s.chosen() {
			s.normalise(l)
		}
		problems, err := wrong(s.Answers, key)
		if err != nil || len(problems) == 0 {
			return err
		}
		s.Terminal.say("Invalid; want %s.", problems[0].Want)
	}
}

// connects tests the answers for a link as the device uses them, and prints the
// result.
func (s *Setup) connects(ctx context.Context, l *chosenLink) bool {
	answers := s.Answers
	if l.secret != "" {
		file, err := temporary(l.secret)
		if err != nil {
			s.Terminal.say("The answers cannot be tested: %s", sentence(err))
			return false
		}
		defer func() { _ = os.Remove(file) }()
		answers = Answers{l.secretKey(): file}.over(answers)
	}
	_, c, err := s.render(answers)
	if err == nil {
		s.Terminal.say("\nConnecting to %s …", l.Title)
		err = c.TryLink(ctx, l.Name)
	}
	if err != nil {
		s.Terminal.say("%s", sentence(err))
		return errors.Is(err, link.ErrActivate)
	}
	if l.Additional {
		s.Terminal.say("The broker accepts the device.")
	} else {
		s.Terminal.say("The platform accepts the device.")
	}
	return true
}

// temporary writes a secret to a file of mode 0600, because a connection
// reads its password from a file.
func temporary(secret string) (string, error) {
	f, err := os.CreateTemp("", "lintod-setup-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(secret + "\n")
	return f.Name(), errors.Join(err, f.Close())
}
