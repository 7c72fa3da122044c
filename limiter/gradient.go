package limiter

import "time"

const (
	gradientFirst = 20   // the limit to begin with
	gradientLeast = 1    // the lowest
	gradientMost  = 1000 // the highest, where the config says none

	tolerance = 1.25 // of latency over the base before the limit shrinks
	smoothing = 0.2
	queueing  = 0.1       // share of the limit that may queue in the backend
	growth    = 1.5       // a window, until latency first answers
	longest   = 2.0 / 601 // weight of a window in the base: that of a mean of 600

	probeShare   = 0.6  // of the limit
	probeFlat    = 0.85 // of the latency before: above it, latency did not follow the limit
	probeWindows = 4    // the first of which only empties the backend
	probeFirst   = 5    // windows of higher latency before the first probe
	probeQueued  = 64   // and at most between two, while they find a queue
	probeNone    = 512  // or find none
)

// A gradient computes a concurrency limit from the mean latency of windows. See
// the package comment for the formulas.
type gradient struct {
	most    float64
	limit   float64
	base    float64 // latency in ns that we are not to blame for
	recent  float64 // latency of the last few windows
	windows int
	growing bool    // not answered by latency yet
	calm    float64 // limit when latency was last within tolerance

	raised   int     // windows above the base since the last probe
	patience int     // how many of them make the next one
	probed   float64 // recent at the end of the last probe
	probe    probe
}

// A probe looks whether latency follows the limit down.
type probe struct {
	left    int     // windows; 0: none is under way
	latency float64 // before
	sum     float64 // of the windows that count
}

func newGradient(most int) gradient {
	if most <= 0 {
		most = gradientMost
	}
	first := min(gradientFirst, float64(most))
	return gradient{most: float64(most), limit: first, calm: first, growing: true, patience: probeFirst}
}

// allowed is the limit in force.
func (g *gradient) allowed() int {
	if g.probe.left > 0 {
		return int(max(g.limit*probeShare, gradientLeast))
	}
	return int(g.limit)
}

// window takes in one window: its mean latency, and the most that were in
// flight. It returns the limit to hold from now on.
func (g *gradient) window(latency time.Duration, inFlight int) int {
	short := max(float64(latency), 1)
	busy := float64(inFlight) >= float64(g.allowed())/2
	if g.probe.left > 0 {
		g.look(short, busy)
		return g.allowed()
	}
	g.learn(short, busy)
	if !busy {
		return g.allowed()
	}
	g.follow(short)
	if g.raised >= g.patience {
		g.probe = probe{left: probeWindows, latency: g.recent}
		g.raised = 0
	}
	return g.allowed()
}

// learn keeps the base. While the backend is busy it only falls.
func (g *gradient) learn(short float64, busy bool) {
	g.windows++
	if g.windows == 1 {
		g.base, g.recent, g.probed = short, short, short
	}
	g.recent += 0.3 * (short - g.recent)
	if g.recent > 1.3*g.probed || g.recent < 0.7*g.probed { // the last probe says nothing about this
		g.patience = probeFirst
		g.probed = g.recent
	}
	if !busy || short < g.base {
		g.base += max(longest, 1/float64(g.windows)) * (short - g.base)
	} else if short > 1.1*g.base {
		g.raised++
	}
	if g.base > 2*short {
		g.base *= 0.95
	}
}

// follow moves the limit by the gradient.
func (g *gradient) follow(short float64) {
	gradient := max(0.5, min(1, tolerance*g.base/short))
	if gradient == 1 {
		g.calm = g.limit
	} else {
		g.growing = false
	}
	wanted := g.limit*gradient + max(1, queueing*g.limit)
	if g.growing {
		g.limit *= growth
	} else {
		g.limit += smoothing * (wanted - g.limit)
	}
	g.limit = max(gradientLeast, min(g.most, g.limit))
}

// look takes in one window of a probe, and judges at its end.
func (g *gradient) look(short float64, busy bool) {
	if g.probe.left < probeWindows {
		g.probe.sum += short
	}
	g.probe.left--
	switch {
	case !busy: // too few requests to tell
		g.probe.left = 0
		return
	case g.probe.left > 0:
		return
	}
	mean := g.probe.sum / (probeWindows - 1)
	if mean > probeFlat*g.probe.latency {
		g.base = mean
		g.limit = max(g.limit, g.calm)
		g.patience = min(2*g.patience, probeNone)
	} else {
		g.base = min(g.base, mean)
		g.patience = min(2*g.patience, probeQueued)
	}
	g.probed = g.probe.latency
}
