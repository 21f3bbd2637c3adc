package llama

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hybridgroup/yzma/pkg/llama"
)

// Info is what a model file says of itself.
type Info struct {
	Name         string // general.name, else the file's description
	Description  string // architecture, size and type: "llama 135M Q4_1"
	ContextTrain int    // the context it was trained for, in tokens
	ChatTemplate string // Jinja source; "" when there is none
	Offload      string // what accelerators hold: "31/31 layers"; "" without any
}

// loadModel loads a GGUF with or without its weights.
func loadModel(path string, params llama.ModelParams) (llama.Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("model: %w", err)
	}
	var magic [4]byte
	_, err = f.Read(magic[:])
	f.Close()
	if err != nil || string(magic[:]) != "GGUF" {
		return 0, fmt.Errorf("model: %s is not a GGUF file", path)
	}
	logs.takeError()
	m, err := llama.ModelLoadFromFile(path, params)
	if err != nil {
		why := logs.takeError()
		if why == "" {
			why = err.Error()
		}
		return 0, fmt.Errorf("model: %s does not load: %s; --model names a whole GGUF file of a model that llama.cpp v%s knows", path, why, Version)
	}
	return m, nil
}

func metaInt(m llama.Model, key string) (int, bool) {
	s, ok := llama.ModelMetaValStr(m, key)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func readInfo(m llama.Model) Info {
	info := Info{
		Description:  llama.ModelDesc(m),
		ContextTrain: int(llama.ModelNCtxTrain(m)),
		ChatTemplate: llama.ModelChatTemplate(m, ""),
		Offload:      logs.takeOffload(),
	}
	info.Name, _ = llama.ModelMetaValStr(m, "general.name")
	if info.Name == "" {
		info.Name = info.Description
	}
	return info
}

// tokenBytes is the KV of one token, all layers. The model must have been loaded
// with its weights: libllama aborts when a bare vocabulary is asked for its heads.
func tokenBytes(m llama.Model, typeK, typeV llama.GGMLType) int {
	arch, _ := llama.ModelMetaValStr(m, "general.architecture")
	// Head sizes are stated where they are not embedding / heads.
	heads := max(1, int(llama.ModelNHead(m)))
	sizeK := int(llama.ModelNEmbd(m)) / heads
	sizeV := sizeK
	if n, ok := metaInt(m, arch+".attention.key_length"); ok {
		sizeK = n
	}
	if n, ok := metaInt(m, arch+".attention.value_length"); ok {
		sizeV = n
	}
	kv := int(llama.ModelNHeadKV(m))
	return int(llama.ModelNLayer(m)) * (rowBytes(typeK, kv*sizeK) + rowBytes(typeV, kv*sizeV))
}

func rowBytes(t llama.GGMLType, n int) int {
	return int(llama.GGMLRowSize(t, int64(n)))
}

// cacheTypes are the K/V types that llama.cpp's caches take.
var cacheTypes = map[string]llama.GGMLType{
	"f32": 0, "f16": typeF16, "bf16": 30, "q8_0": 8, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "iq4_nl": 20,
}

func cacheType(name string) (llama.GGMLType, error) {
	if name == "" {
		return typeF16, nil
	}
	t, ok := cacheTypes[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("engine: unknown K/V type %q (f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl)", name)
	}
	return t, nil
}
