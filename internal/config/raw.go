package config

import "reflect"

// Raw is a part of a document that somebody else decodes later: the value of
// its key, or with the tag `yaml:",inline"` all keys of its mapping that the
// fields beside it do not know. A Raw that the file does not set is zero.
type Raw struct {
	doc     *Document
	node    *node
	path    string
	generic string
	known   []string // keys of the fields beside an inline Raw
	secret  bool
}

// IsZero reports whether the file does not set this part.
func (r Raw) IsZero() bool { return r.doc == nil }

// Path is where in the document this part is.
func (r Raw) Path() string { return r.path }

// Decode decodes strictly over what into, a pointer, already holds. Faults are
// collected in the document; the error is a *Faults with those of this part,
// to tell whether into can be used, and need not be reported again. A zero Raw
// leaves into as it is.
func (r Raw) Decode(into any) error {
	if r.IsZero() {
		return nil
	}
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("config: Decode needs a pointer")
	}
	before := len(r.doc.faults)
	r.doc.value(r.node, v.Elem(), place{path: r.path, generic: r.generic, spec: &field{}, secret: r.secret, known: r.known})
	return sorted(r.doc.faults[before:])
}

// Fault reports a problem at a path relative to this part, as Document.Fault
// does. It must not be called on a zero Raw.
func (r Raw) Fault(path string, err error) { r.doc.Fault(under(r.path, path), err) }
