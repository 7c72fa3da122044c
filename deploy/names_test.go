package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// rules is what this package reads of a file of rules.
type rules struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
		}
	}
}

var (
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	inBraces  = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	grouping  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word      = regexp.MustCompile(`[A-Za-z_:][A-Za-z0-9_:]*(\s*\()?`)
	shown     = regexp.MustCompile("`metrics ([a-z_]+)`")
	operators = []string{"and", "or", "unless", "bool", "offset"}
)

// named returns the metrics of a PromQL expression. promtool looks at its
// syntax; here only names are left once all else is taken away.
func named(expr string) []string {
	expr = grouping.ReplaceAllString(inBraces.ReplaceAllString(quoted.ReplaceAllString(expr, ""), ""), "")
	var names []string
	for _, w := range word.FindAllString(expr, -1) {
		if !strings.HasSuffix(w, "(") && !slices.Contains(operators, w) {
			names = append(names, w)
		}
	}
	return names
}

func TestNamed(t *testing.T) {
	for _, c := range []struct {
		expr string
		want []string
	}{
		{`sum by (le) (rate(a_bucket{le="0.5",b=~"c|d}"}[5m])) / sum(b_count)`, []string{"a_bucket", "b_count"}},
		{`x:y:z > 14.4 * 0.001 and q == 2`, []string{"x:y:z", "q"}},
		{`histogram_quantile(0.95, sum by (le, route) (rate(h_bucket{i=~"$i"}[$__rate_interval])))`, []string{"h_bucket"}},
		{`a / on (instance) b`, []string{"a", "b"}},
		{`label_values(c, instance)`, []string{"c", "instance"}},
	} {
		if got := named(c.expr); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.expr, got, c.want)
		}
	}
}

// wanted returns the metrics that the rules, the dashboard and the README's table
// of patterns name, each with who names it, without those that the rules record.
func wanted(t *testing.T) map[string]string {
	t.Helper()
	all, recorded := map[string]string{}, map[string]bool{}
	var r rules
	data, err := os.ReadFile("prometheus/rules.yaml")
	must(t, err)
	must(t, yaml.Unmarshal(data, &r))
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			recorded[rule.Record] = true
			for _, name := range named(rule.Expr) {
				all[name] = "rule " + rule.Record + rule.Alert
			}
		}
	}
	for _, expr := range panels(t) {
		for _, name := range named(expr) {
			all[name] = "dashboard: " + expr
		}
	}
	for _, m := range shown.FindAllStringSubmatch(read(t, "../README.md"), -1) {
		all[m[1]] = "README"
	}
	maps.DeleteFunc(all, func(name, _ string) bool { return recorded[name] })
	if len(all) < 30 {
		t.Fatalf("only %v are named", slices.Sorted(maps.Keys(all)))
	}
	return all
}

// panels returns the expressions of the dashboard, and holds it to what Grafana
// wants of one.
func panels(t *testing.T) (exprs []string) {
	t.Helper()
	var d struct {
		UID, Title    string
		SchemaVersion int
		Panels        []struct {
			ID          int
			Title, Type string
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct{ RefID, Expr string }
		}
	}
	data, err := os.ReadFile("grafana/dashboard.json")
	must(t, err)
	must(t, json.Unmarshal(data, &d))
	if d.UID == "" || d.Title == "" || d.SchemaVersion == 0 {
		t.Errorf("the dashboard has no uid, title or schema version")
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q has another's id or no place", p.ID, p.Title)
		}
		ids[p.ID] = true
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %q has %d expressions", p.Title, len(p.Targets))
		}
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	return exprs
}
