package alsa

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// tree creates files, and links if the content starts with "->".
func tree(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if to, isLink := strings.CutPrefix(content, "->"); err == nil && isLink {
			err = os.Symlink(to, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const cardsOfOne = ` 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
 1 [seeed2micvoicec]: seeed-2mic-voic - seeed-2mic-voicecard
                      seeed-2mic-voicecard
 3 [Device         ]: USB-Audio - USB Audio Device
                      C-Media Electronics Inc. USB Audio Device at usb-0000:01:00.0-1.2, full speed
10 [Device_1       ]: USB-Audio - USB Audio Device
                      C-Media Electronics Inc. USB Audio Device at usb-3f980000.usb-1.1.3, full speed
`

func TestCards(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/asound/cards":             cardsOfOne,
		"proc/asound/card3/id":          "Device\n",
		"proc/asound/card3/pcm0c/info":  "card: 3\ndevice: 0\nid: USB Audio\nname: USB Audio\nsubname: subdevice #0\n",
		"proc/asound/card3/pcm0p/info":  "name: USB Audio\n",
		"proc/asound/card0/pcm10p/info": "name: ten\n",
		"proc/asound/card0/pcm2p/info":  "name: two\n",
		"proc/asound/card0/pcm0pp/info": "name: none\n",
		"sys/class/sound/card0/device":  "->../../../fef00700.hdmi",
		"sys/class/sound/card3/device":  "->../../../1-1.2:1.0",
		"sys/class/sound/card10/device": "no link",
	})
	want := []Card{
		{Index: 0, ID: "vc4hdmi0", Name: "vc4-hdmi-0", PCMs: []PCM{{0, 2, false, "two"}, {0, 10, false, "ten"}}},
		{Index: 1, ID: "seeed2micvoicec", Name: "seeed-2mic-voicecard"},
		{
			Index: 3, ID: "Device", Name: "USB Audio Device", Port: "1-1.2", Path: "usb-0000:01:00.0-1.2",
			PCMs: []PCM{{3, 0, true, "USB Audio"}, {3, 0, false, "USB Audio"}},
		},
		{Index: 10, ID: "Device_1", Name: "USB Audio Device", Path: "usb-3f980000.usb-1.1.3"},
	}
	if got := Cards(root); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	if got := Cards(t.TempDir()); got != nil {
		t.Errorf("without sound in the kernel: %+v", got)
	}
	none := tree(t, map[string]string{"proc/asound/cards": "--- no soundcards ---\n"})
	if got := Cards(none); got != nil {
		t.Errorf("without cards: %+v", got)
	}
}

func TestOwner(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/asound/card1/pcm0c/sub0/status": "closed\n",
		"proc/asound/card1/pcm0c/sub1/status": "state: RUNNING\nowner_pid   : 817\ntrigger_time: 12.5\n",
		"proc/asound/card1/pcm0p/sub0/status": "closed\n",
		"proc/817/status":                     "Name:\tworker\nTgid:\t815\nPid:\t817\n",
		"proc/815/comm":                       "arecord\n",
		// A server of another user, to which access is denied.
		"proc/asound/card2/pcm0p/sub0/status": "state: RUNNING\nowner_pid   : 9\n",
		// A kernel without that information.
		"proc/asound/card3/pcm1c/info": "name: x\n",
		"proc/900/fd/4":                "->/dev/snd/pcmC3D1c",
		"proc/900/fd/5":                "->/dev/null",
		"proc/900/comm":                "pipewire\n",
		"proc/901/fd/4":                "->/dev/snd/pcmC4D0p",
	})
	for name, tt := range map[string]struct {
		pcm  PCM
		want string
	}{
		"a thread has opened it": {PCM{Card: 1, Capture: true}, "arecord (pid 815)"},
		"the other direction":    {PCM{Card: 1}, ""},
		"a stranger":             {PCM{Card: 2}, "pid 9"},
		"by its open files":      {PCM{Card: 3, Device: 1, Capture: true}, "pipewire (pid 900)"},
		"nobody":                 {PCM{Card: 3, Device: 1}, ""},
		"not there":              {PCM{Card: 7}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, ok := tt.pcm.Owner(root)
			if ok != (tt.want != "") || ok && o.String() != tt.want {
				t.Errorf("got %v, %v; want %q", o, ok, tt.want)
			}
		})
	}
}

// For any contents, the cards have an id and are ordered.
func FuzzParseCards(f *testing.F) {
	f.Add(cardsOfOne)
	f.Add("--- no soundcards ---\n")
	f.Fuzz(func(t *testing.T, text string) {
		last := -1
		for _, c := range parseCards(text) {
			if c.ID == "" || c.Index < last {
				t.Fatalf("%+v", c)
			}
			last = c.Index
		}
	})
}
