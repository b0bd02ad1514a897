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

// nobody is the answer that leaves out what is optional.
const nobody = "-"

// MaxImport bounds the file of an older client; a real one has 2 kB. In bytes.
const MaxImport = 1 << 20

// Flags are those of `lintod setup` that answer the platforms' questions, with
// what each is for.
func Flags() map[string]string {
	flags := map[string]string{}
	for _, p := range agent.Platforms() {
		for _, q := range p.Questions {
			flags[q.Flag] = q.Usage
		}
	}
	return flags
}

// Import reads the configuration of the older client of a platform, and makes
// presets of it. Notes are clauses on what was not taken over. The platform is that
// of Setup.Platform, or the first that has had such a client.
func (s *Setup) Import(raw []byte) (notes []string, err error) {
	for _, p := range agent.Platforms() {
		if p.Import == nil || s.Platform != "" && s.Platform != p.Name {
			continue
		}
		got, err := p.Import(raw)
		s.Platform, s.Answers, s.secret = p.Name, got.Answers, got.Secret
		return got.Notes, err
	}
	return nil, errors.New("no client came before on this platform")
}

// choosePlatform asks for it where there are several.
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
			return fmt.Errorf("platform %q is not one of %s", name, strings.Join(names, ", "))
		}
		s.Terminal.say("That is none of these.")
	}
}

// setPlatform enables the link of a platform, and no other, and takes its flags.
func (s *Setup) setPlatform(chosen link.Setup) error {
	s.platform = chosen
	s.Given = s.Given.over(nil)
	for _, p := range agent.Platforms() {
		s.Answers[p.Name+".enabled"] = fmt.Sprint(p.Name == chosen.Name)
	}
	for flag, value := range s.Flags {
		if *value == "" {
			continue
		}
		known := false
		for _, q := range chosen.Questions {
			if q.Flag == flag {
				s.Given[s.key(q)], known = *value, true
			}
		}
		if !known {
			return fmt.Errorf("-%s is not asked for %s", flag, chosen.Title)
		}
	}
	s.Answers = s.Given.over(s.Answers)
	s.normalise()
	return nil
}

// key is that of the answer to q.
func (s *Setup) key(q link.Question) string { return s.platform.Name + "." + q.Key }

// normalise completes the answers for the platform, and leaves out what "-" is the
// answer to.
func (s *Setup) normalise() {
	for _, q := range s.platform.Questions {
		key := s.key(q)
		if q.Optional && s.Answers[key] == nobody {
			delete(s.Answers, key)
			s.leaveOut(q.Key)
		}
		if answer := s.Answers[key]; q.Complete != nil && answer != "" {
			s.Answers[key] = q.Complete(answer)
		}
	}
}

// leaveOut removes the answers that need another.
func (s *Setup) leaveOut(needed string) {
	for _, q := range s.platform.Questions {
		if q.Needs != needed {
			continue
		}
		delete(s.Answers, s.key(q))
		if q.Secret {
			s.secret = ""
		}
	}
}

// link asks for the platform until it lets the device in, or the owner insists.
func (s *Setup) link(ctx context.Context) error {
	for {
		for _, q := range s.platform.Questions {
			if err := s.question(ctx, q); err != nil {
				return err
			}
		}
		if s.connects(ctx) || s.allGiven() {
			return nil
		}
		again, err := s.Terminal.confirm(ctx, "Change the answers?")
		if err != nil || !again {
			return err
		}
		s.forget()
		if err := s.serial(ctx); err != nil {
			return err
		}
	}
}

// allGiven tells that there is nothing to be asked about the platform.
func (s *Setup) allGiven() bool {
	for _, q := range s.platform.Questions {
		if s.Given[s.key(q)] == "" {
			return false
		}
	}
	return true
}

// forget drops the answers that are wrong most likely, or follow the serial.
func (s *Setup) forget() {
	for _, q := range s.platform.Questions {
		key := s.key(q)
		switch {
		case s.Given[key] != "":
		case q.Secret:
			s.secret = ""
		case q.Preset != nil && s.Answers[key] == q.Preset(s.Answers[Serial]):
			delete(s.Answers, key)
		}
	}
}

func (s *Setup) question(ctx context.Context, q link.Question) error {
	key := s.key(q)
	if s.Given[key] != "" || q.Needs != "" && s.Answers[s.platform.Name+"."+q.Needs] == "" {
		return nil
	}
	if q.Secret {
		text := q.Text
		if s.secret != "" {
			text += " [that of the old client]"
		}
		secret, err := s.Terminal.secret(ctx, text)
		if secret != "" {
			s.secret = secret
		}
		return err
	}
	preset := s.Answers[key]
	if preset == "" && q.Preset != nil {
		preset = q.Preset(s.Answers[Serial])
	}
	return s.answer(ctx, q.Text, preset, key)
}

// answer asks until the configuration takes the answer at key.
func (s *Setup) answer(ctx context.Context, text, preset, key string) (err error) {
	for {
		if s.Answers[key], err = s.Terminal.ask(ctx, text, preset); err != nil {
			return err
		}
		if s.Answers[key] == preset {
			preset = "" // that was wrong, if we come back
		}
		s.normalise()
		problems, err := wrong(s.Answers, key)
		if err != nil || len(problems) == 0 {
			return err
		}
		s.Terminal.say("Not possible; want %s.", problems[0].Want)
	}
}

// connects tries the answers as the device will use them, and says how that went.
func (s *Setup) connects(ctx context.Context) bool {
	answers := s.Answers
	if s.secret != "" {
		file, err := temporary(s.secret)
		if err != nil {
			s.Terminal.say("The answers cannot be tried: %s", sentence(err))
			return false
		}
		defer func() { _ = os.Remove(file) }()
		answers = Answers{s.secretKey(): file}.over(answers)
	}
	_, c, err := s.render(answers)
	if err == nil {
		s.Terminal.say("\nConnecting to %s …", s.platform.Title)
		err = c.TryLinks(ctx)
	}
	if err != nil {
		s.Terminal.say("%s", sentence(err))
		return false
	}
	s.Terminal.say("The platform lets the device in.")
	return true
}

// secretKey is the key that names the file of the secret; "" where there is none.
func (s *Setup) secretKey() string {
	for _, q := range s.platform.Questions {
		if q.Secret {
			return s.key(q)
		}
	}
	return ""
}

// temporary is a file of mode 0600, because a connection reads its password
// from one.
func temporary(secret string) (string, error) {
	f, err := os.CreateTemp("", "lintod-setup-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(secret + "\n")
	return f.Name(), errors.Join(err, f.Close())
}
