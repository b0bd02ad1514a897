package linto

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/wav"
)

// The kinds of request that have an answer each: the topic is the kind, a slash,
// and an id of ours.
const (
	nlpFile = "nlp/file"
	nlpText = "nlp/text"
	chatbot = "chatbot"
)

// maxText is far more than anybody writes, in bytes.
const maxText = 16 << 10

// Talk carries an utterance, as a file or live, and waits for the answer; it
// implements turn.Talker.
func (l *Link) Talk(ctx context.Context, u *turn.Utterance) (turn.Answer, error) {
	if l.Config.Mode == streamMode {
		return l.talkLive(ctx, u)
	}
	pcm, err := collect(u)
	if err != nil {
		return turn.Answer{}, err
	}
	return l.request(ctx, nlpFile, fileRequest(pcm, l.takeConversation(), u.WakeWord))
}

// talkLive has the utterance understood while it is spoken. What was understood
// is then a question in writing. A platform that does not transcribe is asked with
// the utterance as a file.
func (l *Link) talkLive(ctx context.Context, u *turn.Utterance) (turn.Answer, error) {
	r := newRecording(l.live, 0)
	var recorder sync.WaitGroup
	recorder.Go(func() { r.record(ctx.Done(), u.Read) })
	defer recorder.Wait()
	text, err := l.transcribe(ctx, r, u.Enough)
	if errors.Is(err, errPlatform) && l.Config.TextRequest != toNobody {
		l.Log.Warn("live transcription failed; the utterance goes as a file", "error", err)
		l.tell(turn.Transcribing, err.Error()+"; the utterance goes as a file")
		return l.askFile(ctx, r, u.WakeWord)
	}
	if err != nil {
		u.Enough()
	}
	if err != nil || text == "" {
		return turn.Answer{}, err
	}
	answer := turn.Answer{}
	if l.Config.TextRequest != toNobody {
		answer, err = l.question(ctx, text, u.WakeWord)
	}
	answer.Transcript = text
	return answer, err
}

// askFile asks with a recording, when that is over.
func (l *Link) askFile(ctx context.Context, r *recording, word *turn.WakeWord) (turn.Answer, error) {
	pcm, err := r.whole(ctx)
	if err != nil {
		return turn.Answer{}, fmt.Errorf("microphone: %w", err)
	}
	return l.request(ctx, nlpFile, fileRequest(pcm, l.takeConversation(), word))
}

// Write asks in writing; it implements turn.Writer.
func (l *Link) Write(ctx context.Context, text string) (turn.Answer, error) {
	return l.question(ctx, text, nil)
}

func (l *Link) question(ctx context.Context, text string, word *turn.WakeWord) (turn.Answer, error) {
	if len(text) > maxText {
		return turn.Answer{}, fmt.Errorf("the question has %d bytes; at most %d", len(text), maxText)
	}
	kinds := map[string]string{toNLP: nlpText, toChatbot: chatbot}
	kind, ok := kinds[l.Config.TextRequest]
	if !ok {
		return turn.Answer{}, fmt.Errorf("questions in writing are turned off; set linto.text_request to %q or %q", toNLP, toChatbot)
	}
	return l.request(ctx, kind, textRequest(text, l.takeConversation(), word))
}

// takeConversation returns what the last ask left, and forgets it: a request
// that fails must not be continued by the next one.
func (l *Link) takeConversation() json.RawMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conversation
	l.conversation = emptyConversation
	return c
}

// collect reads the utterance to its end. Its length is limited by the turn
// (max_utterance).
func collect(u *turn.Utterance) ([]int16, error) {
	var pcm []int16
	var f audio.Frame
	for {
		switch err := u.Read(&f); {
		case errors.Is(err, io.EOF):
			return pcm, nil
		case err != nil:
			return nil, fmt.Errorf("microphone: %w", err)
		}
		pcm = append(pcm, f.PCM[:]...)
	}
}

// fileRequest builds the payload of nlp/file by hand: the sound is most of it,
// and conversationData must go back byte for byte.
func fileRequest(pcm []int16, conversation json.RawMessage, word *turn.WakeWord) []byte {
	const head, middle = `{"audio":"`, `","conversationData":`
	tail := ending(word)
	file := wav.Encode(pcm, audio.CaptureRate)
	b := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(file))+len(middle)+len(conversation)+len(tail))
	b = append(b, head...)
	b = base64.StdEncoding.AppendEncode(b, file)
	b = append(b, middle...)
	b = append(b, conversation...)
	return append(b, tail...)
}

// textRequest builds the payload of nlp/text and chatbot.
func textRequest(text string, conversation json.RawMessage, word *turn.WakeWord) []byte {
	b := append([]byte(`{"text":`), quote(text)...)
	b = append(b, `,"conversationData":`...)
	b = append(b, conversation...)
	return append(b, ending(word)...)
}

// ending closes a request. Which word was said to open it is no part of the
// documented protocol; platforms ignore members that they do not know.
func ending(word *turn.WakeWord) string {
	if word == nil {
		return "}"
	}
	member, err := json.Marshal(word)
	if err != nil { // no number, which no engine should tell
		return "}"
	}
	return `,"wakeword":` + string(member) + "}"
}
