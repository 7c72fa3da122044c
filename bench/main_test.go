package main

import "testing"

// TestP99: the spread of the mean stands before the distribution, and may end in
// the same digits.
func TestP99(t *testing.T) {
	text := `  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms    1.77ms  26.33ms   91.99%
    Req/Sec    28.37k     3.10k   33.93k    63.50%
  Latency Distribution
     50%    0.90ms
     75%    1.50ms
     90%    2.91ms
     99%    8.89ms
`
	if got := sub(p99Line, text); got != "8.89ms" {
		t.Errorf("%q", got)
	}
}
