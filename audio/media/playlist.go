package media

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"
)

// maxPlaylist is the maximum size of a playlist, in bytes.
const maxPlaylist = 64 << 10

var errHLS = errors.New("HLS streams (m3u8) are not supported; most stations also have one in MP3 or Ogg")

const listType = "audio/x-mpegurl"

// lists are the content types of playlists.
var lists = map[string]bool{
	listType: true, "audio/mpegurl": true, "application/x-mpegurl": true, "application/vnd.apple.mpegurl": true,
	"audio/x-scpls": true, "audio/scpls": true, "application/pls+xml": true,
}

// readPlaylist returns the entries of a playlist, M3U or PLS, or nil if r contains something else,
// of which it has read nothing.
func readPlaylist(r *bufio.Reader, b *body) ([]string, error) {
	head, err := r.Peek(11)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(b.kind)
	if !isPlaylist(head, lists[kind]) {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(r, maxPlaylist+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxPlaylist:
		return nil, fmt.Errorf("the playlist is longer than %d bytes", maxPlaylist)
	case !utf8.Valid(text) && lists[kind] && !bytes.HasPrefix(text, []byte("#")) && !bytes.HasPrefix(text, []byte("[")):
		return nil, errors.New("the server declares it as a playlist, but it is not")
	}
	return parsePlaylist(text)
}

// isPlaylist decides by the first bytes, and, if the server declares a playlist, by whether they
// are text.
func isPlaylist(head []byte, called bool) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	for _, begins := range []string{"#EXTM3U", "[playlist]", "http://", "https://"} {
		if len(head) >= len(begins) && strings.EqualFold(string(head[:len(begins)]), begins) {
			return true
		}
	}
	text := !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == utf8.RuneError })
	return called && text && !bytes.HasPrefix(head, []byte("OggS")) && !bytes.HasPrefix(head, []byte("ID3"))
}

// parsePlaylist returns the addresses and names, in order. Without an error, the result is never
// nil.
func parsePlaylist(text []byte) ([]string, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	list := []string{}
	pls := false
	for line := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		switch key, value, assigned := strings.Cut(line, "="); {
		case strings.HasPrefix(line, "#EXT-X-"):
			return nil, errHLS
		case line == "" || line[0] == '#':
		case strings.EqualFold(line, "[playlist]"):
			pls = true
		case !pls:
			list = append(list, line)
		case assigned && len(key) >= 4 && strings.EqualFold(strings.TrimSpace(key)[:4], "file"):
			list = append(list, strings.TrimSpace(value))
		}
		if len(list) > maxAddresses {
			return nil, fmt.Errorf("the playlist has more than %d entries", maxAddresses)
		}
	}
	return list, nil
}
