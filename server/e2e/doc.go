// Package e2e tests the gateway as its users meet it: the real binary, a real
// model, the official OpenAI SDKs for Go, Python and Node, and curl.
//
// The tests need what `make test` brings: llama.cpp's libraries and the default
// model in the cache, Python environments made from requirements.txt (named by
// LLAMERO_E2E_VENV) and schemathesis.txt (LLAMERO_SCHEMATHESIS_VENV), and `npm ci`
// run in node/. Where a part is missing its tests are skipped, unless CI is "true":
// then they fail.
//
// What goes wrong outside the gateway, or is done to it, is in faults_*_test.go. Each
// fault is a test and a row of a table: `make faults` runs them at full size, holds
// their figures against goals and prints the table; `make test` runs them small.
package e2e
