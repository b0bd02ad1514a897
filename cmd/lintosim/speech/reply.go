package speech

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Verb is what a sentence requests of the device.
type Verb string

// The verbs.
const (
	Nothing Verb = ""
	Mute    Verb = "mute"
	Volume  Verb = "volume"
)

// Order is an action in addition to the answer.
type Order struct {
	Verb    Verb
	Percent int // for Volume
}

// Reply returns the answer to a recognised sentence, which may be empty. The answer always has a
// text.
func Reply(said string, now time.Time) (text string, order Order) {
	switch said {
	case "":
		return "Sorry, I did not understand.", Order{}
	case "what time is it":
		return "It is " + now.Format("15:04") + ".", Order{}
	case "what can you do":
		return "I tell the time and jokes, set the volume, and remind you of things.", Order{}
	case "mute":
		return "I stop listening now.", Order{Verb: Mute}
	}
	if text, ok := smallTalk[said]; ok {
		return text, Order{}
	}
	if v, ok := volume(said); ok {
		return fmt.Sprintf("The volume is %d now.", v), Order{Verb: Volume, Percent: v}
	}
	return "I heard: " + said + ". I do not know what to do with it.", Order{}
}

// ReplyToSound returns the answer if no recogniser is installed.
func ReplyToSound(pcm []int16) string {
	spoken := Voiced(pcm)
	if spoken == 0 {
		return "I heard nothing."
	}
	return fmt.Sprintf("I heard %.1f seconds of sound. Install pocketsphinx and I will understand the words.", spoken.Seconds())
}

var smallTalk = map[string]string{
	"hello":             "Hello.",
	"good morning":      "Good morning. I hope you slept well.",
	"good evening":      "Good evening.",
	"thank you":         "You are welcome.",
	"how are you":       "Simulated, but fine.",
	"what is your name": "I am a simulated platform.",
	"tell me a joke":    "Why do microphones make bad friends? They always want the last word.",
	"yes":               "Yes to what? Ask me something first.",
	"no":                "No to what? Ask me something first.",
	"stop":              "All right.",
	"never mind":        "All right.",
}

// Plain normalises typed text to the form of recognised speech: lower case, no
// punctuation, single spaces.
func Plain(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return r != '\'' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	return strings.Join(words, " ")
}

// volume parses "turn the volume to forty" or "… to 40".
func volume(said string) (int, bool) {
	number, ok := strings.CutPrefix(said, "turn the volume to ")
	if !ok {
		return 0, false
	}
	v, ok := parseNumber(number)
	return v, ok && v <= 100
}

var numbers = map[string]int{
	"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
	"ten": 10, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
	"ninety": 90, "one hundred": 100,
}

// parseNumber parses "40", "forty", and "forty two".
func parseNumber(text string) (int, bool) {
	if v, err := strconv.ParseUint(text, 10, 16); err == nil {
		return int(v), true
	}
	if v, ok := numbers[text]; ok {
		return v, true
	}
	tens, small, _ := strings.Cut(text, " ")
	t, ok1 := numbers[tens]
	s, ok2 := numbers[small]
	return t + s, ok1 && ok2 && t >= 20 && t < 100 && s > 0 && s < 10
}
