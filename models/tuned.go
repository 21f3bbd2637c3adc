package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Tuning says why the default model is served as another type than it was fetched
// as. It was measured once, by `llamero models tune`; lock.json holds it.
type Tuning struct {
	SourceType string  `json:"source_type"`
	Prefill    float64 `json:"prefill"`           // speed over the source's
	Decode     float64 `json:"decode"`            // one answer's
	Perplexity float64 `json:"perplexity_change"` // over the source's, as a share
	KL         float64 `json:"kl"`                // mean divergence from the source, in nats a token
}

// TunedType is the type that the default model is made to be, "" if it is served as
// it was fetched.
func TunedType() string {
	if lock.Model.Tuned == nil {
		return ""
	}
	return lock.Model.Tuned.Type
}

// TunedName is the name of the tuned file in the cache, "" if there is none.
func TunedName() string {
	if lock.Model.Tuned == nil {
		return ""
	}
	return lock.Model.tunedFile()
}

// Tuned says whether a file is the default model in its tuned type, and what is
// known of it.
func Tuned(path string) (Tuning, bool) {
	t := lock.Model.Tuned
	if t == nil || filepath.Base(path) != lock.Model.tunedFile() {
		return Tuning{}, false
	}
	return t.Tuning, true
}

// Tuned makes sure that the default model is there in its tuned type, and returns
// its path. quantize makes the file out of the fetched one, in; it is not called
// where the file is there already. It is an error if lock.json names no such type.
func (f *Fetcher) Tuned(ctx context.Context, quantize func(ctx context.Context, in, out string) error) (string, error) {
	m := f.pins().Model
	if m.Tuned == nil {
		return "", errors.New("the default model has no tuned type")
	}
	source, err := f.Model(ctx)
	if err != nil {
		return "", err
	}
	path, err := f.once(ctx, filepath.Join("models", m.tunedFile()),
		func(path string) (bool, error) { return !f.Verify && hasSize(path, m.Tuned.Bytes), nil },
		func(ctx context.Context, tmp, dest string) error {
			f.say("making the %s of the model %s, which this machine reads faster\n", m.Tuned.Type, m.Name)
			made := filepath.Join(tmp, "model.gguf")
			if err := quantize(ctx, source, made); err != nil {
				return fmt.Errorf("make the tuned model: %w", err)
			}
			if !hasSize(made, m.Tuned.Bytes) {
				return fmt.Errorf("make the tuned model: it does not have %d bytes: is this llama.cpp %s?", m.Tuned.Bytes, f.pins().LlamaCPP)
			}
			return os.Rename(made, dest)
		})
	if err != nil {
		return "", err
	}
	_, err = Digest(path) // once, and remembered
	return path, err
}
