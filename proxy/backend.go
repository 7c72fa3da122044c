package proxy

import (
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
)

// A Backend answers the exchanges of the routes that name it.
//
// Serve fills x.Response and returns, the body still to be read. An error is
// turned into a response in one place: a *Problem with its own status,
// everything else with 502 or 500. Serve is called from many goroutines.
//
// A Backend that holds something also implements io.Closer, called when the
// generation that built it has been replaced; exchanges may still be running.
// One that opens something to answer from implements Start(context.Context)
// error, called once, before the first exchange: see Generation.Start.
type Backend interface {
	Serve(x *Exchange) error
}

// A Constructor makes a backend of one kind. It validates and starts nothing.
type Constructor func(Setup) (Backend, error)

// Setup is what a Constructor is given.
type Setup struct {
	// Name is the backend's name in the configuration.
	Name string
	// Decode reads the backend's own keys into a struct with yaml tags, over
	// what it holds, strictly: it reports whether they were understood. What
	// was wrong is reported to the operator with its place.
	Decode func(into any) error
	// Transport connects to targets.
	Transport *upstream.Transport
	// Lookup finds another backend of the same generation. It may be called
	// once exchanges are served; what it is asked for then must have been
	// named with Refer.
	Lookup func(name string) Backend
	// Refer tells that this backend uses another, which must exist and may not
	// come back to this one; field is the key that names it.
	Refer func(field, name string)
	Log   *slog.Logger
	// Redis is where gateways keep what they share; nil: each for itself.
	Redis redis.UniversalClient

	stats    *stats
	lasting  *lasting               // what the backend keeps over reloads
	previous *httpBackend           // of that name in the generation before; nil: none
	checker  func() *health.Checker // the generation's
}

// Kinds is the map from a backend's kind to its constructor with all kinds that
// this package has. Add to it what else you have, and give it to New.
func Kinds() map[string]Constructor {
	return map[string]Constructor{
		"http":     newHTTP,
		"files":    newFiles,
		"respond":  newRespond,
		"redirect": newRedirect,
	}
}
