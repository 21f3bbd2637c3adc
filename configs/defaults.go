package configs

import (
	"runtime"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/klauspost/cpuid/v2"
)

// Default returns the settings for this machine that serve the default model well.
func Default() Config {
	threads := cores()
	return Config{
		Server: Server{
			Listen:       "127.0.0.1:8080",
			BodyLimit:    4 * MiB,
			WriteTimeout: 30 * time.Second,
			KeepAlive:    10 * time.Second,
			DrainTimeout: 30 * time.Second,
		},
		Model: Model{Path: "default"},
		Engine: Engine{
			Backend:     backend(runtime.GOOS, runtime.GOARCH),
			Process:     process(runtime.GOOS),
			Workers:     1,
			Layout:      "auto",
			Slots:       slots(threads),
			KVMemory:    kvMemory(Memory(), 1),
			Threads:     threads,
			GPULayers:   -1,
			TypeK:       "f16",
			TypeV:       "f16",
			BatchTokens: 512,
		},
		Scheduler: Scheduler{
			TargetITL:    600 * time.Millisecond,
			Queue:        64,
			QueueTimeout: time.Minute,
		},
		Spec:      Spec{Mode: "auto"},
		Cache:     Cache{Memory: cacheMemory(Memory()), RedisWait: 100 * time.Millisecond, RedisTTL: 24 * time.Hour},
		Telemetry: Telemetry{Metrics: true},
		Log:       Log{Format: "text", Level: "info"},
	}
}

func backend(goos, goarch string) string {
	if goos == "darwin" && goarch == "arm64" {
		return "metal"
	}
	return "cpu"
}

// process is worker where a child can be given a socket and memory.
func process(goos string) string {
	if goos == "windows" || goos == "plan9" || goos == "js" || goos == "wasip1" {
		return "inprocess"
	}
	return "worker"
}

// slots grows with the cores until a wider pass gains little more throughput and
// costs every stream its speed.
func slots(threads int) int { return min(max(8*threads, 8), 32) }

// cores counts the physical cores that this process may use: the affinity mask
// without hyperthreads, which share a core's arithmetic, and never more than the
// cgroup's quota, which GOMAXPROCS follows.
func cores() int {
	perCore := max(cpuid.CPU.ThreadsPerCore, 1)
	return min(max(min(runtime.NumCPU()/perCore, runtime.GOMAXPROCS(0)), 1), 512)
}

// Memory is what this process may use: the cgroup's limit or the machine's, in
// bytes; 0 is unknown.
func Memory() uint64 {
	total, err := memlimit.FromSystem()
	if err != nil {
		total = 0
	}
	if limit, err := memlimit.FromCgroup(); err == nil && limit > 0 && (total == 0 || limit < total) {
		total = limit
	}
	return total
}

// cacheMemory is an eighth of the memory in steps of 64 MiB, at most 2 GiB: it is
// taken as it is used.
func cacheMemory(total uint64) Bytes {
	return Bytes(min(total/8, uint64(2*GiB))) / (64 * MiB) * (64 * MiB)
}

// kvMemory is a quarter of the memory in steps of 64 MiB, at most 2 GiB, divided
// among workers: it is taken at start-up, in use or not.
func kvMemory(total uint64, workers int) Bytes {
	quarter := GiB
	if total > 0 {
		quarter = Bytes(min(total/4, uint64(2*GiB)))
	}
	return max(quarter/Bytes(workers)/(64*MiB)*(64*MiB), 64*MiB)
}
