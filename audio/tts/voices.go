package tts

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// voice is one row of an engine's table.
type voice struct {
	language string // BCP 47: "fr-FR"
	name     string // the engine's name of it; may be empty
}

// UnsupportedError is returned for a language without a voice.
type UnsupportedError struct {
	Language string
	Known    []string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("no voice for language %q; want one of %s", e.Language, strings.Join(e.Known, ", "))
}

// Languages lists the languages of Speak.
func (c Config) Languages() []string {
	var tags []string
	for _, v := range c.voices() {
		tags = append(tags, v.language)
	}
	return tags
}

// Find returns a language in the form of the voice table, or UnsupportedError. "fr_fr" and
// "fr_FR.UTF-8" are equivalent to "fr-FR", "fr" means the first variant, and a language without a
// voice is spoken by the closest variant: "de-AT" by de-DE, "en-AU" by en-GB.
func (c Config) Find(tag string) (string, error) {
	v, err := c.find(tag)
	return v.language, err
}

func (c Config) find(wanted string) (voice, error) {
	tag := bcp47(wanted)
	all := c.voices()
	family, _, _ := strings.Cut(tag, "-")
	if i := slices.IndexFunc(all, func(v voice) bool { return strings.EqualFold(tag, v.language) }); i >= 0 {
		return all[i], nil
	}
	all = slices.DeleteFunc(all, func(v voice) bool {
		of, _, _ := strings.Cut(v.language, "-")
		return !strings.EqualFold(of, family)
	})
	if len(all) == 0 || !wellFormed(tag) {
		return voice{}, &UnsupportedError{wanted, c.Languages()}
	}
	if family == tag {
		return all[0], nil
	}
	tags := make([]language.Tag, len(all))
	for i, v := range all {
		tags[i] = language.Make(v.language)
	}
	_, closest, _ := language.NewMatcher(tags).Match(language.Make(tag))
	return all[closest], nil
}

// bcp47 converts a POSIX locale, "en_US.UTF-8", to a language tag.
func bcp47(tag string) string {
	if end := strings.IndexAny(tag, ".@"); end >= 0 {
		tag = tag[:end]
	}
	return strings.ReplaceAll(strings.TrimSpace(tag), "_", "-")
}

// voices returns the engine's own table, in order of preference, with the owner's changes and
// additions.
func (c Config) voices() []voice {
	table := c.builtin()
	for _, tag := range slices.Sorted(maps.Keys(c.Voices)) {
		v := voice{bcp47(tag), c.Voices[tag]}
		i := slices.IndexFunc(table, func(have voice) bool { return strings.EqualFold(have.language, v.language) })
		if i < 0 {
			table = append(table, v)
		} else {
			table[i].name = v.name
		}
	}
	return table
}

// builtin returns an engine's own voices. For piper, only the owner's table defines the models.
func (c Config) builtin() []voice {
	switch c.Engine {
	case EngineEspeak:
		return []voice{{"fr-FR", "fr-fr"}, {"en-US", "en-us"}, {"en-GB", "en-gb"}, {"es-ES", "es"}, {"de-DE", "de"}, {"it-IT", "it"}}
	case EnginePico:
		return []voice{{"fr-FR", "fr-FR"}, {"en-US", "en-US"}, {"en-GB", "en-GB"}, {"es-ES", "es-ES"}, {"de-DE", "de-DE"}, {"it-IT", "it-IT"}}
	case EngineCommand:
		if len(c.Voices) == 0 {
			return []voice{{"fr-FR", ""}, {"en-US", ""}, {"en-GB", ""}, {"es-ES", ""}, {"de-DE", ""}, {"it-IT", ""}}
		}
	case EngineWyoming:
		// The service's default voice speaks the language that it was started for.
		if wellFormed(c.Language) {
			return []voice{{bcp47(c.Language), ""}}
		}
	}
	return nil
}

// wellFormed reports whether tag has the form of a BCP 47 tag.
func wellFormed(tag string) bool {
	for i, part := range strings.Split(bcp47(tag), "-") {
		if len(part) < 1 || len(part) > 8 || i == 0 && len(part) < 2 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return false
		}
	}
	return true
}
