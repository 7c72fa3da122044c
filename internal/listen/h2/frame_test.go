package h2

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// All frames are such as another implementation reads.
func TestFrames(t *testing.T) {
	block := bytes.Repeat([]byte{0x88}, 2*MinFrame+5)
	var b []byte
	b = AppendSettings(b, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	b = AppendSettingsAck(b)
	b = AppendHeaders(b, 1, block, false, MinFrame)
	b = AppendHeaders(b, 3, block[:3], true, MinFrame)
	b = AppendData(b, 1, []byte("data"), false)
	b = AppendData(b, 1, nil, true)
	b = AppendReset(b, 5, http2.ErrCodeCancel)
	b = AppendWindowUpdate(b, 0, 77)
	b = AppendPing(b, true, []byte("12345678"))
	b = AppendGoAway(b, MaxID, http2.ErrCodeNo)

	f := http2.NewFramer(io.Discard, bytes.NewReader(b))
	next := func() http2.Frame {
		t.Helper()
		head := Parse(b)
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h := fr.Header(); int(h.Length) != head.Length || h.Type != head.Kind || h.Flags != head.Flags || h.StreamID != head.Stream {
			t.Fatalf("%+v is parsed as %+v", h, head)
		}
		b = b[HeaderLen+head.Length:]
		return fr
	}
	if v, ok := next().(*http2.SettingsFrame).Value(http2.SettingMaxConcurrentStreams); v != 100 || !ok {
		t.Error("a setting is missing")
	}
	if !next().(*http2.SettingsFrame).IsAck() {
		t.Error("not an acknowledgement")
	}
	if h := next().(*http2.HeadersFrame); h.HeadersEnded() || h.StreamEnded() {
		t.Error(h)
	}
	if c := next().(*http2.ContinuationFrame); c.HeadersEnded() {
		t.Error(c)
	}
	if c := next().(*http2.ContinuationFrame); !c.HeadersEnded() || len(c.HeaderBlockFragment()) != 5 {
		t.Error(c)
	}
	if h := next().(*http2.HeadersFrame); !h.HeadersEnded() || !h.StreamEnded() {
		t.Error(h)
	}
	if d := next().(*http2.DataFrame); string(d.Data()) != "data" || d.StreamEnded() {
		t.Error(d)
	}
	if d := next().(*http2.DataFrame); len(d.Data()) != 0 || !d.StreamEnded() {
		t.Error(d)
	}
	if r := next().(*http2.RSTStreamFrame); r.ErrCode != http2.ErrCodeCancel {
		t.Error(r)
	}
	if w := next().(*http2.WindowUpdateFrame); w.Increment != 77 {
		t.Error(w)
	}
	if p := next().(*http2.PingFrame); !p.IsAck() || string(p.Data[:]) != "12345678" {
		t.Error(p)
	}
	if g := next().(*http2.GoAwayFrame); g.LastStreamID != MaxID || g.ErrCode != http2.ErrCodeNo {
		t.Error(g)
	}
}

func TestUnpad(t *testing.T) {
	padded := Header{Flags: http2.FlagDataPadded}
	for _, c := range []struct {
		h    Header
		p    string
		want string
		ok   bool
	}{
		{Header{}, "\x05abc", "\x05abc", true}, {padded, "\x02abcd", "ab", true}, {padded, "\x00", "", true},
		{padded, "\x03abc", "", true}, {padded, "\x04abc", "", false}, {padded, "", "", false},
	} {
		if got, ok := Unpad(c.h, []byte(c.p)); string(got) != c.want || ok != c.ok {
			t.Errorf("%q: %q, %v", c.p, got, ok)
		}
	}
}

func TestGrow(t *testing.T) {
	for _, c := range []struct {
		window, n, want int64
		ok              bool
	}{
		{0, MaxWindow, MaxWindow, true}, {1, MaxWindow, 1, false}, {-5, MaxWindow, MaxWindow - 5, true},
		{10, -20, -10, true}, {MaxWindow, 1, MaxWindow, false},
	} {
		w := c.window
		if ok := Grow(&w, c.n); ok != c.ok || w != c.want {
			t.Errorf("%d + %d: %d, %v", c.window, c.n, w, ok)
		}
	}
}
