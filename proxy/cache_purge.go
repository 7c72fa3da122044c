package proxy

import (
	"errors"

	"github.com/sluice-edge/sluice/edgecache"
)

// asksPurge reports whether x asks the gateway to forget what it has stored.
func (x *Exchange) asksPurge() bool {
	return len(x.gen.spec.Purgers) > 0 && string(x.Request.Method) == "PURGE"
}

// purge has what is stored for the URL of x be used no more, whatever route it
// came by; with Soft-Purge: 1 it is kept for when the origin fails, and to be
// validated.
func (p *Proxy) purge(x *Exchange) error {
	r := &x.Request
	allowed := false
	for _, prefix := range x.gen.spec.Purgers {
		allowed = allowed || prefix.Contains(r.ClientIP)
	}
	switch {
	case !allowed:
		return &Problem{Status: 403, Detail: "purging is not for this address"}
	case len(r.Path) == 0 || r.Path[0] != '/' || len(r.Host) == 0:
		return &Problem{Status: 400, Detail: "the request names no URL to purge", Type: "http_request_error", Close: true}
	case x.gen.cache == nil:
		return &Problem{Status: 404, Detail: "no route has a cache"}
	}
	soft, _ := r.Lookup("Soft-Purge")
	x.aim(&edgecache.Rules{})
	url := x.url()
	err := x.gen.cache.Purge(edgecache.Purge{Kind: edgecache.PurgeURL, Value: url, Soft: soft == "1"})
	if err != nil && !errors.Is(err, edgecache.ErrHeldHere) {
		return err
	}
	body := append(appendJSON([]byte(`{"purged":`), url), `,"everywhere":`...)
	status := 200
	if err != nil {
		body, status = append(body, "false}\n"...), 202 // the others will hear of it
	} else {
		body = append(body, "true}\n"...)
	}
	x.Response.Status = status
	x.Response.Header.Add("Content-Type", "application/json")
	x.Response.Header.Add("Cache-Control", "no-store")
	x.memory = memoryBody{all: body}
	x.Response.Body, x.Response.ContentLength = &x.memory, int64(len(body))
	return nil
}
