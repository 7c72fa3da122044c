package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// describe says what may be written for a type, with its article.
func describe(t reflect.Type, f *field) string {
	what := describeType(t, f)
	switch {
	case takesText(t) && !composite(t):
		return "text"
	case takesText(t) && takesBool(t):
		return "true, false, text or " + what
	case takesText(t):
		return "text or " + what
	case takesBool(t):
		return "true, false or " + what
	}
	return what
}

func describeType(t reflect.Type, f *field) string {
	switch {
	case t == durationType:
		return "a duration such as 500ms, 30s or 1m30s"
	case f.unit == "size":
		return "a size such as 512B, 64KiB or 8MiB"
	case f.unit == "byterate":
		return "a rate such as 240B/s or 1KiB/s"
	case f.unit == "percent":
		return "a percentage such as 10%"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem(), f)
	case reflect.Interface:
		return "a value"
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

func (d *Document) scalar(n *node, v reflect.Value, p place) {
	t := v.Type()
	if n.kind != scalarNode {
		d.expected(n, p, describe(t, p.spec))
		return
	}
	d.shown[n] = !p.secret
	if n.env != "" && t.Kind() != reflect.String {
		// Between { } a reference has to be quoted; "${PORT}" is a number all the same.
		n.tag = resolve(n.value)
	}
	switch {
	case n.isNull():
	case t.Kind() == reflect.String:
		d.text(n, v, p)
	case t.Kind() == reflect.Bool:
		if n.tag != boolTag {
			d.expected(n, p, "true or false")
			return
		}
		v.SetBool(isTrue(n.value))
	case v.CanInt() || v.CanUint() || v.CanFloat():
		d.number(n, v, p)
	default:
		panic(fmt.Sprintf("config: %s: cannot decode into %v", p.generic, t))
	}
}

func isTrue(s string) bool { return strings.EqualFold(s, "true") }

// text takes numbers as they are written: `on: [connect, 502]` is a list of
// strings. What YAML reads as true or false was perhaps not meant as text.
func (d *Document) text(n *node, v reflect.Value, p place) {
	if n.tag == boolTag && n.env == "" {
		quoted := strconv.Quote(n.value)
		if p.secret {
			quoted = "it in quotes"
		}
		d.fault(n, p.path, "expected a string, got %s; write %s", got(n, p.secret), quoted)
		return
	}
	if e := p.spec.enum; e != nil && !slices.Contains(e, n.value) {
		d.fault(n, p.path, "expected %s, got %s%s", oneOf(e, "or"), got(n, p.secret), DidYouMean(n.value, e))
		return
	}
	v.SetString(n.value)
}

// number reads whatever is counted: numbers, sizes, rates, shares, durations.
func (d *Document) number(n *node, v reflect.Value, p place) {
	t := v.Type()
	x, hint, ok := quantity(n, t, p.spec)
	if !ok {
		d.fault(n, p.path, "expected %s, got %s%s", describeType(t, p.spec), got(n, p.secret), hint)
		return
	}
	if e := p.spec.enum; e != nil && !slices.Contains(e, fmt.Sprint(x)) {
		d.fault(n, p.path, "expected %s, got %s", oneOf(e, "or"), got(n, p.secret))
		return
	}
	if problem := bounds(x, t, p.spec); problem != "" {
		d.fault(n, p.path, "%s, got %s", problem, got(n, p.secret))
		return
	}
	switch i, whole := x.(int64); {
	case !whole:
		v.SetFloat(x.(float64))
	case v.CanFloat():
		v.SetFloat(float64(i))
	case v.CanUint() && i >= 0 && !v.OverflowUint(uint64(i)):
		v.SetUint(uint64(i))
	case v.CanInt() && !v.OverflowInt(i):
		v.SetInt(i)
	case i < 0:
		d.fault(n, p.path, "must be at least 0, got %s", got(n, p.secret))
	default:
		d.fault(n, p.path, "too large: %s", got(n, p.secret))
	}
}

// quantity reads n as an int64 or a float64.
func quantity(n *node, t reflect.Type, f *field) (x any, hint string, ok bool) {
	switch {
	case t == durationType:
		return parseDuration(n)
	case f.unit == "size":
		return parseSize(n, "")
	case f.unit == "byterate":
		return parseSize(n, "/s")
	case f.unit == "percent":
		return parsePercent(n)
	case f.unit != "":
		panic(fmt.Sprintf("config: unknown unit %q of field %q", f.unit, f.name))
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return parseFloat(n)
	}
	return parseInt(n)
}

func bounds(x any, t reflect.Type, f *field) string {
	lo, hi := f.min, f.max
	if f.unit == "percent" && lo == "" {
		lo = "0%"
	}
	if f.unit == "percent" && hi == "" {
		hi = "100%"
	}
	if t == durationType && lo == "" && !f.negative {
		lo = "0"
	}
	if lo != "" && real(x) < limit(lo, t, f) {
		return "must be at least " + lo
	}
	if hi != "" && real(x) > limit(hi, t, f) {
		return "must be at most " + hi
	}
	return ""
}

func limit(tag string, t reflect.Type, f *field) float64 {
	x, _, ok := quantity(&node{value: tag, tag: resolve(tag)}, t, f)
	if !ok {
		panic(fmt.Sprintf("config: %q is no bound for field %q", tag, f.name))
	}
	return real(x)
}

func real(x any) float64 {
	if i, ok := x.(int64); ok {
		return float64(i)
	}
	return x.(float64)
}

func parseInt(n *node) (x int64, hint string, ok bool) {
	if n.tag == strTag {
		if _, err := strconv.ParseInt(n.value, 10, 64); err == nil && n.env == "" {
			return 0, "; remove the quotes", false
		}
	}
	if n.tag != intTag {
		return 0, "", false
	}
	digits := strings.TrimLeft(n.value, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, fmt.Sprintf("; write %s, or 0o%s for octal", strings.TrimLeft(digits, "0"), strings.TrimLeft(digits, "0")), false
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(n.value, "_", ""), 0, 64)
	if err != nil {
		return 0, ", which is out of range", false
	}
	return i, "", true
}

func parseFloat(n *node) (x float64, hint string, ok bool) {
	if n.tag == intTag {
		i, hint, ok := parseInt(n)
		return float64(i), hint, ok
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(n.value, "_", ""), 64)
	switch {
	case n.tag == strTag && err == nil && n.env == "":
		return 0, "; remove the quotes", false
	case n.tag != floatTag || err != nil || math.IsInf(x, 0) || math.IsNaN(x):
		return 0, "", false
	}
	return x, "", true
}
