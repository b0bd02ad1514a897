package behaviors

import "time"

// Limits are the limits of a verb that is not Safe, from the owner's configuration.
type Limits struct {
	Enabled   bool   // the owner has enabled the verb
	Key       string // what enables it: `enabled = true in [behaviors.shellexec]`
	PerMinute int    // requests per minute; 0 means 1
	AtOnce    int    // maximum number at the same time; 0 means 1
}

// policy decides what may run, for all verbs and all links. Only the configuration file, and no
// message, defines what is allowed.
type policy struct {
	recent  map[string][]time.Time // requests of the last minute, by verb
	over    map[string]bool        // the last request exceeded the limit
	running map[string]int
}

// count counts a request. It reports whether the request is within the rate, and whether it should
// be logged: a flood is logged once.
func (p *policy) count(verb Verb, now time.Time) (within, tell bool) {
	if p.recent == nil {
		p.recent, p.over = map[string][]time.Time{}, map[string]bool{}
	}
	recent := p.recent[verb.Name]
	for len(recent) > 0 && now.Sub(recent[0]) >= time.Minute {
		recent = recent[1:]
	}
	within = len(recent) < max(1, verb.Limits.PerMinute)
	tell = within || !p.over[verb.Name]
	if within {
		recent = append(recent, now)
	}
	p.recent[verb.Name], p.over[verb.Name] = recent, !within
	return within, tell
}

// mayAsk refuses requests for disabled verbs, and those above the rate.
func (p *policy) mayAsk(verb Verb, within bool) error {
	switch {
	case !verb.Limits.Enabled:
		return Fail(Disabled, "the owner of this device has not enabled %s; set %s", verb.Name, verb.Limits.Key)
	case !within:
		return Fail(Busy, "more than %d requests for %s in a minute", max(1, verb.Limits.PerMinute), verb.Name)
	}
	return nil
}

// mayRun refuses a request if too many of its verb are running.
func (p *policy) mayRun(verb Verb) error {
	if most := max(1, verb.Limits.AtOnce); p.running[verb.Name] >= most {
		return Fail(Busy, "%d of at most %d %s are running; try again when it has ended", p.running[verb.Name], most, verb.Name)
	}
	return nil
}

func (p *policy) begin(verb Verb) {
	if p.running == nil {
		p.running = map[string]int{}
	}
	p.running[verb.Name]++
}

func (p *policy) end(verb Verb) { p.running[verb.Name]-- }
