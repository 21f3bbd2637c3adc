//go:build !unix

package store

// NewSlab returns zeroed memory; nil for a size of 0.
func NewSlab(size int64) ([]byte, error) {
	if size <= 0 {
		return nil, nil
	}
	return make([]byte, size), nil
}
