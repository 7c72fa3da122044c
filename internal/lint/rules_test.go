package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

const maxLines = 600 // of a file that is no test

// examine returns what is wrong with one file of the module, a line each; name
// is its path from the module's root.
func examine(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &source{fset: fset, file: file, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go")}
	if lines := bytes.Count(src, []byte("\n")); !f.test && lines > maxLines {
		f.fault(file.Package, "%d lines; a file has at most %d", lines, maxLines)
	}
	f.imports()
	f.initializers()
	f.selectors()
	return f.faults, nil
}

// A source is a file under examination.
type source struct {
	fset   *token.FileSet
	file   *ast.File
	dir    string
	test   bool
	faults []string
}

func (f *source) fault(at token.Pos, format string, args ...any) {
	p := f.fset.Position(at)
	f.faults = append(f.faults, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
}

func (f *source) imports() {
	for _, spec := range f.file.Imports {
		to, _ := strconv.Unquote(spec.Path.Value) // parsed already
		if why := allowed(module+"/"+f.dir, to, f.test); why != "" {
			f.fault(spec.Pos(), "%s", why)
		}
	}
}

// initializers forbids what runs because a package is imported.
func (f *source) initializers() {
	if f.test {
		return
	}
	for _, decl := range f.file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			f.fault(fn.Pos(), "func init: whoever needs something calls it")
		}
	}
}

// clients are what fasthttp offers to send requests with.
var clients = []string{
	"HostClient", "Client", "PipelineClient", "LBClient", "Do", "DoTimeout", "DoDeadline", "DoRedirects",
	"Get", "GetTimeout", "GetDeadline", "Post",
}

func (f *source) selectors() {
	fast, clock := f.nameOf("github.com/valyala/fasthttp"), f.nameOf("time")
	ast.Inspect(f.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, ok := sel.X.(*ast.Ident)
		switch {
		case !ok:
		case !f.test && fast != "" && on.Name == fast && slices.Contains(clients, sel.Sel.Name):
			f.fault(sel.Pos(), "fasthttp.%s is not how we send requests: see the package comment of proxy/upstream", sel.Sel.Name)
		case f.test && clock != "" && on.Name == clock && sel.Sel.Name == "Sleep" && !f.excused(sel.Pos()):
			f.fault(sel.Pos(), "time.Sleep in a test: wait for what is meant, or say why not in a comment // lint:sleep REASON on this line")
		}
		return true
	})
}

// nameOf is what a file calls an imported package; "" where it does not import
// it.
func (f *source) nameOf(importPath string) string {
	for _, spec := range f.file.Imports {
		if to, _ := strconv.Unquote(spec.Path.Value); to != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// excused reports whether a comment on the line of at gives a reason to sleep.
func (f *source) excused(at token.Pos) bool {
	line := f.fset.Position(at).Line
	for _, group := range f.file.Comments {
		for _, c := range group.List {
			reason, ok := strings.CutPrefix(c.Text, "// lint:sleep ")
			if ok && f.fset.Position(c.Pos()).Line == line && strings.TrimSpace(reason) != "" {
				return true
			}
		}
	}
	return false
}
