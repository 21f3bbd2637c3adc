package plots

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	panelWidth  = 4 * vg.Inch
	panelHeight = 3.1 * vg.Inch
	leastWidth  = 5.2 * vg.Inch // of a picture: the title takes it
	margin      = 10 * vg.Length(1)
	strip       = 40 * vg.Length(1) // above the panels, for title and legend
	gap         = 22 * vg.Length(1) // between panels
)

// palette is Okabe and Ito's, which people who see colours differently can tell apart.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}}

// lineStyle and glyphStyle are how the i-th subject's data look.
func lineStyle(i int) draw.LineStyle {
	return draw.LineStyle{Color: palette[i%len(palette)], Width: 1.5}
}

func glyphStyle(i int) draw.GlyphStyle {
	return draw.GlyphStyle{Color: palette[i%len(palette)], Radius: 3.2, Shape: glyphs[i%len(glyphs)]}
}

// picture is panels side by side, with one title and one legend for all.
type picture struct {
	title  string
	legend []string // the i-th has lineStyle(i)
	panels []*plot.Plot
}

func (p *picture) size() (width, height vg.Length) {
	return max(vg.Length(len(p.panels))*panelWidth, leastWidth) + 2*margin, panelHeight + strip + 2*margin
}

func style(size vg.Length, x text.XAlignment, y text.YAlignment) text.Style {
	return text.Style{Color: color.Black, Font: sans(size), XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler}
}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func (p *picture) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	c = draw.Crop(c, margin, -margin, margin, -margin)
	title := style(12, text.XLeft, text.YTop)
	c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y}, p.title)

	label := style(10.5, text.XLeft, text.YCenter)
	at := vg.Point{X: c.Min.X, Y: c.Max.Y - 27}
	const thumb = 22
	for i, name := range p.legend {
		c.StrokeLine2(lineStyle(i), at.X, at.Y, at.X+thumb, at.Y)
		c.DrawGlyph(glyphStyle(i), vg.Point{X: at.X + thumb/2, Y: at.Y})
		c.FillText(label, vg.Point{X: at.X + thumb + 5, Y: at.Y + 1.5}, name)
		at.X += thumb + 5 + label.Width(name) + 18
	}

	body := draw.Crop(c, 0, 0, 0, -strip)
	tiles := draw.Tiles{Rows: 1, Cols: len(p.panels), PadX: gap}
	for i, canvas := range plot.Align([][]*plot.Plot{p.panels}, tiles, body)[0] {
		p.panels[i].Draw(canvas)
	}
}
