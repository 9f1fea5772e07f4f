"""Fields of a request that would change the answer and are not supported: refused, never ignored.

Every other unknown field (`user`, `store`, `metadata`, `parallel_tool_calls`, …) cannot change what an
answer says and is accepted, since clients send them unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgellm.server.errors import invalid

_CONSTRAINED = "answers cannot be constrained to a grammar or schema yet; ask for the form in the prompt"
_TEMPLATE = "the bundle's own chat template is always used as it is"
_SAMPLER = "this sampler does not exist here; temperature, top_k, top_p and min_p do"
_BEAMS = "beam search does not exist here; n gives several sampled answers"
_TEXT_ONLY = "text is the only input and output"

# name -> (values that mean "off", beside null; why others are refused)
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "functions": (([],), "tool calls are not supported"),
    "function_call": (("none", "auto"), "tool calls are not supported"),
    "response_format": (({"type": "text"},), _CONSTRAINED),
    "json_schema": ((), _CONSTRAINED),
    "grammar": (("",), _CONSTRAINED),
    "guided_json": ((), _CONSTRAINED),
    "guided_regex": ((), _CONSTRAINED),
    "guided_choice": ((), _CONSTRAINED),
    "guided_grammar": ((), _CONSTRAINED),
    "structured_outputs": ((), _CONSTRAINED),
    "modalities": ((["text"],), _TEXT_ONLY),
    "audio": ((), _TEXT_ONLY),
    "web_search_options": ((), "this server reaches no network"),
    "reasoning_effort": (("none",), "the model's template has no such setting"),
    "verbosity": (("medium",), "the model's template has no such setting"),
    "suffix": (("",), "text can only be continued, not filled in"),
    "best_of": ((1,), "answers are not ranked; use n"),
    "use_beam_search": ((False,), _BEAMS),
    "num_beams": ((1,), _BEAMS),
    "length_penalty": ((1,), _BEAMS),
    "typical_p": ((1,), _SAMPLER),
    "top_a": ((0,), _SAMPLER),
    "tfs_z": ((1,), _SAMPLER),
    "mirostat": ((0,), _SAMPLER),
    "dry_multiplier": ((0,), _SAMPLER),
    "xtc_probability": ((0,), _SAMPLER),
    "dynatemp_range": ((0,), _SAMPLER),
    "repeat_penalty": ((1,), "the field is called repetition_penalty here"),
    "n_predict": ((), "the field is called max_tokens here"),
    "num_predict": ((), "the field is called max_tokens here"),
    "bad_words": (([],), "use logit_bias with -100"),
    "allowed_token_ids": ((), "use logit_bias"),
    "prompt_logprobs": ((), "only the answer's tokens have log-probabilities"),
    "include_stop_str_in_output": ((False,), "the stop text is never part of the answer"),
    "skip_special_tokens": ((True,), "special tokens are never part of the answer"),
    "truncate_prompt_tokens": ((), "prompts are never cut; shorten it yourself"),
    "chat_template": ((), _TEMPLATE),
    "chat_template_kwargs": (({},), _TEMPLATE),
    "add_generation_prompt": ((True,), _TEMPLATE),
    "continue_final_message": ((False,), _TEMPLATE),
    "documents": (([],), _TEMPLATE),
}


def refuse_unsupported(extra: Mapping[str, Any]) -> None:
    """Raise a 400 that names the first field of `extra` which would change the answer."""
    if extra.get("tools") and extra.get("tool_choice") != "none":
        raise invalid(
            'tools are not supported; leave them out, or send "tool_choice": "none"',
            "tools",
            "unsupported_parameter",
        )
    if extra.get("tool_choice") not in (None, "none", "auto"):
        raise invalid("tool_choice is not supported: there are no tools", "tool_choice", "unsupported_value")
    for name, (off, why) in _REFUSED.items():
        value = extra.get(name)
        if value is not None and value not in off:
            raise invalid(f"{name} is not supported: {why}", name, "unsupported_parameter")
