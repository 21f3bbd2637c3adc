package openai

import (
	"fmt"
	"net/http"
	"time"
)

// Error types and codes as OpenAI spells them.
const (
	TypeInvalidRequest = "invalid_request_error"
	TypeRateLimit      = "rate_limit_error"
	TypeServer         = "server_error"

	CodeModelNotFound = "model_not_found"
	CodeContextLength = "context_length_exceeded"
	CodeInvalidKey    = "invalid_api_key"
	CodeRateLimit     = "rate_limit_exceeded"
	CodeOverloaded    = "overloaded"
	CodeShuttingDown  = "shutting_down"
	CodeNotServed     = "not_served"
)

// Error is a refusal in OpenAI's shape, with the HTTP status it travels under.
type Error struct {
	Status  int
	Type    string
	Param   string // the field at fault, "" for none
	Code    string // "" for none
	Message string

	// RetryAfter is when to come back; 0 says nothing.
	RetryAfter time.Duration
	// NoRetry tells SDKs, which retry 429 and every 5xx, that it would not help.
	NoRetry bool
	// Close ends the connection with the answer, so that a client's next request
	// can reach another replica.
	Close bool
}

func (e *Error) Error() string {
	if e.Param != "" {
		return fmt.Sprintf("%d %s (%s): %s", e.Status, e.Type, e.Param, e.Message)
	}
	return fmt.Sprintf("%d %s: %s", e.Status, e.Type, e.Message)
}

// Invalid is a 400 about one field.
func Invalid(param, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Type: TypeInvalidRequest, Param: param, Message: fmt.Sprintf(format, args...)}
}

// notServed is a 400 about a field that asks for what this server cannot do yet.
func notServed(param, what string) *Error {
	e := Invalid(param, "%s is not served yet", what)
	e.Code = CodeNotServed
	return e
}

// ModelNotFound is the 404 for an unknown model.
func ModelNotFound(name string) *Error {
	return &Error{Status: http.StatusNotFound, Type: TypeInvalidRequest, Param: "model", Code: CodeModelNotFound,
		Message: fmt.Sprintf("The model %q does not exist here; GET /v1/models lists those that do.", clip(name, 128))}
}

// AppendError appends {"error":{…}}.
func AppendError(dst []byte, e *Error) []byte {
	dst = append(dst, `{"error":{"message":`...)
	dst = appendString(dst, e.Message)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, e.Type)
	dst = append(dst, `,"param":`...)
	dst = appendNullable(dst, e.Param)
	dst = append(dst, `,"code":`...)
	dst = appendNullable(dst, e.Code)
	return append(dst, `}}`...)
}

// clip bounds what a message repeats of its input.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
