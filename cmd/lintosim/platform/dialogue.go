package platform

import (
	"encoding/json"
	"strings"
	"time"

	"lintod/cmd/lintosim/speech"
)

// dialogue is the built-in conversation: a few stateless sentences, and a reminder that takes three
// turns. As in real servers, the only state is the conversationData that the device returns, and
// its intent selects the skill.
type dialogue struct{ now time.Time }

// memory is the dialogue's conversationData.
type memory struct {
	Intent string `json:"intent"`
	When   string `json:"when,omitempty"`
	Tries  int    `json:"tries,omitempty"`
}

// recall parses a conversationData; one from elsewhere starts a new conversation.
func recall(conversationData json.RawMessage) memory {
	var m memory
	_ = json.Unmarshal(conversationData, &m) // foreign data is ignored
	if m.Intent != "remind" {
		return memory{}
	}
	return m
}

// expected returns the grammar rule for the next utterance of a conversation.
func expected(conversationData json.RawMessage) string {
	if recall(conversationData).Intent != "" {
		return speech.Answer
	}
	return speech.Opening
}

const maxTries = 2 // questions repeated before giving up

// answer replies to r in the form of its kind.
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

// chat converts the first sentence of an answer to the form of a chatbot.
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

// converse returns at least one reply; the first is the answer.
func (d dialogue) converse(r Request) []Reply {
	if r.Heard.By == speech.ByLevel {
		return []Reply{bySound(r)}
	}
	said := speech.Plain(r.Transcript)
	if m := recall(r.ConversationData); m.Intent != "" {
		return []Reply{remind(m, said)}
	}
	return d.first(said)
}

// first answers the opening sentence of a conversation.
func (d dialogue) first(said string) []Reply {
	if said == "remind me" {
		return []Reply{question("When shall I remind you?", memory{Intent: "remind"})}
	}
	text, order := speech.Reply(said, d.now)
	replies := []Reply{Say(text)}
	switch order.Verb {
	case speech.Mute:
		replies = append(replies, Command("mute", nil))
	case speech.Volume:
		replies = append(replies, Command("volume", map[string]int{"value": order.Percent}))
	}
	return replies
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

// bySound answers if no recogniser is installed.
func bySound(r Request) Reply {
	return Say(speech.ReplyToSound(r.PCM))
}

func isWhen(said string) bool {
	return said == "tomorrow" || said == "tonight" ||
		strings.HasPrefix(said, "at ") || strings.HasPrefix(said, "in ")
}
