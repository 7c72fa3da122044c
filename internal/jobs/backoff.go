package jobs

import (
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river/rivertype"
)

const (
	firstWait = time.Second
	longest   = 15 * time.Minute
)

// wait is how long after its failed attempt (from 1) a job is tried again:
// twice as long each time, give or take a quarter, so that what failed together
// does not come back together. random is from [0, 1).
func wait(first time.Duration, attempt int, random float64) time.Duration {
	d := longest
	if shift := max(attempt-1, 0); shift < 30 && first<<shift < longest {
		d = first << shift
	}
	return time.Duration(float64(d) * (0.75 + random/2))
}

// A backoff is River's policy for retries; its value is the first wait.
type backoff time.Duration

func (b backoff) NextRetry(job *rivertype.JobRow) time.Time {
	return time.Now().Add(wait(time.Duration(b), job.Attempt, rand.Float64()))
}
