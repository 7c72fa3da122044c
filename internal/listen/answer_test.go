package listen

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// answered has every request answered past fasthttp with a body of as many bytes as
// its path says.
func answered(t *testing.T) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		n, _ := strconv.Atoi(string(ctx.Path()[1:]))
		conn := ctx.Conn().(interface {
			Answers() bool
			Answer(head, body []byte) error
		})
		if !conn.Answers() {
			t.Error("it cannot be answered")
		}
		head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", n)
		if ctx.QueryArgs().Has("own") {
			head = append(head, "strict-transport-security: max-age=1\r\n"...)
		}
		if err := conn.Answer(append(head, "\r\n"...), pattern(n)); err != nil {
			t.Error(err)
		}
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// TestAnswer has responses of all sizes arrive as they are, one after the other, and
// in a row, on a connection that fasthttp goes on with.
func TestAnswer(t *testing.T) {
	for name, cfg := range map[string]Config{"plain": {}, "TLS": {TLS: standardTLS(t)}, "TLS and HSTS": {TLS: standardTLS(t), HSTS: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, cfg, Handlers{Handle: answered(t)})
			c := dial(t, s)
			sizes := []int{0, 130, 64 << 10, 16<<10 + 1, gatherUpTo + 1, 1 << 20, 1}
			for _, n := range sizes {
				c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", n))
				wantAnswer(t, c, n, name == "TLS and HSTS", "max-age=3600")
			}
			row := ""
			for _, n := range sizes {
				row += fmt.Sprintf("GET /%d?own HTTP/1.1\r\nHost: a\r\n\r\n", n)
			}
			c.send(row)
			for _, n := range sizes {
				wantAnswer(t, c, n, true, "max-age=1")
			}
		})
	}
}

func wantAnswer(t *testing.T, c *client, n int, strict bool, hsts string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(body, pattern(n)) {
		t.Fatalf("of %d bytes: %d, %v", n, len(body), err)
	}
	if got := res.Header.Values(hstsField); strict != (len(got) == 1 && got[0] == hsts) {
		t.Errorf("of %d bytes: %s %q", n, hstsField, got)
	}
}

// TestGathering has 64 KiB and a head wait to be sent at once, however small the
// records are that they are in.
func TestGathering(t *testing.T) {
	s := start(t, Config{TLS: standardTLS(t)}, Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		conn := ctx.Conn().(*TLSConn)
		conn.socket.gather()
		if _, err := conn.tls.Write(append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n"), pattern(64<<10)...)); err != nil {
			t.Error(err)
		}
		if n := len(*conn.socket.records.all); n < 64<<10 {
			t.Errorf("only %d bytes wait", n)
		}
		if err := conn.socket.send(); err != nil {
			t.Error(err)
		}
		conn.hushed = true
	}})
	c := dial(t, s)
	c.send(get(""))
	wantAnswer(t, c, 64<<10, false, "")
}
