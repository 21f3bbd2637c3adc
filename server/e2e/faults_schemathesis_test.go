package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// schemathesisLimit bounds a run: at full size it sends some ten thousand requests.
const schemathesisLimit = 20 * time.Minute

// TestSchemathesis: the gateway does what its OpenAPI document says, by a tool that
// makes requests, right and wrong, from the document alone. What it checks: no failure
// of the server's, statuses, content types and answers as described, wrong requests
// refused, unknown methods and missing keys, too. That right requests are answered is
// not among it: no schema says how many tokens fit.
func TestSchemathesis(t *testing.T) {
	examples := sized(4, 300)
	row := newRow(t, rowSchemathesis, "requests that schemathesis makes from /openapi.json")
	venv := os.Getenv("LLAMERO_SCHEMATHESIS_VENV")
	need(t, venv != "", "LLAMERO_SCHEMATHESIS_VENV names no Python environment")
	const key = "sesame"
	g := newLively(t, []string{"LLAMERO_API_KEYS=alice:" + key}, key)
	ctx, cancel := context.WithTimeout(t.Context(), schemathesisLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(venv, "bin", "schemathesis"), "run", g.url+"/openapi.json",
		"--header", "Authorization: Bearer "+key, "--checks", "all", "--exclude-checks", "positive_data_acceptance",
		"--phases", "examples,coverage,fuzzing", "--max-examples", strconv.Itoa(examples), "--seed", "6", "--workers", "2",
		"--continue-on-failure", "--request-timeout", "60", "--generation-database", "none",
		"--no-color")
	cmd.Dir = t.TempDir() // where it leaves things
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	g.lives(t, key)
	found := regexp.MustCompile(`(\d+) generated`).FindSubmatch(out)
	switch {
	case found == nil:
		t.Errorf("it does not say how many cases it made\n%s", out)
	case err == nil:
		row.figure("%s cases, each with every check, none failed", found[1])
	default:
		row.figure("%s cases", found[1])
	}
}
