"""A checkpoint's weights as a CTranslate2 decoder model.

What CTranslate2 has no option for is expressed exactly by what it has:

- Rotary frequencies of every kind of scaling are data: its "Su" rotary embedding computes
  1 / (factor[i] * base ** (2 i / dim)), so base 1 and factors 1 / frequency give any table.
- The attention factor of YaRN and longrope multiplies cosines and sines, that is queries and keys: squared,
  it goes into the scale of the scores; where only a part of each head rotates, into the rows of the query
  and key projections that produce it.
- Norms that multiply by 1 + weight store that sum.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ctranslate2.specs import attention_spec, common_spec
from ctranslate2.specs.transformer_spec import TransformerDecoderModelSpec
from numpy.typing import NDArray

from edgellm.backends.base import BuildPlan, Progress
from edgellm.backends.ctranslate2.model_file import StreamedSpec
from edgellm.backends.ctranslate2.variables import Block, Matrix, Scales
from edgellm.backends.ctranslate2.vocabulary import distinct_tokens
from edgellm.backends.ctranslate2.window import active_window
from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.compile.rotary import attention_factor, frequencies

if TYPE_CHECKING:
    from edgellm.checkpoint import Checkpoint

Float32s = NDArray[np.float32]

_ACTIVATIONS = {
    "silu": common_spec.Activation.SWISH,
    "gelu": common_spec.Activation.GELU,
    "gelu_tanh": common_spec.Activation.GELUTanh,
}


def convert(checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> None:
    """Write `model.bin`, `config.json` and `vocabulary.json` into the existing directory `out`."""
    spec = _Converter(checkpoint, plan, progress).spec()
    spec.save(str(out))
    total = checkpoint.weights.total_bytes()
    progress("convert", total, total)


class _Converter:
    def __init__(self, checkpoint: Checkpoint, plan: BuildPlan, progress: Progress) -> None:
        self._config = checkpoint.config
        self._checkpoint = checkpoint
        self._weights = checkpoint.weights
        self._plan = plan
        self._progress = progress
        self._total = self._weights.total_bytes()
        self._read = 0

    def spec(self) -> TransformerDecoderModelSpec:
        """The filled specification; matrices are read when it is saved."""
        config = self._config
        spec = _empty_spec(config)
        decoder = spec.decoder
        decoder.scale_embeddings = (
            False if config.embedding_scale == 1 else np.float32(config.embedding_scale)
        )
        self._linear(decoder.embeddings, ["embed"])
        self._norm(decoder.layer_norm, "norm")
        # A tied output matrix becomes an alias below; until then this placeholder passes validation.
        self._linear(decoder.projection, ["embed" if config.tie_word_embeddings else "lm_head"])
        for index, layer in enumerate(decoder.layer):
            self._layer(layer, index)
        self._set_vocabulary(spec)
        spec.validate()
        if config.tie_word_embeddings:
            decoder.projection.weight = "decoder/embeddings/weight"
            decoder.projection.weight_scale = "__optional"
        return spec

    def _layer(self, layer: Any, index: int) -> None:
        config = self._config
        at = f"layers.{index}"
        attention = layer.self_attention
        slides = config.slides(index)
        rope = config.local_rope if slides and config.local_rope is not None else config.rope
        _set_rotary(attention, rope, config, self._plan.context)
        if config.sliding_window is not None:
            attention.sliding_window = np.int32(active_window(config, self._plan.context) if slides else 0)
        self._linear(
            attention.linear[0], [f"{at}.q_proj", f"{at}.k_proj", f"{at}.v_proj"], _rotated_rows(rope, config)
        )
        self._linear(attention.linear[1], [f"{at}.o_proj"])
        if config.qk_norm:
            self._norm(attention.q_norm, f"{at}.q_norm")
            self._norm(attention.k_norm, f"{at}.k_norm")
        if config.post_norms:
            self._norm(layer.input_layer_norm, f"{at}.input_norm")
            self._norm(layer.post_attention_layer_norm, f"{at}.post_attention_norm")
            self._norm(layer.pre_feedforward_layer_norm, f"{at}.pre_mlp_norm")
            self._norm(layer.post_feedforward_layer_norm, f"{at}.post_mlp_norm")
        else:
            self._norm(attention.layer_norm, f"{at}.input_norm")
            self._norm(layer.ffn.layer_norm, f"{at}.pre_mlp_norm")
        self._linear(layer.ffn.linear_0, [f"{at}.gate_proj"])
        self._linear(layer.ffn.linear_0_noact, [f"{at}.up_proj"])
        self._linear(layer.ffn.linear_1, [f"{at}.down_proj"])

    def _norm(self, spec: Any, name: str) -> None:
        weight = self._weights.read(f"{name}.weight")
        spec.gamma = weight + np.float32(1) if self._config.norm_adds_one else weight

    def _linear(self, spec: Any, names: list[str], row_scale: Float32s | None = None) -> None:
        """Stack the matrices (and biases) `names` along the rows; `row_scale` multiplies the first rows."""
        scales = _split(row_scale, [self._weights.shape(f"{name}.weight")[0] for name in names])
        blocks = [self._block(f"{name}.weight", scale) for name, scale in zip(names, scales, strict=True)]
        columns = self._weights.shape(f"{names[0]}.weight")[1]
        size = sum(self._weights.nbytes(f"{name}.weight") for name in names)
        int8 = self._plan.quant == "int8"
        spec.weight = Matrix(blocks, columns, int8=int8, done=self._done(size))
        if int8:
            spec.weight_scale = Scales(spec.weight)
        if f"{names[0]}.bias" in self._weights:
            biases = [self._weights.read(f"{name}.bias") for name in names]
            scaled = [b if s is None else b * s for b, s in zip(biases, scales, strict=True)]
            spec.bias = np.concatenate(scaled)

    def _block(self, name: str, scale: Float32s | None) -> Block:
        rows = self._weights.shape(name)[0]

        def read(start: int, stop: int) -> Float32s:
            weight = self._weights.read(name, slice(start, stop))
            if scale is not None:
                weight *= scale[start:stop, None]
            return weight

        return Block(rows, read)

    def _done(self, size: int) -> Callable[[], None]:
        def done() -> None:
            self._read = min(self._read + size, self._total)
            self._progress("convert", self._read, self._total)

        return done

    def _set_vocabulary(self, spec: TransformerDecoderModelSpec) -> None:
        from edgellm.text.tokenizer import load_tokenizer

        facts = self._checkpoint.tokenizer_facts
        vocab = load_tokenizer(self._checkpoint.tokenizer_file).get_vocab(with_added_tokens=True)
        tokens = distinct_tokens(vocab, self._config.vocab_size)
        spec.register_vocabulary(tokens)
        eos = tokens[facts.eos_ids[0]] if facts.eos_ids and facts.eos_ids[0] < len(tokens) else tokens[0]
        spec.config.eos_token = eos
        # CTranslate2 wants all three to exist; the executor uses none of them.
        spec.config.bos_token = facts.bos_token if facts.bos_token in tokens else eos
        spec.config.unk_token = facts.unk_token if facts.unk_token in tokens else eos
        spec.config.layer_norm_epsilon = self._config.norm_eps


def _empty_spec(config: ModelConfig) -> TransformerDecoderModelSpec:
    spec: TransformerDecoderModelSpec = StreamedSpec.from_config(
        config.num_layers,
        config.num_heads,
        pre_norm=True,
        activation=_ACTIVATIONS[config.activation],
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=config.rope.dim,
        rotary_interleave=False,
        rotary_scaling_type=attention_spec.RotaryScalingType.Su,
        rotary_base=1.0,
        pre_post_layer_norm=config.post_norms,
        num_heads_kv=config.num_kv_heads,
        head_dim=config.head_dim,
        sliding_window=config.sliding_window,
        qk_norm=config.qk_norm,
    )
    if config.sliding_window is not None:
        # The decoder's own window would cut prompts into pieces whose tokens see up to twice the window.
        spec.decoder.sliding_window = np.int32(0)
    return spec


def _set_rotary(attention: Any, rope: Rope, config: ModelConfig, context: int) -> None:
    factors = (1 / frequencies(rope, context)).astype(np.float32)
    attention.rotary_dim = np.int32(rope.dim)
    attention.rotary_scaling_long_factor = factors
    attention.rotary_scaling_short_factor = factors.copy()
    scale = config.attention_scale if config.attention_scale is not None else config.head_dim**-0.5
    if rope.dim == config.head_dim:
        scale *= attention_factor(rope) ** 2
    attention.queries_scale = np.float32(scale)


def _rotated_rows(rope: Rope, config: ModelConfig) -> Float32s | None:
    """What the rows of the query and key projections are multiplied by; None = nothing to do."""
    factor = attention_factor(rope)
    if rope.dim == config.head_dim or factor == 1:
        return None
    head = np.ones(config.head_dim, np.float32)
    head[: rope.dim] = factor
    return np.tile(head, config.num_heads + config.num_kv_heads)


def _split(scale: Float32s | None, sizes: list[int]) -> list[Float32s | None]:
    """`scale` cut into pieces of `sizes`; None for each piece beyond its end."""
    pieces: list[Float32s | None] = []
    start = 0
    for size in sizes:
        inside = scale is not None and start < len(scale)
        pieces.append(scale[start : start + size] if scale is not None and inside else None)
        start += size
    return pieces
