package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// A folder opens what lies beneath one directory and nothing else.
type folder struct {
	path string
	root *os.Root
}

func openFolder(path string) (*folder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("folder cannot be served: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%q is not a folder", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("folder cannot be served: %w", err)
	}
	return &folder{path: path, root: root}, nil
}

func (d *folder) close() error { return d.root.Close() }

// with calls do with the folder's root. A generation is closed when the next
// one takes over, while exchanges of it may be on their way here: these open
// the folder once more, each for itself, instead of failing.
func (d *folder) with(do func(*os.Root) error) error {
	err := do(d.root)
	if !errors.Is(err, fs.ErrClosed) {
		return err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return &Problem{Status: 500, Detail: "the gateway failed", Err: err}
	}
	defer func() { _ = root.Close() }() // it was only read
	return do(root)
}

// open opens a file or folder. It does not wait: not for the other end of a
// pipe either, which the caller refuses by its mode.
func (d *folder) open(name string) (f *os.File, info fs.FileInfo, err error) {
	err = d.with(func(root *os.Root) error {
		f, err = root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err != nil {
		closeFile(f)
		return nil, nil, err
	}
	return f, info, nil
}

func (d *folder) stat(name string) (info fs.FileInfo, err error) {
	err = d.with(func(root *os.Root) error {
		info, err = root.Stat(name)
		return err
	})
	return info, err
}

// fileProblem says what a failed look at a file means for the client.
func fileProblem(err error) error {
	var problem *Problem
	var errno syscall.Errno
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.Is(err, fs.ErrNotExist):
		return errNoFile
	case errors.Is(err, fs.ErrPermission):
		return &Problem{Status: 403, Detail: "the file may not be read", Err: err}
	case !errors.As(err, &errno): // os.Root's own refusal: the name leads out of it
		return errNoFile
	}
	switch errno {
	case syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.ENXIO, syscall.ENODEV:
		return errNoFile
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM:
		return &Problem{Status: 503, Detail: "the gateway is out of resources", RetryAfter: time.Second, Err: err}
	}
	return &Problem{Status: 500, Detail: "the file could not be read", Err: err}
}

// fileName turns the normal form of a path into a name beneath the root, "."
// for the root itself. What the normal form left encoded is decoded here, once.
// isFolder tells that the path ends in a slash. It is not ok if a segment is
// empty, begins with a dot (RFC 8615's .well-known at the start excepted), or
// holds a slash, backslash or control character.
func fileName(path []byte) (name string, isFolder, ok bool) {
	if len(path) == 0 {
		return ".", false, true
	}
	if path[0] != '/' {
		return "", false, false
	}
	if path = path[1:]; len(path) == 0 {
		return ".", true, true
	}
	path, isFolder = bytes.CutSuffix(path, []byte{'/'})
	out := make([]byte, 0, len(path))
	for segment := range bytes.SplitSeq(path, []byte{'/'}) {
		first := len(out) == 0
		if !first {
			out = append(out, '/')
		}
		from := len(out)
		if out, ok = appendUnescaped(out, segment); !ok {
			return "", false, false
		}
		if !servableSegment(out[from:], first) {
			return "", false, false
		}
	}
	return string(out), isFolder, true
}

func servableSegment(s []byte, first bool) bool {
	if len(s) == 0 || s[0] == '.' && !(first && string(s) == ".well-known") {
		return false
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

// appendUnescaped appends s with its percent-encoding undone (RFC 3986, section
// 2.1), and reports whether that was well-formed.
func appendUnescaped(b, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if len(s)-i < 3 {
				return b, false
			}
			hi, ok1 := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				return b, false
			}
			c = hi<<4 | lo
			i += 2
		}
		b = append(b, c)
	}
	return b, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

func inFolder(folder, name string) string {
	if folder == "." {
		return name
	}
	return folder + "/" + name
}

// folderLocation is the address of a folder whose slash the client left out, as
// a path on the same host: it never begins with two slashes, nor with what
// browsers take for them, which would name another host (RFC 3986, section
// 4.2). It is not ok if the slash is there already.
func folderLocation(target []byte) (location string, ok bool) {
	path, query, _ := strings.Cut(view(target), "?")
	path = strings.TrimLeft(path, `/\`)
	if path == "" || path[len(path)-1] == '/' {
		return "", false
	}
	out := make([]byte, 0, len(target)+2)
	out = append(appendEscaped(append(out, '/'), path), '/')
	if query != "" {
		out = appendEscapedQuery(append(out, '?'), query)
	}
	return string(out), true
}

// appendEscapedQuery appends a query as it came; only what would end the field
// or begin a fragment is encoded.
func appendEscapedQuery(b []byte, query string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
