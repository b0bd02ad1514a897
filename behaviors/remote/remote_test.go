package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/config"
)

const entry = `{"__CURSOR":"s=1;i=%d","__REALTIME_TIMESTAMP":"1795788000000000","PRIORITY":"4","MESSAGE":%s}` + "\n"

func TestLogKeepsTheLastLines(t *testing.T) {
	var text strings.Builder
	for i := range 5 {
		fmt.Fprintf(&text, entry, i, fmt.Sprintf("%q", fmt.Sprint("line ", i)))
	}
	fmt.Fprintf(&text, entry, 5, `[108,105,255]`)
	fmt.Fprintf(&text, entry, 6, `null`)
	firsts := 0
	p := &logPage{}
	if err := p.gather(strings.NewReader(text.String()), 4, func() { firsts++ }); err != nil || firsts != 1 {
		t.Fatal(err, firsts)
	}
	if len(p.Lines) != 4 || p.Lines[0].Text != "line 3" || p.Lines[0].Priority != 4 || p.Cursor != "s=1;i=6" || p.Dropped != 3 {
		t.Errorf("%+v", p)
	}
	if !strings.HasPrefix(p.Lines[2].Text, "li") || p.Lines[0].At.Unix() != 1795788000 {
		t.Errorf("%+v", p.Lines)
	}
	p, text = &logPage{}, strings.Builder{}
	for i := range 100 {
		fmt.Fprintf(&text, entry, i, `"`+strings.Repeat("x", 10000)+`"`)
	}
	size := 0
	if err := p.gather(strings.NewReader(text.String()), maxLines, func() {}); err != nil {
		t.Fatal(err)
	}
	for _, l := range p.Lines {
		size += len(l.Text)
	}
	if size > maxLog || len(p.Lines)+p.Dropped != 100 || len(p.Lines) == 0 {
		t.Errorf("%d bytes, %d lines, %d dropped", size, len(p.Lines), p.Dropped)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add(fmt.Sprintf(entry, 1, `"text"`))
	f.Add(fmt.Sprintf(entry, 1, `[27,99,400]`))
	f.Fuzz(func(t *testing.T, text string) {
		l, _, err := parseEntry([]byte(text))
		if err == nil && (len(l.Text) > maxLine+3 || strings.ContainsAny(l.Text, "\x1b\n\x00")) {
			t.Errorf("%q", l.Text)
		}
	})
}

func TestDifference(t *testing.T) {
	for _, tt := range [][3]string{
		{"a\nb\nc\n", "a\nb\nc\n", ""},
		{"a\nb\nc\n", "a\nx\nc\n", "@ 2\n-b\n+x\n"},
		{"a\nb\nc\n", "a\nc\nd\n", "@ 2\n-b\n@ 4\n+d\n"},
		{"", "a\n", "@ 1\n+a\n"},
		{"a\r\nb", "a\r\nb\n", "@ 2\n-b\n+b\n+\n"},
	} {
		if got := difference(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%q, %q: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

// serve makes o serve one task of this process, and returns the result.
func serve(t *testing.T, o Owner, daemon int, task string) (r result, served error) {
	t.Helper()
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	if err := os.WriteFile(pid, fmt.Append(nil, daemon, "\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.AcceptUnix()
		if err == nil {
			err = o.Serve(t.Context(), conn, pid)
			conn.Close()
		}
		ended <- err
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(task))
	_ = json.NewDecoder(conn).Decode(&r)
	conn.Close()
	return r, <-ended
}

// Root carries out what the owner's configuration allows the daemon, and nothing
// else.
func TestRootServesOnlyAllowedTasks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lintod.toml")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	task := fmt.Sprintf(`{"config":{"path":%q,"text":"new"}}`, path)
	on := Config{Config: ConfigTable{Switch: Switch{true}}}
	wrong := config.Problems{{Key: "k", Fault: "is wrong"}}
	owner := func(c Config, parse error) Owner {
		return Owner{
			Path: path, StateDir: filepath.Join(t.TempDir(), "admin"),
			Load:  func() (Allowed, error) { return Allowed{Config: c, Signed: func(string) bool { return false }}, nil },
			Parse: func([]byte) (bool, error) { return false, parse },
		}
	}
	for name, tt := range map[string]struct {
		o      Owner
		daemon int
		task   string
	}{
		"off":            {owner(Config{}, nil), os.Getpid(), task},
		"another's":      {owner(on, nil), 1, task},
		"wrong":          {owner(on, wrong), os.Getpid(), task},
		"another file":   {owner(on, nil), os.Getpid(), `{"config":{"path":"/etc/passwd","text":""}}`},
		"no task":        {owner(on, nil), os.Getpid(), `{}`},
		"no JSON":        {owner(on, nil), os.Getpid(), `x`},
		"log, off":       {owner(on, nil), os.Getpid(), `{"log":{}}`},
		"upgrade, off":   {owner(on, nil), os.Getpid(), `{"upgrade":{"version":"1","sha256":""}}`},
		"upgrade, wrong": {owner(Config{Upgrade: Switch{true}}, nil), os.Getpid(), `{"upgrade":{"version":"--help","sha256":""}}`},
		"unreadable":     {Owner{Path: path, Load: func() (Allowed, error) { return Allowed{Config: on}, errors.New("no") }}, os.Getpid(), task},
	} {
		r, err := serve(t, tt.o, tt.daemon, tt.task)
		if text, _ := os.ReadFile(path); err == nil || string(text) != "old" || tt.daemon == os.Getpid() && name != "no JSON" && r.Error == "" {
			t.Errorf("%s: %v, %+v, the file has %q", name, err, r, text)
		}
	}
	r, err := serve(t, owner(on, nil), os.Getpid(), task)
	info, _ := os.Stat(path)
	if text, _ := os.ReadFile(path); err != nil || r.Error != "" || string(text) != "new" || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %+v, the file has %q and %v", err, r, text, info.Mode())
	}
}
