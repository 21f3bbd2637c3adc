package llama

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/hybridgroup/yzma/pkg/llama"
)

// FileType is what most of a GGUF's weights are stored as: llama.cpp's name in
// lower case, such as "q4_0" or "q5_k_m".
type FileType string

// fileTypes are the types that can be made without an importance matrix, from the
// smallest.
var fileTypes = []struct {
	name FileType
	code llama.Ftype
}{
	{"q2_k", llama.FtypeMostlyQ2_K},
	{"q3_k_s", llama.FtypeMostlyQ3_K_S},
	{"q3_k_m", llama.FtypeMostlyQ3_K_M},
	{"q3_k_l", llama.FtypeMostlyQ3_K_L},
	{"iq4_xs", llama.FtypeMostlyIQ4_XS},
	{"iq4_nl", llama.FtypeMostlyIQ4_NL},
	{"q4_0", llama.FtypeMostlyQ4_0},
	{"q4_k_s", llama.FtypeMostlyQ4_K_S},
	{"q4_k_m", llama.FtypeMostlyQ4_K_M},
	{"q4_1", llama.FtypeMostlyQ4_1},
	{"q5_0", llama.FtypeMostlyQ5_0},
	{"q5_k_s", llama.FtypeMostlyQ5_K_S},
	{"q5_k_m", llama.FtypeMostlyQ5_K_M},
	{"q5_1", llama.FtypeMostlyQ5_1},
	{"q6_k", llama.FtypeMostlyQ6_K},
	{"q8_0", llama.FtypeMostlyQ8_0},
	{"bf16", llama.FtypeMostlyBF16},
	{"f16", llama.FtypeMostlyF16},
	{"f32", llama.FtypeAllF32},
}

// FileTypes are the types that Quantize makes, from the smallest.
func FileTypes() []FileType {
	names := make([]FileType, len(fileTypes))
	for i, t := range fileTypes {
		names[i] = t.name
	}
	return names
}

// ParseFileType reads a type's name, in upper or lower case.
func ParseFileType(name string) (FileType, error) {
	t := FileType(strings.ToLower(strings.TrimSpace(name)))
	if !slices.Contains(FileTypes(), t) {
		return "", fmt.Errorf("unknown type %q: there are %s", name, join(FileTypes()))
	}
	return t, nil
}

// FileTypeOf names the type that a GGUF's general.file_type stands for; "" if it is
// none of FileTypes.
func FileTypeOf(code uint32) FileType {
	for _, t := range fileTypes {
		if uint32(t.code) == code {
			return t.name
		}
	}
	return ""
}

func join(types []FileType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

func (t FileType) code() (llama.Ftype, bool) {
	for _, f := range fileTypes {
		if f.name == t {
			return f.code, true
		}
	}
	return 0, false
}

// ErrQuantize marks a model that could not be quantised.
var ErrQuantize = errors.New("quantise")

// Quantize writes the model of the file in to the file out, as another type. The
// output is whole only when there is no error. Weights that are quantised already
// are taken apart and put together anew, which loses again. progress, which may be
// nil, is told which of how many tensors is being worked on. Threads 0 is GOMAXPROCS.
//
// The native call cannot be interrupted, and a damaged file may end the process.
func Quantize(lib, in, out string, t FileType, threads int, progress func(done, total int)) error {
	code, ok := t.code()
	if !ok {
		return fmt.Errorf("%w: unknown type %q", ErrQuantize, t)
	}
	if in == "" || out == "" || strings.ContainsRune(in+out, 0) {
		return fmt.Errorf("%w: a file has no name", ErrQuantize)
	}
	if threads < 0 {
		return fmt.Errorf("%w: %d threads", ErrQuantize, threads)
	}
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	if err := load(lib); err != nil {
		return err
	}
	p := llama.ModelQuantizeDefaultParams()
	if p.NThread != 0 || p.QuantizeOutputTensor != 1 || p.AllowRequantize != 0 || p.KeepSplit != 0 || p.DryRun != 0 ||
		p.OutputTensorType != p.TokenEmbeddingType || p.IMatrix != nil || p.PruneLayers != nil {
		return fmt.Errorf("%w: its structs are laid out in another way than v%s's (llama_model_quantize_params); it cannot be used", ErrLibrary, Version)
	}
	p.NThread, p.Ftype, p.AllowRequantize = int32(threads), code, 1
	if progress != nil {
		logs.watch(func(text string) {
			if done, total, ok := tensorCount(text); ok {
				progress(done, total)
			}
		})
		defer logs.watch(nil)
	}
	logs.takeError()
	if status := llama.ModelQuantize(in, out, &p); status != 0 {
		why := logs.takeError()
		if _, rest, ok := strings.Cut(why, "failed to quantize: "); ok {
			why = rest
		}
		if why == "" {
			why = fmt.Sprintf("llama.cpp gives no reason (status %d)", status)
		}
		return fmt.Errorf("%w: %s", ErrQuantize, why)
	}
	return nil
}

// tensorCount reads the line that llama.cpp begins for each tensor: "[  12/ 272] …".
func tensorCount(text string) (done, total int, ok bool) {
	if n, err := fmt.Sscanf(text, "[%d/%d]", &done, &total); err != nil || n != 2 {
		return 0, 0, false
	}
	return done, total, 0 < done && done <= total
}
