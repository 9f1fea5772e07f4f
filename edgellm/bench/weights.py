"""How much of a model's weights one decode step reads."""

from __future__ import annotations

from edgellm.bundle.model_config import ModelConfig


def read_share(config: ModelConfig) -> float:
    """Part of the weights' bytes that a decode step reads, where all matrices are quantized alike.

    Everything but the embedding, of which a token takes one row; a tied embedding is read whole, as the
    output matrix.
    """
    if config.tie_word_embeddings:
        return 1.0
    heads = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim
    layer = config.hidden_size * (heads + 3 * config.intermediate_size)
    embedding = config.vocab_size * config.hidden_size
    return 1 - embedding / (config.num_layers * layer + 2 * embedding)
