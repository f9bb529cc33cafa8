// Asks Prometheus' own code about metrics: its text parser, its rule checker, its PromQL engine and its templates.
//
// One JSON object on standard input: pages as a scrape gets them, each with the labels of its target and a time; a file
// of rules; queries; the moment of the questions. One JSON object on standard output: what is wrong with the rules, what
// every query and alert finds, and the alerts' annotations. A scraped label wins over the target's (honor_labels).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

type page struct {
	At     int64             `json:"at"`
	Labels map[string]string `json:"labels"`
	Text   string            `json:"text"`
}

type question struct {
	Pages   []page            `json:"pages"`
	Rules   string            `json:"rules"`
	Queries map[string]string `json:"queries"`
	At      int64             `json:"at"`
}

type found struct {
	Error    string              `json:"error,omitempty"`
	Warnings []string            `json:"warnings,omitempty"`
	Series   []map[string]string `json:"series"`
	Values   []float64           `json:"values"`
	Says     []map[string]string `json:"says,omitempty"`
}

type answer struct {
	Wrong   []string         `json:"wrong"`
	Queries map[string]found `json:"queries"`
	Alerts  map[string]found `json:"alerts"`
}

// sample is a float at a time.
type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// memory holds what was scraped. It is a storage.Queryable.
type memory struct {
	all   []*series
	known map[uint64]*series
}

func (m *memory) scrape(one page) error {
	parse, err := textparse.New([]byte(one.Text), "text/plain; version=0.0.4", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		entry, err := parse.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var scraped labels.Labels
		parse.Labels(&scraped)
		_, _, value := parse.Series()
		made := labels.NewBuilder(scraped)
		for name, word := range one.Labels {
			if !scraped.Has(name) {
				made.Set(name, word)
			}
		}
		m.add(made.Labels(), sample{one.At, value})
	}
}

func (m *memory) add(all labels.Labels, one sample) {
	key := all.Hash()
	if m.known[key] == nil {
		m.known[key] = &series{labels: all}
		m.all = append(m.all, m.known[key])
	}
	m.known[key].samples = append(m.known[key].samples, one)
}

func (m *memory) Querier(from, to int64) (storage.Querier, error) {
	choose := func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		chosen := []storage.Series{}
		for _, each := range m.all {
			if matches(each.labels, matchers) {
				chosen = append(chosen, storage.NewListSeries(each.labels, each.samples))
			}
		}
		return &set{series: chosen, at: -1}
	}
	return &storage.MockQuerier{SelectMockFunction: choose}, nil
}

func matches(all labels.Labels, matchers []*labels.Matcher) bool {
	for _, each := range matchers {
		if !each.Matches(all.Get(each.Name)) {
			return false
		}
	}
	return true
}

// set is what a selection found.
type set struct {
	series []storage.Series
	at     int
}

func (s *set) Next() bool         { s.at++; return s.at < len(s.series) }
func (s *set) At() storage.Series { return s.series[s.at] }
func (s *set) Err() error         { return nil }

func (s *set) Warnings() annotations.Annotations { return nil }

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	given, err := answered(asked)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(given)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answered(asked question) (answer, error) {
	given := answer{Wrong: []string{}, Queries: map[string]found{}, Alerts: map[string]found{}}
	reader := parser.NewParser(parser.Options{})
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: 50_000_000, Timeout: time.Minute,
		LookbackDelta: 5 * time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: reader,
	})
	kept := &memory{known: map[uint64]*series{}}
	for _, each := range asked.Pages {
		if err := kept.scrape(each); err != nil {
			return given, fmt.Errorf("page of %v: %w", each.Labels, err)
		}
	}
	at := time.UnixMilli(asked.At)
	for name, query := range asked.Queries {
		given.Queries[name], _ = ask(engine, kept, query, at)
	}
	groups, wrong := rulefmt.ParseFile(asked.Rules, false, model.UTF8Validation, reader, slog.New(slog.DiscardHandler))
	for _, each := range wrong {
		given.Wrong = append(given.Wrong, each.Error())
	}
	if groups == nil {
		return given, nil
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			result, points := ask(engine, kept, rule.Expr, at)
			for _, point := range points {
				result.Says = append(result.Says, annotated(rule, point, at))
			}
			given.Alerts[rule.Alert] = result
		}
	}
	return given, nil
}

func ask(engine *promql.Engine, kept storage.Queryable, query string, at time.Time) (found, promql.Vector) {
	result := found{Series: []map[string]string{}, Values: []float64{}}
	made, err := engine.NewInstantQuery(context.Background(), kept, nil, query, at)
	if err != nil {
		result.Error = err.Error()
		return result, nil
	}
	defer made.Close()
	answer := made.Exec(context.Background())
	warnings, _ := answer.Warnings.AsStrings(query, 10, 10)
	result.Warnings = warnings
	points, err := answer.Vector()
	if err != nil {
		result.Error = err.Error()
		return result, nil
	}
	for _, point := range points {
		result.Series = append(result.Series, point.Metric.Map())
		result.Values = append(result.Values, point.F)
	}
	return result, points
}

// annotated fills in an alert's annotations as Prometheus' rule manager does.
func annotated(rule rulefmt.Rule, point promql.Sample, at time.Time) map[string]string {
	said := map[string]string{}
	data := template.AlertTemplateData(point.Metric.Map(), nil, "", promql.Sample{F: point.F})
	for name, text := range rule.Annotations {
		whole := "{{$labels := .Labels}}{{$value := .Value}}" + text
		expander := template.NewTemplateExpander(
			context.Background(), whole, rule.Alert, data, model.TimeFromUnixNano(at.UnixNano()), nil, &url.URL{}, nil)
		words, err := expander.Expand()
		if err != nil {
			words = "error: " + err.Error()
		}
		said[name] = words
	}
	return said
}
