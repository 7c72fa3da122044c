package upstream

import (
	"context"
	"slices"
	"time"
)

const (
	// linkStreams is how many calls are put on one link before another is
	// opened: enough for links to be few, few enough that one link's writer and
	// reader, which are one goroutine each, do not become the bottleneck.
	linkStreams = 100
	// streamWindow is how much of a response the target may send before the
	// caller has taken it. It bounds the memory of a call whose client is slow,
	// and its rate to 256 KiB a round trip, 250 MB/s at a millisecond.
	streamWindow = 256 << 10
	// linkWindow lets every one of a link's usual streams fill its own window,
	// so that clients who do not read never stop those who do.
	linkWindow = linkStreams * streamWindow
	// linkWrite is for how long a link may take no byte at all. Then it is
	// closed: nothing else frees those who wait to write on it.
	linkWrite = 10 * time.Second

	// A link from which nothing has come for silence is pinged, and closed when
	// no answer comes within pingTime. Servers of gRPC end connections that are
	// pinged often without cause: three pings within five minutes each are taken
	// for an attack, unless data is sent between them. So where calls may be
	// silent for longer than two pings, pings are rare.
	silence     = 30 * time.Second
	rareSilence = 5*time.Minute + 10*time.Second
	pingTime    = 10 * time.Second
)

// A mux is what a pool has of HTTP/2: links, and the streams on them. All of it
// is under Pool.mu but http, which has a lock of its own.
type mux struct {
	http    *linkMaker
	links   []*link // the oldest first
	dials   []*linkDial
	streams []*stream // in flight, for the sweeper
	// room is how many streams a link is expected to take: fewer than
	// linkStreams where the target has allowed fewer.
	room int
}

func newMux(cfg Config) (*mux, error) {
	t, err := newLinkMaker(cfg)
	if err != nil {
		return nil, err
	}
	return &mux{http: t, room: linkStreams}, nil
}

// A linkDial is a link that one call opens and others wait for.
type linkDial struct {
	owner   *stream
	instead *link         // to be closed for it, or nil
	waiting int           // calls that count on it, the owner included; under Pool.mu
	done    chan struct{} // closed when it has succeeded, or failed with:
	err     *Error
	left    bool // the failure is the owner's own business: the others try again
}

// reserve gives s a place on a link, or else the dial to wait for, which s has
// to make where it is its owner.
func (p *Pool) reserve(s *stream) (*link, *linkDial, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.mux
	if l := p.join(s, m.room); l != nil {
		return l, nil, nil
	}
	for _, d := range m.dials {
		if d.waiting < m.room {
			d.waiting++
			return nil, d, nil
		}
	}
	d := &linkDial{owner: s, waiting: 1, done: make(chan struct{})}
	if p.cfg.MaxConnections == 0 || p.open < p.cfg.MaxConnections {
		p.open++
	} else if l := p.join(s, 0); l != nil {
		// There are as many links as may be, so they take what the target lets
		// them take.
		return l, nil, nil
	} else if len(m.dials) > 0 {
		m.dials[0].waiting++
		return nil, m.dials[0], nil
	} else if d.instead = p.spent(); d.instead == nil {
		return nil, nil, errLimit
	}
	p.dials++
	m.dials = append(m.dials, d)
	return nil, d, nil
}

// join puts s on the oldest link that has fewer than room streams, if room is
// not 0, and takes another: so the newest ones fall idle when fewer are needed.
func (p *Pool) join(s *stream, room int) *link {
	for _, l := range p.mux.links {
		if room > 0 && l.streams >= room || !l.cc.ReserveNewRequest() {
			continue
		}
		if l.served {
			p.reuses++
		}
		s.alone = l.served && l.streams == 0
		l.streams++
		return l
	}
	return nil
}

// spent takes out a link that has no stream and takes none: the target has sent
// GOAWAY and left it open.
func (p *Pool) spent() *link {
	for i, l := range p.mux.links {
		if l.streams == 0 {
			p.mux.links = slices.Delete(p.mux.links, i, i+1)
			l.gone = true // its place goes on to another
			return l
		}
	}
	return nil
}

// connect gives s a place on a link.
func (p *Pool) connect(s *stream) (*link, *Error) {
	var ctx context.Context
	for {
		l, d, err := p.reserve(s)
		if err != nil {
			return nil, &Error{Type: typeLimit, Unsent: true, Err: err}
		}
		if l != nil {
			return l, nil
		}
		if ctx == nil {
			timed, cancel := s.patience()
			defer cancel()
			ctx = timed
		}
		if d.owner == s {
			return p.dialLink(ctx, d)
		}
		select {
		case <-d.done:
			if d.err != nil && !d.left {
				e := *d.err
				return nil, &e
			}
		case <-ctx.Done():
			return nil, dialError(ctx.Err(), p.target.network)
		}
	}
}

// dialLink opens a link for d's owner and those who wait for it.
func (p *Pool) dialLink(ctx context.Context, d *linkDial) (*link, *Error) {
	if d.instead != nil {
		d.instead.cc.Close()
	}
	l, limit, err := p.openLink(ctx)
	p.mu.Lock()
	if err == nil {
		p.mux.room = min(max(limit, 1), linkStreams)
		err = p.addLink(l, d.owner)
	}
	if err != nil {
		shared := *err // the owner's is its own to fill in
		d.err, d.left = &shared, d.owner.left()
	}
	p.mux.dials = slices.DeleteFunc(p.mux.dials, func(one *linkDial) bool { return one == d })
	late := p.released
	p.mu.Unlock()
	close(d.done)
	switch {
	case err != nil && l != nil:
		l.cc.Close()
	case late:
		p.t.enlist(p)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// addLink lists a link, with one stream on it. Pool.mu is held.
func (p *Pool) addLink(l *link, s *stream) *Error {
	switch {
	case l.gone:
		return &Error{Type: typeTerminated, Unsent: true, Err: errLinkLost}
	case !l.cc.ReserveNewRequest():
		return &Error{Type: typeUnavailable, Unsent: true, Err: errNoStreams}
	}
	l.streams, s.alone = 1, false
	p.mux.links = append(p.mux.links, l)
	return nil
}

// enter has the sweeper look after s.
func (p *Pool) enter(s *stream) {
	p.mu.Lock()
	s.index = len(p.mux.streams)
	p.mux.streams = append(p.mux.streams, s)
	p.mu.Unlock()
}

// leave takes s off its link, and closes the link if nothing needs it.
func (p *Pool) leave(s *stream, l *link) {
	p.mu.Lock()
	m := p.mux
	if s.index >= 0 {
		last := len(m.streams) - 1
		m.streams[s.index] = m.streams[last]
		m.streams[s.index].index = s.index
		m.streams[last] = nil
		m.streams = m.streams[:last]
		s.index = -1
	}
	l.served = l.served || s.final
	surplus := false
	if l.streams--; l.streams == 0 {
		l.idleSince = p.t.now()
		surplus = p.released || p.idleLinks() > p.cfg.IdleConnections
	}
	if surplus {
		p.unlist(l)
	}
	p.mu.Unlock()
	if surplus {
		l.cc.Close()
	}
}

// idleLinks counts the links without streams.
func (p *Pool) idleLinks() int {
	n := 0
	if p.mux != nil {
		for _, l := range p.mux.links {
			if l.streams == 0 {
				n++
			}
		}
	}
	return n
}

// unlist has nobody else join l.
func (p *Pool) unlist(l *link) {
	if i := slices.Index(p.mux.links, l); i >= 0 {
		p.mux.links = slices.Delete(p.mux.links, i, i+1)
	}
}

// lose frees the place of a link that was closed, by whomever.
func (p *Pool) lose(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.gone {
		l.gone = true
		p.unlist(l)
		p.open--
	}
}

// expireStreams aborts the calls whose phase is over. Pool.mu is held.
func (p *Pool) expireStreams(now int64) {
	if p.mux == nil {
		return
	}
	for _, s := range p.mux.streams {
		s.expire(now)
	}
}

// idleBefore takes out the links unused since before the given time. Pool.mu is
// held.
func (p *Pool) idleBefore(before int64) (old []*link) {
	if p.mux == nil {
		return nil
	}
	p.mux.links = slices.DeleteFunc(p.mux.links, func(l *link) bool {
		if l.streams > 0 || l.idleSince > before {
			return false
		}
		old = append(old, l)
		return true
	})
	return old
}
