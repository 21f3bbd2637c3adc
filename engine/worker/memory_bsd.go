//go:build unix && !linux

package worker

import "os"

// createShared makes a file that has no name by the time it is used.
func createShared(string) (*os.File, error) {
	f, err := os.CreateTemp("", "llamero-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func sealShared(*os.File, bool) error { return nil }

func adviseShared([]byte) {}

func populate([]byte, int64, int64) {}
