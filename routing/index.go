package routing

// An index finds values by strings. Most have few, and comparing those one by
// one touches less memory than a map.
type index[V any] struct {
	few  []entry[V]   // up to maxFew
	many map[string]V // all of them, if they are more
}

type entry[V any] struct {
	key   string
	value V
}

const maxFew = 6

// at returns the value of key, or the zero value.
func (x *index[V]) at(key string) (none V) {
	if x.many != nil {
		return x.many[key]
	}
	for i := range x.few {
		if x.few[i].key == key {
			return x.few[i].value
		}
	}
	return none
}

func (x *index[V]) set(key string, value V) {
	for i := range x.few {
		if x.few[i].key == key {
			x.few[i].value = value
			return
		}
	}
	if x.many != nil {
		x.many[key] = value
		return
	}
	x.few = append(x.few, entry[V]{key, value})
	if len(x.few) <= maxFew {
		return
	}
	x.many = make(map[string]V, len(x.few))
	for _, e := range x.few {
		x.many[e.key] = e.value
	}
	x.few = nil
}
