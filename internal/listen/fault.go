package listen

// ClientFault is the status and the reason that the client is to be told.
func (v *Violation) ClientFault() (status int, reason string) { return v.Status, v.Reason }

// BodyFault is what the client did wrong in the body of the current request,
// nil if nothing. fasthttp hides the cause of some of its errors.
func (c *Conn) BodyFault() error {
	if v := c.violation.Load(); v != nil {
		return v
	}
	return nil
}
