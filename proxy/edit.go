package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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

// checkValue refuses what would end a field line (RFC 9110, section 5.5).
func checkValue(value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("the value %q holds a control character", value)
		}
	}
	return nil
}
