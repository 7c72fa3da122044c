package shard

// A Table holds rows of buckets, which moves copy. Its first key column is
// bucket; Key is the other.
type Table struct {
	Name    string
	Key     string
	Columns []string
}
