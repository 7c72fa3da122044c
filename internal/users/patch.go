package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
)

// mergePatch applies a JSON merge patch (RFC 7396) to u.
func mergePatch(u User, o object) (draft, error) {
	d := draft{user: u}
	errs := []error{o.only(ownFields, givenFields)}
	if string(o["region"]) == "null" {
		d.user.Region = ""
	} else {
		errs = append(errs, o.text("region", &d.user.Region))
	}
	errs = append(errs, o.text("name", &d.user.Name), o.text("email", &d.user.Email), o.text("password", &d.password))
	if raw, ok := o["attributes"]; ok {
		merged, err := mergeAttributes(u.Attributes, raw)
		if err == nil {
			d.user.Attributes = merged
		}
		errs = append(errs, err)
	}
	errs = append(errs, d.checkPatched(o))
	return d, errors.Join(errs...)
}

// changes reports whether a member of the patch makes the draft another user than
// u. A password always does: what it was is not known.
func (d *draft) changes(u *User, o object) bool {
	now := &d.user
	for name := range o {
		switch {
		case name == "name" && now.Name != u.Name, name == "email" && now.Email != u.Email,
			name == "region" && now.Region != u.Region, name == "password",
			name == "attributes" && !sameValue(now.Attributes, u.Attributes):
			return true
		}
	}
	return false
}

// sameValue compares objects whatever the order of their members; numbers as they
// are written.
func sameValue(a, b json.RawMessage) bool {
	x, errX := decodeValue(a)
	y, errY := decodeValue(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// checkPatched holds what was patched to the rules. What was not, was held to
// those of its time.
func (d *draft) checkPatched(o object) error {
	var errs []error
	for _, f := range fieldErrors(tidy(&d.user)) {
		if raw := o[f.Field]; len(raw) > 0 && (raw[0] == '"' || f.Field == "attributes") {
			errs = append(errs, f)
		}
	}
	if raw := o["password"]; len(raw) > 0 && raw[0] == '"' {
		errs = append(errs, checkPassword(d.password))
	}
	return errors.Join(errs...)
}

// mergeAttributes is the merge of two objects, member by member. A patch of null
// removes all.
func mergeAttributes(have, patch json.RawMessage) (json.RawMessage, error) {
	if string(patch) == "null" {
		return json.RawMessage("{}"), nil
	}
	compact, err := compactObject(patch)
	if err != nil {
		return nil, err
	}
	to, err := decodeValue(have)
	if err != nil {
		return nil, err
	}
	from, err := decodeValue(compact)
	if err != nil {
		return nil, err
	}
	return encodeValue(merge(to, from))
}

// merge is MergePatch of RFC 7396, section 2.
func merge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out, ok := target.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = merge(out[name], value)
		}
	}
	return out
}

// decodeValue keeps numbers as they were written.
func decodeValue(raw json.RawMessage) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

func encodeValue(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
