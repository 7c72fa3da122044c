package main_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An origin is an ordinary HTTP server behind the gateway.
type origin struct {
	name   string
	addr   string
	server *http.Server
	events *events
	left   chan time.Time // when clients of /hang left
	done   chan struct{}
}

func startOrigin(name string, ln net.Listener, ev *events) *origin {
	o := &origin{name: name, addr: ln.Addr().String(), events: ev, left: make(chan time.Time, 64), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, name) })
	mux.HandleFunc("/closing", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") })
	mux.HandleFunc("/status/{n}", o.status)
	mux.HandleFunc("/delay/{d}", o.delay)
	mux.HandleFunc("/wait/{event}", func(w http.ResponseWriter, r *http.Request) { _ = o.events.wait(r.PathValue("event")) })
	mux.HandleFunc("/bytes/{n}", o.bytes)
	mux.HandleFunc("/count", o.countBytes)
	mux.HandleFunc("/sse/{n}/{d}", o.sse)
	mux.HandleFunc("/trailers", o.trailers)
	mux.HandleFunc("/hang", o.hang)
	mux.HandleFunc("/ws", o.webSocket)
	mux.HandleFunc("/", o.echo)
	o.server = &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(o.done)
		_ = o.server.Serve(ln) // until close
	}()
	return o
}

func (o *origin) close() {
	o.server.Close()
	<-o.done
}

// echo answers with the request as the origin understood it.
func (o *origin) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Origin", o.name)
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for _, list := range []http.Header{r.Header, r.Trailer} {
		var lines []string
		for name, values := range list {
			for _, v := range values {
				lines = append(lines, name+": "+v)
			}
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	}
	fmt.Fprintf(w, "\n%s", body)
}

func (o *origin) status(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		n = http.StatusBadRequest
	}
	w.WriteHeader(n)
}

func (o *origin) delay(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.PathValue("d"))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		fmt.Fprintln(w, "late")
	case <-r.Context().Done():
	}
}

// bytes sends as many zeros as are asked for, with their length.
func (o *origin) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.Copy(w, io.LimitReader(zeros{}, n)) // the client may leave
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// countBytes answers with the length of the request's body.
func (o *origin) countBytes(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintln(w, n, err)
}

// sse sends events with the time of each, in nanoseconds.
func (o *origin) sse(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	d, err2 := time.ParseDuration(r.PathValue("d"))
	if errors.Join(err, err2) != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(d)
	defer tick.Stop()
	for range n {
		fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano())
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func (o *origin) trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	fmt.Fprint(w, "body")
	w.Header().Set("X-Sum", "7")
}

// hang never answers; it tells when its client left.
func (o *origin) hang(w http.ResponseWriter, r *http.Request) {
	o.events.happen("hanging")
	<-r.Context().Done()
	o.left <- time.Now()
}

// webSocket echoes text frames (RFC 6455).
func (o *origin) webSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "not a WebSocket handshake", http.StatusBadRequest)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptOf(key))
	for {
		op, payload, err := readFrame(rw.Reader)
		if err != nil || writeFrame(conn, op, payload, false) != nil || op == frameClose {
			return
		}
	}
}

const (
	frameText  = 1
	frameClose = 8
)

func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// readFrame reads a frame and unmasks it, if need be.
func readFrame(r *bufio.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		var ext [2]byte
		if _, err := io.ReadFull(r, ext[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(ext[:]))
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return head[0] & 15, payload, err
}

// writeFrame writes one whole frame of less than 64 KiB.
func writeFrame(w io.Writer, op byte, payload []byte, masked bool) error {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	frame := []byte{0x80 | op, bit | byte(len(payload))}
	if len(payload) > 125 {
		frame[1] = bit | 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	}
	mask := []byte{0, 0, 0, 0}
	if masked {
		mask = []byte{1, 2, 3, 4}
		frame = append(frame, mask...)
	}
	for i, c := range payload {
		frame = append(frame, c^mask[i&3])
	}
	_, err := w.Write(frame)
	return err
}
