package service_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/users/service"
)

// plain is a PNG of one colour.
func plain(t *testing.T, c color.Color, w, h int) string {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		img.Set(i%w, i/w, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// boast is the head of a PNG that says how large it is, and no more.
func boast(w, h uint32) string {
	head := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	head = binary.BigEndian.AppendUint32(head, h)
	head = append(head, 8, 6, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head)))
}

var red, blue = color.RGBA{R: 255, A: 255}, color.RGBA{B: 255, A: 255}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// isColour reports whether both images of a user are there and of that colour.
func isColour(t *testing.T, dir, id string, want color.RGBA) bool {
	t.Helper()
	for name, side := range map[string]int{"64.jpg": 64, "256.jpg": 256} {
		data, err := os.ReadFile(filepath.Join(dir, id, name))
		if err != nil {
			return false
		}
		img, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil || img.Bounds().Dx() != side {
			t.Fatalf("%s: %v", name, err) // never half of one
		}
		r, _, b, _ := img.At(side/2, side/2).RGBA()
		if r > b != (want.R > want.B) {
			return false
		}
	}
	return true
}

func isGone(dir, id string) bool {
	left, err := filepath.Glob(filepath.Join(dir, id, "*.jpg"))
	return err == nil && len(left) == 0
}

// TestAvatar has images come and go; each is a change of its user.
func TestAvatar(t *testing.T) {
	spec, dir := embedded(t), filepath.Join(t.TempDir(), "avatars")
	spec.Jobs = &service.Jobs{Workers: 2, Avatars: dir}
	a := serve(t, spec, nil)
	u, _ := a.create("ada@example.com")
	path := "/api/users/" + u.ID + "/avatar"
	r := a.want(202, "PUT", path, plain(t, red, 300, 200), "Content-Type", "image/png")
	if got := a.user(r); got.Version != 2 || r.header.Get("ETag") != `"2"` || r.header.Get("Sluice-Consistency") == "" || got.Email != u.Email {
		t.Errorf("%+v, %v", got, r.header)
	}
	eventually(t, "the images are there", func() bool { return isColour(t, dir, u.ID, red) })
	a.want(412, "PUT", path, plain(t, blue, 10, 10), "Content-Type", "image/png", "If-Match", `"1"`)
	a.want(202, "PUT", path, plain(t, blue, 10, 10), "Content-Type", "application/octet-stream", "If-Match", `"2"`)
	eventually(t, "others are in their place", func() bool { return isColour(t, dir, u.ID, blue) })
	a.want(412, "DELETE", path, "", "If-Match", `"1"`)
	a.want(202, "DELETE", path, "")
	eventually(t, "none are there", func() bool { return isGone(dir, u.ID) })
	for i := range 6 { // whatever order they are done in
		c := []color.RGBA{red, blue}[i%2]
		a.want(202, "PUT", path, plain(t, c, 900, 900), "Content-Type", "image/png")
	}
	eventually(t, "the last one stays", func() bool { return isColour(t, dir, u.ID, blue) })
	if got := a.user(a.want(200, "GET", "/api/users/"+u.ID, "")); got.Version != 10 {
		t.Errorf("version %d after ten writes", got.Version)
	}
	a.want(204, "DELETE", "/api/users/"+u.ID, "")
	eventually(t, "they go with the user", func() bool { return isGone(dir, u.ID) })
	a.want(404, "PUT", path, plain(t, red, 10, 10), "Content-Type", "image/png")
}

// TestAvatarRefused has one thing wrong in each upload.
func TestAvatarRefused(t *testing.T) {
	spec := embedded(t)
	spec.Jobs = &service.Jobs{Workers: 0, Avatars: filepath.Join(t.TempDir(), "avatars")}
	a := serve(t, spec, nil)
	u, _ := a.create("ada@example.com")
	path, good := "/api/users/"+u.ID+"/avatar", plain(t, red, 10, 10)
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		field                    string
	}{
		{"PUT", path, "application/json", `{}`, 415, "Content-Type"},
		{"PUT", path, "image/svg+xml", `<svg/>`, 415, "Content-Type"},
		{"PUT", path, "image/png", `<svg/>`, 415, "image"},
		{"PUT", path, "image/tiff", good, 415, "Content-Type"},
		{"PUT", path, "image/png", "", 422, "image"},
		{"PUT", path, "image/png", good[:20], 422, "image"},
		{"PUT", path, "image/png", boast(40_000, 40_000), 422, "image"},
		{"PUT", path, "image/png", boast(0, 5), 422, "image"},
		{"PUT", path, "image/jpeg", "\xff\xd8\xff", 422, "image"},
		{"PUT", path, "image/png", good + strings.Repeat("x", 1<<20), 413, ""},
		{"PUT", path + "?size=64", "image/png", good, 400, "size"},
		{"DELETE", path + "?size=64", "", "", 400, "size"},
		{"PUT", "/api/users/x/avatar", "image/png", good, 404, ""},
		{"PUT", "/api/users/01a20fe4-283a-76a0-8e9c-706ed1b67448/avatar", "image/png", good, 404, ""},
		{"GET", path, "", "", 405, ""},
		{"POST", path, "image/png", good, 405, ""},
	} {
		r := a.do(c.method, c.path, c.body, "Content-Type", c.kind)
		if r.status != c.status || c.field != "" && !slices.Contains(a.fields(r), c.field) {
			t.Errorf("%s %s %s %.20q: status %d, want %d naming %q: %s", c.method, c.path, c.kind, c.body, r.status, c.status, c.field, r.text)
		}
		if r.status == 405 && r.header.Get("Allow") != "PUT, DELETE" {
			t.Errorf("Allow: %s", r.header.Get("Allow"))
		}
	}
	if got := a.user(a.want(200, "GET", "/api/users/"+u.ID, "")); got.Version != 1 {
		t.Errorf("something was changed: %+v", got)
	}
	without := serve(t, embedded(t), nil)
	u, _ = without.create("ada@example.com")
	without.want(404, "PUT", "/api/users/"+u.ID+"/avatar", good, "Content-Type", "image/png")
}
