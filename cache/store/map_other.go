//go:build !unix

package store

import "errors"

func mapFile(string, int64) ([]byte, error) {
	return nil, errors.New("files cannot be mapped on this system; leave the folder out")
}
