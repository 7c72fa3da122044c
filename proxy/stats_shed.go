package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
)

// sheds are the values of the label reason: why a request was answered with 503
// for want of a place at its backend.
var sheds = [...]string{"full", "adaptive", "displaced", "queue_timeout"}

const (
	shedFull      = iota // concurrency.max, and the queue with it
	shedAdaptive         // the same of a limit that adapts
	shedDisplaced        // by a request of higher priority
	shedTimeout          // none came free in time
)

// gateStats are the metrics of a backend's gate. They are there from its start on,
// so that the first request that is shed is a difference.
type gateStats struct {
	adaptive bool
	shed     [len(sheds)]*metrics.Counter
	waited   *metrics.PrometheusHistogram
}

func (s *stats) gate(backend string, adaptive bool) *gateStats {
	g := &gateStats{
		adaptive: adaptive,
		waited:   s.set.GetOrCreatePrometheusHistogramExt(queueName(backend), latencyBuckets),
	}
	for i, reason := range sheds {
		g.shed[i] = s.set.GetOrCreateCounter(shedName(backend, reason))
	}
	return g
}

func queueName(backend string) string {
	return fmt.Sprintf("sluice_queue_seconds{backend=%q}", backend)
}

func shedName(backend, reason string) string {
	return fmt.Sprintf("sluice_shed_total{backend=%q,reason=%q}", backend, reason)
}

// observe takes in what came of asking for a place: waited is how long for.
func (g *gateStats) observe(waited time.Duration, err error) {
	switch {
	case errors.Is(err, limiter.ErrDisplaced):
		g.shed[shedDisplaced].Inc()
	case errors.Is(err, limiter.ErrWaited):
		g.shed[shedTimeout].Inc()
	case errors.Is(err, limiter.ErrSaturated):
		if g.adaptive {
			g.shed[shedAdaptive].Inc()
		} else {
			g.shed[shedFull].Inc()
		}
		return // it has not waited
	}
	g.waited.Update(waited.Seconds())
}

// crowded counts a request that its backend's targets have no connection for
// (transport.max_connections), after all that was tried.
func (s *stats) crowded(backend string, err error) {
	var u *upstream.Error
	if errors.As(err, &u) && u.Type == "connection_limit_reached" {
		s.set.GetOrCreateCounter(shedName(backend, "max_connections")).Inc()
	}
}
