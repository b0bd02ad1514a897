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

// The kinds of request, each with an answer: the topic is the kind, a slash, and
// an id of ours.
const (
	nlpFile = "nlp/file"
	nlpText = "nlp/text"
	chatbot = "chatbot"
)

// maxText bounds a written question, in bytes. It is far longer than any in
// practice.
const maxText = 16 << 10

// Talk sends the utterance to the platform and plays its answer; it implements
// turn.Talker. The device decides when the user has finished, also with live
// transcription: a platform may end a stream, but does not have to.
func (l *Link) Talk(ctx context.Context, x *turn.Exchange) (turn.Next, error) {
	x.EndsBy(turn.Device)
	r, err := l.exchange(ctx, x)
	if err != nil {
		return turn.Over, err
	}
	if r.Transcript != "" {
		x.Notify(turn.GotTranscript, r.Transcript)
	}
	if r.Text == "" && r.Sound == nil {
		return turn.Over, nil
	}
	if r.Problem != nil {
		x.Problem(r.Problem)
	}
	next := turn.Over
	if r.Ask {
		next = turn.Again
	}
	x.Answer(r.Text, next)
	if r.Sound != nil {
		if r.Text != "" {
			x.Notify(turn.GotSentence, r.Text) // the text of the sound
		}
		return next, x.Play(ctx, r.Sound)
	}
	return next, x.Say(ctx, r.Text)
}

// exchange sends a question, written or spoken, as a file or live, and waits for
// the answer.
func (l *Link) exchange(ctx context.Context, x *turn.Exchange) (reply, error) {
	switch {
	case x.Trigger == turn.ByText:
		return l.question(ctx, x, x.Question)
	case l.Config.Mode == streamMode:
		return l.talkLive(ctx, x)
	}
	pcm, err := collect(x)
	if err != nil {
		return reply{}, err
	}
	return l.request(ctx, x, nlpFile, fileRequest(pcm, l.takeConversation(), x.WakeWord))
}

// talkLive has the utterance transcribed while it is spoken, and sends the
// transcript as a written question. If the platform does not transcribe, the
// utterance is sent as a file.
func (l *Link) talkLive(ctx context.Context, x *turn.Exchange) (reply, error) {
	r := newRecording(l.live, 0)
	var recorder sync.WaitGroup
	recorder.Go(func() { r.record(ctx.Done(), x.Read) })
	defer recorder.Wait()
	text, err := l.transcribe(ctx, x, r)
	if errors.Is(err, errPlatform) && l.Config.TextRequest != toNobody {
		l.Log.Warn("live transcription failed; sending the utterance as a file", "error", err)
		x.Notify(turn.Transcribing, err.Error()+"; sending the utterance as a file")
		return l.askFile(ctx, x, r)
	}
	if err != nil {
		x.Enough()
	}
	if err != nil || text == "" {
		return reply{}, err
	}
	answer := reply{}
	if l.Config.TextRequest != toNobody {
		answer, err = l.question(ctx, x, text)
	}
	answer.Transcript = text
	return answer, err
}

// askFile sends a recording when it has ended.
func (l *Link) askFile(ctx context.Context, x *turn.Exchange, r *recording) (reply, error) {
	pcm, err := r.whole(ctx)
	if err != nil {
		return reply{}, fmt.Errorf("microphone: %w", err)
	}
	return l.request(ctx, x, nlpFile, fileRequest(pcm, l.takeConversation(), x.WakeWord))
}

// question sends a written question.
func (l *Link) question(ctx context.Context, x *turn.Exchange, text string) (reply, error) {
	if len(text) > maxText {
		return reply{}, fmt.Errorf("the question has %d bytes; the limit is %d", len(text), maxText)
	}
	kinds := map[string]string{toNLP: nlpText, toChatbot: chatbot}
	kind, ok := kinds[l.Config.TextRequest]
	if !ok {
		return reply{}, fmt.Errorf("written questions are disabled; set linto.text_request to %q or %q", toNLP, toChatbot)
	}
	return l.request(ctx, x, kind, textRequest(text, l.takeConversation(), x.WakeWord))
}

// takeConversation returns the data of the last ask, and clears it: after a
// failed request, the next one must not continue its conversation.
func (l *Link) takeConversation() json.RawMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conversation
	l.conversation = emptyConversation
	return c
}

// collect reads the utterance to its end. Its length is limited by the turn
// (max_utterance).
func collect(x *turn.Exchange) ([]int16, error) {
	var pcm []int16
	var f audio.Frame
	for {
		switch err := x.Read(&f); {
		case errors.Is(err, io.EOF):
			return pcm, nil
		case err != nil:
			return nil, fmt.Errorf("microphone: %w", err)
		}
		pcm = append(pcm, f.PCM[:]...)
	}
}

// fileRequest builds the payload of nlp/file by hand: most of it is sound, and
// conversationData must be returned byte for byte.
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

// ending closes a request. The wake word is not part of the documented
// protocol; platforms ignore unknown members.
func ending(word *turn.WakeWord) string {
	if word == nil {
		return "}"
	}
	member, err := json.Marshal(word)
	if err != nil { // not a number, which no engine should report
		return "}"
	}
	return `,"wakeword":` + string(member) + "}"
}
