package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"

	"llamero/cache"
)

// Dir keeps host pages in a folder, so that a gateway that starts again finds them.
// The pages' memory is a file that is mapped; a second file says what each holds.
// What a page holds is taken back before it is overwritten and written down once it
// is whole, with a checksum, so that a torn page is one that is not there.
type Dir struct {
	memory     []byte
	memoryPath string
	lock       *flock.Flock
	index      *os.File

	identity             cache.Address
	pageTokens, pageSize int
	pages                int
	sequence             atomic.Uint64 // of records: the later ones were used later

	records chan record
	done    sync.WaitGroup
}

// record is a page to be written down.
type record struct {
	entry   cache.Entry
	kv      []byte
	release func()
}

const (
	memoryFile = "pages"
	indexFile  = "index"
	lockFile   = "lock"

	dirMagic   = "llamero pages 1\n"
	dirHeader  = len(dirMagic) + len(cache.Address{}) + 3*4 + 4 // …, page tokens, page bytes, pages, checksum
	recordMeta = 4 + 8 + 4 + 2*len(cache.Address{}) + 4         // checksum, sequence, index, parent, address, checksum of KV
	dirQueue   = 256
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenDir locks a folder, which is made if need be, and maps memory for pages of
// size bytes there. What it holds is looked at by Load, once the pages' form is known.
func OpenDir(path string, size int64) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("page folder: %w", err)
	}
	d := &Dir{lock: flock.New(filepath.Join(path, lockFile)), memoryPath: filepath.Join(path, memoryFile)}
	switch ok, err := d.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("page folder %s: %w", path, err)
	case !ok:
		return nil, fmt.Errorf("page folder %s: another process has it", path)
	}
	var err error
	if d.memory, err = mapFile(d.memoryPath, size); err == nil {
		d.index, err = os.OpenFile(filepath.Join(path, indexFile), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		_ = d.lock.Unlock()
		return nil, fmt.Errorf("page folder %s: %w", path, err)
	}
	return d, nil
}

// Memory is that of the pages.
func (d *Dir) Memory() []byte { return d.memory }

// Open opens the memory's file for reading: for another process that maps it too.
func (d *Dir) Open() (*os.File, error) { return os.Open(d.memoryPath) }

func (d *Dir) recordSize() int { return recordMeta + 4*d.pageTokens }

func (d *Dir) offset(page int32) int64 { return int64(dirHeader) + int64(page)*int64(d.recordSize()) }

// header is what an index begins with if it is of these pages.
func (d *Dir) header() []byte {
	b := append([]byte(dirMagic), d.identity[:]...)
	for _, n := range []int{d.pageTokens, d.pageSize, d.pages} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Load says what the pages hold, the longest unused first. identity covers all that
// makes KV incompatible; an index of something else is begun anew, and so is a
// damaged one. From then on pages are written down.
func (d *Dir) Load(identity cache.Address, pageTokens, pageBytes, pages int) ([]cache.Entry, error) {
	if pageTokens < 1 || pageBytes < 1 || pages < 1 || int64(pages)*int64(pageBytes) > int64(len(d.memory)) {
		return nil, fmt.Errorf("page folder: %d pages of %d bytes in %d", pages, pageBytes, len(d.memory))
	}
	d.identity, d.pageTokens, d.pageSize, d.pages = identity, pageTokens, pageBytes, pages
	entries, err := d.read()
	if err != nil {
		return nil, fmt.Errorf("page folder: %w", err)
	}
	d.records = make(chan record, dirQueue)
	d.done.Go(d.write)
	return entries, nil
}

// read returns the records that hold, and clears the others.
func (d *Dir) read() ([]cache.Entry, error) {
	size := dirHeader + d.pages*d.recordSize()
	have, err := d.index.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if have.Size() == int64(size) {
		if _, err := d.index.ReadAt(b, 0); err != nil {
			return nil, err
		}
	}
	if want := d.header(); !slices.Equal(b[:dirHeader], want) {
		clear(b)
		copy(b, want)
		if err := d.index.Truncate(0); err != nil {
			return nil, err
		}
		_, err := d.index.WriteAt(b, 0)
		return nil, err
	}
	type dated struct {
		cache.Entry
		sequence uint64
	}
	found := make([]*dated, d.pages)
	// Checksums of all pages: on all processors, a page at a time.
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				page := int(next.Add(1)) - 1
				if page >= d.pages {
					return
				}
				if e, sequence, ok := d.parse(int32(page), b[d.offset(int32(page)):][:d.recordSize()]); ok {
					found[page] = &dated{e, sequence}
				}
			}
		})
	}
	wg.Wait()
	var out []dated
	for page, e := range found {
		if e != nil {
			out = append(out, *e)
			d.sequence.Store(max(d.sequence.Load(), e.sequence))
		} else if err := d.Clear(int32(page)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(x, y dated) int { return cmp.Compare(x.sequence, y.sequence) })
	entries := make([]cache.Entry, len(out))
	for i := range out {
		entries[i] = out[i].Entry
	}
	return entries, nil
}

// parse reads a record, if it and its page are whole.
func (d *Dir) parse(page int32, b []byte) (e cache.Entry, sequence uint64, ok bool) {
	sum, rest := binary.LittleEndian.Uint32(b), b[4:]
	sequence = binary.LittleEndian.Uint64(rest)
	if sequence == 0 || crc32.Checksum(rest, castagnoli) != sum {
		return e, 0, false
	}
	e.Index = int32(binary.LittleEndian.Uint32(rest[8:]))
	rest = rest[12:]
	n := copy(e.Parent[:], rest)
	n += copy(e.Address[:], rest[n:])
	kv := binary.LittleEndian.Uint32(rest[n:])
	for t := rest[n+4:]; len(t) > 0; t = t[4:] {
		e.Tokens = append(e.Tokens, cache.Token(binary.LittleEndian.Uint32(t)))
	}
	e.Page = page
	return e, sequence, crc32.Checksum(d.page(page), castagnoli) == kv
}

func (d *Dir) page(i int32) []byte { return d.memory[int(i)*d.pageSize:][:d.pageSize] }

// Clear says that a page is about to be overwritten.
func (d *Dir) Clear(page int32) error {
	_, err := d.index.WriteAt(make([]byte, recordMeta), d.offset(page))
	return err
}

// Put writes down what a page holds, in the background; without room in the queue it
// does not. release is called once the page is no longer looked at.
func (d *Dir) Put(e cache.Entry, release func()) {
	select {
	case d.records <- record{e, d.page(e.Page), release}:
	default:
		release()
	}
}

// write is the goroutine that writes records.
func (d *Dir) write() {
	for r := range d.records {
		b := make([]byte, 4, d.recordSize())
		b = binary.LittleEndian.AppendUint64(b, d.sequence.Add(1))
		b = binary.LittleEndian.AppendUint32(b, uint32(r.entry.Index))
		b = append(b, r.entry.Parent[:]...)
		b = append(b, r.entry.Address[:]...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(r.kv, castagnoli))
		for _, t := range r.entry.Tokens {
			b = binary.LittleEndian.AppendUint32(b, uint32(t))
		}
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
		_, _ = d.index.WriteAt(b, d.offset(r.entry.Page)) // what is not written down is not found again
		r.release()
	}
}

// Close writes down what waits, and lets go of the folder. The memory stays mapped:
// engines may still look at it.
func (d *Dir) Close() error {
	if d.records != nil {
		close(d.records)
		d.done.Wait()
	}
	return errors.Join(d.index.Close(), d.lock.Unlock())
}
