package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Sizes of charts, in px.
const (
	chartWidth = 760
	labelWidth = 110
	rightSpace = 110
	rowHeight  = 30
	headHeight = 56
	footHeight = 16
)

var colors = []string{"#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2"}

// A row is a line of a chart. Nothing was measured where it has no values.
type row struct {
	label  string
	values []float64
}

// A chart has rows of the same series.
type chart struct {
	title  string
	series []string
	format func(float64) string
	rows   []row
}

// svg collects the elements of a picture.
type svg struct{ b strings.Builder }

func (s *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(&s.b, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`+"\n", px(x), px(y), anchor, class, html.EscapeString(text))
}

func (s *svg) rect(x, y, w, h float64, fill string) {
	fmt.Fprintf(&s.b, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", px(x), px(y), px(w), px(h), fill)
}

func (s *svg) dot(x, y float64, fill string) {
	fmt.Fprintf(&s.b, `<circle cx="%s" cy="%s" r="5" fill="%s"/>`+"\n", px(x), px(y), fill)
}

func (s *svg) line(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&s.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="#d0d0d0"/>`+"\n", px(x1), px(y1), px(x2), px(y2))
}

func px(n float64) string { return strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64) }

// frame is the picture around what draw draws, with the title, the legend and
// the labels of rows.
func (c *chart) frame(draw func(s *svg)) string {
	height := headHeight + rowHeight*len(c.rows) + footHeight
	var s svg
	fmt.Fprintf(&s.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">
<title>%s</title>
<style>text{font:13px sans-serif;fill:#222}.t{font-weight:bold;font-size:15px}.v{fill:#444}.n{fill:#999;font-style:italic}</style>
`, chartWidth, height, html.EscapeString(c.title))
	s.rect(0, 0, chartWidth, float64(height), "#ffffff")
	s.text(12, 22, "start", "t", c.title)
	if len(c.series) > 1 {
		x := float64(labelWidth)
		for i, name := range c.series {
			s.rect(x, 33, 11, 11, colors[i%len(colors)])
			s.text(x+16, 43, "start", "v", name)
			x += 34 + 7.2*float64(len(name))
		}
	}
	for i, r := range c.rows {
		s.text(labelWidth-8, c.middle(i)+4, "end", "v", r.label)
		if len(r.values) == 0 {
			s.text(labelWidth+4, c.middle(i)+4, "start", "n", "not measured")
		}
	}
	draw(&s)
	s.b.WriteString("</svg>\n")
	return s.b.String()
}

// middle is the height of a row.
func (c *chart) middle(i int) float64 { return headHeight + rowHeight*(float64(i)+0.5) }

// largest is the sum of a row's values, of the largest row; at least a little.
func (c *chart) largest() float64 {
	most := 1e-9
	for _, r := range c.rows {
		sum := 0.0
		for _, v := range r.values {
			sum += v
		}
		most = max(most, sum)
	}
	return most
}

// bars draws each row as one bar, of its values one behind the other, from 0.
func (c *chart) bars() string {
	scale := (chartWidth - labelWidth - rightSpace) / c.largest()
	return c.frame(func(s *svg) {
		for i, r := range c.rows {
			x, sum := float64(labelWidth), 0.0
			for j, v := range r.values {
				s.rect(x, c.middle(i)-10, v*scale, 20, colors[j%len(colors)])
				x += v * scale
				sum += v
			}
			if len(r.values) > 0 {
				s.text(x+6, c.middle(i)+4, "start", "v", c.format(sum))
			}
		}
	})
}

// dots draws the values of each row as dots over an axis that is logarithmic.
func (c *chart) dots() string {
	low, high := math.Inf(1), 0.0
	for _, r := range c.rows {
		for _, v := range r.values {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		low, high = 1, 1
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if to <= from {
		to = from + 1
	}
	at := func(v float64) float64 {
		return labelWidth + 10 + (math.Log10(v)-from)/(to-from)*(chartWidth-labelWidth-rightSpace)
	}
	bottom := c.middle(len(c.rows)-1) + rowHeight/2
	return c.frame(func(s *svg) {
		for e := from; e <= to; e++ {
			v := math.Pow(10, e)
			s.line(at(v), headHeight, at(v), bottom)
			s.text(at(v), bottom+12, "middle", "v", c.format(v))
		}
		for i, r := range c.rows {
			for j, v := range r.values {
				if v > 0 {
					s.dot(at(v), c.middle(i), colors[j%len(colors)])
				}
			}
			if n := len(r.values); n > 0 {
				s.text(chartWidth-8, c.middle(i)+4, "end", "v", c.format(r.values[n-1]))
			}
		}
	})
}
