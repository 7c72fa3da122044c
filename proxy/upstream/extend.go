package upstream

import "time"

// Extend replaces Request.Deadline for what is left of a call whose Do has
// returned; zero for none.
func (c *Call) Extend(deadline time.Time) {
	if c.pool != nil {
		c.hard = c.pool.t.at(deadline)
	}
}

// Trailers returns the trailer section, once Read has returned io.EOF or
// WriteTo has returned.
func (c *Call) Trailers() []Field { return c.Response.Trailer }
