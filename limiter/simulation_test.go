package limiter

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A simulation has servers that take the requests in flight in turn, each for a
// time of which half is fixed and half exponential: an M/G/c queue. Its time is
// its own.
type simulation struct {
	random  *rand.Rand
	servers int
	mean    func(now time.Duration) time.Duration
	rate    func(now time.Duration) float64 // arrivals a second

	now     time.Duration
	free    []time.Duration // when each server is free
	flights flights
	meter   *meter
	limit   int
	phases  []phase
}

type flight struct{ began, ends time.Duration }
type flights []flight

func (f flights) Len() int           { return len(f) }
func (f flights) Less(i, j int) bool { return f[i].ends < f[j].ends }
func (f flights) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)        { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	*f = (*f)[:last]
	return x
}

// A phase is what happened in a span of time.
type phase struct {
	arrived, admitted int
	latencies         []time.Duration
	limits, samples   float64
}

func (p *phase) mean() time.Duration {
	var sum time.Duration
	for _, l := range p.latencies {
		sum += l
	}
	return sum / time.Duration(max(len(p.latencies), 1))
}

func (p *phase) quantile(q float64) time.Duration {
	slices.Sort(p.latencies)
	return p.latencies[int(q*float64(len(p.latencies)-1))]
}

func (p *phase) limit() float64 { return p.limits / p.samples }
func (p *phase) shed() float64  { return 1 - float64(p.admitted)/float64(p.arrived) }

// simulate runs for as many spans as there are to be phases. fixed is a limit
// instead of the adaptive one; 0 for that.
func (s *simulation) simulate(span time.Duration, phases, fixed int) {
	s.meter = newMeter(0)
	s.limit = s.meter.gradient.allowed()
	if fixed > 0 {
		s.limit = fixed
	}
	s.free = make([]time.Duration, s.servers)
	s.phases = make([]phase, phases)
	for s.now < span*time.Duration(phases) {
		s.now += time.Duration(s.random.ExpFloat64() / s.rate(s.now) * float64(time.Second))
		for len(s.flights) > 0 && s.flights[0].ends <= s.now {
			s.finish(fixed)
		}
		p := &s.phases[min(int(s.now/span), phases-1)]
		p.arrived++
		p.limits += float64(s.limit)
		p.samples++
		if len(s.flights) < s.limit {
			s.begin(p)
		}
	}
}

func (s *simulation) begin(p *phase) {
	first := 0
	for i, t := range s.free {
		if t < s.free[first] {
			first = i
		}
	}
	mean := float64(s.mean(s.now))
	service := time.Duration(mean/2 + mean/2*s.random.ExpFloat64())
	ends := max(s.free[first], s.now) + service
	s.free[first] = ends
	heap.Push(&s.flights, flight{s.now, ends})
	p.admitted++
	p.latencies = append(p.latencies, ends-s.now)
}

func (s *simulation) finish(fixed int) {
	n := len(s.flights)
	f := heap.Pop(&s.flights).(flight)
	limit, ok := s.meter.sample(f.ends, f.ends-f.began, n)
	if ok && fixed == 0 {
		s.limit = limit
	}
}

func constant[T any](x T) func(time.Duration) T { return func(time.Duration) T { return x } }

func newSimulation(servers int, mean func(time.Duration) time.Duration, rate func(time.Duration) float64) *simulation {
	return &simulation{random: rand.New(rand.NewPCG(1, 2)), servers: servers, mean: mean, rate: rate}
}

// TestSimulation holds the adaptive limit against backends that take exactly as
// many requests at once as they have servers, 10 ms each, and prints what it
// does: go test -v -run Simulation. The last of six spans of 10 s counts.
func TestSimulation(t *testing.T) {
	const service, span = 10 * time.Millisecond, 10 * time.Second
	t.Log("servers  load  limit  shed%  mean-ms  p99-ms  ÷quiet  ÷quiet-p99  goodput%")
	for _, servers := range []int{1, 4, 40} {
		capacity := float64(servers) / service.Seconds()
		quiet := newSimulation(servers, constant(service), constant(capacity*0.05))
		quiet.simulate(span, 1, 1000)
		unloaded, unloadedTail := quiet.phases[0].mean(), quiet.phases[0].quantile(0.99)
		for _, load := range []float64{0.5, 0.9, 2, 4} {
			s := newSimulation(servers, constant(service), constant(capacity*load))
			s.simulate(span, 6, 0)
			p := &s.phases[5]
			slowed := float64(p.mean()) / float64(unloaded)
			tail := float64(p.quantile(0.99)) / float64(unloadedTail)
			goodput := float64(p.admitted) / (span.Seconds() * capacity * min(load, 1))
			t.Logf("%7d  %4.1f  %5.0f  %5.1f  %7.1f  %6.1f  %6.2f  %10.2f  %8.1f", servers, load, p.limit(), 100*p.shed(),
				ms(p.mean()), ms(p.quantile(0.99)), slowed, tail, 100*goodput)
			least := 0.8 // of what the backend could serve
			if servers >= 40 {
				least = 0.95
			}
			if goodput < least {
				t.Errorf("%d servers under load %v: only %.2f of what they could serve", servers, load, goodput)
			}
			slowest := 2.0
			if servers == 1 { // one request that waits is twice the latency already
				slowest = 3
			}
			if load > 1 && (slowed > slowest || tail > slowest) {
				t.Errorf("%d servers under load %v: admitted requests take %.2f times as long as without load, p99 %.2f", servers, load, slowed, tail)
			}
			if load > 1 && servers >= 40 && (p.limit() < float64(servers) || p.limit() > 1.6*float64(servers)) {
				t.Errorf("%d servers under load %v: a limit of %.0f", servers, load, p.limit())
			}
		}
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// TestSimulationWithoutLimit shows that the simulated backend is one that needs
// a limit.
func TestSimulationWithoutLimit(t *testing.T) {
	s := newSimulation(40, constant(10*time.Millisecond), constant(8000.0))
	s.simulate(10*time.Second, 1, 1000)
	if p := &s.phases[0]; p.mean() < 100*time.Millisecond {
		t.Errorf("twice the load takes %v with 1000 in flight", p.mean())
	}
}

// TestSimulationStep makes the backend slower by three, which is no overload at
// this rate, and later as fast as it was. Then comes one.
func TestSimulationStep(t *testing.T) {
	service := func(now time.Duration) time.Duration {
		if now >= 20*time.Second && now < 60*time.Second {
			return 30 * time.Millisecond
		}
		return 10 * time.Millisecond
	}
	rate := func(now time.Duration) float64 {
		if now >= 80*time.Second {
			return 8000
		}
		return 1000
	}
	s := newSimulation(40, service, rate)
	s.simulate(2*time.Second, 60, 0)
	for i := range s.phases {
		p := &s.phases[i]
		t.Logf("%3d s  limit %3.0f  shed %4.1f%%  mean %4.1f ms", 2*i, p.limit(), 100*p.shed(), ms(p.mean()))
		most := 0.001
		switch {
		case i == 10: // the first two seconds of the step
			most = 0.1
		case i >= 40:
			continue
		}
		if p.shed() > most {
			t.Errorf("after %d s %.3f of the requests are shed", 2*i, p.shed())
		}
	}
	if last := &s.phases[59]; last.mean() > 20*time.Millisecond || last.shed() > 0.55 {
		t.Errorf("under twice the load after the step: %v, shed %.2f", last.mean(), last.shed())
	}
}

// TestSimulationOverloadLasts holds an overload for ten minutes: what grows
// without end under Gradient2's base stays where it is.
func TestSimulationOverloadLasts(t *testing.T) {
	s := newSimulation(10, constant(10*time.Millisecond), constant(2000.0))
	s.simulate(time.Minute, 10, 0)
	for i := range s.phases {
		p := &s.phases[i]
		t.Logf("minute %d: limit %.1f, mean %.1f ms", i+1, p.limit(), ms(p.mean()))
		if i > 0 && p.mean() > 20*time.Millisecond {
			t.Errorf("minute %d: %v", i+1, p.mean())
		}
	}
}
