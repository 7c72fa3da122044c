package limiter

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A taken is a request that a model has admitted.
type taken struct{ at, cost int64 }

// A rateModel remembers every request that it has admitted and counts them anew
// each time: what an algorithm with a few bytes a key must come to.
type rateModel struct {
	rule rateRule
	all  []taken
}

func (m *rateModel) admit(now, cost int64) bool {
	var ok bool
	switch m.rule.algorithm {
	case RateGCRA:
		ok = m.level(now)+cost*m.rule.interval <= m.rule.tolerance
	case RateFixedWindow:
		ok = m.since(m.windows(now), now)+cost <= m.rule.limit
	case RateSlidingWindow:
		ok = m.sliding(now)+cost <= m.rule.limit
	default:
		ok = m.since(0, now)+cost <= m.rule.limit
	}
	if ok {
		m.all = append(m.all, taken{now, cost})
	}
	return ok
}

// level is a bucket that leaks 1 ns in each, in ns of requests.
func (m *rateModel) level(now int64) (v int64) {
	last := int64(0)
	for _, t := range m.all {
		v, last = max(v-(t.at-last), 0)+t.cost*m.rule.interval, t.at
	}
	return max(v-(now-last), 0)
}

func (m *rateModel) since(begin, now int64) (n int64) {
	for _, t := range m.all {
		if t.at >= begin && t.at <= now {
			n += t.cost
		}
	}
	return n
}

// windows is the begin of the fixed window of now: each begins with the first
// request after the one before.
func (m *rateModel) windows(now int64) int64 {
	begin := int64(-1)
	for _, t := range m.all {
		if begin < 0 || t.at-begin >= m.rule.window {
			begin = t.at
		}
	}
	if begin < 0 || now-begin >= m.rule.window {
		return now
	}
	return begin
}

// sliding is the requests of this window and a share, rounded up, of the one
// before. Windows follow each other, but begin anew after a pause.
func (m *rateModel) sliding(now int64) int64 {
	w, begin := m.rule.window, int64(-1)
	move := func(to int64) {
		switch {
		case begin < 0 || to-begin >= 2*w:
			begin = to
		case to-begin >= w:
			begin += w
		}
	}
	for _, t := range m.all {
		move(t.at)
	}
	move(now)
	current, before := m.since(begin, now), m.since(begin-w, begin-1)
	left := new(big.Int).Mul(big.NewInt(before), big.NewInt(begin+w-now))
	left.Add(left, big.NewInt(w-1)).Div(left, big.NewInt(w))
	return left.Int64() + current
}

func drawSpec(t *rapid.T) RateSpec {
	spec := RateDefaults()
	spec.Algorithm = rapid.SampledFrom([]string{RateGCRA, RateFixedWindow, RateSlidingWindow, RateConcurrency}).Draw(t, "algorithm")
	if spec.Algorithm == RateConcurrency {
		spec.Max = rapid.Int64Range(1, 8).Draw(t, "max")
		return spec
	}
	spec.Rate = Rate{rapid.Int64Range(1, 12).Draw(t, "count"), time.Duration(rapid.Int64Range(1, 50).Draw(t, "per")) * time.Millisecond}
	if spec.Algorithm == RateGCRA {
		spec.Burst = rapid.Int64Range(1, 20).Draw(t, "burst")
	}
	return spec
}

// TestRateModel has each algorithm and its model decide about the same requests
// of some keys.
func TestRateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		start := time.Now()
		l, err := NewRateLimiter("m", spec, nil, start)
		if err != nil {
			t.Fatal(err)
		}
		models := map[string]*rateModel{}
		under := map[string][]RateDecision{}
		now := start
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(40*time.Millisecond)).Draw(t, "time")))
			},
			"take": func(t *rapid.T) {
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
				cost := rapid.Int64Range(1, 3).Draw(t, "cost")
				m := models[key]
				if m == nil {
					m = &rateModel{rule: newRateRule(spec)}
					models[key] = m
				}
				want := m.admit(int64(now.Sub(l.start)), cost)
				d := l.Take([]byte(key), cost, now)
				if d.Allowed != want {
					t.Fatalf("%s of cost %d: %v, the model says %v", key, cost, d.Allowed, want)
				}
				switch {
				case d.Allowed:
					under[key] = append(under[key], d)
				case d.Retry <= 0:
					t.Fatalf("denied, and to come back after %v", d.Retry)
				case spec.Algorithm != RateConcurrency && cost <= m.rule.limit:
					copied := *m
					copied.all = append([]taken{}, m.all...)
					if !copied.admit(int64(now.Add(d.Retry).Sub(l.start)), cost) {
						t.Fatalf("denied as well after %v, as it was told to wait", d.Retry)
					}
				}
			},
			"undo": func(t *rapid.T) { // the last that was admitted, as if it never came
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
				m := models[key]
				if m == nil || len(under[key]) == 0 {
					t.Skip("nothing was admitted")
				}
				d := under[key][len(under[key])-1]
				if spec.Algorithm != RateConcurrency && int64(now.Sub(l.start)) != d.at {
					t.Skip("only at once")
				}
				d.Refund()
				under[key], m.all = under[key][:len(under[key])-1], m.all[:len(m.all)-1]
				if spec.Algorithm == RateSlidingWindow || spec.Algorithm == RateFixedWindow {
					// A window that began with it has begun all the same.
					models[key], under[key] = nil, nil
					delete(models, key)
					l.memory.forget(&l.seeds, key)
				}
			},
			"": func(t *rapid.T) {
				if n, _ := l.Keys(); n > 3 {
					t.Fatalf("%d keys are remembered", n)
				}
			},
		})
	})
}

// forget drops a key, for tests.
func (m *rateMemory) forget(seeds *rateSeeds, key string) {
	hashed := seeds.hash([]byte(key))
	s := m.shard(hashed)
	if at, ok := s.index[hashed]; ok {
		s.drop(at)
	}
}

// TestRateNeverForgets floods a small memory with keys: none that was over its
// limit gets in by that, and it does not grow.
func TestRateNeverForgets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		spec.MaxKeys = rapid.IntRange(1, 300).Draw(t, "keys")
		if spec.Algorithm != RateConcurrency {
			spec.Rate.Per = time.Hour
		}
		start := time.Now()
		l, err := NewRateLimiter("m", spec, nil, start)
		if err != nil {
			t.Fatal(err)
		}
		var over []string
		for i := range rapid.IntRange(1, 400).Draw(t, "greedy") {
			key := fmt.Sprint("greedy-", i)
			for l.Take([]byte(key), 1, start).Allowed {
			}
			over = append(over, key)
		}
		for i := range 600 {
			l.Take(fmt.Append(nil, "flood-", i), 1, start)
		}
		for _, key := range over {
			if l.Take([]byte(key), 1, start).Allowed {
				t.Fatalf("%s was over its limit and is let in again", key)
			}
		}
		if n, _ := l.Keys(); n > spec.MaxKeys {
			t.Fatalf("%d keys, of at most %d", n, spec.MaxKeys)
		}
	})
}
