package loop

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"llamero/engine"
)

// What an observer is told adds up to what the requests were and got.
func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			prompts, cached, requests   int
			tokens, firsts              int
			gaps, steps, edits, passing time.Duration
			computed, failed            int
		)
		e := newTimed(4)
		broken := errors.New("broken")
		e.Fail = func(step uint64, pass int) error {
			if step == 3 && pass == 0 {
				return broken
			}
			return nil
		}
		l := start(t, e, Options{Observer: Observer{
			Admitted: func(prompt, c int) { requests++; prompts += prompt; cached += c },
			Tokens: func(n int, gap time.Duration) {
				tokens += n
				if gap < 0 {
					firsts++
				} else {
					gaps += gap
				}
			},
			Pass: func(p *Pass) {
				if p.Took <= 0 || p.Expected <= 0 || p.Rows < 1 || p.Tokens < p.Rows {
					t.Errorf("pass %+v", *p)
				}
				if p.Kind == engine.PassDecode && p.Tokens != p.Rows {
					t.Errorf("a decode pass of %d rows and %d tokens", p.Rows, p.Tokens)
				}
				passing += p.Took
				computed += p.Tokens
			},
			Step: func(s *Step) {
				steps += s.Took
				edits += s.Edit
				if s.Err != nil {
					failed++
					if !errors.Is(s.Err, broken) {
						t.Error(s.Err)
					}
				}
			},
		}})
		defer stop(t, l)
		a, b := request(1, 40, 8), request(2, 60, 5)
		b.Choices = 2
		began := time.Now()
		sa, sb := submit(t, l, a), submit(t, l, b)
		read(t, sb, 2)
		read(t, sa, 1)
		took := time.Since(began)
		synctest.Wait()

		if requests != 2 || prompts != 100 || cached != 0 {
			t.Errorf("%d requests of %d tokens, %d cached; want 2 of 100, choices sharing theirs", requests, prompts, cached)
		}
		if tokens != 8+2*5 || firsts != 3 {
			t.Errorf("%d tokens, %d of them first; want 18 and 3", tokens, firsts)
		}
		if gaps <= 0 || gaps > 3*took {
			t.Errorf("gaps of %v in %v", gaps, took)
		}
		if failed != 1 {
			t.Errorf("%d steps failed, want 1", failed)
		}
		if steps > took || passing > steps || passing < steps*9/10 {
			t.Errorf("%v passing in %v of steps in %v", passing, steps, took)
		}
		if least := 100 + 18 - 3; computed < least {
			t.Errorf("%d tokens computed; at least %d had to be", computed, least)
		}
		if st := l.Stats(); st.Failures != 1 || st.Unread != 0 {
			t.Errorf("at rest: %+v", st)
		}
	})
}

// What a reader has not read is counted, and no longer once it has.
func TestUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(2)
		l := start(t, e, Options{})
		defer stop(t, l)
		quick, slow := submit(t, l, request(1, 10, 50)), submit(t, l, request(2, 10, 20))
		for seen := 0; seen < 30; { // the slow one has ended by then
			events, err := quick.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				seen += len(e.Tokens)
			}
		}
		synctest.Wait()
		if n := slow.unread.Load(); n != 20 {
			t.Errorf("%d tokens unread, want 20", n)
		}
		read(t, slow, 1)
		if n := slow.unread.Load(); n != 0 {
			t.Errorf("%d tokens unread after reading", n)
		}
		read(t, quick, 1)
	})
}
