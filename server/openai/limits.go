package openai

// Limits bound what a request may ask for. DefaultLimits returns generous ones.
type Limits struct {
	Choices  int // n × prompts
	Messages int
	Stop     int // stop strings
	StopLen  int // bytes of one
	Bias     int // entries of logit_bias
	LogProbs int // alternatives a token
	Depth    int // nesting of the JSON
	Tokens   int // entries of one token array
}

// DefaultLimits are OpenAI's own limits where it has one.
func DefaultLimits() Limits {
	return Limits{Choices: 128, Messages: 4096, Stop: 4, StopLen: 1024, Bias: 1024, LogProbs: 20, Depth: 64, Tokens: 1 << 20}
}
