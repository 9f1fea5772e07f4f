"""Measure the demo model on the questions kept out of its training.

    python models/demo/evaluate.py [--model models/demo] [--wrong] [--json]

Prints the share of questions answered right (greedy) by category and the perplexity of the right answers.
Needs neither torch nor a bundle: the numpy model in reference.py does the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from corpus import render
from heldout import Item, is_right, items
from reference import Reference
from tokenizers import Tokenizer

MAX_TOKENS = 96


@dataclass
class Result:
    """Counts by category, summed negative log likelihoods in nats, and the wrong answers."""

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    exact: int = 0
    answer_nats: float = 0.0
    answer_tokens: int = 0
    all_nats: float = 0.0
    all_tokens: int = 0
    wrong: list[tuple[Item, str]] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        total = self.asked.total()
        return {
            "questions": total,
            "right": round(self.right.total() / total, 4),
            "word_for_word": round(self.exact / total, 4),
            "by_category": {
                name: {"right": round(self.right[name] / count, 4), "questions": count}
                for name, count in self.asked.items()
            },
            "answer_perplexity": round(math.exp(self.answer_nats / self.answer_tokens), 4),
            "overall_perplexity": round(math.exp(self.all_nats / self.all_tokens), 4),
            "answer_tokens": self.answer_tokens,
            "tokens": self.all_tokens,
        }


def evaluate(model_dir: Path) -> Result:
    """Ask every held-out question of the checkpoint in `model_dir`."""
    model = Reference(model_dir)
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    eos = model.config["eos_token_id"]
    stop_ids = eos if isinstance(eos, list) else [eos]
    result = Result()
    for item in items():
        text = render(item.messages, add_generation_prompt=True)
        prompt = tokenizer.encode(text, add_special_tokens=False).ids
        answer = tokenizer.encode(item.answer + "<|im_end|>", add_special_tokens=False).ids
        nats = -_log_likelihoods(model, prompt + answer)
        result.all_nats += float(nats.sum())
        result.all_tokens += len(nats)
        result.answer_nats += float(nats[-len(answer) :].sum())
        result.answer_tokens += len(answer)
        said = tokenizer.decode(model.greedy(prompt, MAX_TOKENS, stop_ids))
        result.asked[item.category] += 1
        result.exact += said == item.answer
        if is_right(said, item):
            result.right[item.category] += 1
        else:
            result.wrong.append((item, said))
    return result


def _log_likelihoods(model: Reference, ids: list[int]) -> np.ndarray:
    """ln p of each token but the first, given those before it: float64[len(ids) - 1]."""
    logits = model.logits(ids)[:-1].astype(np.float64)
    peak = logits.max(axis=-1)
    normalizer = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=-1))
    return logits[np.arange(len(logits)), ids[1:]] - normalizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path(__file__).parent)
    parser.add_argument("--wrong", action="store_true", help="print the questions answered wrong")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = evaluate(options.model)
    summary = result.summary()
    if options.wrong:
        for item, said in result.wrong:
            questions = " / ".join(turn["content"] for turn in item.messages)
            print(f"{item.category}.{item.name}: {questions}\n    said:  {said}\n    right: {item.answer}")
    if options.json:
        print(json.dumps(summary))
        return
    for name, count in result.asked.items():
        print(f"{name:10} {result.right[name] / count:6.1%} of {count}")
    total = result.asked.total()
    print(
        f"{'all':10} {result.right.total() / total:6.1%} of {total}, {result.exact / total:.1%} word for word"
    )
    print(f"perplexity: answers {summary['answer_perplexity']}, all tokens {summary['overall_perplexity']}")


if __name__ == "__main__":
    main()
