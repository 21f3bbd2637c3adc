package lint

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

func openAPI(t *testing.T, text []byte) (validator.Validator, error) {
	t.Helper()
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	if ok, errs := v.ValidateDocument(); !ok {
		return nil, errs[0]
	}
	return v, nil
}

// The document that the gateway serves is OpenAPI 3.1, and what its golden files say
// is what the document says: requests that are answered, and all answers.
func TestOpenAPI(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "server", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := openAPI(t, text)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "server", "testdata", "*.http"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files: %v", len(files), err)
	}
	checked := 0
	for _, file := range files {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sent, got, _ := strings.Cut(string(golden), "\n----\n")
		line, body, _ := strings.Cut(sent, "\n")
		method, path, _ := strings.Cut(line, " ")
		line, answer, _ := strings.Cut(got, "\n")
		code, contentType, _ := strings.Cut(line, " ")
		status, err := strconv.Atoi(code)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if status == http.StatusMethodNotAllowed || !strings.Contains(string(text), `"`+path+`"`) && !strings.HasPrefix(path, "/v1/models/") || strings.Contains(path, "%") {
			continue // of no operation, or with a name that the validator splits
		}
		request := func() *http.Request {
			r, err := http.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(strings.TrimSpace(body)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer sesame")
			return r
		}
		if status == http.StatusOK {
			if ok, errs := v.ValidateHttpRequest(request()); !ok {
				t.Errorf("%s: the request is answered, and not as described: %v", file, errs[0])
			}
		}
		respond := func(body string) *http.Response {
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
		}
		if ok, errs := v.ValidateHttpResponse(request(), respond(strings.TrimSpace(answer))); !ok {
			t.Errorf("%s: the answer is not as described: %v", file, errs[0])
		}
		if strings.HasPrefix(contentType, "application/json") { // the check can fail
			if ok, _ := v.ValidateHttpResponse(request(), respond(`{"wrong":true}`)); ok {
				t.Errorf("%s: any answer is as described", file)
			}
		}
		checked++
	}
	if checked < len(files)/2 {
		t.Errorf("%d of %d golden files were looked at", checked, len(files))
	}
	for _, change := range [][2]string{{`"title": "Llamero"`, `"name": "Llamero"`}, {`"in": "path"`, `"in": "road"`}} {
		if _, err := openAPI(t, bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)); err == nil {
			t.Errorf("%s is accepted", change[1])
		}
	}
}
