"""The held-out questions: ways to ask, and numbers, that never occur in the demo model's training.

python models/demo/heldout.py                writes them to heldout.jsonl
python models/demo/heldout.py --texts FILE   writes the conversations, with their answers, for `edgellm eval`
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus import HERE, Corpus, Intent, Message, fill, render


@dataclass(frozen=True)
class Item:
    """One held-out question: `messages` end with the user's; `forbid` are answers to other rows."""

    category: str
    name: str
    messages: tuple[Message, ...]
    answer: str
    need: tuple[str, ...]
    forbid: tuple[str, ...]


def items(seed: int = 7, rows_per_question: int = 4) -> Iterator[Item]:
    """The evaluation set: every held-out way to ask, with up to `rows_per_question` rows each."""
    corpus = Corpus(seed, heldout=True)
    for intent in corpus.intents.values():
        train, out = intent.split
        has_rows = bool(intent.rows or intent.generator or intent.first)
        questions = [text for text in out for _ in range(rows_per_question if has_rows else 1)]
        if intent.generator and intent.category == "sums":
            questions += corpus.rng.choices(train, k=2 * rows_per_question)
        seen: set[str] = set()
        for question in questions:
            messages, row = corpus.exchange(intent, question)
            if messages[-2]["content"] in seen:
                continue
            seen.add(messages[-2]["content"])
            answer = messages[-1]["content"]
            need = tuple(fill(text, row, corpus.rng) for text in corpus.needs(intent))
            wrong = _wrong(corpus, intent, answer)
            yield Item(intent.category, intent.name, tuple(messages[:-1]), answer, need, wrong)


def _wrong(corpus: Corpus, intent: Intent, answer: str) -> tuple[str, ...]:
    """What the other rows would need, unless the right answer contains it too."""
    source = corpus.intents.get(intent.first, intent)
    if intent.first == "any" or source.generator:
        return ()
    needs = corpus.needs(intent)
    wrong = {fill(text, row, corpus.rng) for row in corpus.rows(intent) for text in needs}
    return tuple(sorted(text for text in wrong if text.casefold() not in answer.casefold()))


def is_right(text: str, item: Item) -> bool:
    """Whether `text` holds all it needs, nothing of another answer, and no number or command of its own."""
    folded = text.casefold()
    if not all(need.casefold() in folded for need in item.need):
        return False
    if any(re.search(rf"(?<!\w){re.escape(wrong.casefold())}(?!\w)", folded) for wrong in item.forbid):
        return False
    return all(set(re.findall(p, text)) <= set(re.findall(p, item.answer)) for p in (r"\d+", r"`[^`]*`"))


def texts() -> list[str]:
    """The held-out conversations with their right answers, as the chat template writes them."""
    return [render((*item.messages, {"role": "assistant", "content": item.answer})) for item in items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, metavar="FILE.jsonl")
    if (out := parser.parse_args().texts) is not None:
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts())
        out.write_text("".join(lines), encoding="utf-8")
        return
    with (HERE / "heldout.jsonl").open("w", encoding="utf-8") as file:
        for item in items():
            keys = {key: value for key, value in item.__dict__.items() if key != "forbid"}
            file.write(json.dumps(keys, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
