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

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

// MaxImagePixels is how many pixels an Avatar's image may have: some 100 MiB while
// it is decoded.
const MaxImagePixels = 8 << 20

// ImageSizes are the sides of the squares, in pixels, that Images makes.
func ImageSizes() []int { return []int{64, 256} }

// Images makes small images, in a folder that a backend of kind files serves:
// USER/64.jpg and USER/256.jpg.
type Images struct{ dir string }

// NewImages returns what makes images in a folder, which it makes if need be.
func NewImages(dir string) (*Images, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Images{dir: dir}, nil
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

// image looks at an image's head, which says how large it becomes.
func (c *checker) image(field string, data []byte) {
	for _, f := range formats {
		if !bytes.HasPrefix(data, []byte(f.magic)) {
			continue
		}
		cfg, err := f.config(bytes.NewReader(data))
		switch {
		case err != nil:
			c.fault(field, "cannot be read: "+err.Error())
		case cfg.Width < 1 || cfg.Height < 1 || cfg.Width > MaxImagePixels/cfg.Height:
			c.fault(field, fmt.Sprintf("has %d x %d pixels, more than %d", cfg.Width, cfg.Height, MaxImagePixels))
		}
		return
	}
	c.fault(field, "is no JPEG, PNG, GIF or WebP")
}

// Avatar does an Avatar job. Each file is replaced as a whole, and only by that
// of an equal or later version of the user.
func (m *Images) Avatar(ctx context.Context, _ Job, args Avatar) error {
	if err := args.Check(); err != nil { // bounds what decode takes
		return err
	}
	src, err := decode(args.Image)
	if err != nil {
		return Permanent(fmt.Errorf("decoding: %w", err))
	}
	made := make(map[string][]byte)
	for _, side := range ImageSizes() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, square(src, side), &jpeg.Options{Quality: 85}); err != nil {
			return err
		}
		made[fmt.Sprint(side, ".jpg")] = b.Bytes()
	}
	return m.store(args.User, args.Version, made)
}

func decode(data []byte) (image.Image, error) {
	for _, f := range formats {
		if bytes.HasPrefix(data, []byte(f.magic)) {
			src, err := f.decode(bytes.NewReader(data))
			if err != nil {
				return nil, err
			}
			return turned(src, orientation(data)), nil
		}
	}
	return nil, image.ErrFormat
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

// store writes the files of a version. Workers in other processes do the same;
// the lock is the kernel's, and gone with its holder.
func (m *Images) store(user string, version int64, files map[string][]byte) error {
	dir := filepath.Join(m.dir, user)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	mark := filepath.Join(dir, ".version") // no backend serves dotfiles
	if has, err := os.ReadFile(mark); err == nil {
		if v, err := strconv.ParseInt(strings.TrimSpace(string(has)), 10, 64); err == nil && v > version {
			return nil // a later one has been there
		}
	}
	for name, data := range files {
		if err := replace(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return replace(mark, fmt.Appendln(nil, version))
}

// replace writes a file that is there as a whole, or not at all.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
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
