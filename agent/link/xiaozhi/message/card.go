package message

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// The messages of servers about cards (Protocol 2.7.3).
const (
	CardContent      = "card_content"
	CardCurrent      = "card_up_to_date"
	CardUnknown      = "card_unknown"
	CardAI           = "card_ai"
	DownloadResponse = "download_response" // as content, from older servers
)

// Card is a server's message about a card. Only the types of its members were
// checked.
type Card struct {
	UID     string
	Skill   string
	Name    string
	Version string
	Status  string // of a download_response: not_found, up_to_date, download_required or error
	Why     string // the server's reason
	Files   []CardFile
}

// CardFile is a file of a card's content.
type CardFile struct {
	Image bool
	Index int // the server's index, or the position among all stories
	URL   string
}

// parseCard parses a message about a card.
func parseCard(o object) *Card {
	c := &Card{UID: o.word("rfid_uid"), Status: o.word("status"), Why: cmp.Or(o.text("error"), o.text("message"))}
	c.Skill = cmp.Or(o.word("skill_id"), o.word("pack_code"))
	c.Name = cmp.Or(o.word("skill_name"), o.word("pack_name"))
	c.Version = cmp.Or(o.scalar("version"), o.scalar("latest_version"))
	c.Files = append(files(o["audio"], false), files(o["images"], true)...)
	if stories := objects(o["stories"]); len(stories) > 0 {
		slices.SortStableFunc(stories, func(a, b object) int {
			x, _ := a.whole("index")
			y, _ := b.whole("index")
			return cmp.Compare(x, y)
		})
		c.Files = nil
		for _, image := range []bool{false, true} {
			n := 0
			for _, s := range stories {
				list := files(s[map[bool]string{false: "audio", true: "images"}[image]], image)
				slices.SortStableFunc(list, func(a, b CardFile) int { return cmp.Compare(a.Index, b.Index) })
				for _, f := range list {
					n++
					f.Index = n
					c.Files = append(c.Files, f)
				}
			}
		}
	}
	for name, raw := range o.object("files") { // audio_1, image_1
		kind, number, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(number)
		if err != nil || kind != "audio" && kind != "image" {
			continue
		}
		f := CardFile{Image: kind == "image", Index: n, URL: object{"url": raw}.text("url")}
		var inner object
		if f.URL == "" && json.Unmarshal(raw, &inner) == nil {
			f.URL = inner.text("url")
		}
		c.Files = append(c.Files, f)
	}
	return c
}

// files parses a list of index and url. A missing index is 0, which is invalid.
func files(raw json.RawMessage, image bool) (list []CardFile) {
	for _, o := range objects(raw) {
		n, _ := o.whole("index")
		list = append(list, CardFile{image, int(n), o.text("url")})
	}
	return list
}

// objects returns the items of a list; an item that is not an object becomes an
// empty one.
func objects(raw json.RawMessage) []object {
	var members []json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	list := make([]object, len(members))
	for i, m := range members {
		_ = json.Unmarshal(m, &list[i])
	}
	return list
}

// scalar returns a member that is a string or a number.
func (o object) scalar(name string) string {
	var n json.Number
	if raw := o[name]; len(raw) > 0 && raw[0] != '"' && json.Unmarshal(raw, &n) == nil {
		return n.String()[:min(len(n), maxWord)]
	}
	return o.word(name)
}

// CardLookup asks the server about a card. skill and version describe the device's
// content for it.
func CardLookup(session, uid, skill, version string) []byte {
	return encode(struct {
		device
		UID     string `json:"rfid_uid"`
		Skill   string `json:"local_skill_id,omitempty"`
		Version string `json:"local_version,omitempty"`
	}{device{session, "card_lookup"}, uid, skill, version})
}
