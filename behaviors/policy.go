package behaviors

import "time"

// Limits are what the owner's configuration allows of a verb that is not Safe.
type Limits struct {
	Enabled   bool   // the owner has turned the verb on
	Key       string // what turns it on: `enabled = true in [behaviors.shellexec]`
	PerMinute int    // requests in any minute; 0 counts as 1
	AtOnce    int    // that may run at the same time; 0 counts as 1
}

// policy decides what may run, for all verbs and all links. A message cannot
// change it: what is allowed comes from the configuration file alone.
type policy struct {
	recent  map[string][]time.Time // requests of the last minute, by verb
	over    map[string]bool        // the last request was one too many
	running map[string]int
}

// count takes note of a request. It tells whether the request is within the
// rate, and whether it is worth a line in the log: a flood costs only one.
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

// mayAsk refuses what is not even looked at.
func (p *policy) mayAsk(verb Verb, within bool) error {
	switch {
	case !verb.Limits.Enabled:
		return Fail(Disabled, "the owner of this device has not turned %s on; set %s", verb.Name, verb.Limits.Key)
	case !within:
		return Fail(Busy, "more than %d requests for %s in a minute", max(1, verb.Limits.PerMinute), verb.Name)
	}
	return nil
}

// mayRun refuses one more of what is running.
func (p *policy) mayRun(verb Verb) error {
	if most := max(1, verb.Limits.AtOnce); p.running[verb.Name] >= most {
		return Fail(Busy, "%d of at most %d %s are running", p.running[verb.Name], most, verb.Name)
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
