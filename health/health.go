package health

import (
	"errors"
	"fmt"
)

// A FieldError is one fault in a configuration of this package. Validate joins
// all of them.
type FieldError struct {
	field string
	Err   error
}

// Field is the fault's place below the struct, as in YAML: expect[1], interval.
func (e *FieldError) Field() string { return e.field }

// Error names the field and the fault.
func (e *FieldError) Error() string { return e.field + ": " + e.Err.Error() }

// Unwrap returns the fault without its place.
func (e *FieldError) Unwrap() error { return e.Err }

// faults collects FieldErrors.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &FieldError{field: field, Err: fmt.Errorf(format, args...)})
}

func (f *faults) unless(good bool, field, format string, args ...any) {
	if !good {
		f.add(field, format, args...)
	}
}

func (f faults) join() error { return errors.Join(f...) }
