// Package models manages wake word models: those that can be downloaded, those on this device, and
// the download.
//
// The content of models (audio/wake/microwakeword) does not belong here. The daemon calls only
// Find, which looks for a file.
package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
	"lintod/audio/wake/microwakeword"
)

// Packaged is the directory for models from packages.
const Packaged = "/usr/share/lintod/wake"

// Limits of a download: the size of a file, in bytes, and the total time.
const (
	maxFile   = 1 << 20
	timeLimit = 2 * time.Minute
)

// Offer is a model that can be downloaded. A download that differs from the offered version is
// rejected.
type Offer struct {
	Name      string // name of the word in the configuration
	Phrase    string // spoken phrase
	Languages string // language of its training data
	Author    string
	License   string
	base      string // address of the two files, without their extensions
	model     pin
	manifest  pin
}

// pin is the expected size and checksum of a file.
type pin struct {
	size   int64
	sha256 string
}

const (
	apache  = "Apache-2.0"
	ahrendt = "Kevin Ahrendt"
	esphome = "https://raw.githubusercontent.com/esphome/micro-wake-word-models/05b65922cc433c9df13e98e32a7fe520758c837e/models/v2/"
	ohf     = "https://raw.githubusercontent.com/OHF-Voice/linux-voice-assistant/1543c5df583753ab8e4248fc381d75ebaa940f76/wakewords/"
)

var offers = []Offer{
	{
		"alexa", "Alexa", "en", ahrendt, apache, esphome + "alexa",
		pin{55856, "9011a8155b04de858c48038529235cbc0e42e9fca05a55bf588cb80a653a723b"},
		pin{377, "1d999798b35b1fe2606465b75ab840be51c1811d2909d5e620cefb6e96f8abd0"},
	},
	{
		"hey_jarvis", "Hey Jarvis", "en", ahrendt, apache, esphome + "hey_jarvis",
		pin{52272, "21a7976add39ee24ec96c63d96b7aaa18e24d1d9824b963e451da8feb4b78b77"},
		pin{388, "b153867d818675d8abcc9dace474afe7f83551ae0d5a9b1d71a98681320185af"},
	},
	{
		"hey_mycroft", "Hey Mycroft", "en", ahrendt, apache, esphome + "hey_mycroft",
		pin{57248, "c2a9b6ed51182db72e014781d5a4ece1929dc232a40b5b4be384f0295f0e1571"},
		pin{390, "57b2b06fe5fdbbe834a242fabc7af31e4194a550fc382b2c88636a6d62d0d57e"},
	},
	{
		"okay_nabu", "Okay Nabu", "en", ahrendt, apache, esphome + "okay_nabu",
		pin{60264, "0689abe1912a95a3318a0d8cb2e67bad0cbcfe3e24dd6e050c75debddfb6f891"},
		pin{386, "6dd65604f70fe5ea9d1af73a7bf239529d1fbabc363807f45d2b22ce464ddbed"},
	},
	{
		"okay_computer", "Okay Computer", "en", "Michael Hansen", apache, ohf + "okay_computer",
		pin{62112, "eb8db0875910d43c908c19b7c76c83198f9c2e9baa7ac05eceea32b98b3595b8"},
		pin{447, "d80f47445bc2935c6e1869022b09ac68b6afce0a111bc1abd23fe589d9a5e280"},
	},
	{
		"hey_home_assistant", "Hey Home Assistant", "en", "Michael Hansen", apache, ohf + "hey_home_assistant",
		pin{62112, "f9a3f5d03f394eef68969460c18cb06cae289268db0dcffde3928ecd87bb64a4"},
		pin{405, "75102b4661c01fae8a7170c2905745ed1cc2910023fdbdf5198f1d1308873ecb"},
	},
	{
		"hey_luna", "Hey Luna", "en", "adamlonsdale", apache, ohf + "hey_luna",
		pin{75616, "46735df3864af8ee09f408dea95939f0215d0e3dfae254f4338da830ca3548ee"},
		pin{415, "ffabdd7acf8efc2d7c19d827d26e92f0c00566d6dc277598ce5644f418d2a73e"},
	},
	{
		"hey_morgan", "Hey Morgan", "en", "John Karabudak", apache, ohf + "hey_morgan",
		pin{63520, "309c81aafa096f4471cbbb38ce830ec07b25165f930a1c3982d632f33bbe2172"},
		pin{390, "de58cc3189b58d1bfd6d0b2b412ce7f09e798aa95b83e84243e9377d9f2e48a2"},
	},
	{
		"stop", "Stop", "en", ahrendt, apache, ohf + "stop",
		pin{45544, "020ef80d522cb09169a866f3aeeb58f2ad4045461937e78e8c806df29ff61eea"},
		pin{375, "bd13aeb1b83852649dc4fb6135cb160ff68716d14612b06f6a405342c57447aa"},
	},
}

// Offers lists all models that can be downloaded.
func Offers() []Offer { return slices.Clone(offers) }

// Offered returns the model for a word, if there is one.
func Offered(name string) (Offer, bool) {
	i := slices.IndexFunc(offers, func(o Offer) bool { return o.Name == name })
	if i < 0 {
		return Offer{}, false
	}
	return offers[i], true
}

// names returns the names of all offers.
func names() string {
	var list []string
	for _, o := range offers {
		list = append(list, o.Name)
	}
	return strings.Join(list, ", ")
}

// Find returns the manifest of a word, from the first of the directories that contains it. The
// error explains how to get one.
func Find(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name+".json")
		_, err := os.Stat(path)
		switch {
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("find the model of %q: %w", name, err)
		}
	}
	if _, ok := Offered(name); ok {
		return "", fmt.Errorf("the model of %q is not on this device; run: sudo lintod wake get %s", name, name)
	}
	return "", fmt.Errorf("no model %s.json in %s; available for download: %s", name, strings.Join(dirs, " or "), names())
}

// Installed is a model on this device.
type Installed struct {
	Name     string
	Path     string // of the manifest
	Manifest microwakeword.Manifest
	Err      error // why it cannot be used
}

// List lists the models in the directories; of two with the same name, only the first.
func List(dirs []string) (list []Installed) {
	for _, dir := range dirs {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.json")) // fails only for an invalid pattern
		for _, path := range paths {
			name := strings.TrimSuffix(filepath.Base(path), ".json")
			if slices.ContainsFunc(list, func(i Installed) bool { return i.Name == name }) {
				continue
			}
			found := Installed{Name: name, Path: path}
			if w, err := microwakeword.Open(path, 0.5); err != nil {
				found.Err = err
			} else {
				found.Manifest = w.Manifest
			}
			list = append(list, found)
		}
	}
	return list
}

// Getter downloads models.
type Getter struct {
	// Dir is the target directory; it is created if necessary.
	Dir string
	// Client is the HTTP client; nil means one that uses the proxy of the environment.
	Client *http.Client
}

// Get downloads the two files of an offer. It returns when both are complete and on disk, or with
// an error, in which case existing models are unchanged.
func (g Getter) Get(ctx context.Context, o Offer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, fmt.Errorf("took longer than %v", timeLimit))
	defer cancel()
	// Root writes to a directory of the daemon's user, who must not be able to redirect the write.
	// systemd creates this directory at the first start of the service, or adopts an existing one.
	if err := os.MkdirAll(filepath.Dir(g.Dir), 0o755); err != nil { //nolint:gosec // others read models
		return err
	}
	parent, err := os.OpenRoot(filepath.Dir(g.Dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := parent.Mkdir(filepath.Base(g.Dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := parent.OpenRoot(filepath.Base(g.Dir))
	if err != nil {
		return err
	}
	defer dir.Close()
	// The manifest is written last, because it makes the model visible.
	for _, file := range []struct {
		ending string
		pin    pin
	}{{".tflite", o.model}, {".json", o.manifest}} {
		content, err := g.download(ctx, o.base+file.ending, file.pin)
		if err != nil {
			return err
		}
		if err := replace(dir, o.Name+file.ending, content); err != nil {
			return err
		}
	}
	return nil
}

func (g Getter) download(ctx context.Context, address string, want pin) ([]byte, error) {
	content, err := g.fetch(ctx, address, want.size)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", address, err)
	}
	sum := sha256.Sum256(content)
	if int64(len(content)) != want.size || hex.EncodeToString(sum[:]) != want.sha256 {
		return nil, fmt.Errorf("%s has an unexpected size or checksum; nothing was installed", address)
	}
	return content, nil
}

func (g Getter) fetch(ctx context.Context, address string, size int64) ([]byte, error) {
	client := http.Client{CheckRedirect: secure}
	if g.Client != nil {
		client.Transport = g.Client.Transport
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if failed := new(url.Error); errors.As(err, &failed) {
		return nil, failed.Err // the caller adds the address
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, min(size, maxFile)+1))
}

// secure follows redirects only over TLS.
func secure(to *http.Request, via []*http.Request) error {
	if to.URL.Scheme != "https" || len(via) > 5 {
		return fmt.Errorf("redirected to %s", config.Redact(to.URL.String()))
	}
	return nil
}

// replace writes a world-readable file atomically: a power cut leaves either the old or the new
// one.
func replace(dir *os.Root, name string, content []byte) error {
	const temp = ".download" // leftovers of a crash are overwritten
	if err := dir.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dir.Rename(temp, name)
}
