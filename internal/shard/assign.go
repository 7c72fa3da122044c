package shard

import (
	"errors"
	"fmt"
	"sort"
)

// An Assigner is one strategy over a list of shards: pure, and total, so that
// every key has exactly one shard.
type Assigner interface {
	// Bucket is where a new row of this key and region belongs.
	Bucket(key, region string) Bucket
	// Home is the shard, by its place in the list, where a bucket begins.
	Home(b Bucket) int
}

// A Place is what a strategy knows of one shard.
type Place struct {
	Name    string
	From    string   // range: the first key
	To      string   // range: the first key that is no longer of it; empty: no end
	Regions []string // geo
	Default bool     // geo: where regions go that no shard names
}

// NewAssigner returns the strategy hash, range or geo over the places.
func NewAssigner(strategy string, places []Place) (Assigner, error) {
	if len(places) == 0 {
		return nil, errors.New("shard: there are no shards")
	}
	if len(places) > Buckets {
		return nil, fmt.Errorf("shard: %d shards for %d buckets", len(places), Buckets)
	}
	switch strategy {
	case "hash":
		return byHash{blocks{len(places)}}, nil
	case "range":
		return newByRange(places)
	case "geo":
		return newByRegion(places)
	}
	return nil, fmt.Errorf("shard: there is no strategy %q: hash, range or geo", strategy)
}

// blocks divides the buckets into n runs, the lengths of which differ by one at
// most.
type blocks struct{ n int }

func (s blocks) start(i int) int { return (i*Buckets + s.n - 1) / s.n }

// Home implements Assigner.
func (s blocks) Home(b Bucket) int { return int(b) * s.n / Buckets }

// within is the bucket of a key in the run i.
func (s blocks) within(i int, key string) Bucket {
	from, to := s.start(i), s.start(i+1)
	return Bucket(from + int(KeyBucket(key))%(to-from))
}

// byHash spreads keys evenly. The bucket is that of KeyBucket, so that what
// routes by the key alone is in the same bucket as the row.
type byHash struct{ blocks }

func (byHash) Bucket(key, _ string) Bucket { return KeyBucket(key) }

// byRange gives each shard an interval of keys in the order of their bytes.
// Keys before the first interval are of it, and keys after the last of that.
type byRange struct {
	blocks
	from  []string // sorted
	place []int    // of the list, for each from
}

func newByRange(places []Place) (Assigner, error) {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return places[order[a]].From < places[order[b]].From })
	r := byRange{blocks: blocks{len(places)}, place: order}
	for at, i := range order {
		p := places[i]
		if p.To != "" && p.To <= p.From {
			return nil, fmt.Errorf("shard: the range of %s ends at %q, before it begins at %q", p.Name, p.To, p.From)
		}
		if at > 0 {
			before := places[order[at-1]]
			if before.To != p.From || p.From == "" {
				return nil, fmt.Errorf("shard: the range of %s ends at %q and the next, of %s, begins at %q", before.Name, before.To, p.Name, p.From)
			}
		}
		r.from = append(r.from, p.From)
	}
	return r, nil
}

func (r byRange) Bucket(key, _ string) Bucket {
	at := sort.Search(len(r.from), func(i int) bool { return r.from[i] > key })
	return r.within(r.place[max(at-1, 0)], key)
}

// byRegion keeps the rows of a region together.
type byRegion struct {
	blocks
	region   map[string]int
	fallback int
}

func newByRegion(places []Place) (Assigner, error) {
	g := byRegion{blocks: blocks{len(places)}, region: map[string]int{}, fallback: -1}
	for i, p := range places {
		for _, region := range p.Regions {
			if other, ok := g.region[region]; ok {
				return nil, fmt.Errorf("shard: the region %s is of %s and of %s", region, places[other].Name, p.Name)
			}
			g.region[region] = i
		}
		if p.Default {
			if g.fallback >= 0 {
				return nil, fmt.Errorf("shard: both %s and %s are the default", places[g.fallback].Name, p.Name)
			}
			g.fallback = i
		}
	}
	if g.fallback < 0 {
		return nil, errors.New("shard: no shard is the default, which takes the regions that none names")
	}
	return g, nil
}

func (g byRegion) Bucket(key, region string) Bucket {
	i, ok := g.region[region]
	if !ok {
		i = g.fallback
	}
	return g.within(i, key)
}
