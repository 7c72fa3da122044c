package jobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// picture is a PNG whose left half is red and right half blue.
func picture(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, png.Encode(&b, halves(w, h)))
	return b.Bytes()
}

func halves(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{R: 255, A: 255}
			if x >= w/2 {
				c = color.RGBA{B: 255, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// hugePNG is the head of a PNG that says how large it is, and no more.
func hugePNG(w, h uint32) []byte {
	head := []byte("IHDR")
	head = binary.BigEndian.AppendUint32(head, w)
	head = binary.BigEndian.AppendUint32(head, h)
	head = append(head, 8, 6, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	b = append(b, head...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
}

// boastingWebP is an extended file whose canvas is 1 x 1, and whose picture is
// not.
func boastingWebP(plain []byte, w, h uint16) []byte {
	picture := bytes.Clone(plain[12:])
	binary.LittleEndian.PutUint16(picture[8+6:], w)
	binary.LittleEndian.PutUint16(picture[8+8:], h)
	b := append([]byte("RIFF\x00\x00\x00\x00WEBPVP8X"), 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, picture...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// turnedJPEG is the picture with an Exif orientation.
func turnedJPEG(t testing.TB, order binary.AppendByteOrder, mark string, orientation uint16) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, jpeg.Encode(&b, halves(64, 64), nil))
	tiff := order.AppendUint16([]byte(mark), 42)
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint16(tiff, 0x0112)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, orientation)
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	app1 := append([]byte("Exif\x00\x00"), tiff...)
	segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(app1)+2))
	return bytes.Join([][]byte{b.Bytes()[:2], segment, app1, b.Bytes()[2:]}, nil)
}

// redSide says where the red half of an image is.
func redSide(img image.Image) string {
	b := img.Bounds()
	at := func(x, y int) bool {
		r, _, blue, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
		return r > blue
	}
	w, h := b.Dx(), b.Dy()
	switch [2]bool{at(w/4, h/4), at(w*3/4, h*3/4)} {
	case [2]bool{true, false}:
		if at(w*3/4, h/4) {
			return "top"
		}
		return "left"
	case [2]bool{false, true}:
		if at(w*3/4, h/4) {
			return "right"
		}
		return "bottom"
	}
	return "nowhere"
}

func readImage(t testing.TB, path string) image.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	img, err := jpeg.Decode(bytes.NewReader(data))
	must(t, err)
	return img
}

func TestAvatar(t *testing.T) {
	var asGIF bytes.Buffer
	must(t, gif.Encode(&asGIF, halves(30, 90), nil))
	webp, err := os.ReadFile("testdata/red-left.webp")
	must(t, err)
	for name, c := range map[string]struct {
		data []byte
		red  string
	}{
		"png":        {picture(t, 300, 100), "left"},
		"gif":        {asGIF.Bytes(), "left"},
		"webp":       {webp, "left"},
		"tiny":       {picture(t, 2, 1), "left"},
		"upright":    {turnedJPEG(t, binary.LittleEndian, "II", 1), "left"},
		"mirrored":   {turnedJPEG(t, binary.LittleEndian, "II", 2), "right"},
		"overhead":   {turnedJPEG(t, binary.BigEndian, "MM", 3), "right"},
		"flipped":    {turnedJPEG(t, binary.BigEndian, "MM", 4), "left"},
		"transposed": {turnedJPEG(t, binary.BigEndian, "MM", 5), "top"},
		"clockwise":  {turnedJPEG(t, binary.LittleEndian, "II", 6), "top"},
		"transverse": {turnedJPEG(t, binary.LittleEndian, "II", 7), "bottom"},
		"counter":    {turnedJPEG(t, binary.LittleEndian, "II", 8), "bottom"},
		"nonsense":   {turnedJPEG(t, binary.LittleEndian, "II", 9), "left"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m, err := NewImages(filepath.Join(dir, "avatars"))
			must(t, err)
			must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 1, Image: c.data}))
			for _, side := range ImageSizes() {
				img := readImage(t, filepath.Join(dir, "avatars", "u1", fmt.Sprint(side, ".jpg")))
				if b := img.Bounds(); b.Dx() != side || b.Dy() != side {
					t.Errorf("%d: %v", side, b)
				}
				if got := redSide(img); got != c.red && name != "tiny" {
					t.Errorf("%d: red is %s, want %s", side, got, c.red)
				}
			}
		})
	}
}

// TestAvatarOrder does jobs of several versions at once and in every order: the
// latest is what stays.
func TestAvatarOrder(t *testing.T) {
	m, err := NewImages(t.TempDir())
	must(t, err)
	red, blue := halves(8, 8), halves(8, 8)
	for i := range red.Pix {
		red.Pix[i], blue.Pix[i] = [4]byte{255, 0, 0, 255}[i%4], [4]byte{0, 0, 255, 255}[i%4]
	}
	encode := func(img image.Image) []byte {
		var b bytes.Buffer
		must(t, png.Encode(&b, img))
		return b.Bytes()
	}
	older, newest := encode(blue), encode(red)
	var wg sync.WaitGroup
	for v := int64(1); v <= 8; v++ {
		data := older
		if v == 8 {
			data = newest
		}
		wg.Go(func() {
			if err := m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: v, Image: data}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 3, Image: older})) // a retry that comes late
	r, _, b, _ := readImage(t, filepath.Join(m.dir, "u1", "256.jpg")).At(9, 9).RGBA()
	if r < b {
		t.Error("an older image has replaced the latest")
	}
	left, err := filepath.Glob(filepath.Join(m.dir, "u1", ".new-*"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAvatarBroken holds that an image whose head is good and whose rest is not
// is dead at once and leaves no files.
func TestAvatarBroken(t *testing.T) {
	m, err := NewImages(t.TempDir())
	must(t, err)
	whole := picture(t, 100, 100)
	err = m.Avatar(ctx, Job{}, Avatar{User: "u1", Image: whole[:len(whole)/2]})
	if err == nil || !isPermanent(err) {
		t.Errorf("half an image: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Avatar(ended, Job{}, Avatar{User: "u1", Image: whole}); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(m.dir, "*", "*")); len(files) != 0 {
		t.Errorf("files %v", files)
	}
}

func TestWebPCanvas(t *testing.T) {
	plain, err := os.ReadFile("testdata/red-left.webp")
	must(t, err)
	if err := (Avatar{User: "u", Image: boastingWebP(plain, 64, 64)}).Check(); err != nil {
		t.Errorf("a small picture: %v", err)
	}
	if err := (Avatar{User: "u", Image: boastingWebP(plain, 16383, 16383)}).Check(); err == nil {
		t.Error("a picture of 268 million pixels is taken on a canvas of one")
	}
}

func FuzzImage(f *testing.F) {
	f.Add(picture(f, 8, 8))
	f.Add(turnedJPEG(f, binary.BigEndian, "MM", 6))
	f.Add(hugePNG(1<<20, 1<<20))
	webp, err := os.ReadFile("testdata/red-left.webp")
	must(f, err)
	f.Add(webp)
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := orientation(data); o < 1 || o > 8 {
			t.Fatalf("orientation %d", o)
		}
		a := Avatar{User: "u", Image: data}
		if a.Check() != nil {
			return
		}
		if img, err := decode(ctx, data); err == nil {
			if b := img.Bounds(); b.Dx()*b.Dy() > MaxImagePixels {
				t.Fatalf("%v is more than the head said", b)
			}
		}
	})
}
