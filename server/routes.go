package server

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"

	"llamero/server/openai"
)

const (
	pathChat       = "/v1/chat/completions"
	pathText       = "/v1/completions"
	pathModels     = "/v1/models"
	pathModel      = "/v1/models/*" // aliases may hold slashes
	pathTokenize   = "/tokenize"
	pathDetokenize = "/detokenize"
	pathTemplate   = "/apply-template"
	pathHealth     = "/healthz"
	pathReady      = "/readyz"
	pathMetrics    = "/metrics"
	pathOpenAPI    = "/openapi.json"

	typeJSON   = "application/json"
	typeStream = "text/event-stream"
)

func (s *Server) routes() {
	s.app.Use(s.outermost)
	s.app.Get(pathHealth, s.health)
	s.app.Get(pathReady, s.readiness)
	s.app.Get(pathOpenAPI, s.openAPI)
	s.app.Post(pathChat, s.authorise, s.chat)
	s.app.Post(pathText, s.authorise, s.text)
	s.app.Get(pathModels, s.authorise, s.listModels)
	s.app.Get(pathModel, s.authorise, s.getModel)
	s.app.Post(pathTokenize, s.authorise, s.tokenize)
	s.app.Post(pathDetokenize, s.authorise, s.detokenize)
	s.app.Post(pathTemplate, s.authorise, s.applyTemplate)
	if s.opt.Metrics != nil {
		s.app.Get(pathMetrics, s.authorise, s.bodiless, adaptor.HTTPHandler(s.opt.Metrics))
	}
}

// bodiless takes a body away from a handler that would read it without a bound.
func (s *Server) bodiless(c *fiber.Ctx) error {
	s.drain(c)
	_ = c.Request().CloseBodyStream() // has nothing to say of a request's
	return c.Next()
}

// isProbe tells requests that come every few seconds, for ever.
func isProbe(path string) bool {
	return path == pathHealth || path == pathReady || path == pathMetrics
}

// outermost gives a request its id and its record, turns errors and panics into
// answers, and ends the record unless a stream will.
func (s *Server) outermost(c *fiber.Ctx) error {
	r := &Record{Start: time.Now(), ID: requestID(c.Request().Header.Peek(headerRequestID)), Method: utils.CopyString(c.Method())}
	c.Locals(recordKey{}, r)
	c.Set(headerRequestID, r.ID)
	if s.opt.Observer.Begin != nil && !isProbe(c.Path()) {
		r.Trace = s.opt.Observer.Begin(r, func(name string) string { return c.Get(name) }, c.Set)
	}
	if s.drained.Load() {
		c.Context().SetConnectionClose()
	}
	err := s.guarded(c)
	s.drain(c)
	r.Path = c.Route().Path // of a fixed set, unlike what clients send
	r.Route = r.Path
	if err != nil {
		wire := toWire(err)
		if wire.Status == http.StatusNotFound && wire.Code == "" {
			r.Route = ""
			r.Path = utils.CopyString(c.Path()[:min(len(c.Path()), 128)])
			wire.Message = fmt.Sprintf("There is no %s %s here.", r.Method, r.Path)
		}
		if wire.Status == http.StatusMethodNotAllowed {
			r.Route = ""
			r.Path = utils.CopyString(c.Path()[:min(len(c.Path()), 128)])
			wire.Message = fmt.Sprintf("%s does not take %s.", r.Path, r.Method)
		}
		if wire.Status >= 500 && r.Err == nil {
			r.Err = err
		}
		s.reply(c, wire)
		r.Status = wire.Status
		r.fail(wire)
	}
	if b, ok := c.Response().BodyStream().(*body); ok && b != nil {
		return nil // the stream writes, and ends the record
	}
	if r.Status == 0 {
		r.Status = c.Response().StatusCode()
	}
	s.lastDeadline(c)
	s.end(r)
	return nil
}

// guarded runs the handlers behind outermost.
func (s *Server) guarded(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Next()
}

// lastDeadline bounds the write of an answer that is whole.
func (s *Server) lastDeadline(c *fiber.Ctx) {
	// An error means that the connection is gone, which the write will find.
	_ = c.Context().SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout))
}

// unreadable answers what never became a request: its headers are too large, too
// late or not HTTP. fasthttp closes the connection behind it.
func (s *Server) unreadable(c *fiber.Ctx, err error) error {
	r := &Record{Start: time.Now(), ID: newID("req_"), Method: utils.CopyString(c.Method()), Path: "-"}
	wire := toWire(err)
	r.Status, r.Err = wire.Status, err
	r.fail(wire)
	c.Set(headerRequestID, r.ID)
	s.reply(c, wire)
	s.lastDeadline(c)
	s.end(r)
	return nil
}

// knownMethod answers methods that fiber does not know, which it would in a shape of
// its own.
func (s *Server) knownMethod(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(rc *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(rc.Method())) {
			next(rc)
			return
		}
		c := s.app.AcquireCtx(rc)
		defer s.app.ReleaseCtx(c)
		s.drain(c)
		err := fiber.ErrNotFound
		if allow := s.allowed(c.Path()); allow != "" {
			c.Set(fiber.HeaderAllow, allow)
			err = fiber.ErrMethodNotAllowed
		}
		_ = s.unreadable(c, err) // always nil
	}
}

// allowed are the methods that a path takes, "" where there is none of it.
func (s *Server) allowed(path string) string {
	var methods []string
	for _, r := range s.app.GetRoutes(true) {
		if fiber.RoutePatternMatch(path, r.Path) && !slices.Contains(methods, r.Method) {
			methods = append(methods, r.Method)
		}
	}
	return strings.Join(methods, ", ")
}

// model finds the served model that a request names. A request that names none gets
// the only one, if there is only one.
func (s *Server) model(c *fiber.Ctx, name string) (*Model, error) {
	m := s.models[name]
	if m == nil && name == "" {
		if len(s.order) != 1 {
			return nil, openai.Invalid("model", "model is missing; GET /v1/models lists those that are served")
		}
		m = s.order[0]
	}
	if m == nil {
		return nil, openai.ModelNotFound(name)
	}
	recordOf(c).Model = m.Alias
	return m, nil
}
