package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. It reads and prints as "2GiB", "1.5MiB", "512KiB" or a number
// of bytes; "2G", "2GB" mean powers of 1000.
type Bytes int64

// Sizes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var units = []struct {
	suffix string
	size   float64
}{ // longest suffix first
	{"tib", 1 << 40}, {"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10},
	{"tb", 1e12}, {"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3},
	{"t", 1e12}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"b", 1},
}

var errBytes = errors.New(`not a size such as "2GiB", "512MiB" or a number of bytes`)

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	number, size := strings.ToLower(strings.TrimSpace(s)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	// Digits and one point only: ParseFloat would take "inf", "1e9" and "0x1p4" too.
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, errBytes
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && size == 1 {
		return Bytes(n), nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errBytes
	}
	if f *= size; f >= math.MaxInt64 {
		return 0, errBytes
	}
	return Bytes(f), nil
}

func (b Bytes) String() string {
	for _, u := range units[:4] {
		if n := Bytes(u.size); b != 0 && b%n == 0 {
			return strconv.FormatInt(int64(b/n), 10) + strings.ToUpper(u.suffix[:1]) + "iB"
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Secret is a string that does not show itself. Reveal returns it.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret itself, for comparing.
func (s Secret) Reveal() string             { return string(s) }
func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) Format(s fmt.State, _ rune)   { _, _ = s.Write([]byte(redacted)) }

// URL may hold a password and does not show it. Reveal returns it whole.
type URL string

var urlSecrets = regexp.MustCompile(`(//)[^/@]*(@)|(password=)[^&]*`)

// Reveal returns the URL as it was given.
func (u URL) Reveal() string               { return string(u) }
func (u URL) String() string               { return urlSecrets.ReplaceAllString(string(u), "$1$3"+redacted+"$2") }
func (u URL) GoString() string             { return u.String() }
func (u URL) LogValue() slog.Value         { return slog.StringValue(u.String()) }
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
func (u URL) Format(s fmt.State, _ rune)   { _, _ = s.Write([]byte(u.String())) }

// Key is an API key. Name stands for it in logs and shares.
type Key struct {
	Name   string
	Secret Secret
}

var (
	bytesType    = reflect.TypeFor[Bytes]()
	durationType = reflect.TypeFor[time.Duration]()
	keysType     = reflect.TypeFor[[]Key]()
)

// parse sets v from text. It is the one parser of flags, environment and file.
func parse(v reflect.Value, text string) error {
	switch v.Type() {
	case bytesType:
		n, err := ParseBytes(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(n))
		return nil
	case durationType:
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return errors.New(`not a duration with a unit such as "250ms", "30s" or "5m"`)
		}
		v.SetInt(int64(d))
		return nil
	case keysType:
		keys, err := parseKeys(strings.Split(text, ","))
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(keys))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "1":
			v.SetBool(true)
		case "false", "0":
			v.SetBool(false)
		default:
			return errors.New("neither true nor false")
		}
	case reflect.Int:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return errors.New("not a whole number")
		}
		v.SetInt(int64(n))
	default:
		panic("configs: a field of type " + v.Type().String())
	}
	return nil
}

// format is parse's inverse, for all but secrets.
func format(v reflect.Value) string {
	switch v.Type() {
	case bytesType:
		return Bytes(v.Int()).String()
	case durationType:
		return shortDuration(time.Duration(v.Int()))
	case keysType:
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// shortDuration is Duration.String without its zero tail: "1m", not "1m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseKeys reads "name:secret" entries. Errors never carry a secret: they count.
func parseKeys(entries []string) ([]Key, error) {
	var keys []Key
	for i, e := range entries {
		e = strings.TrimSpace(e)
		if e == "" || strings.HasPrefix(e, "#") {
			continue
		}
		name, secret, ok := strings.Cut(e, ":")
		if !ok {
			return nil, fmt.Errorf("entry %d is not name:secret", i+1)
		}
		keys = append(keys, Key{strings.TrimSpace(name), Secret(strings.TrimSpace(secret))})
	}
	return keys, nil
}
