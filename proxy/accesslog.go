package proxy

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"
)

// accessLog gathers lines and writes them out in large pieces, from a goroutine
// of its own: no exchange waits for a log. When the writer falls so far behind
// that maxPending bytes wait, or takes none (a full disk), lines are dropped and
// counted.
type accessLog struct {
	out     io.Writer
	wake    chan struct{}
	dropped *metrics.Counter

	mu      sync.Mutex
	pending []byte
	second  int64  // the second that stamp is of
	stamp   []byte // as RFC 3339 has it, up to the fraction
}

const (
	maxPending  = 4 << 20
	flushAt     = 64 << 10
	flushPeriod = 100 * time.Millisecond
)

func newAccessLog(out io.Writer, set *metrics.Set) *accessLog {
	return &accessLog{out: out, wake: make(chan struct{}, 1), dropped: set.NewCounter("sluice_access_log_dropped_total")}
}

func (l *accessLog) run(ctx context.Context) error {
	tick := time.NewTicker(flushPeriod)
	defer tick.Stop()
	var spare []byte
	flush := func() {
		l.mu.Lock()
		full := l.pending
		l.pending = spare[:0]
		l.mu.Unlock()
		if len(full) > 0 && l.out != nil {
			n, _ := l.out.Write(full) // the metric is where it is reported
			l.dropped.Add(bytes.Count(full[min(n, len(full)):], []byte{'\n'}))
		}
		spare = full
	}
	for {
		select {
		case <-tick.C:
		case <-l.wake:
		case <-ctx.Done():
			flush()
			return nil
		}
		flush()
	}
}

// add logs the exchange, unless the generation's settings leave it out.
func (l *accessLog) add(x *Exchange, status int, took time.Duration) {
	if l.out == nil || x.gen == nil || !x.gen.sampling.Enabled {
		return
	}
	if s := x.gen.sampling.Sample; s < 1 && status < 500 && rand.Float64() >= s {
		return
	}
	l.mu.Lock()
	before := len(l.pending)
	switch {
	case before > maxPending:
		l.dropped.Inc()
	case x.gen.sampling.Format == "text":
		l.pending = appendText(l.pending, x, status)
	default:
		l.pending = appendLine(l.appendTime(l.pending, x.start), x, status, took)
	}
	wake := before < flushAt && len(l.pending) >= flushAt
	l.mu.Unlock()
	if wake {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// appendTime begins a line. Most of a time is the same as in the line before.
func (l *accessLog) appendTime(b []byte, at time.Time) []byte {
	if second := at.Unix(); second != l.second || l.stamp == nil {
		l.second = second
		l.stamp = at.UTC().AppendFormat(l.stamp[:0], "2006-01-02T15:04:05.")
	}
	ms := at.Nanosecond() / 1e6
	b = append(append(b, `{"time":"`...), l.stamp...)
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

func appendLine(b []byte, x *Exchange, status int, took time.Duration) []byte {
	r := &x.Request
	b = append(b, `","request_id":"`...)
	b = append(b, x.id...)
	b = append(b, `","client_ip":"`...)
	if r.ClientIP.IsValid() {
		b = r.ClientIP.AppendTo(b)
	}
	b = append(b, '"')
	b = appendPair(b, "method", view(r.Method))
	b = appendPair(b, "scheme", r.Scheme)
	b = appendPair(b, "host", view(r.Host))
	b = appendPair(b, "path", view(pathOf(r.Target)))
	b = appendPair(b, "protocol", r.Version)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, x.requestIn.read, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, x.bytesOut, 10)
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, took)
	b = appendPair(b, "route", x.routeName())
	if x.backend != "" {
		b = appendPair(b, "backend", x.backend)
	}
	if x.target != "" {
		b = appendPair(b, "target", x.target)
		b = append(b, `,"attempts":`...)
		b = strconv.AppendInt(b, int64(x.attempts), 10)
	}
	if x.cached.result != cacheUnused {
		b = appendPair(b, "cache", cacheResultNames[x.cached.result])
	}
	if agent, ok := r.Lookup("User-Agent"); ok {
		b = appendPair(b, "user_agent", agent)
	}
	if x.problem != "" {
		b = appendPair(b, "error", x.problem)
	}
	if x.err != nil {
		b = appendPair(b, "reason", x.err.Error())
	}
	return append(b, "}\n"...)
}

// appendMillis appends d in milliseconds, to the microsecond.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, us/1000, 10)
	us %= 1000
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

func appendPair(b []byte, key, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return appendJSON(b, value)
}

// appendText appends a line of the combined log format.
func appendText(b []byte, x *Exchange, status int) []byte {
	r := &x.Request
	b = r.ClientIP.AppendTo(b)
	b = x.start.AppendFormat(append(b, ` - - [`...), "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] `...)
	b = strconv.AppendQuoteToASCII(b, view(r.Method)+" "+view(r.Target)+" HTTP/"+r.Version)
	b = strconv.AppendInt(append(b, ' '), int64(status), 10)
	b = strconv.AppendInt(append(b, ' '), x.bytesOut, 10)
	for _, name := range [...]string{"Referer", "User-Agent"} {
		value, ok := r.Lookup(name)
		if !ok {
			value = "-"
		}
		b = strconv.AppendQuoteToASCII(append(b, ' '), value)
	}
	return append(b, '\n')
}

func pathOf(target []byte) []byte {
	for i, c := range target {
		if c == '?' {
			return target[:i]
		}
	}
	return target
}

// appendJSON appends s as a JSON string (RFC 8259, section 7); bytes that are
// not UTF-8 become U+FFFD.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	plain := 0
	for plain < len(s) && s[plain] >= ' ' && s[plain] < 0x7f && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	b = append(b, s[:plain]...)
	for i := plain; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}
