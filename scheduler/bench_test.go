package scheduler

import (
	"fmt"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// BenchmarkStep is a step of 64 requests in which each draws a token: Next and
// Apply, without any engine.
func BenchmarkStep(b *testing.B) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		b.Run(fmt.Sprintf("64-requests-%v", layout), func(b *testing.B) {
			const requests, answer = 64, 1000
			l := enginetest.DefaultLimits(layout)
			l.Slots, l.SlotTokens, l.PassTokens, l.PassOutputs = requests, 4096, 512, 128
			l.PoolTokens = l.Slots * l.SlotTokens
			s := New(Config{Limits: l, TargetITL: 250e6, Queue: requests})
			id := ID(0)
			fill := func() {
				for range requests {
					id++
					if err := s.Add(Request{ID: id, Prompt: prompt(uint64(id), 32), MaxTokens: answer}); err != nil {
						b.Fatal(err)
					}
				}
			}
			var now Tick
			step := func() (rows int) {
				plan, _ := s.Next(now)
				for i, p := range plan.Passes {
					out := engine.Output{Step: plan.Step, Pass: i, Rows: make([]engine.RowOutput, len(p.Rows)), Nanos: 1e6}
					for j := range p.Rows {
						if p.Rows[j].Sample {
							out.Rows[j].Sampled = []engine.Sampled{{Token: 1}}
							rows++
						}
					}
					if _, err := s.Apply(out, now); err != nil {
						b.Fatal(err)
					}
				}
				now += 1e6
				return rows
			}
			b.ReportAllocs()
			tokens := 0
			for b.Loop() {
				if len(s.requests) == 0 {
					b.StopTimer()
					fill()
					for step() < requests {
					}
					b.StartTimer()
				}
				tokens += step()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(1, tokens)), "ns/token")
		})
	}
}
