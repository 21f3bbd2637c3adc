package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"llamero/server/openai"
	"llamero/tokenizer"
)

func sendJSON(c *fiber.Ctx, body []byte) error {
	c.Context().SetContentType(typeJSON)
	c.Context().SetBody(body)
	return nil
}

// health says that the process answers, and how many answers have a slot or wait
// for one; readiness, that it takes requests.
func (s *Server) health(c *fiber.Ctx) error {
	running, waiting := 0, 0
	for _, m := range s.order {
		st := m.Loop.Stats()
		running += st.Running
		waiting += st.Waiting
	}
	return sendJSON(c, fmt.Appendf(nil, `{"status":"ok","running":%d,"waiting":%d}`, running, waiting))
}

func (s *Server) readiness(c *fiber.Ctx) error {
	if s.ready() {
		return sendJSON(c, []byte(`{"status":"ready"}`))
	}
	c.Status(http.StatusServiceUnavailable)
	if s.drained.Load() {
		return sendJSON(c, []byte(`{"status":"draining"}`))
	}
	return sendJSON(c, []byte(`{"status":"starting"}`))
}

func (m *Model) info() openai.ModelInfo {
	return openai.ModelInfo{ID: m.Alias, Created: m.Created.Unix(), Context: m.Loop.Limits().SlotTokens}
}

func (s *Server) listModels(c *fiber.Ctx) error {
	infos := make([]openai.ModelInfo, 0, len(s.order))
	for _, m := range s.order {
		infos = append(infos, m.info())
	}
	return sendJSON(c, openai.AppendModels(nil, infos))
}

func (s *Server) getModel(c *fiber.Ctx) error {
	name, err := url.PathUnescape(c.Params("*"))
	if err != nil || name == "" {
		return openai.ModelNotFound(c.Params("*"))
	}
	m, err := s.model(c, name)
	if err != nil {
		return err
	}
	return sendJSON(c, openai.AppendModel(nil, m.info()))
}

// tokenize has llama-server's shape. Its bound is the body's.
func (s *Server) tokenize(c *fiber.Ctx) error {
	in, err := s.input(c)
	if err != nil {
		return err
	}
	req, wire := openai.DecodeTokenize(in, s.opt.Limits)
	if wire != nil {
		return wire
	}
	m, err := s.model(c, req.Model)
	if err != nil {
		return err
	}
	toks, err := m.Tokenizer.Encode(req.Content, tokenizer.EncodeOptions{AddSpecial: req.AddSpecial, ParseSpecial: req.ParseSpecial})
	if err != nil {
		return err
	}
	return sendJSON(c, openai.AppendTokens(nil, toks))
}

func (s *Server) detokenize(c *fiber.Ctx) error {
	in, err := s.input(c)
	if err != nil {
		return err
	}
	req, wire := openai.DecodeDetokenize(in, s.opt.Limits)
	if wire != nil {
		return wire
	}
	m, err := s.model(c, req.Model)
	if err != nil {
		return err
	}
	if err := checkTokens(m, "tokens", req.Tokens); err != nil {
		return err
	}
	d := tokenizer.NewDecoder(m.Tokenizer.Vocab(), tokenizer.DecoderOptions{Special: true})
	var text []byte
	for _, t := range req.Tokens {
		text, _ = d.Append(text, t)
	}
	text, _ = d.Flush(text)
	return sendJSON(c, openai.AppendContent(nil, text))
}

// applyTemplate shows what a conversation looks like to the model.
func (s *Server) applyTemplate(c *fiber.Ctx) error {
	in, err := s.input(c)
	if err != nil {
		return err
	}
	req, wire := openai.DecodeTemplate(in, s.opt.Limits)
	if wire != nil {
		return wire
	}
	m, err := s.model(c, req.Model)
	if err != nil {
		return err
	}
	segs, err := m.Template.Render(req.Messages)
	if err != nil {
		return err
	}
	return sendJSON(c, openai.AppendPrompt(nil, tokenizer.JoinSegments(segs)))
}

// checkTokens refuses ids that the vocabulary does not have.
func checkTokens(m *Model, param string, toks []tokenizer.Token) error {
	v := m.Tokenizer.Vocab()
	for _, t := range toks {
		if !v.Valid(t) {
			return openai.Invalid(param, "%s: there is no token %d; the vocabulary has %d", param, t, v.Len())
		}
	}
	return nil
}
