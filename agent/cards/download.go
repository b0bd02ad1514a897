package cards

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lintod/agent/base/fetch"
	"lintod/agent/base/state"
)

// The reasons why a download fails.
var (
	ErrGone    = errors.New("the card was removed")
	ErrBusy    = fmt.Errorf("%d skills are waiting to be downloaded", maxWaiting)
	errNewer   = errors.New("a newer version is downloaded instead")
	errSpace   = errors.New("not enough disk space, even after removing older content")
	errEmpty   = errors.New("the server sent no data")
	errTooLong = errors.New("the file exceeds max_file of [cards]")
)

// job is a skill to download.
type job struct {
	content  Content
	uids     []string // cards that are waiting for it
	first    bool     // no version of it exists yet
	progress Downloader
	cancel   context.CancelCauseFunc // nil while it is queued
}

// Fetch downloads content in the background, and remembers that it belongs to the
// card; uid is "" for content without a card. It does not block. If the skill
// already exists in this version, Done is called soon.
func (s *Store) Fetch(uid string, c Content) error {
	if err := c.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var uids []string
	if uid != "" {
		uids = []string{uid}
	}
	sk := s.skills[c.Skill]
	fresh := &job{content: c, uids: uids, first: sk == nil}
	for _, j := range append(slices.Clone(s.waiting), s.current) {
		switch {
		case j == nil || j.content.Skill != c.Skill:
		case j != s.current: // the latest URLs are the most likely to be valid
			j.content = c
			j.want(uid)
			return nil
		case j.content.same(c):
			j.want(uid)
			return nil
		default:
			fresh.uids = j.uids
			fresh.want(uid)
			j.uids = nil
			j.cancel(errNewer)
		}
	}
	if len(s.waiting) >= maxWaiting {
		s.stats.Refused++
		return ErrBusy
	}
	s.waiting = append(s.waiting, fresh)
	s.wake.Set()
	return nil
}

func (j *job) want(uid string) {
	if uid != "" && !slices.Contains(j.uids, uid) {
		j.uids = append(j.uids, uid)
	}
}

// Abandon cancels a download for which only this card is waiting. An update
// continues: the card can play the previous version.
func (s *Store) Abandon(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range append(slices.Clone(s.waiting), s.current) {
		if j == nil || !slices.Contains(j.uids, uid) || !j.first {
			continue
		}
		switch {
		case len(j.uids) > 1:
			j.uids = slices.DeleteFunc(j.uids, func(u string) bool { return u == uid })
		case j == s.current:
			j.cancel(ErrGone)
		default:
			s.waiting = slices.DeleteFunc(s.waiting, func(w *job) bool { return w == j })
		}
	}
}

// Run downloads what Fetch has queued, one skill at a time, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for {
		s.publishReady()
		if j, work := s.next(ctx); j != nil {
			err := s.obtain(work, j)
			s.finish(ctx, j, err)
			j.cancel(nil)
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.wake:
		}
	}
}

func (s *Store) next(ctx context.Context) (*job, context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || ctx.Err() != nil {
		return nil, nil
	}
	j := s.waiting[0]
	s.waiting = s.waiting[1:]
	j.progress = Downloader{Skill: j.content.Skill, Name: j.content.Name, Of: len(j.content.Files), Refresh: !j.first}
	work, cancel := context.WithCancelCause(ctx)
	j.cancel = cancel
	s.current = j
	return j, work
}

// finish reports the result of a job.
func (s *Store) finish(ctx context.Context, j *job, err error) {
	s.mu.Lock()
	s.current = nil
	uids := j.uids
	switch {
	case err == nil:
		s.stats.Fetched++
	case ctx.Err() == nil && !errors.Is(err, ErrGone) && !errors.Is(err, errNewer):
		s.stats.Failed++
		s.Log.Warn("content of a card not downloaded", "skill", j.content.Skill, "error", err)
	}
	s.mu.Unlock()
	if err == nil {
		for _, uid := range uids {
			s.check(s.Assign(uid, j.content.Skill))
		}
	}
	if s.Done != nil && ctx.Err() == nil && len(uids) > 0 {
		s.Done(uids, j.content.Skill, err)
	}
}

// obtain downloads a skill, unless it exists. Files that an earlier attempt has
// completed are kept.
func (s *Store) obtain(ctx context.Context, j *job) (err error) {
	c := j.content
	s.mu.Lock()
	sk := s.skills[c.Skill]
	there := sk != nil && sk.content.same(c) || s.ready[c.Skill].Content.same(c)
	if !there {
		delete(s.ready, c.Skill) // it is an older version
	}
	s.mu.Unlock()
	if there {
		return nil
	}
	work := s.skillPath(newPrefix + c.Skill)
	defer s.count(c.Skill)
	defer func() {
		if err != nil && j.progress.Files == 0 { // nothing can be resumed
			s.check(os.RemoveAll(work))
		}
	}()
	var begun Content
	if err := readJSON(filepath.Join(work, wantName), &begun); err != nil || !begun.same(c) {
		if err := os.RemoveAll(work); err != nil {
			return err
		}
		text, err := json.Marshal(c.withoutQueries())
		if err != nil {
			return err
		}
		for _, dir := range []string{"audio", "images"} {
			if err := os.MkdirAll(filepath.Join(work, dir), 0o700); err != nil {
				return err
			}
		}
		if err := state.ReplaceFile(filepath.Join(work, wantName), text); err != nil {
			return err
		}
	}
	s.count(c.Skill)
	m := manifest{Content: c.withoutQueries(), Files: map[string]record{}}
	for _, f := range c.sorted() {
		r, err := s.obtainFile(ctx, j, f, work)
		if err != nil {
			return fmt.Errorf("%s %d: %w", f.Kind, f.Index, err)
		}
		m.Files[f.name()] = r
		s.mu.Lock()
		j.progress.Files++
		j.progress.Bytes += r.Size
		j.progress.Percent = 100 * j.progress.Files / j.progress.Of
		m.Cards = slices.Clone(j.uids)
		s.mu.Unlock()
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for _, dir := range []string{"audio", "images"} { // file names must be on the disk before the manifest
		if err := syncFolder(filepath.Join(work, dir)); err != nil {
			return err
		}
	}
	if err := state.ReplaceFile(filepath.Join(work, manifestName), append(text, '\n')); err != nil {
		return err
	}
	s.mu.Lock()
	s.ready[c.Skill] = m
	s.mu.Unlock()
	s.publishReady()
	return nil
}

// count adds up the size of a download that is not in place.
func (s *Store) count(id string) {
	size := sizeOf(s.skillPath(newPrefix + id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partial[id] = size; size == 0 {
		delete(s.partial, id)
	}
}

// publishReady moves complete versions into place, unless the previous one is
// playing: that one is replaced when it is no longer playing, or at the next start.
func (s *Store) publishReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, m := range s.ready {
		if s.held[id] > 0 {
			continue
		}
		delete(s.ready, id)
		if err := s.replace(id); err != nil {
			s.check(err)
			continue
		}
		s.check(syncFolder(s.path("skills")))
		delete(s.partial, id)
		s.adopt(m)
	}
}

// obtainFile downloads a file: to a temporary name, then syncs and renames it.
func (s *Store) obtainFile(ctx context.Context, j *job, f File, work string) (record, error) {
	path := filepath.Join(work, f.name())
	if size, sum, err := checksum(path); err == nil {
		return record{size, sum}, nil // an earlier attempt has completed it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fileLimit, fmt.Errorf("the download took more than %v", fileLimit))
	defer cancel()
	u, err := fetch.Parse(f.URL)
	if err != nil {
		return record{}, err
	}
	answer, err := j.content.guard().Get(ctx, u)
	if err != nil {
		return record{}, fmt.Errorf("fetch from %s: %w", host(u), err)
	}
	defer answer.Close()
	most := int64(s.Config.MaxFile)
	if answer.Size > most {
		return record{}, fmt.Errorf("%w: %d bytes", errTooLong, answer.Size)
	}
	body := bufio.NewReader(answer)
	head, err := body.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return record{}, err
	}
	if err := f.Kind.fits(answer.Header.Get("Content-Type"), head); err != nil {
		return record{}, err
	}
	r, err := s.write(j, path, body, most, answer.Size)
	if err != nil {
		return record{}, err
	}
	if answer.Size >= 0 && r.Size != answer.Size {
		return record{}, errors.Join(io.ErrUnexpectedEOF, os.Remove(path))
	}
	return r, nil
}

// write is the second half of obtainFile.
func (s *Store) write(j *job, path string, body io.Reader, most, expected int64) (record, error) {
	temp := filepath.Join(filepath.Dir(path), "part.tmp") // one at a time
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return record{}, err
	}
	defer func() { _ = os.Remove(temp) }()
	defer out.Close()
	sum := sha256.New()
	size := int64(0)
	for buf := make([]byte, 64<<10); ; {
		n, err := body.Read(buf)
		if size += int64(n); size > most {
			return record{}, errTooLong
		}
		if n > 0 {
			if err := s.makeRoom(j, int64(n)); err != nil {
				return record{}, err
			}
			s.progress(j, size, expected)
			sum.Write(buf[:n])
			if _, err := out.Write(buf[:n]); err != nil {
				return record{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return record{}, err
		}
	}
	if size == 0 {
		return record{}, errEmpty
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return record{}, err
	}
	return record{size, hex.EncodeToString(sum.Sum(nil))}, os.Rename(temp, path)
}

// progress records how much of a file was received. If the server has not sent its
// length, only complete files count.
func (s *Store) progress(j *job, size, expected int64) {
	if expected <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j.progress.Percent = int(100 * (float64(j.progress.Files) + min(1, float64(size)/float64(expected))) / float64(j.progress.Of))
}

// makeRoom accounts for bytes to be written, and removes the least recently used
// content if they do not fit: incomplete content first, and never what is playing
// or the previous version of a skill that is being downloaded.
func (s *Store) makeRoom(j *job, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.total()+n > int64(s.Config.MaxSpace) || !s.fits(n) {
		if !s.evict(j.content.Skill) {
			return errSpace
		}
	}
	s.partial[j.content.Skill] += n
	return nil
}

// fits reports whether the disk has that much space beyond the reserve.
func (s *Store) fits(n int64) bool {
	var st unix.Statfs_t
	if unix.Statfs(s.path(), &st) != nil {
		return true // writing reports the error
	}
	return int64(st.Bavail)*int64(st.Bsize) >= int64(s.Config.Reserve)+n //nolint:unconvert // 32 bits on some machines
}

// evict removes one skill, and reports whether there was one. It needs mu.
func (s *Store) evict(keep string) bool {
	for id := range s.partial {
		if _, complete := s.ready[id]; id != keep && !complete {
			s.check(os.RemoveAll(s.skillPath(newPrefix + id)))
			delete(s.partial, id)
			return true
		}
	}
	var oldest *Skill
	for id, sk := range s.skills {
		if id != keep && s.held[id] == 0 && (oldest == nil || sk.used.Before(oldest.used)) {
			oldest = sk
		}
	}
	if oldest == nil {
		return false
	}
	s.stats.Evicted++
	s.Log.Info("removing the least recently used content to free space", "skill", oldest.ID, "used", oldest.used)
	s.remove(oldest.ID)
	return true
}

// fits reports whether an answer can be a file of this kind. The content type of
// sound is often wrong, so the first bytes are also checked; an error page passes
// neither check.
func (k Kind) fits(contentType string, head []byte) error {
	if len(head) == 0 {
		return errEmpty
	}
	found, _, _ := strings.Cut(http.DetectContentType(head), ";")
	said, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	said = strings.TrimSpace(said)
	switch {
	case strings.HasPrefix(said, "text/") || strings.HasSuffix(said, "json") || strings.HasSuffix(said, "xml"):
		return fmt.Errorf("the server sent %q, which is not %s", clip(said), k)
	case k == Image && strings.HasPrefix(found, "image/"):
		return nil
	case k == Audio && (found == "application/octet-stream" || found == "application/ogg" ||
		strings.HasPrefix(found, "audio/") || strings.HasPrefix(found, "video/")):
		return nil
	}
	return fmt.Errorf("the server sent %q, which is not %s", found, k)
}

func clip(s string) string { return s[:min(len(s), 60)] }

// checksum reads a whole file.
func checksum(path string) (int64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return n, hex.EncodeToString(sum.Sum(nil)), err
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
