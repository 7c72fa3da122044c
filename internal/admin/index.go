package admin

import (
	"html/template"
	"net/http"
)

var indexPage = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice admin</title>
<link rel="icon" href="data:,">
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 4rem auto; padding: 0 1rem }
  td, th { text-align: left; padding: .2rem 1.5rem .2rem 0; vertical-align: top; font-weight: normal }
</style>
<h1>Sluice admin</h1>
<table>
{{range .}}<tr><th>{{if .Link}}<a href="{{.Path}}">{{.Path}}</a>{{else}}<code>{{.Path}}</code>{{end}}</th><td>{{.About}}</td></tr>
{{end}}</table>
</html>
`))

// index lists the paths that there are.
func (a *api) index(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Path, About string
		Link        bool // a GET does no harm
	}
	var rows []row
	for _, p := range a.pages {
		if p.about != "" {
			rows = append(rows, row{p.path, p.about, p.methods[0] == "GET"})
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'")
	_ = indexPage.Execute(w, rows) // who asked has gone
}
