package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A bar shows how far a phase is, on a terminal in one line that changes, and
// elsewhere in a line at the end of each part.
type bar struct {
	out      io.Writer
	terminal bool
	width    int // of the last line
}

func newBar(f *os.File) *bar {
	info, err := f.Stat()
	return &bar{out: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// step says what is done now.
func (b *bar) step(phase, what string) {
	if b.terminal {
		b.show(fmt.Sprintf("%-12s %s", phase, what))
		return
	}
	fmt.Fprintf(b.out, "%-12s %s\n", phase, what)
}

// begin says what watch will show, where it shows nothing.
func (b *bar) begin(phase, what string) {
	if !b.terminal {
		b.step(phase, what)
	}
}

// watch shows the progress of something that takes as long as total until done
// is closed; sent is how many requests there have been.
func (b *bar) watch(phase, what string, total time.Duration, sent func() int64, done <-chan struct{}) {
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if b.terminal {
				b.show(progress(phase, what, time.Since(began), total, sent()))
			}
		}
	}
}

func progress(phase, what string, gone, total time.Duration, sent int64) string {
	const width = 30
	full := int(width * min(1, gone.Seconds()/max(total.Seconds(), 1e-9)))
	return fmt.Sprintf("%-12s %-10s [%s%s] %2.0f/%.0f s %9.0f requests/s", phase, what,
		strings.Repeat("#", full), strings.Repeat(".", width-full), gone.Seconds(), total.Seconds(), float64(sent)/max(gone.Seconds(), 1e-9))
}

func (b *bar) show(line string) {
	fmt.Fprintf(b.out, "\r%-*s", b.width, line)
	b.width = len(line)
}

// line is a line that stays.
func (b *bar) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if b.terminal {
		fmt.Fprintf(b.out, "\r%-*s\n", b.width, text)
		b.width = 0
		return
	}
	fmt.Fprintln(b.out, text)
}
