package configs

import "time"

// Config is every setting of the gateway. See the tags for units, defaults and
// ranges; Default for a valid value to start from.
//
// Tags: yaml is the key within its section; flag the name of the flag and, in
// capitals, of the environment variable; doc the description; min and max the
// range, in the field's own notation; enum the allowed words; auto how a default
// that depends on the machine is found; secret marks what is never shown.
type Config struct {
	Server    Server    `yaml:"server"`
	Model     Model     `yaml:"model"`
	Engine    Engine    `yaml:"engine"`
	Scheduler Scheduler `yaml:"scheduler"`
	Spec      Spec      `yaml:"spec"`
	Cache     Cache     `yaml:"cache"`
	Telemetry Telemetry `yaml:"telemetry"`
	Log       Log       `yaml:"log"`
}

// Server is the HTTP side.
type Server struct {
	Listen       string        `yaml:"listen" flag:"listen" doc:"address to serve on, host:port; port 0 takes a free one"`
	AllowOpen    bool          `yaml:"allow_open" flag:"allow-open" doc:"serve beyond loopback without API keys: anyone who can connect can use the models"`
	APIKeys      []Key         `yaml:"api_keys" flag:"api-keys" secret:"true" doc:"keys that clients send as bearer tokens; in the environment name:secret,name:secret; in YAML a list of {name, secret}; none is open"`
	APIKeysFile  string        `yaml:"api_keys_file" flag:"api-keys-file" doc:"file with one name:secret a line, added to api_keys"`
	BodyLimit    Bytes         `yaml:"body_limit" flag:"body-limit" min:"1KiB" max:"1GiB" doc:"largest request body, in bytes"`
	WriteTimeout time.Duration `yaml:"write_timeout" flag:"write-timeout" min:"100ms" max:"10m" doc:"how long one write to a client may take before it counts as gone"`
	KeepAlive    time.Duration `yaml:"keep_alive" flag:"keep-alive" min:"100ms" max:"10m" doc:"interval of comments on a stream that has nothing to say"`
	DrainTimeout time.Duration `yaml:"drain_timeout" flag:"drain-timeout" min:"0s" max:"1h" doc:"how long running requests may take to end after SIGTERM"`
}

// Model is what is served.
type Model struct {
	Path         string `yaml:"path" flag:"model" doc:"GGUF file to serve, or default for the one that models fetch brings"`
	Alias        string `yaml:"alias" flag:"alias" doc:"name that clients ask for; empty takes the file's name"`
	TemplateFile string `yaml:"chat_template_file" flag:"chat-template-file" doc:"Jinja chat template to use in place of the model's own"`
}

// Engine is how the model runs.
type Engine struct {
	Lib         string `yaml:"lib" flag:"lib" doc:"folder of llama.cpp's shared libraries; empty takes what libs fetch brought for the backend"`
	Backend     string `yaml:"backend" flag:"backend" enum:"cpu,cuda,vulkan,metal" auto:"metal on Apple silicon, else cpu" doc:"which fetched libraries to use when lib is empty"`
	Process     string `yaml:"process" flag:"engine" enum:"worker,inprocess" auto:"worker, where the system is a Unix" doc:"where llama.cpp runs: worker is a process of its own, which is started again when it dies, inprocess the gateway's"`
	Workers     int    `yaml:"workers" flag:"workers" min:"1" max:"16" doc:"engine processes that serve the model, each with threads, slots and kv_memory of its own; they share what is cached"`
	Devices     string `yaml:"devices" flag:"devices" doc:"GPUs of each worker, as CUDA_VISIBLE_DEVICES and GGML_VK_VISIBLE_DEVICES name them, a semicolon between workers: 0;1; empty leaves all to each"`
	CPUs        string `yaml:"cpus" flag:"cpus" doc:"CPUs that each worker keeps to, a semicolon between workers: 0-7;8-15; empty is any (Linux)"`
	Layout      string `yaml:"layout" flag:"layout" enum:"auto,split,unified" doc:"how slots share KV memory: split gives each its own, unified one pool to all, auto takes split where slots times context fit kv_memory"`
	Slots       int    `yaml:"slots" flag:"slots" min:"1" max:"250" auto:"8 a thread, 8 to 32" doc:"requests that decode at once, in each worker"`
	Context     int    `yaml:"context" flag:"context" min:"0" max:"16777216" doc:"tokens a slot holds, prompt and answer; 0 is what the model was trained for, as far as kv_memory goes"`
	KVMemory    Bytes  `yaml:"kv_memory" flag:"kv-memory" min:"16MiB" max:"4TiB" auto:"a quarter of the memory, at most 2GiB, divided among workers" doc:"bytes that the KV cache of each worker may take"`
	Threads     int    `yaml:"threads" flag:"threads" min:"1" max:"512" auto:"the physical cores that may be used, divided among workers" doc:"CPU threads that compute, in each worker"`
	GPULayers   int    `yaml:"gpu_layers" flag:"gpu-layers" min:"-1" max:"10000" doc:"layers to put on a GPU; -1 is all, where the backend has one"`
	TypeK       string `yaml:"type_k" flag:"type-k" enum:"f32,f16,bf16,q8_0,q5_1,q5_0,q4_1,q4_0,iq4_nl" doc:"type of the KV cache's keys"`
	TypeV       string `yaml:"type_v" flag:"type-v" enum:"f32,f16,bf16,q8_0,q5_1,q5_0,q4_1,q4_0,iq4_nl" doc:"type of the KV cache's values"`
	BatchTokens int    `yaml:"batch_tokens" flag:"batch-tokens" min:"32" max:"16384" doc:"most tokens that one pass of the model takes"`
}

// Scheduler is who runs when.
type Scheduler struct {
	TargetITL    time.Duration `yaml:"target_itl" flag:"target-itl" min:"1ms" max:"1m" doc:"time between a stream's tokens that prompt chunks are sized to keep; smaller is smoother, larger reads prompts faster"`
	Queue        int           `yaml:"queue" flag:"queue" min:"1" max:"100000" doc:"requests that may wait for a slot; more get 429"`
	QueueTimeout time.Duration `yaml:"queue_timeout" flag:"queue-timeout" min:"10ms" max:"24h" doc:"longest wait for a slot; longer gets 503"`
	MaxTokens    int           `yaml:"max_tokens" flag:"max-tokens" min:"0" max:"1048576" doc:"tokens of an answer whose request names no limit; 0 is the slot's end"`
}

// Spec is speculation: tokens that are guessed, and verified several in a pass. Answers
// are the same with and without.
type Spec struct {
	Mode       string `yaml:"mode" flag:"spec" enum:"auto,ngram,draft,off" doc:"how tokens are guessed ahead, where that is predicted to pay: ngram continues what the end of a text repeats, draft asks the draft model, auto takes whichever promises more"`
	DraftModel string `yaml:"draft_model" flag:"draft-model" doc:"GGUF file of a small model that guesses what the model will say; it must have the model's vocabulary; empty is none"`
}

// Draft is the draft model's file where the mode uses one, or "".
func (s *Spec) Draft() string {
	if s.Mode == "auto" || s.Mode == "draft" {
		return s.DraftModel
	}
	return ""
}

// Cache is what is kept of prompts and answers that have been computed.
type Cache struct {
	Memory        Bytes         `yaml:"memory" flag:"cache-memory" min:"0" max:"4TiB" auto:"an eighth of the memory, at most 2GiB" doc:"bytes that computed prefixes may take; 0 keeps none"`
	PageTokens    int           `yaml:"page_tokens" flag:"page-tokens" min:"0" max:"4096" doc:"tokens of a page, the unit that prefixes are kept by; 0 is 16, or fewer where one would be larger than 2MiB"`
	ShareTenants  bool          `yaml:"share_tenants" flag:"share-tenants" doc:"let API keys share prefixes: faster, but a key's holder can tell by timing what others have asked"`
	Dir           string        `yaml:"dir" flag:"cache-dir" doc:"folder that keeps the memory of prefixes for a gateway that starts again; empty is none"`
	KeyFile       string        `yaml:"key_file" flag:"cache-key-file" doc:"file with a secret of 16 bytes or more: tenants are told apart by it, and pages in Redis signed"`
	Redis         URL           `yaml:"redis" flag:"redis" doc:"Redis that gateways share prefixes through: redis://HOST:6379/0, rediss:// for TLS; empty is none"`
	RedisWait     time.Duration `yaml:"redis_wait" flag:"redis-wait" min:"1ms" max:"10s" doc:"how long a request waits for what Redis has of its prompt"`
	RedisTTL      time.Duration `yaml:"redis_ttl" flag:"redis-ttl" min:"1s" max:"8760h" doc:"how long Redis keeps a prefix that nobody writes again"`
	RedisInsecure bool          `yaml:"redis_insecure" flag:"redis-insecure" doc:"use a Redis on another machine without key_file: whoever writes to it decides what models see"`
}

// Telemetry is what can be measured from outside. Traces and OTLP metrics follow
// OpenTelemetry's own environment variables.
type Telemetry struct {
	Metrics       bool   `yaml:"metrics" flag:"metrics" doc:"serve GET /metrics for Prometheus, behind the API keys"`
	MetricsListen string `yaml:"metrics_listen" flag:"metrics-listen" doc:"host:port of a listener for /metrics alone, without keys; empty is none"`
}

// Log is what is written to standard error.
type Log struct {
	Format string `yaml:"format" flag:"log-format" enum:"text,json" doc:"form of log lines"`
	Level  string `yaml:"level" flag:"log-level" enum:"debug,info,warn,error" doc:"least severe lines to write"`
}
