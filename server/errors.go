package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
	"llamero/server/openai"
	"llamero/tokenizer"
)

const (
	maxRetryAfter   = 8 * time.Second // SDKs cap their own back-off there
	retryOverloaded = 2 * time.Second
	retryDraining   = time.Second
)

// toWire turns any error into what a client may see. Errors of the inside become
// a generic 500: their text goes to the log only.
func toWire(err error) *openai.Error {
	var (
		wire *openai.Error
		busy *loop.BusyError
		long *scheduler.TooLongError
		text *tokenizer.TooLongError
		fib  *fiber.Error
		bad  *scheduler.PoisonError
	)
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &busy):
		return &openai.Error{Status: http.StatusTooManyRequests, Type: openai.TypeRateLimit, Code: openai.CodeRateLimit,
			Message: "The queue is full; try again later.", RetryAfter: max(busy.RetryAfter, time.Millisecond)}
	case errors.Is(err, scheduler.ErrQueueFull):
		return &openai.Error{Status: http.StatusTooManyRequests, Type: openai.TypeRateLimit, Code: openai.CodeRateLimit,
			Message: "The queue is full; try again later.", RetryAfter: retryOverloaded}
	case errors.Is(err, loop.ErrDraining):
		return errDraining()
	case errors.As(err, &long):
		return tooLong(long.Limit, fmt.Sprintf("the prompt has %d tokens", long.Tokens))
	case errors.Is(err, scheduler.ErrTooLong):
		return tooLong(0, "the prompt is too long")
	case errors.As(err, &text):
		return tooLong(text.Limit, fmt.Sprintf("the prompt has at least %d tokens", text.Tokens))
	case errors.Is(err, tokenizer.ErrUnencodable):
		return openai.Invalid("", "This model cannot read the text: %v.", err)
	case errors.As(err, &fib):
		return fiberError(fib)
	case errors.As(err, &bad):
		return &openai.Error{Status: http.StatusInternalServerError, Type: openai.TypeServer, NoRetry: true,
			Message: "The engine failed each time it computed this request, and it was tried alone; sending it again would not help."}
	case errors.Is(err, engine.ErrLost):
		return &openai.Error{Status: http.StatusServiceUnavailable, Type: openai.TypeServer, Code: openai.CodeOverloaded,
			Message: "The engine is being restarted and does not come back; try again later.", RetryAfter: maxRetryAfter}
	}
	return internal()
}

// internal says nothing of what failed. The scheduler has already tried again what
// could be tried again, so SDKs need not.
func internal() *openai.Error {
	return &openai.Error{Status: http.StatusInternalServerError, Type: openai.TypeServer, NoRetry: true,
		Message: "The server failed on this request; its log says more under the request's id."}
}

func errDraining() *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: openai.TypeServer, Code: openai.CodeShuttingDown,
		Message: "The server is shutting down.", RetryAfter: retryDraining, Close: true}
}

func errExpired() *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: openai.TypeServer, Code: openai.CodeOverloaded,
		Message: "The request waited too long for its turn; try again later.", RetryAfter: retryOverloaded}
}

// tooLong is what clients look for to shorten a conversation.
func tooLong(limit int, what string) *openai.Error {
	msg := "This request does not fit the model's context: " + what + "."
	if limit > 0 {
		msg = fmt.Sprintf("This model's context holds %d prompt tokens here; %s.", limit, what)
	}
	e := openai.Invalid("", "%s", msg)
	e.Code = openai.CodeContextLength
	return e
}

// fiberError is a refusal of fiber or fasthttp: an unknown path, a wrong method, a
// request that cannot be read.
func fiberError(f *fiber.Error) *openai.Error {
	e := &openai.Error{Status: f.Code, Type: openai.TypeInvalidRequest, Message: http.StatusText(f.Code) + "."}
	switch {
	case f.Code == http.StatusRequestEntityTooLarge:
		e.Message = "The body is larger than this server takes."
	case f.Code == http.StatusRequestHeaderFieldsTooLarge:
		e.Message = "The headers are larger than this server takes."
	case f.Code == http.StatusRequestTimeout:
		e.Message = "The request did not arrive in time."
	case f.Code == http.StatusNotFound || f.Code == http.StatusMethodNotAllowed:
	case f.Code == http.StatusBadGateway:
		e.Status, e.Message = http.StatusBadRequest, "The request could not be read."
	case f.Code >= 500:
		return internal()
	default:
		e.Message = "The request is not valid HTTP."
	}
	return e
}

// reply sends e as the whole answer.
func (s *Server) reply(c *fiber.Ctx, e *openai.Error) {
	setErrorHeaders(c, e)
	c.Context().SetContentType(typeJSON)
	c.Status(e.Status).Context().SetBody(openai.AppendError(nil, e))
}

func setErrorHeaders(c *fiber.Ctx, e *openai.Error) {
	if e.RetryAfter > 0 {
		d := min(e.RetryAfter, maxRetryAfter)
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int((d+time.Second-1)/time.Second)))
		c.Set("Retry-After-Ms", strconv.Itoa(int((d+time.Millisecond-1)/time.Millisecond)))
	}
	if e.NoRetry {
		c.Set("X-Should-Retry", "false")
	}
	if e.Close {
		c.Context().SetConnectionClose()
	}
	if e.Status == http.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="llamero"`)
	}
}
