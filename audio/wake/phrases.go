package wake

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// prepare writes the phrases and their pronunciation to dir, and returns the phrases in the form
// that pocketsphinx reports.
func (p *pocketsphinx) prepare(dir string) (map[string]Word, error) {
	dict, err := p.pronounce()
	if err != nil {
		return nil, err
	}
	phrases := map[string]Word{}
	var list strings.Builder
	for _, w := range p.words {
		spoken := w.spoken()
		sounds := 0
		for _, word := range spoken {
			sounds += dict.sounds[word]
		}
		phrase := strings.Join(spoken, " ")
		phrases[phrase] = w
		fmt.Fprintf(&list, "%s /1e-%d/\n", phrase, threshold(sounds, w.sensitivity()))
	}
	for name, text := range map[string]string{"phrases": list.String(), "words": dict.text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the key phrases for pocketsphinx: %w", err)
		}
	}
	return phrases, nil
}

// threshold returns the exponent of the minimum probability of a phrase relative to any other
// sound, which decreases with its length.
func threshold(sounds int, sensitivity float64) int {
	return int(float64(sounds) * 4 * sensitivity)
}

// dictionary contains only the required words: the whole dictionary takes a second to load, and
// memory.
type dictionary struct {
	text   string
	sounds map[string]int // number of pronunciations of a word
}

// pronounce looks the words up.
func (p *pocketsphinx) pronounce() (dictionary, error) {
	d := dictionary{sounds: map[string]int{}}
	for _, w := range p.words {
		for _, word := range w.spoken() {
			d.sounds[word] = 0
		}
	}
	file, err := os.Open(filepath.Join(p.model, "cmudict-en-us.dict"))
	if err != nil {
		return d, fmt.Errorf("pocketsphinx has no dictionary (apt install pocketsphinx-en-us): %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() { // "word PH ON ES", and "word(2) PH ON ES"
		entry, phones, _ := strings.Cut(lines.Text(), " ")
		word, _, variant := strings.Cut(entry, "(")
		n, wanted := d.sounds[word]
		if !wanted || variant && n == 0 {
			continue
		}
		d.text += lines.Text() + "\n"
		if !variant {
			d.sounds[word] = len(strings.Fields(phones))
		}
	}
	if err := lines.Err(); err != nil {
		return d, fmt.Errorf("read pocketsphinx's dictionary: %w", err)
	}
	for _, w := range p.words {
		for _, word := range w.spoken() {
			if d.sounds[word] == 0 {
				return d, fmt.Errorf("pocketsphinx cannot detect %q: the word %q %w (%s); use other words in wake.word.phrase", w.Name, word, errDictionary, file.Name())
			}
		}
	}
	return d, nil
}
