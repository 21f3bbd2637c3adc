package lint

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is what the tests read of Grafana's model.
type dashboard struct {
	UID        string
	Templating struct {
		List []struct {
			Name       string
			Type       string
			Definition string
			Query      any
			Current    struct{ Value any }
		}
	}
	Panels []panel
}

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource struct{ UID string }
	GridPos    struct{ H, W, X, Y int }
	Targets    []struct {
		RefID        string
		Expr         string
		LegendFormat string
		Datasource   struct{ UID string }
	}
}

// metric is a line of metrics.txt.
type metric struct {
	kind   string
	labels []string
}

// scraped are labels that Prometheus adds to what it scrapes.
var scraped = []string{"instance", "job"}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "grafana", "dashboards", "llamero.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// readMetrics reads what the end-to-end test has seen on a gateway's page.
func readMetrics(t *testing.T) map[string]metric {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "metrics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]metric{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] == "#" {
			continue
		}
		m := metric{kind: fields[1]}
		if len(fields) > 2 {
			m.labels = strings.Split(fields[2], ",")
		}
		out[fields[0]] = m
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// find returns the metric that a series' name belongs to, and its labels: a
// histogram's series have suffixes.
func find(metrics map[string]metric, series string) (m metric, names []string, ok bool) {
	if m, ok = metrics[series]; ok {
		return m, m.labels, m.kind != "histogram"
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, cut := strings.CutSuffix(series, suffix)
		if m, ok = metrics[base]; cut && ok && m.kind == "histogram" {
			names = m.labels
			if suffix == "_bucket" {
				names = append(slices.Clone(names), model.BucketLabel)
			}
			return m, names, true
		}
	}
	return metric{}, nil, false
}

// check returns what is wrong with a query: names and labels that no series has, a
// rate of what is no counter, a level of what is one.
func check(metrics map[string]metric, query string) []string {
	// Grafana's variables are not PromQL's.
	query = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$model", ".*").Replace(query)
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			m, names, ok := find(metrics, n.Name)
			if !ok {
				problems = append(problems, "there is no metric "+n.Name)
				return nil
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel && !slices.Contains(names, matcher.Name) && !slices.Contains(scraped, matcher.Name) {
					problems = append(problems, n.Name+" has no label "+matcher.Name)
				}
			}
			if rated := slices.ContainsFunc(path, isRate); rated == (m.kind == "gauge") {
				problems = append(problems, n.Name+" is a "+m.kind+": rate is for counters and histograms, and they for rate")
			}
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				parser.Inspect(n.Expr, func(inner parser.Node, _ []parser.Node) error {
					if v, ok := inner.(*parser.VectorSelector); ok {
						if _, names, ok := find(metrics, v.Name); ok && !slices.Contains(names, label) && !slices.Contains(scraped, label) {
							problems = append(problems, v.Name+" has no label "+label+" to group by")
						}
					}
					return nil
				})
			}
		case *parser.Call:
			if n.Func.Name == "histogram_quantile" && !strings.Contains(n.Args[1].String(), "by (le") {
				problems = append(problems, "histogram_quantile needs its buckets by le: "+n.String())
			}
		}
		return nil
	})
	return problems
}

func isRate(n parser.Node) bool {
	call, ok := n.(*parser.Call)
	return ok && (call.Func.Name == "rate" || call.Func.Name == "increase" || call.Func.Name == "irate")
}

func TestQueries(t *testing.T) {
	metrics, d := readMetrics(t), readDashboard(t)
	queries := 0
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries++
			for _, problem := range check(metrics, target.Expr) {
				t.Errorf("%s, %s: %s", p.Title, target.RefID, problem)
			}
			// A legend's labels are those that the query leaves.
			for _, name := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !strings.Contains(target.Expr, name[1]) {
					t.Errorf("%s, %s: the legend names %s, the query does not", p.Title, target.RefID, name[1])
				}
			}
		}
	}
	if queries < 30 {
		t.Errorf("only %d queries were found", queries)
	}
}

// The check can fail.
func TestWrongQueries(t *testing.T) {
	metrics := map[string]metric{
		"c_total": {"counter", []string{"kind"}}, "g": {"gauge", nil}, "h": {"histogram", []string{"kind"}},
	}
	for query, want := range map[string]string{
		`sum(rate(c_total[$__rate_interval])`:         "parse error",
		`sum(rate(d_total[5m]))`:                      "no metric d_total",
		`sum(rate(c_total{kin="a"}[5m]))`:             "no label kin",
		`sum by (kin) (rate(c_total[5m]))`:            "no label kin to group by",
		`sum(c_total)`:                                "is a counter",
		`sum(rate(g[5m]))`:                            "is a gauge",
		`sum(rate(h[5m]))`:                            "no metric h",
		`sum by (le) (rate(h_count[5m]))`:             "no label le",
		`histogram_quantile(0.9, rate(h_bucket[5m]))`: "by le",
	} {
		if got := strings.Join(check(metrics, query), "; "); !strings.Contains(got, want) {
			t.Errorf("%s: %q, not %q", query, got, want)
		}
	}
	for _, query := range []string{`histogram_quantile(0.9, sum by (le, kind) (rate(h_bucket{kind="a",job="b"}[5m])))`, `max(g{instance=~"$instance"})`} {
		if got := check(metrics, query); got != nil {
			t.Errorf("%s: %v", query, got)
		}
	}
}

// Variables ask for metrics and labels that exist, and panels for the data source
// that is provisioned.
func TestVariables(t *testing.T) {
	metrics, d := readMetrics(t), readDashboard(t)
	asked := regexp.MustCompile(`^label_values\(([^{,]+)(\{.*\})?, (\w+)\)$`)
	datasource := false
	for _, v := range d.Templating.List {
		switch v.Type {
		case "datasource":
			datasource = true
			b, err := os.ReadFile(filepath.Join("..", "grafana", "provisioning", "datasources", "prometheus.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			uid, _ := v.Current.Value.(string)
			if uid == "" || !strings.Contains(string(b), "uid: "+uid+"\n") {
				t.Errorf("the data source %q is not provisioned", uid)
			}
		case "query":
			m := asked.FindStringSubmatch(v.Definition)
			if m == nil {
				t.Errorf("%s: %q is not understood", v.Name, v.Definition)
				continue
			}
			if _, names, ok := find(metrics, m[1]); !ok || !slices.Contains(names, m[3]) && !slices.Contains(scraped, m[3]) {
				t.Errorf("%s: %s has no label %s", v.Name, m[1], m[3])
			}
		}
	}
	if !datasource {
		t.Error("there is no variable for the data source")
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s has a data source of its own", p.Title)
			}
		}
	}
}

// Panels do not overlap, and each has its id.
func TestLayout(t *testing.T) {
	type cell struct{ x, y int }
	taken, ids := map[cell]string{}, map[int]bool{}
	for _, p := range readDashboard(t).Panels {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("%s: id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[cell{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[cell{x, y}] = p.Title
			}
		}
	}
}
