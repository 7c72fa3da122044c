package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const maxFile = 4 << 20 // bytes

// readYAML returns the one document's top node, nil for an empty file.
func readYAML(name string, data []byte) (*yaml.Node, *Fault) {
	if len(data) > maxFile {
		return nil, &Fault{File: name, Line: 1, Column: 1, Message: fmt.Sprintf("the file is larger than %d MiB", maxFile>>20)}
	}
	docs, err := load(data)
	if err != nil {
		line, col, message := locate(data, err)
		return nil, &Fault{File: name, Line: line, Column: col, Message: message}
	}
	if len(docs) > 1 {
		second := docs[1]
		return nil, &Fault{File: name, Line: max(second.Line, 1), Column: max(second.Column, 1),
			Message: "a second YAML document begins here; a configuration is one document"}
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		return nil, nil
	}
	return docs[0].Content[0], nil
}

// load reads up to two documents. The YAML parser is known to have panicked on
// odd input, and a reload must survive any file.
func load(data []byte) (docs []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser failed: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for len(docs) < 2 {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, &n)
	}
	return docs, nil
}

var yamlError = regexp.MustCompile(`^(?:yaml: )?(?:line \d+: )?`)

// locate finds the place of a syntax error. The parser names no column and
// often the line where the surrounding block began, or none; the line after
// which the same error first appears is where the reader should look.
func locate(data []byte, err error) (line, col int, message string) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	total := 0
	for i, l := range lines {
		total += len(l)
		ends[i] = total
	}
	i := sort.Search(len(lines)-1, func(i int) bool {
		_, e := load(data[:ends[i]])
		return e != nil && e.Error() == err.Error()
	})
	text := strings.ToValidUTF8(string(lines[i]), "?")
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	message = "not valid YAML: " + yamlError.ReplaceAllString(err.Error(), "")
	if strings.Contains(message, "expected ','") && strings.Contains(text, "${") {
		message += `; between { } or [ ], "${NAME}" needs quotes`
	}
	if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
		return i + 1, tab + 1, "not valid YAML: a tab in the indentation; use spaces"
	}
	if strings.TrimSpace(text) == "" {
		return i + 1, 1, message
	}
	return i + 1, len(indent) + 1, message
}

// clip shortens what a fault repeats from the file.
func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

var password = regexp.MustCompile(`(://[^/@:\s]*:)[^/@\s]+@`)

// hidePassword takes the password out of a URL.
func hidePassword(s string) string { return password.ReplaceAllString(s, "${1}redacted@") }

// got says what a node holds, for "expected …, got …".
func got(n *node, secret bool) string {
	var what string
	switch {
	case n.kind == mappingNode:
		return "a mapping"
	case n.kind == listNode:
		return "a list"
	case n.tag == nullTag:
		what = "nothing"
	case secret:
		what = "another value"
	case n.tag == boolTag:
		what = n.value
	case n.tag == intTag || n.tag == floatTag:
		what = "the number " + clip(n.value)
	default:
		what = "the string " + strconv.Quote(clip(hidePassword(n.value)))
	}
	if n.env != "" && !secret {
		what += " (from " + clip(n.env) + ")"
	}
	return what
}
