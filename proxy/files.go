package proxy

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// A filesBackend serves the files of one folder to GET and HEAD. Whatever is
// reached must be a regular file beneath the folder: links are followed as long
// as they do not lead out of it.
type filesBackend struct {
	folder *folder
	index  string
}

var (
	errNoFile     = &Problem{Status: 404, Detail: "there is no such file"}
	errFileMethod = &Problem{Status: 405, Detail: "files can only be read", Allow: []string{"GET", "HEAD"}}
)

func newFiles(s Setup) (Backend, error) {
	cfg := Files{Index: "index.html"}
	if err := s.Decode(&cfg); err != nil {
		return nil, err
	}
	if strings.HasPrefix(cfg.Index, ".") || strings.ContainsAny(cfg.Index, "/\\\x00") {
		return nil, &SpecError{"index", fmt.Errorf("%q is not the name of a file that would be served", cfg.Index)}
	}
	folder, err := openFolder(cfg.Root)
	if err != nil {
		return nil, &SpecError{"root", err}
	}
	return &filesBackend{folder: folder, index: cfg.Index}, nil
}

// Close lets go of the folder. Files that are being served stay open, and
// exchanges that still come are served.
func (b *filesBackend) Close() error { return b.folder.close() }

// Serve answers with the file that x.Request.Path names.
func (b *filesBackend) Serve(x *Exchange) error {
	switch string(x.Request.Method) {
	case "GET", "HEAD":
	case "OPTIONS":
		x.Response.Status = 204
		x.Response.Header.Add("Allow", "GET, HEAD")
		return nil
	default:
		return errFileMethod
	}
	name, isFolder, ok := fileName(x.Request.Path)
	if !ok {
		return errNoFile
	}
	if isFolder {
		return b.serveIndex(x, name)
	}
	f, info, err := b.folder.open(name)
	if err != nil {
		return fileProblem(err)
	}
	if info.IsDir() {
		closeFile(f)
		return b.enter(x, name)
	}
	return b.serveFile(x, f, info, name)
}

// enter sends the client to a folder's own address, which ends in a slash, so
// that the relative links of its index are right.
func (b *filesBackend) enter(x *Exchange, name string) error {
	location, ok := folderLocation(x.Request.Target)
	if !ok { // it is there already, and the route's rewrite took the slash away
		return b.serveIndex(x, name)
	}
	if b.index == "" {
		return errNoFile
	}
	info, err := b.folder.stat(inFolder(name, b.index))
	if err != nil {
		return fileProblem(err)
	}
	if !info.Mode().IsRegular() {
		return errNoFile
	}
	x.Response.Status = 301
	x.Response.Header.Add("Location", location)
	return nil
}

// serveIndex answers for the folder of that name. There are no listings.
func (b *filesBackend) serveIndex(x *Exchange, name string) error {
	if b.index == "" {
		return errNoFile
	}
	name = inFolder(name, b.index)
	f, info, err := b.folder.open(name)
	if err != nil {
		return fileProblem(err)
	}
	return b.serveFile(x, f, info, name)
}

// serveFile answers with f or a precompressed variant of it. It owns f.
func (b *filesBackend) serveFile(x *Exchange, f *os.File, info fs.FileInfo, name string) error {
	if !info.Mode().IsRegular() {
		closeFile(f)
		return errNoFile
	}
	media, err := mediaType(name, f)
	if err != nil {
		closeFile(f)
		return fileProblem(err)
	}
	rep := &fileRepresentation{file: f, size: info.Size(), modified: info.ModTime(), media: media}
	if err := b.negotiate(rep, &x.Request, name); err != nil {
		closeFile(rep.file)
		return err
	}
	served, err := rep.answer(x, time.Now())
	if !served {
		closeFile(rep.file)
	}
	return err
}

// closeFile ends the use of a file that was only read, where an error has
// nothing to say.
func closeFile(f *os.File) { _ = f.Close() }
