package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"llamero/engine"
	"llamero/scheduler/loop"
)

// Group is where a model's gauges come from; *loop.Group is one.
type Group interface {
	Stats() loop.Stats
	Engines() []loop.Stats
	Limits() engine.Limits
}

// gauges reads a group's snapshot when the page is asked for. What vLLM has a name for
// is of all engines together, so that who reads one series a model reads the whole; what
// each engine does has names of ours.
type gauges struct {
	group Group

	running, waiting, kv, cache, preempted *prometheus.Desc
	slots, unread, decodeCost, promptCost  *prometheus.Desc
	pages, evicted                         *prometheus.Desc
	up, answers, requests                  *prometheus.Desc // by engine

	drafts, drafted, accepted, acceptedAt, byDraft *prometheus.Desc
}

func newGauges(alias string, g Group) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, prometheus.Labels{modelLabel: alias})
	}
	return &gauges{
		group:      g,
		running:    desc(vllm+"num_requests_running", "Answers that have a slot."),
		waiting:    desc(vllm+"num_requests_waiting", "Answers that wait for a slot."),
		kv:         desc(vllm+"kv_cache_usage_perc", "Share of the KV cache that slots hold, 0 to 1."),
		cache:      desc(vllm+"cache_config_info", "1; its labels are the KV cache's size: blocks of so many tokens.", "block_size", "num_gpu_blocks"),
		preempted:  desc(vllm+"num_preemptions_total", "Answers that lost their slot to others, to be computed again."),
		slots:      desc(own+"slots", "Slots by what they do.", "state"),
		pages:      desc(own+"cache_pages", "Pages of the prefix cache's memory.", "state"),
		evicted:    desc(own+"cache_evictions_total", "Pages that went to make room for others."),
		drafts:     desc(vllm+"spec_decode_num_drafts_total", "Guesses of the tokens to come that were verified."),
		drafted:    desc(vllm+"spec_decode_num_draft_tokens_total", "Tokens that were guessed."),
		accepted:   desc(vllm+"spec_decode_num_accepted_tokens_total", "Guessed tokens that were right."),
		byDraft:    desc(own+"draft_tokens_total", "Tokens that the draft model guessed, by whether they were right; the other guesses continue a repetition.", "right"),
		acceptedAt: desc(vllm+"spec_decode_num_accepted_tokens_per_pos_total", "Guessed tokens that were right, by their place in the guess.", "position"),
		unread:     desc(own+"mailbox_tokens", "Tokens that have been generated and not yet read by their request's handler."),
		decodeCost: desc(own+"cost_decode_seconds", "Learnt cost of a decode pass by its rows, at depth 0, on the first engine.", "rows"),
		promptCost: desc(own+"cost_prompt_token_seconds", "Learnt cost of a prompt's token, at depth 0, on the first engine."),
		up:         desc(own+"engine_up", "1 while the engine runs, 0 while the next one is started in its place.", "engine"),
		answers:    desc(own+"engine_answers", "Answers at the engine, with a slot and without.", "engine", "state"),
		requests:   desc(own+"engine_requests_total", "Requests sent to the engine.", "engine"),
	}
}

func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.running, g.waiting, g.kv, g.cache, g.preempted, g.slots, g.unread, g.decodeCost, g.promptCost, g.pages, g.evicted, g.up, g.answers, g.requests,
		g.drafts, g.drafted, g.accepted, g.acceptedAt, g.byDraft} {
		ch <- d
	}
}

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	st, limits := g.group.Stats(), g.group.Limits()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(g.running, float64(st.Running))
	gauge(g.waiting, float64(st.Waiting))
	gauge(g.kv, float64(st.TokensInUse)/float64(max(1, st.PoolTokens)))
	// What a router asks is how much of a prompt may be found here: host pages.
	block, blocks := limits.PageTokens, limits.Pages
	if blocks == 0 {
		block, blocks = 1, st.PoolTokens // nothing is kept: a block is a token
	}
	gauge(g.cache, 1, strconv.Itoa(block), strconv.Itoa(blocks))
	gauge(g.pages, float64(st.Pages.Used), "used")
	gauge(g.pages, float64(st.Pages.Pages-st.Pages.Used), "free")
	counter := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	counter(g.evicted, st.Pages.Evictions)
	counter(g.preempted, st.Preemptions)
	counter(g.drafts, st.Guesses.Drafts)
	counter(g.drafted, st.Guesses.Tokens)
	counter(g.accepted, st.Guesses.Accepted)
	counter(g.byDraft, st.Drafts.Accepted, "true")
	counter(g.byDraft, st.Drafts.Tokens-st.Drafts.Accepted, "false")
	for i, n := range st.Guesses.ByPosition {
		counter(g.acceptedAt, n, strconv.Itoa(i))
	}
	gauge(g.slots, float64(st.Decoding), "decode")
	gauge(g.slots, float64(st.Running-st.Decoding), "prefill")
	gauge(g.slots, float64(st.Slots-st.Running), "free")
	gauge(g.unread, float64(st.Unread))
	for i, e := range g.group.Engines() {
		name, up := strconv.Itoa(i), 0.0
		if e.Ready {
			up = 1
		}
		gauge(g.up, up, name)
		gauge(g.answers, float64(e.Running), name, "running")
		gauge(g.answers, float64(e.Waiting), name, "waiting")
		ch <- prometheus.MustNewConstMetric(g.requests, prometheus.CounterValue, float64(e.Requests), name)
	}
	if c := st.Costs; c != nil {
		// Powers of two and the widest: the page need not have a line for every width.
		for w := 1; w < len(c.Decode); w *= 2 {
			gauge(g.decodeCost, c.Decode[w]/1e9, strconv.Itoa(w))
			if widest := len(c.Decode) - 1; 2*w > widest && w != widest {
				gauge(g.decodeCost, c.Decode[widest]/1e9, strconv.Itoa(widest))
			}
		}
		gauge(g.promptCost, c.PromptToken/1e9)
	}
}
