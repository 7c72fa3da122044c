package health

import (
	"testing"
	"time"
)

// TestState plays rows of checks: g good, b bad; and what is shown after each:
// u usable, d down.
func TestState(t *testing.T) {
	for _, c := range []struct{ checks, want string }{
		{"g", "u"},
		{"b", "d"},             // the first decides alone
		{"bgg", "ddu"},         // then healthy_after
		{"bgbgg", "ddddu"},     // in a row
		{"gbbb", "uuud"},       // unhealthy_after
		{"gbbgbbb", "uuuuuud"}, // in a row
		{"gbbbbgbggg", "uuudddddu" + "u"},
	} {
		p := &plan{Active: defaultActive()}
		at := time.Now()
		r := newRecord(at)
		turns := 0
		for i := range c.checks {
			fault := ""
			if c.checks[i] == 'b' {
				fault = "refused"
			}
			at = at.Add(time.Second)
			was := *r.state.Load()
			s, turned := r.note(fault, p, at, time.Millisecond)
			if s.Healthy != (c.want[i] == 'u') {
				t.Errorf("%s: healthy %v after %d checks", c.checks, s.Healthy, i+1)
			}
			if turned {
				turns++
			}
			if turned != (s.Healthy != was.Healthy) || turned != s.Since.Equal(at) || s.LastError != fault || !s.Checked.Equal(at) || s.Latency != time.Millisecond || (s.Successes == 0) == (s.Failures == 0) {
				t.Errorf("%s: turned %v: %+v after %+v", c.checks, turned, s, was)
			}
		}
		want := 0
		last := byte('u')
		for i := range c.want {
			if c.want[i] != last {
				want++
			}
			last = c.want[i]
		}
		if turns != want {
			t.Errorf("%s: %d transitions, want %d", c.checks, turns, want)
		}
	}
}
