package llama

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/hybridgroup/yzma/pkg/llama"
	"github.com/hybridgroup/yzma/pkg/loader"
	"github.com/hybridgroup/yzma/pkg/utils"
	"github.com/jupiterrider/ffi"
)

// threads are the library's threads that compute on the CPU, kept from one pass to the
// next. Left to itself the library starts them in every pass and ends them behind it,
// which costs one stream of a small model a fifth of its tokens.
type threads struct {
	n    int     // with the one that asks for a pass
	pool uintptr // ggml_threadpool; 0: there is none
	free uintptr // ggml_threadpool_free
}

// poll is how long a thread that has nothing to do stays awake, in units of 131,072
// pauses of the processor: some milliseconds, which is what lies between two passes
// while tokens are drawn and sent. Asleep it would have to be woken for each; awake for
// longer it would keep the processor from others when nobody asks for anything.
const poll = 1

// threadPoolParams is ggml_threadpool_params.
type threadPoolParams struct {
	CPUMask   [512]bool // none: any
	Threads   int32
	Priority  int32
	Poll      uint32
	StrictCPU bool
	Paused    bool
}

// newThreads starts threads; 0 is as many as GOMAXPROCS. The libraries must be loaded.
func newThreads(n int) (t threads, err error) {
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	t.n = n
	cpu := llama.GGMLBackendRegByName("CPU")
	if n == 1 || cpu == 0 {
		return t, nil
	}
	base, err := loader.LoadLibrary(library.dir, "ggml-base")
	if err != nil {
		return t, fmt.Errorf("%w: %s does not load: %w", ErrLibrary, library.dir, err)
	}
	defaults, err := base.Prep("ggml_threadpool_params_init", &ffi.TypeVoid, &ffi.TypePointer, &ffi.TypeSint32)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	find, err := base.Prep("ggml_backend_reg_get_proc_address", &ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	// The backend is loaded by the library itself, which alone knows where.
	address := func(name string) (fn uintptr) {
		text, _ := utils.BytePtrFromString(name) // fails on a zero byte alone
		find.Call(unsafe.Pointer(&fn), unsafe.Pointer(&cpu), unsafe.Pointer(&text))
		return fn
	}
	start, free := address("ggml_threadpool_new"), address("ggml_threadpool_free")
	if start == 0 || free == 0 {
		return t, nil // slower, but it computes
	}
	p := new(threadPoolParams)
	count := int32(n)
	defaults.Call(nil, unsafe.Pointer(&p), unsafe.Pointer(&count))
	if p.Threads != count || p.Priority != 0 || p.Poll > 100 || p.StrictCPU || p.Paused {
		return t, fmt.Errorf("%w: its structs are laid out in another way than v%s's (ggml_threadpool_params); it cannot be used", ErrLibrary, Version)
	}
	p.Poll = poll
	t.pool, _, _ = purego.SyscallN(start, uintptr(unsafe.Pointer(p)))
	t.free = free
	return t, nil
}

// serve has a context compute with them.
func (t threads) serve(ctx llama.Context) {
	if t.pool != 0 {
		llama.AttachThreadpool(ctx, t.pool, t.pool)
	}
}

// end ends them. Contexts that computed with them must have been freed.
func (t *threads) end() {
	if t.pool != 0 {
		purego.SyscallN(t.free, t.pool)
		*t = threads{}
	}
}
