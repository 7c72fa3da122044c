package jobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

const (
	// MaxImagePixels is how many pixels an Avatar's image may have: some 100 MiB
	// while it is decoded.
	MaxImagePixels = 8 << 20

	maxScans = 100 // of a JPEG: each goes over all pixels, and takes a few bytes
	decoding = 2   // images at a time in one Images, whatever the worker's concurrency
)

// ImageSizes are the sides of the squares, in pixels, that Images makes.
func ImageSizes() []int { return []int{64, 256} }

// Images makes small images, in a folder that a backend of kind files serves:
// USER/64.jpg and USER/256.jpg.
type Images struct {
	dir   string
	slots chan struct{}
}

// NewImages returns what makes images in a folder, which it makes if need be.
func NewImages(dir string) (*Images, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Images{dir: dir, slots: make(chan struct{}, decoding)}, nil
}

// formats are what is read. The registry of package image would have whatever
// any other package imports.
var formats = []struct {
	magic  string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}{
	{"\xff\xd8\xff", jpeg.DecodeConfig, jpeg.Decode},
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"GIF8", gif.DecodeConfig, gif.Decode},
	{"RIFF", webpConfig, webp.Decode},
}

// webpConfig is what the picture itself says. An extended file (VP8X) says in
// its head how large the canvas is, which binds nobody to anything.
func webpConfig(r io.Reader) (image.Config, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	for at := 12; at+8 <= len(data); {
		size := int(binary.LittleEndian.Uint32(data[at+4:]))
		if kind := string(data[at : at+4]); kind == "VP8 " || kind == "VP8L" {
			plain := slices.Concat(data[:12], data[at:])
			binary.LittleEndian.PutUint32(plain[4:], uint32(len(plain)-8))
			return webp.DecodeConfig(bytes.NewReader(plain))
		}
		at += 8 + size + size&1
	}
	return image.Config{}, image.ErrFormat
}

// ErrImageType says that an image is of no format that is read.
var ErrImageType = errors.New("is no JPEG, PNG, GIF or WebP")

// CheckImage says why an image is not taken, as far as its head tells, which says
// how large it becomes: ErrImageType, or what is wrong with it.
func CheckImage(data []byte) error {
	switch n := len(data); {
	case n == 0:
		return errors.New("is empty")
	case n > MaxImageBytes:
		return fmt.Errorf("has %d bytes, more than %d", n, MaxImageBytes)
	}
	for _, f := range formats {
		if !bytes.HasPrefix(data, []byte(f.magic)) {
			continue
		}
		cfg, err := f.config(bytes.NewReader(data))
		switch {
		case err != nil:
			return fmt.Errorf("cannot be read: %w", err)
		case cfg.Width < 1 || cfg.Height < 1 || cfg.Width > MaxImagePixels/cfg.Height:
			return fmt.Errorf("has %d x %d pixels, more than %d", cfg.Width, cfg.Height, MaxImagePixels)
		case bytes.Count(data, []byte("\xff\xda")) > maxScans && f.magic[0] == 0xff:
			return fmt.Errorf("has more than %d scans", maxScans)
		}
		return nil
	}
	return ErrImageType
}

// Avatar does an Avatar job. Each file is replaced as a whole, and only by that
// of an equal or later version of the user.
func (m *Images) Avatar(ctx context.Context, _ Job, args Avatar) error {
	if err := args.Check(); err != nil { // bounds what decode takes
		return err
	}
	made := make(map[string][]byte) // nil: none
	if !args.Gone {
		if err := m.make(ctx, args.Image, made); err != nil {
			return err
		}
	}
	return m.store(ctx, args.User, args.Version, made)
}

// make makes the files of an image. Only so many are made at a time: they are
// large while they are.
func (m *Images) make(ctx context.Context, data []byte, into map[string][]byte) error {
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.slots }()
	src, err := decode(ctx, data)
	if err != nil {
		return err
	}
	for _, side := range ImageSizes() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, square(src, side), &jpeg.Options{Quality: 85}); err != nil {
			return err
		}
		into[fileOf(side)] = b.Bytes()
	}
	return nil
}

func fileOf(side int) string { return fmt.Sprint(side, ".jpg") }

// A timely reader has a decoder end with its time.
type timely struct {
	io.Reader
	ctx context.Context
}

func (r timely) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func decode(ctx context.Context, data []byte) (image.Image, error) {
	for _, f := range formats {
		if !bytes.HasPrefix(data, []byte(f.magic)) {
			continue
		}
		src, err := f.decode(timely{bytes.NewReader(data), ctx})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, Permanent(fmt.Errorf("decoding: %w", err))
		}
		return turned(src, orientation(data)), nil
	}
	return nil, Permanent(ErrImageType)
}

// square is the middle of an image, scaled, on white where it is transparent.
func square(src image.Image, side int) image.Image {
	b := src.Bounds()
	n := min(b.Dx(), b.Dy())
	from := image.Rect(0, 0, n, n).Add(b.Min).Add(image.Pt((b.Dx()-n)/2, (b.Dy()-n)/2))
	dst := image.NewRGBA(image.Rect(0, 0, side, side))
	draw.Draw(dst, dst.Bounds(), image.White, image.Point{}, draw.Src)
	draw.CatmullRom.Scale(dst, dst.Bounds(), src, from, draw.Over, nil)
	return dst
}

// store writes the files of a version, or removes them. Workers in other processes
// do the same; the lock is the kernel's, and gone with its holder.
func (m *Images) store(ctx context.Context, user string, version int64, files map[string][]byte) error {
	dir := filepath.Join(m.dir, user)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := hold(ctx, lock); err != nil {
		return err
	}
	if err := sweep(dir); err != nil {
		return err
	}
	mark := filepath.Join(dir, ".version") // no backend serves dotfiles
	if has, err := os.ReadFile(mark); err == nil {
		if v, err := strconv.ParseInt(strings.TrimSpace(string(has)), 10, 64); err == nil && v > version {
			return nil // a later one has been there
		}
	}
	for _, side := range ImageSizes() {
		path := filepath.Join(dir, fileOf(side))
		if data, ok := files[fileOf(side)]; ok {
			err = replace(path, data)
		} else if err = os.Remove(path); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return replace(mark, fmt.Appendln(nil, version))
}

// hold locks a folder. Who holds it may be stopped for as long as it likes, so it
// is asked for again and again rather than waited for.
func hold(ctx context.Context, dir *os.File) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sweep removes what a worker that was killed has left, from a folder that is
// locked.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, unfinished))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

const unfinished = ".new-*"

// replace writes a file that is there as a whole, or not at all.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
