package server

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"
)

// What all routes take and answer, as OpenAPI 3.1. It tells nothing of what is served
// here, so it needs no key.
//
//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(c *fiber.Ctx) error { return sendJSON(c, openAPIDocument) }
