//go:build !linux

package listen

import "errors"

const parks = false // see await

// watcher does nothing here: clients that leave are noticed when a write fails.
type watcher struct{}

func newWatcher() (*watcher, error) { return nil, errors.ErrUnsupported }

func (w *watcher) run()             {}
func (w *watcher) close()           {}
func (w *watcher) add(*Conn) bool   { return false }
func (w *watcher) remove(*Conn)     {}
func (c *Conn) pending() bool       { return false }
func (c *Conn) sent() (int, uint64) { return 0, 0 }
func (c *Conn) readable() error     { return nil } // wait in fasthttp
