package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong at one place of a file. Line and Column count from 1.
type Fault struct {
	File         string
	Line, Column int
	Path         string // empty at the top of the document
	Message      string
	Err          error // what Validate or the caller reported, or nil
}

// Error is "file:line:column: path: message".
func (f Fault) Error() string {
	if f.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Path, f.Message)
}

// Unwrap returns Err.
func (f Fault) Unwrap() error { return f.Err }

// Faults are all the faults of a file, in its order.
type Faults struct{ List []Fault }

// Error is one line a fault.
func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, x := range f.List {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults one by one, for errors.Is and errors.As.
func (f *Faults) Unwrap() []error {
	out := make([]error, len(f.List))
	for i, x := range f.List {
		out[i] = x
	}
	return out
}

// At returns err placed at a sub-path of the value whose Validate reports it:
// At("targets[0].url", err). A package that does not import this one gives its
// error a method Field() string to the same effect.
func At(path string, err error) error { return &fieldError{path, err} }

type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }
func (e *fieldError) Field() string { return e.field }

// sorted returns nil, or the faults in file order, each once.
func sorted(list []Fault) error {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	var out []Fault
	seen := map[string]bool{}
	for _, f := range list {
		if text := f.Error(); !seen[text] {
			seen[text] = true
			out = append(out, f)
		}
	}
	return &Faults{out}
}

// flatten takes errors.Join apart; other errors with several causes say
// something of their own and stay whole.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(many.Unwrap()...).Error() {
		return []error{err}
	}
	var out []error
	for _, e := range many.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

func fieldOf(err error) string {
	var f interface{ Field() string }
	if errors.As(err, &f) {
		return f.Field()
	}
	return ""
}

// messageOf is what err says but for the place that fieldOf gives.
func messageOf(err error) string {
	return strings.TrimPrefix(err.Error(), fieldOf(err)+": ")
}

// fault records a fault of decoding; what Validate says about the same value
// afterwards would only follow from it, so the path is tainted.
func (d *Document) fault(n *node, path, format string, args ...any) {
	d.tainted = append(d.tainted, path)
	d.faults = append(d.faults, Fault{File: d.name, Line: n.line, Column: n.col, Path: path, Message: fmt.Sprintf(format, args...)})
}

// isTainted reports whether the value at path, or a part of it, or what it is
// a part of, has failed to decode.
func (d *Document) isTainted(path string) bool {
	return slices.ContainsFunc(d.tainted, func(bad string) bool {
		return within(bad, path) || within(path, bad)
	})
}
