package edgecache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A purgeLog is the log of purges in Redis: a stream, and beside it the name that
// tells this log from all that were there before it was lost.
//
// A reader proves that it has missed nothing by the element that it read last:
// as long as that is there and is the same, what follows it is all that was
// added since. If it is not, the log was cut, lost or replaced by an older one.
type purgeLog struct {
	client redis.UniversalClient
	keys   []string // the stream, its name
	self   string   // what the elements of this gateway begin with

	started time.Time
	seen    atomic.Int64 // when all of it was known last, since started

	// Of the reader alone.
	name, last, lastMark string

	mu    sync.Mutex
	known known
	marks []mark
}

// known is which log is read, and from where on this gateway knows it all.
type known struct {
	name  string // "": none
	floor uint64 // position
}

// A mark says that at a number of this gateway it knew the log up to a position.
type mark struct{ here, log uint64 }

const (
	logLength = 16384 // purges
	logBatch  = 512
	keptMarks = 4096
)

func newPurgeLog(client redis.UniversalClient, name string) *purgeLog {
	key := "sluice:{" + name + "}:purges"
	return &purgeLog{started: time.Now(), client: client, keys: []string{key, key + ":name"}, self: rand.Text() + "."}
}

// begin is what both scripts start with: a log that is not there is begun, with
// a first element, so that there is always one to have read last.
const begin = `
local name = redis.call('GET', KEYS[2])
if not name or redis.call('EXISTS', KEYS[1]) == 0 then
  name = ARGV[1]
  redis.call('SET', KEYS[2], name)
  redis.call('DEL', KEYS[1])
  redis.call('XADD', KEYS[1], '*', 'm', name, 'k', 'begin', 'v', '', 'o', '', 's', '0')
end
`

// readScript returns the log's name and its elements from ARGV[2] on. The values
// of an element are mark, kind, value, origin, soft.
var readScript = redis.NewScript(begin + `
return {name, redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])}
`)

// addScript appends elements, cuts the log to ARGV[2], and returns the position
// of each.
var addScript = redis.NewScript(begin + `
local at = {}
for i = 3, #ARGV, 5 do
  at[#at + 1] = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*',
    'm', ARGV[i], 'k', ARGV[i + 1], 'v', ARGV[i + 2], 'o', ARGV[i + 3], 's', ARGV[i + 4])
end
return {name, at}
`)

// replaceScript begins a new log if this still is the one of that name.
var replaceScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[1], KEYS[2]) end
` + begin + `return name`)

// An element is one purge in the log.
type element struct {
	at    string
	mark  string
	purge Purge
	begin bool // the first of all, and no purge
}

// read returns the log's name and at most logBatch elements from one on.
func (l *purgeLog) read(ctx context.Context, from string) (name string, elements []element, err error) {
	answer, err := readScript.Run(ctx, l.client, l.keys, rand.Text(), from, logBatch).Slice()
	if err != nil {
		return "", nil, err
	}
	if len(answer) != 2 {
		return "", nil, errLog
	}
	name, _ = answer[0].(string)
	list, ok := answer[1].([]any)
	if !ok || name == "" {
		return "", nil, errLog
	}
	for _, one := range list {
		e, err := parseElement(one)
		if err != nil {
			return "", nil, err
		}
		elements = append(elements, e)
	}
	return name, elements, nil
}

var errLog = errors.New("edgecache: the log of purges in Redis has what no gateway writes")

func parseElement(answer any) (e element, err error) {
	pair, _ := answer.([]any)
	if len(pair) != 2 {
		return e, errLog
	}
	e.at, _ = pair[0].(string)
	fields, _ := pair[1].([]any)
	if len(fields) != 10 || logPosition(e.at) == 0 {
		return e, errLog
	}
	var values [5]string
	for i := range values {
		values[i], _ = fields[2*i+1].(string)
	}
	e.mark, e.begin = values[0], values[1] == "begin"
	e.purge = Purge{Value: values[2], Origin: values[3], Soft: values[4] == "1"}
	if !e.begin {
		e.purge.Kind, err = parseKind(values[1])
	}
	return e, err
}

// kindNames are the kinds of purges in the log.
var kindNames = [...]string{PurgeURL: "url", PurgePrefix: "prefix", PurgeHost: "host", PurgeTag: "tag", PurgeAll: "all"}

func parseKind(name string) (PurgeKind, error) {
	for kind, one := range kindNames {
		if one == name {
			return PurgeKind(kind), nil
		}
	}
	return 0, fmt.Errorf("%w: a purge of kind %.20q", errLog, name)
}

// add appends purges and returns their positions.
func (l *purgeLog) add(ctx context.Context, list []*parcel) ([]uint64, error) {
	args := []any{rand.Text(), logLength}
	for _, one := range list {
		soft := "0"
		if one.purge.Soft {
			soft = "1"
		}
		args = append(args, l.self+one.mark, kindNames[one.purge.Kind], one.purge.Value, one.purge.Origin, soft)
	}
	answer, err := addScript.Run(ctx, l.client, l.keys, args...).Slice()
	if err != nil {
		return nil, err
	}
	at, _ := answer[len(answer)-1].([]any)
	if len(at) != len(list) {
		return nil, errLog
	}
	positions := make([]uint64, len(at))
	for i := range at {
		text, _ := at[i].(string)
		positions[i] = logPosition(text)
	}
	return positions, nil
}

// logPosition is an ID of the stream, ms-n, as a number in the same order; 0 for
// none.
func logPosition(id string) uint64 {
	ms, n, _ := strings.Cut(id, "-")
	high, err1 := strconv.ParseUint(ms, 10, 44)
	low, err2 := strconv.ParseUint(n, 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return high<<20 | min(low, 1<<20-1)
}

// own reports whether this gateway has written the element.
func (l *purgeLog) own(e element) bool { return strings.HasPrefix(e.mark, l.self) }

// wait returns when there may be something new, at the latest after d.
func (l *purgeLog) wait(ctx context.Context, d time.Duration) error {
	err := l.client.XRead(ctx, &redis.XReadArgs{Streams: []string{l.keys[0], l.last}, Count: 1, Block: d}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// note remembers what this gateway knows at its number here.
func (l *purgeLog) note(here uint64, at string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := mark{here, logPosition(at)}
	if n := len(l.marks); n > 0 && l.marks[n-1].log == m.log {
		return // an earlier number for it serves more entries
	}
	if len(l.marks) == keptMarks {
		l.marks = append(l.marks[:0], l.marks[keptMarks/2:]...)
	}
	l.marks = append(l.marks, m)
}

// anew forgets what was known, as the log of that name is read from its start.
func (l *purgeLog) anew(name string, floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks, l.known = nil, known{name, floor}
}

// raise has nothing be known before a position.
func (l *purgeLog) raise(floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.floor = max(l.known.floor, floor)
}

// knowledge is which log is read, and its last mark; false if none is yet.
func (l *purgeLog) knowledge() (known, mark, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.marks) == 0 {
		return known{}, mark{}, false
	}
	return l.known, l.marks[len(l.marks)-1], true
}

// knew is the log's name, and the position up to which all of it was known at a
// number; false if that is not remembered.
func (l *purgeLog) knew(here uint64) (string, uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.marks) - 1; i >= 0; i-- {
		if l.marks[i].here <= here {
			return l.known.name, l.marks[i].log, true
		}
	}
	return "", 0, false
}

// An outbox has the purges that the others do not have yet. Those that the log has
// taken it keeps until they are read back: a Redis that comes back without its last
// writes, as a replica may, has lost them without anybody who could notice.
type outbox struct {
	kick chan struct{}

	mu      sync.Mutex
	parcels []*parcel
	told    []*parcel // taken by the log, and not read back
	count   uint64

	// rules has what is in parcels; nil if there is nothing.
	rules atomic.Pointer[rules]
}

// A parcel is a purge on its way.
type parcel struct {
	purge   Purge
	mark    string
	carried chan struct{} // closed when it has arrived
	told    time.Time     // when it had; zero: it has not
	seen    bool          // in the log
}

// maxParcels bounds the outbox; more of them become one purge of all.
const maxParcels = 4096

func (o *outbox) add(x Purge) *parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.parcels) >= maxParcels {
		o.parcels, x = nil, Purge{Kind: PurgeAll}
	}
	one := o.pack(x)
	o.parcels = append(o.parcels, one)
	o.announce(one)
	return one
}

func (o *outbox) pack(x Purge) *parcel {
	o.count++
	return &parcel{purge: x, mark: strconv.FormatUint(o.count, 10), carried: make(chan struct{})}
}

// announce has parcels carried.
func (o *outbox) announce(list ...*parcel) {
	all := o.rules.Load()
	if all == nil {
		all = newRules()
		o.rules.Store(all)
	}
	for _, one := range list {
		all.add(one.purge, 1, 0)
	}
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// next is what to carry, at most n.
func (o *outbox) next(n int) []*parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*parcel(nil), o.parcels[:min(n, len(o.parcels))]...)
}

// done takes out what was carried.
func (o *outbox) done(list []*parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for _, one := range list {
		if len(o.parcels) > 0 && o.parcels[0] == one {
			o.parcels = o.parcels[1:]
		}
		if one.told.IsZero() {
			close(one.carried)
		}
		if one.told = now; !one.seen {
			o.told = append(o.told, one)
		}
	}
	if len(o.told) > maxParcels {
		all := o.pack(Purge{Kind: PurgeAll})
		close(all.carried)
		all.told, o.told = now, []*parcel{all} // never seen: it will be carried
	}
	if len(o.parcels) == 0 {
		o.rules.Store(nil)
	}
}

// arrived notes that the log has a parcel, which may be before done knows.
func (o *outbox) arrived(mark string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, one := range o.parcels[:min(parcelsAtOnce, len(o.parcels))] {
		one.seen = one.seen || one.mark == mark
	}
	switch i := slices.IndexFunc(o.told, func(one *parcel) bool { return one.mark == mark }); {
	case i == 0: // as they come in the order in which they went
		o.told = o.told[1:]
	case i > 0:
		o.told = slices.Delete(o.told, i, i+1)
	}
}

// missed takes back what the log had taken before it was read to its end, and does
// not have.
func (o *outbox) missed(began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(o.told) && o.told[n].told.Before(began) {
		n++
	}
	if n == 0 {
		return
	}
	o.announce(o.told[:n]...)
	o.parcels, o.told = append(o.parcels, o.told[:n]...), o.told[n:] // behind what is being carried, see done
}

// all is what the others may not have.
func (o *outbox) all() []*parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Concat(o.told, o.parcels)
}

func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.parcels)
}
