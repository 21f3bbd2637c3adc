package tokenizer

// What a request may ask for; whoever takes requests checks it.
const (
	MaxStops     = 4    // stop strings, as in OpenAI's API
	MaxStopBytes = 1024 // bytes of one stop string
)

// stops searches a text that comes in parts for the first stop string, by Knuth,
// Morris and Pratt's automaton for each: constant work a byte whatever the strings,
// and an automaton's state is how much of its string the text so far ends with.
type stops struct {
	all   []stop
	first [256]bool // bytes that a stop string begins with
}

type stop struct {
	text string
	fail []int // fail[n]: the longest proper border of text[:n]
	n    int   // state: how many bytes of text are matched
}

func newStops(texts []string) *stops {
	s := &stops{}
	for _, t := range texts {
		if t == "" {
			continue
		}
		s.all = append(s.all, stop{text: t, fail: borders(t)})
		s.first[t[0]] = true
	}
	if len(s.all) == 0 {
		return nil
	}
	return s
}

func borders(t string) []int {
	fail := make([]int, len(t)+1)
	for i, n := 1, 0; i < len(t); i++ {
		for n > 0 && t[i] != t[n] {
			n = fail[n]
		}
		if t[i] == t[n] {
			n++
		}
		fail[i+1] = n
	}
	return fail
}

// feed reads on. The match that ends first wins, and of those that end together
// the longest. It returns the stop string found, and how many bytes of text it
// took to complete it; or "" and the length of text.
func (s *stops) feed(text string) (found string, read int) {
	idle := s.held() == ""
	for i := 0; i < len(text); i++ {
		b := text[i]
		if idle && !s.first[b] {
			continue
		}
		idle = true
		for k := range s.all {
			st := &s.all[k]
			for st.n > 0 && st.text[st.n] != b {
				st.n = st.fail[st.n]
			}
			if st.text[st.n] == b {
				st.n++
			}
			if st.n == len(st.text) {
				if len(st.text) > len(found) {
					found = st.text
				}
				st.n = st.fail[st.n]
			}
			idle = idle && st.n == 0
		}
		if found != "" {
			return found, i + 1
		}
	}
	return "", len(text)
}

// held is the longest end of the text so far that may begin a stop string.
func (s *stops) held() string {
	held := ""
	for k := range s.all {
		if st := &s.all[k]; st.n > len(held) {
			held = st.text[:st.n]
		}
	}
	return held
}
