// Package e2e tests the gateway as its users meet it: the real binary, a real
// model, the official OpenAI SDKs for Go, Python and Node, and curl.
//
// The tests need what `make test` brings: llama.cpp's libraries and the default
// model in the cache, a Python environment made from requirements.txt (named by
// LLAMERO_E2E_VENV), and `npm ci` run in node/. Where a part is missing its tests
// are skipped, unless CI is "true": then they fail.
package e2e
