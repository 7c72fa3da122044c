package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// An edit is a HeaderEdit ready to be applied, names in a fixed order.
type edit struct {
	remove   []string
	set, add []Field
}

func newEdit(spec HeaderEdit) (edit, error) {
	var e edit
	var faults []error
	for i, name := range spec.Remove {
		if err := checkName(name); err != nil {
			faults = append(faults, &SpecError{fmt.Sprintf("remove[%d]", i), err})
		}
		e.remove = append(e.remove, name)
	}
	for part, values := range map[string]map[string]string{"set": spec.Set, "add": spec.Add} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			value := values[name]
			if err := errors.Join(checkName(name), checkValue(value)); err != nil {
				faults = append(faults, &SpecError{below(part, name), err})
			}
			f := Field{Name: []byte(name), Value: []byte(value)}
			if part == "set" {
				e.set = append(e.set, f)
			} else {
				e.add = append(e.add, f)
			}
		}
	}
	return e, errors.Join(faults...)
}

// newRequestEdit is newEdit for a request, which has exactly one valid Host
// before and after (RFC 9112, section 3.2).
func newRequestEdit(spec HeaderEdit) (edit, error) {
	e, err := newEdit(spec)
	faults := []error{err}
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &SpecError{key, err})
		}
	}
	for i, name := range spec.Remove {
		if kindOf([]byte(name)) == host {
			fault(fmt.Sprintf("remove[%d]", i), errOneHost)
		}
	}
	for _, f := range e.set {
		if kindOf(f.Name) == host {
			fault(below("set", string(f.Name)), checkHost(string(f.Value)))
		}
	}
	for _, f := range e.add {
		if kindOf(f.Name) == host {
			fault(below("add", string(f.Name)), errOneHost)
		}
	}
	return e, errors.Join(faults...)
}

var errOneHost = errors.New("a request has exactly one Host; set replaces it")

func (e *edit) empty() bool { return len(e.remove)+len(e.set)+len(e.add) == 0 }

func (e *edit) apply(h *Header) {
	for _, name := range e.remove {
		h.Del(name)
	}
	for _, f := range e.set {
		h.Set(view(f.Name), view(f.Value))
	}
	h.Fields = append(h.Fields, e.add...)
}

// checkName refuses what is no field name (RFC 9110, section 5.1), and the
// names that decide where a message ends.
func checkName(name string) error {
	if name == "" {
		return errors.New("a field name is empty")
	}
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return fmt.Errorf("%q is no field name", name)
		}
	}
	switch kind := kindOf([]byte(name)); kind {
	case length, transferCoding, connection, hopByHop, upgradeField:
		return fmt.Errorf("%s belongs to the connection and cannot be edited", name)
	}
	return nil
}

// checkHost refuses what no Host holds (RFC 9110, section 7.2): a name or an
// address, with a port or without.
func checkHost(value string) error {
	name, port := value, "0"
	if i := strings.LastIndexByte(value, ':'); i > strings.LastIndexByte(value, ']') {
		name, port = value[:i], value[i+1:]
	}
	_, err := strconv.ParseUint(port, 10, 16)
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, bad := netip.ParseAddr(inner)
		if !ok || bad != nil || !addr.Is6() || addr.Zone() != "" {
			name = ""
		}
	} else if strings.ContainsFunc(name, notOfName) {
		name = ""
	}
	if name == "" || err != nil {
		return fmt.Errorf("%q is no host: a name or an address, with a port or without", value)
	}
	return nil
}

// notOfName reports whether c stands in no name of a host that a client of ours
// may send.
func notOfName(c rune) bool {
	return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}

// checkValue refuses what would end a field line (RFC 9110, section 5.5).
func checkValue(value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("the value %q holds a control character", value)
		}
	}
	return nil
}
