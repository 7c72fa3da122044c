package listen

import "net/http"

// complete adds to a response's head what c's listener asks for.
func (s *Server) complete(header http.Header, c *Conn) {
	if s.draining.Load() {
		header.Set("Connection", "close") // http2.Server says GOAWAY instead
	}
}
