"""Makes a directory with a tiny model: random weights, a tokenizer, a chat template.

Three kinds: `qwen2`, whose layers all attend to every token; `hybrid`, a Llama whose every other layer attends to a
sliding window only, so that vLLM keeps its KV cache in two groups with block tables of their own; and `latent`, a
DeepSeek whose layers keep one compressed vector a token in place of keys and values (multi-head latent attention).

Nothing can be fetched from a hub where tests run, and nothing needs to be: the carried bytes and the token-for-token
comparison are the same for random weights as for trained ones. What the weights must have is an output that depends
on the whole KV cache and does not sit on near-ties, so that two instances that agree on the KV cache agree on every
token; the scales below were chosen for that, and tests/e2e/test_model.py checks it.

Runs in vLLM's environment (torch, tokenizers, safetensors): ``python tools/tiny_model.py KIND DIRECTORY``.
"""

import json
import pydoc_data.topics
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 20_11
VOCABULARY = 2048
HIDDEN = 256
LAYERS = 4
HEADS = 4
KEY_VALUE_HEADS = 2
HEAD_DIMENSION = HIDDEN // HEADS
INTERMEDIATE = 512
MAX_POSITIONS = 16_384
SLIDING_WINDOW = 96
# The one size of a latent vector for which vLLM has kernels on every CPU.
LATENT, ROTARY = 512, 64

# Larger than a trained model's: query and key projections make attention pick few tokens, the value path carries what
# it picked into the output, and the head spreads the logits so that the best token leads by a clear margin.
QUERY_KEY_SCALE = 1.6
VALUE_SCALE = 1.6
FEED_FORWARD_SCALE = 1.0
HEAD_SCALE = 1.5

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{TURN_START}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{TURN_END}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{TURN_START}assistant\n{{% endif %}}"
)


# What config.json says of each kind beyond what all have in common.
KINDS = {
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "use_sliding_window": False,
    },
    "hybrid": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": HEAD_DIMENSION,
        "sliding_window": SLIDING_WINDOW,
        "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
    },
    "latent": {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "num_key_value_heads": HEADS,
        "q_lora_rank": None,
        "kv_lora_rank": LATENT,
        "qk_rope_head_dim": ROTARY,
        "qk_nope_head_dim": HEAD_DIMENSION,
        "v_head_dim": HEAD_DIMENSION,
        "first_k_dense_replace": LAYERS,
        "rope_scaling": None,
    },
}


def make_model(kind: str, directory: Path) -> None:
    """Writes configuration, tokenizer and weights; the same bytes on every run of one Python and torch version."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory)
    write_configuration(kind, directory)
    save_file(weights(kind), directory / "model.safetensors", metadata={"format": "pt"})


def write_tokenizer(directory: Path) -> None:
    """Trains byte-level BPE on the language reference that every Python carries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    tokenizer.train_from_iterator(topics, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has `{tokenizer.get_vocab_size()}` entries, the model needs `{VOCABULARY}`")
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": TURN_END,
            "pad_token": END_OF_TEXT,
            "model_max_length": MAX_POSITIONS,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def write_configuration(kind: str, directory: Path) -> None:
    """Writes config.json and generation_config.json (greedy, no sampling defaults that a test would have to undo)."""
    write_json(
        directory / "config.json",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "hidden_act": "silu",
            "max_position_embeddings": MAX_POSITIONS,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "tie_word_embeddings": False,
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "torch_dtype": "float32",
        }
        | KINDS[kind],
    )
    write_json(directory / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 2, "do_sample": False})


def weights(kind: str) -> dict[str, torch.Tensor]:
    """Random weights from a fixed seed, each scaled to keep the variance of its input."""
    generator = torch.Generator().manual_seed(SEED)

    def matrix(rows: int, columns: int, scale: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * (scale / columns**0.5)

    def vector(length: int, scale: float) -> torch.Tensor:
        return torch.randn(length, generator=generator) * scale

    def grouped_attention(name: str) -> dict[str, torch.Tensor]:
        key_value = KEY_VALUE_HEADS * HEAD_DIMENSION
        return {
            f"{name}.q_proj.weight": matrix(HIDDEN, HIDDEN, QUERY_KEY_SCALE),
            f"{name}.q_proj.bias": vector(HIDDEN, 0.1),
            f"{name}.k_proj.weight": matrix(key_value, HIDDEN, QUERY_KEY_SCALE),
            f"{name}.k_proj.bias": vector(key_value, 0.1),
            f"{name}.v_proj.weight": matrix(key_value, HIDDEN, VALUE_SCALE),
            f"{name}.v_proj.bias": vector(key_value, 0.1),
        }

    def latent_attention(name: str) -> dict[str, torch.Tensor]:
        return {
            f"{name}.q_proj.weight": matrix(HEADS * (HEAD_DIMENSION + ROTARY), HIDDEN, QUERY_KEY_SCALE),
            f"{name}.kv_a_proj_with_mqa.weight": matrix(LATENT + ROTARY, HIDDEN, QUERY_KEY_SCALE),
            f"{name}.kv_a_layernorm.weight": torch.ones(LATENT),
            f"{name}.kv_b_proj.weight": matrix(HEADS * 2 * HEAD_DIMENSION, LATENT, VALUE_SCALE),
        }

    attention = latent_attention if kind == "latent" else grouped_attention
    tensors = {
        "model.embed_tokens.weight": torch.randn(VOCABULARY, HIDDEN, generator=generator),
        "model.norm.weight": torch.ones(HIDDEN),
        "lm_head.weight": matrix(VOCABULARY, HIDDEN, HEAD_SCALE),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.input_layernorm.weight": torch.ones(HIDDEN),
            **attention(f"{name}.self_attn"),
            f"{name}.self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN, VALUE_SCALE),
            f"{name}.post_attention_layernorm.weight": torch.ones(HIDDEN),
            f"{name}.mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN, FEED_FORWARD_SCALE),
            f"{name}.mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN, FEED_FORWARD_SCALE),
            f"{name}.mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE, FEED_FORWARD_SCALE),
        }
    has_bias = kind == "qwen2"
    return {name: tensor for name, tensor in tensors.items() if has_bias or not name.endswith(".bias")}


def write_json(path: Path, value: object) -> None:
    """Writes `value` with a stable key order, so that a rerun gives the same bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    make_model(sys.argv[1], Path(sys.argv[2]))
