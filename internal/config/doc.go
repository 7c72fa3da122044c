// Package config reads strict YAML into Go structs and reports every fault of
// a file at once, each with its line, column and YAML path.
//
// A struct says what may be written through its field tags:
//
//	yaml:"name"        the key; fields without this tag are not configuration
//	yaml:",inline"     on a struct: its keys belong to the outer one;
//	                   on a Raw: every key that the outer struct does not know
//	doc:"text"         what it is, for the schema
//	default:"text"     the default, for the schema (DefaultDrift compares it)
//	unit:"size"        integers: 64KiB, 10KB, 512B or a bare number of bytes
//	unit:"byterate"    integers: 240B/s, in bytes per second
//	unit:"percent"     floats: 10% is 0.10, from 0% to 100% unless min or max say otherwise
//	enum:"a|b|c"       the only values of a string, a whole number, or a list of strings
//	min:"1" max:"9"    bounds of numbers, sizes, durations; written as in the file
//	negative:"true"    a duration that may be negative
//	required:"true"    the key must be there and not be empty
//	oneOrMany:"true"   a list that may be written as its one element
//	oneOrMany:"a|b"    the same, of these words alone: others are in a list
//	secret:"true"      never shown in faults or by Redact
//
// Types may help: SetDefaults() prepares list elements, map values and newly
// made pointers; UnmarshalText takes a scalar (beside a mapping where the
// struct has keys); UnmarshalYAMLBool(bool) error takes true and false; and
// Validate() error is called after the decode, its joined errors reported one
// by one, at the sub-path that their Field() string names, if they have one.
//
// # How a file is read
//
//	doc, err := Parse(name, data, env)   // syntax, ${NAME}, duplicate keys, aliases
//	doc.Decode(&file)                    // over the defaults that file already holds
//	doc.Fault(path, err)                 // what only the caller can see
//	err = doc.Err()                      // nil, or *Faults in the order of the file
//
// Everything collects faults and goes on, so that one run shows all; what follows
// from a fault that is known is not reported again. An unknown key comes with the
// known one that is nearest to it. Schema makes a JSON Schema out of the same tags,
// and Redact the file without its secrets. The package knows no key: what keys mean
// is with whom they belong to, and cmd/gateway composes.
package config
