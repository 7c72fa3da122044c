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

// TestRecovered says after which check a target has recovered (r), for
// healthy_after 2.
func TestRecovered(t *testing.T) {
	for _, c := range []struct{ checks, want string }{
		{"gggg", "----"}, // never ill
		{"bgg", "--r"},
		{"bggggg", "--rrrr"}, // and stays so, of that time
		{"gbgg", "---r"},     // one bad check is enough, though it does not decide
		{"gbgbgg", "-----r"},
		{"bggbg", "--r--"},
	} {
		p := &plan{Active: defaultActive()}
		at := time.Now()
		r := newRecord(at)
		var when time.Time
		for i := range c.checks {
			at = at.Add(time.Second)
			s, _ := r.note(map[byte]string{'b': "refused"}[c.checks[i]], p, at, time.Millisecond)
			if !s.Recovered.IsZero() != (c.want[i] == 'r') {
				t.Errorf("%s: recovered at %v after %d checks", c.checks, s.Recovered, i+1)
			}
			if i > 0 && c.want[i-1] == 'r' && c.want[i] == 'r' && !s.Recovered.Equal(when) {
				t.Errorf("%s: recovered again", c.checks)
			}
			when = s.Recovered
		}
	}
}
