package platform

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// dialogue is the built-in conversation: a few sentences without memory, and a
// reminder that takes three turns. As in real servers all memory is in the
// conversationData that the device brings back, and its intent finds the skill.
type dialogue struct{ now time.Time }

// memory is our conversationData.
type memory struct {
	Intent string `json:"intent"`
	When   string `json:"when,omitempty"`
	Tries  int    `json:"tries,omitempty"`
}

// recall reads a conversationData; a foreign one starts a new conversation.
func recall(conversationData json.RawMessage) memory {
	var m memory
	_ = json.Unmarshal(conversationData, &m) // what is no memory of ours is none
	if m.Intent != "remind" {
		return memory{}
	}
	return m
}

// expected is the rule of the grammar for what comes next in a conversation.
func expected(conversationData json.RawMessage) string {
	if recall(conversationData).Intent != "" {
		return answer
	}
	return opening
}

const maxTries = 2 // questions repeated before giving up

// answer replies to r in the form that its kind wants.
func (d dialogue) answer(r Request) []Reply {
	switch r.Kind {
	case "skills":
		return []Reply{{Behavior: Behavior{CustomAction: map[string]string{"kind": r.ID}}}}
	case "chatbot":
		return []Reply{chat(r.Transcript, d.converse(r))}
	}
	replies := d.converse(r)
	replies[0].Transcript = r.Transcript
	return replies
}

// chat puts the first sentence of an answer into the form of a chatbot.
func chat(asked string, replies []Reply) Reply {
	s := replies[0].Behavior.Say
	if s == nil {
		s = replies[0].Behavior.Ask
	}
	return Reply{Behavior: Behavior{Chatbot: &Chatbot{Ask: asked, Answer: ChatbotAnswer{
		Text: s.Text + " ", // real servers end every sentence with a space
		Data: []ChatbotPiece{{Text: s.Text, EventType: "sentence"}},
	}}}}
}

// converse returns at least one reply; the first is the answer itself.
func (d dialogue) converse(r Request) []Reply {
	if r.Heard.By == ByLevel {
		return []Reply{bySound(r)}
	}
	said := plain(r.Transcript)
	if m := recall(r.ConversationData); m.Intent != "" {
		return []Reply{remind(m, said)}
	}
	return d.first(said)
}

// first answers the opening sentence of a conversation.
func (d dialogue) first(said string) []Reply {
	switch said {
	case "":
		return []Reply{Say("Sorry, I did not understand.")}
	case "what time is it":
		return []Reply{Say("It is " + d.now.Format("15:04") + ".")}
	case "what can you do":
		return []Reply{Say("I tell the time and jokes, set the volume, and remind you of things.")}
	case "remind me":
		return []Reply{question("When shall I remind you?", memory{Intent: "remind"})}
	case "mute":
		return []Reply{Say("I stop listening now."), Command("mute", nil)}
	}
	if text, ok := smallTalk[said]; ok {
		return []Reply{Say(text)}
	}
	if v, ok := volume(said); ok {
		return []Reply{Say(fmt.Sprintf("The volume is %d now.", v)), Command("volume", map[string]int{"value": v})}
	}
	return []Reply{Say("I heard: " + said + ". I do not know what to do with it.")}
}

var smallTalk = map[string]string{
	"hello":             "Hello.",
	"good morning":      "Good morning. I hope you slept well.",
	"good evening":      "Good evening.",
	"thank you":         "You are welcome.",
	"how are you":       "Simulated, but fine.",
	"what is your name": "I am a platform in a box.",
	"tell me a joke":    "Why do microphones make bad friends? They always want the last word.",
	"yes":               "Yes to what? Ask me something first.",
	"no":                "No to what? Ask me something first.",
	"stop":              "All right.",
	"never mind":        "All right.",
}

// remind is the second and third turn of a reminder.
func remind(m memory, said string) Reply {
	switch {
	case said == "stop" || said == "never mind" || said == "no" && m.When == "":
		return Say("All right, no reminder.")
	case said == "yes" && m.When != "":
		return Say("Good. I have noted it for you: " + m.When + ".")
	case said == "no":
		return question("When then?", memory{Intent: "remind"})
	case isWhen(said):
		return question("So you want to be reminded "+said+". Is that right?", memory{Intent: "remind", When: said})
	case m.Tries >= maxTries:
		return Say("Sorry, let us try that again later.")
	}
	m.Tries++
	if m.When != "" {
		return question("Sorry, is "+m.When+" right?", m)
	}
	return question("Sorry, when shall I remind you?", m)
}

func question(text string, m memory) Reply {
	data, _ := json.Marshal(m) // strings and a number
	return Ask(text, string(data))
}

// bySound answers where no recogniser is installed.
func bySound(r Request) Reply {
	spoken := voiced(r.PCM)
	if spoken == 0 {
		return Say("I heard nothing.")
	}
	return Say(fmt.Sprintf("I heard %.1f seconds of sound. Install pocketsphinx and I will understand the words.", spoken.Seconds()))
}

func isWhen(said string) bool {
	return said == "tomorrow" || said == "tonight" ||
		strings.HasPrefix(said, "at ") || strings.HasPrefix(said, "in ")
}

// plain makes typed text look like recognised speech: lower case, no
// punctuation, single spaces.
func plain(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return r != '\'' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	return strings.Join(words, " ")
}

// volume reads "turn the volume to forty" or "… to 40".
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

// parseNumber reads "40", "forty" and "forty two".
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
