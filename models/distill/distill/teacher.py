"""Where models come from: a GGUF file, or a Hugging Face folder."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from . import ggufs
from .errors import DistillError
from .files import read_json
from .llama import Config, Llama, build


def load_model(path: Path) -> Llama:
    return build(*(_load_folder(path) if path.is_dir() else ggufs.load(path)))


def stop_tokens(path: Path) -> list[int]:
    if not path.is_dir():
        return ggufs.stop_tokens(ggufs.open_gguf(path))
    ids = read_json(path / "config.json").get("eos_token_id")
    return [] if ids is None else [int(i) for i in (ids if isinstance(ids, list) else [ids])]


_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def _load_folder(path: Path) -> tuple[Config, dict[str, Tensor]]:
    raw = read_json(path / "config.json")
    if raw.get("model_type") != "llama" or raw.get("rope_scaling"):
        raise DistillError(
            f"{path} is not a Llama without rope scaling: model_type {raw.get('model_type')}, rope_scaling {raw.get('rope_scaling')}"
        )
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise DistillError(f"{path} holds no .safetensors files")
    try:
        heads = int(raw["num_attention_heads"])
        config = Config(
            vocab=int(raw["vocab_size"]),
            width=int(raw["hidden_size"]),
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
            ffn=int(raw["intermediate_size"]),
            context=int(raw["max_position_embeddings"]),
            rope_base=float(raw.get("rope_theta") or (raw.get("rope_parameters") or {}).get("rope_theta") or 10000.0),
            eps=float(raw["rms_norm_eps"]),
            tied=bool(raw.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise DistillError(f"{path / 'config.json'} lacks or spoils a setting: {e}") from None
    state = {}
    for file in files:
        for name, tensor in load_file(file).items():
            state[_gguf_name(name)] = tensor.to(torch.float32)
    if config.tied:
        state.pop("output.weight", None)
    for i in range(config.layers):
        for part, heads in (("attn_q", config.heads), ("attn_k", config.kv_heads)):
            name = f"blk.{i}.{part}.weight"
            if name in state:
                state[name] = _neighbours(state[name], heads)
    return config, state


def _gguf_name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    parts = name.removesuffix(".weight").split(".", 3)
    if len(parts) == 4 and parts[:2] == ["model", "layers"] and parts[3] in _NAMES:
        return f"blk.{parts[2]}.{_NAMES[parts[3]]}.weight"
    return name  # build says that it does not fit


def _neighbours(w: Tensor, heads: int) -> Tensor:
    """Rows of a q or k projection from Hugging Face's order, where a head's first half
    turns with its second, to GGUF's, where neighbours turn together."""
    rows, width = w.shape
    return w.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)
