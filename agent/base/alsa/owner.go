package alsa

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Owner is a program that has a card open.
type Owner struct {
	PID  int
	Name string // empty if access to it is denied
}

func (o Owner) String() string {
	if o.Name == "" {
		return fmt.Sprintf("pid %d", o.PID)
	}
	return fmt.Sprintf("%s (pid %d)", o.Name, o.PID)
}

// Owner returns the program that has p open; ok is false if none has. On a
// kernel without /proc/asound/…/status it searches the open files of processes,
// of which a user sees only those of own processes.
func (p PCM) Owner(root string) (o Owner, ok bool) {
	pattern := filepath.Join(root, "proc/asound", fmt.Sprintf("card%d", p.Card), p.dir(), "sub*/status")
	files, _ := filepath.Glob(pattern) // the pattern is well-formed
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(field(string(text), "owner_pid")); err == nil {
			return owner(root, pid), true
		}
	}
	if len(files) > 0 {
		return Owner{}, false
	}
	return p.opener(root)
}

func (p PCM) dir() string { return fmt.Sprintf("pcm%d%c", p.Device, p.letter()) }

func (p PCM) letter() rune {
	if p.Capture {
		return 'c'
	}
	return 'p'
}

// opener searches the open files of processes for the device's file.
func (p PCM) opener(root string) (Owner, bool) {
	device := fmt.Sprintf("/dev/snd/pcmC%dD%d%c", p.Card, p.Device, p.letter())
	links, _ := filepath.Glob(filepath.Join(root, "proc/[0-9]*/fd/*"))
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != device {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			return owner(root, pid), true
		}
	}
	return Owner{}, false
}

// owner returns the process of id: ALSA records the thread that has
// opened a card.
func owner(root string, id int) Owner {
	o := Owner{PID: id}
	status, _ := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(id), "status"))
	if pid, err := strconv.Atoi(field(string(status), "Tgid")); err == nil {
		o.PID = pid
	}
	name, _ := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(o.PID), "comm"))
	o.Name = strings.TrimSpace(string(name))
	return o
}
