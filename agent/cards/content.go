package cards

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lintod/agent/base/fetch"
)

// Content is a platform's content for a card: a skill, which is a story or an
// album, with the URLs of its files.
type Content struct {
	Skill   string `json:"skill_id"`
	Name    string `json:"skill_name,omitempty"`
	Version string `json:"version,omitempty"`
	Files   []File `json:"files"`
	// Hosts are the hosts in the device's own network from which the files may be
	// downloaded: a server that the owner has configured.
	Hosts []string `json:"-"`
}

// File is one file of a skill.
type File struct {
	Kind  Kind   `json:"kind"`
	Index int    `json:"index"` // from 1, unique for a kind; the playing order
	URL   string `json:"url"`   // http or https
}

// Kind is the purpose of a file.
type Kind string

// The kinds of files.
const (
	Audio Kind = "audio"
	Image Kind = "image"
)

// name is the path of a file in its skill, independent of its URL.
func (f File) name() string {
	if f.Kind == Image {
		return filepath.Join("images", fmt.Sprintf("page%d.jpg", f.Index))
	}
	return filepath.Join("audio", fmt.Sprintf("track%d.mp3", f.Index))
}

var (
	skillID = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)
	uidText = regexp.MustCompile(`^[0-9A-F]{4,32}$`)
)

// ParseUID parses the UID of a card in any common spelling: hexadecimal digits,
// with or without separators. The decimal digits of readers that act as keyboards
// are also accepted.
func ParseUID(text string) (string, error) {
	uid := strings.ToUpper(strings.NewReplacer(":", "", "-", "", " ", "").Replace(text))
	if !uidText.MatchString(uid) {
		return "", errors.New("the UID of a card has 4 to 32 hexadecimal digits")
	}
	return uid, nil
}

// Check reports the first invalid member. All members are untrusted.
func (c Content) Check() error {
	switch {
	case !skillID.MatchString(c.Skill):
		return fmt.Errorf("skill_id %.80q; want 1 to 64 letters, digits and ._- without a leading dot", c.Skill)
	case len(c.Version) > 64 || len(c.Name) > 256:
		return errors.New("skill_name or version is too long")
	case len(c.Files) > maxFiles:
		return fmt.Errorf("%d files; the limit is %d", len(c.Files), maxFiles)
	}
	seen := map[string]bool{}
	tracks := 0
	for _, f := range c.Files {
		if f.Index < 1 || f.Index > maxIndex {
			return fmt.Errorf("index %d of %s; want 1 to %d", f.Index, f.Kind, maxIndex)
		}
		if seen[f.name()] {
			return fmt.Errorf("index %d of %s is not unique", f.Index, f.Kind)
		}
		seen[f.name()] = true
		if _, err := fetch.Parse(f.URL); err != nil {
			return fmt.Errorf("url of %s %d: %w", f.Kind, f.Index, err)
		}
		if f.Kind == Audio {
			tracks++
		}
	}
	if tracks == 0 {
		return errors.New("audio is empty")
	}
	return nil
}

// same reports whether two contents are the same version of a skill. URLs are often
// signed for each request, so their queries are ignored.
func (c Content) same(other Content) bool {
	if c.Skill != other.Skill || c.Version != other.Version || len(c.Files) != len(other.Files) {
		return false
	}
	return slices.EqualFunc(c.sorted(), other.sorted(), func(a, b File) bool {
		return a.name() == b.name() && (c.Version != "" || plainURL(a.URL) == plainURL(b.URL))
	})
}

// sorted returns the files in playing order, sound first.
func (c Content) sorted() []File {
	files := slices.Clone(c.Files)
	slices.SortFunc(files, func(a, b File) int {
		if a.Kind != b.Kind {
			return strings.Compare(string(a.Kind), string(b.Kind))
		}
		return a.Index - b.Index
	})
	return files
}

func plainURL(text string) string {
	text, _, _ = strings.Cut(text, "?")
	return text
}

// withoutQueries returns the content without the queries of its URLs, which
// contain signatures.
func (c Content) withoutQueries() Content {
	c.Files = c.sorted()
	for i := range c.Files {
		c.Files[i].URL = plainURL(c.Files[i].URL)
	}
	return c
}

// guard denies downloads from the device's network, unless the owner's own server
// is there.
func (c Content) guard() fetch.Guard {
	return fetch.Guard{Inside: func(host string) bool {
		return fetch.Local(host) && slices.ContainsFunc(c.Hosts, func(own string) bool { return strings.EqualFold(own, host) })
	}}
}

// host returns the part of a URL that an error may show.
func host(u *url.URL) string { return u.Scheme + "://" + u.Host }
