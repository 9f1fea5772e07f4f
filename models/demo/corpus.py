"""The demo model's text, generated from the intent files in `intents/` with a fixed seed.

An intent file holds sections. Each line begins with one character that says what it is:

    [category.name]   starts an intent
    | a | b           a table: the first line names the slots, the others are rows
    | @kind           rows come from `generators.generate_row(kind)`
    & other           the rows are those of the intent `other`
    @ other           a follow-up: the turn before asks `other` with another row; and so does the answer
    @= other          a follow-up about the same row; `@= other:value` keeps rows whose first slot is it
    ? text            one way to ask; {slot} is filled from the row, (x|y) picks one
    = text            the answer; {^slot} starts with a capital letter
    + text            must occur in a right answer
    * number          sampling weight

Some ways to ask of every intent never occur in training; heldout.py asks exactly those. Run this file to see
a few training conversations.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from generators import generate_row
from wording import COMMON_STEMS, roughen, stems, system_prompt

HERE = Path(__file__).parent
Row = dict[str, str]
Message = dict[str, str]

HELDOUT_SHARE = 0.15
CATEGORY_WEIGHTS = {
    "toolkit": 0.31,
    "facts": 0.24,
    "sums": 0.20,
    "chat": 0.06,
    "refusals": 0.08,
    "followups": 0.11,
}

REPEATED = (
    "facts.capital",
    "facts.opposite",
    "facts.kind",
    "facts.single",
    "toolkit.which_target",
    "sums.add",
)


@dataclass
class Intent:
    """One thing to ask, the ways to ask it and its answer."""

    category: str
    name: str
    rows: list[Row] = field(default_factory=list)
    generator: str = ""
    first: str = ""  # the intent of the turn before, for a follow-up
    same_row: bool = False
    only: str = ""  # keep the rows of `first` whose first slot has this value
    questions: list[str] = field(default_factory=list)
    answer: str = ""
    need: list[str] = field(default_factory=list)
    weight: float = 1.0

    @property
    def full_name(self) -> str:
        return f"{self.category}.{self.name}"

    @cached_property
    def split(self) -> tuple[list[str], list[str]]:
        """The questions for training and the held-out ones.

        The choice follows a hash of the wording. A wording is held out only if the intent's other questions
        use all its words: the model knows no language beyond this text and cannot guess what others mean.
        """
        train, out = list(self.questions), list[str]()
        for text in sorted(self.questions[2:], key=lambda text: hashlib.sha256(text.encode()).digest()):
            others = [other for other in train if other != text]
            known = {stem for other in others for stem in stems(other)} | COMMON_STEMS
            same = plain(text) in {plain(other) for other in others}
            if len(out) < round(HELDOUT_SHARE * len(self.questions)) and stems(text) <= known and not same:
                train.remove(text)
                out.append(text)
        return train, out

    @cached_property
    def heldout_pattern(self) -> re.Pattern[str]:
        """Matches a held-out question with any row, whatever its case and punctuation."""
        parts = []
        for text in self.split[1]:
            pieces = re.split(r"(\{\^?\w+\}|[(|)])", plain(text))
            marks = {"(": "(?:", "|": "|", ")": ")"} if "|" in text else {}
            parts.append(
                "".join(".+" if piece[:1] == "{" else marks.get(piece, re.escape(piece)) for piece in pieces)
            )
        return re.compile("|".join(parts) or "(?!)", re.IGNORECASE)


def load_intents(folder: Path = HERE / "intents") -> dict[str, Intent]:
    """All intents by full name, in the order of the files."""
    intents: dict[str, Intent] = {}
    intent, columns = Intent("", ""), []
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            mark, text = line[:1], line[1:].strip()
            if mark == "[":
                category, name = text.rstrip("]").split(".")
                intent, columns = Intent(category, name), []
                intents[intent.full_name] = intent
            elif mark == "|" and text.startswith("@"):
                intent.generator = text[1:]
            elif mark == "|":
                cells = [cell.strip() for cell in text.split("|")]
                if not columns:
                    columns = cells
                else:
                    intent.rows.append(dict(zip(columns, cells, strict=True)))
            elif mark == "&":
                intent.rows = intents[text].rows
            elif mark == "@":
                intent.same_row = text.startswith("=")
                intent.first, _, intent.only = text.lstrip("= ").partition(":")
            elif mark == "?":
                intent.questions.append(text)
            elif mark == "=":
                intent.answer = text
            elif mark == "+":
                intent.need.append(text)
            elif mark == "*":
                intent.weight = float(text)
            elif mark.strip() and mark != "#":
                raise ValueError(f"{path.name}: cannot read the line {line!r}")
    return intents


def plain(question: str) -> str:
    """The question without what a reader would overlook: case and the sign at its end."""
    return question.casefold().rstrip("?.! ")


def fill(template: str, row: Row, rng: Random) -> str:
    """`template` with one of each alternative chosen and its slots filled."""
    text = re.sub(r"\(([^()]*\|[^()]*)\)", lambda match: rng.choice(match[1].split("|")), template)
    text = re.sub(r" +", " ", text).replace(" ?", "?").replace(" .", ".").strip()
    return re.sub(
        r"\{(\^?)(\w+)\}",
        lambda match: row[match[2]][:1].upper() + row[match[2]][1:] if match[1] else row[match[2]],
        text,
    )


def render(messages: list[Message] | tuple[Message, ...], add_generation_prompt: bool = False) -> str:
    """What `chat_template.jinja` makes of these messages."""
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content'].strip()}<|im_end|>\n" for turn in messages)
    return "<|bos|>" + turns + ("<|im_start|>assistant\n" if add_generation_prompt else "")


class Corpus:
    """Draws examples from the intents. `heldout` chooses the questions and numbers kept out of training."""

    def __init__(self, seed: int, heldout: bool = False) -> None:
        self.rng = Random(seed)
        self.heldout = heldout
        self.intents = load_intents()
        self.by_category = {
            category: [intent for intent in self.intents.values() if intent.category == category]
            for category in CATEGORY_WEIGHTS
        }
        self.heldout_plain = {plain(text) for intent in self.intents.values() for text in intent.split[1]}
        self.weights = {
            category: [intent.weight * max(1, len(self.rows(intent))) ** 0.6 for intent in intents]
            for category, intents in self.by_category.items()
        }

    def rows(self, intent: Intent) -> list[Row]:
        """The rows an intent can take; `-` in a slot means that its answers cannot use this row."""
        source = self.intents.get(intent.first, intent)
        template = intent.answer or source.answer
        slots = re.findall(r"\{\^?(\w+)\}", template)
        rows = [row for row in source.rows if all(row.get(slot) != "-" for slot in slots)]
        if intent.only:
            rows = [row for row in rows if next(iter(row.values())) == intent.only]
        return rows

    def needs(self, intent: Intent) -> list[str]:
        """What a right answer must contain; a follow-up may take that from its first turn."""
        return intent.need or self.intents[intent.first].need

    def draw_row(self, intent: Intent) -> Row:
        source = self.intents.get(intent.first, intent)
        if source.generator:
            return generate_row(source.generator, self.rng, self.heldout)
        rows = self.rows(intent)
        return self.rng.choice(rows) if rows else {}

    def question(self, intent: Intent, row: Row, heldout: bool) -> str:
        train, out = intent.split
        text = fill(self.rng.choice(out if heldout else train), row, self.rng)
        return text[:1].upper() + text[1:] if text.endswith("?") and self.rng.random() < 0.9 else text

    def exchange(self, intent: Intent, question: str | None = None) -> tuple[list[Message], Row]:
        """One question with its answer, after the turn it follows up on if there is one."""
        before: list[Message] = []
        row = self.draw_row(intent)
        answer, source = intent.answer, intent
        if intent.first == "any":
            source = self.intents[self.rng.choice(REPEATED)]
            row = self.draw_row(source)
        if intent.first:
            source = source if intent.first == "any" else self.intents[intent.first]
            other = row if intent.same_row else self.draw_row(intent)
            before = self.pair(self.question(source, other, False), fill(source.answer, other, self.rng))
            row = {**row, "previous": before[1]["content"]}
            answer = answer or source.answer
        asked = question and fill(question, row, self.rng)
        asked = asked or self.question(intent, row, self.heldout)
        return before + self.pair(asked, fill(answer, row, self.rng)), row

    @staticmethod
    def pair(question: str, answer: str) -> list[Message]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def draw_intent(self) -> Intent:
        category = self.rng.choices(list(CATEGORY_WEIGHTS), list(CATEGORY_WEIGHTS.values()))[0]
        return self.rng.choices(self.by_category[category], self.weights[category])[0]

    def rough(self, intent: Intent, question: str, answer: str) -> str:
        """The question as people type it, unless that makes it one of the held-out questions."""
        text = roughen(question, answer, self.rng)
        asking = [intent, self.intents.get(intent.first, intent)]
        is_out = any(other.heldout_pattern.fullmatch(plain(text)) for other in asking)
        return question if is_out or plain(text) in self.heldout_plain else text

    def conversation(self, max_turns: int) -> list[Message]:
        """A training conversation of one or more exchanges, with or without a system prompt."""
        rng = self.rng
        messages = [{"role": "system", "content": system_prompt(rng)}] if rng.random() < 0.3 else []
        turns = 1 if rng.random() < 0.5 else rng.randint(1, max_turns)
        for _ in range(turns):
            intent = self.draw_intent()
            exchange = self.exchange(intent)[0]
            for question, answer in zip(exchange[::2], exchange[1::2], strict=True):
                messages += self.pair(
                    self.rough(intent, question["content"], answer["content"]), answer["content"]
                )
        return messages

    def drill(self) -> list[tuple[str, str]]:
        """Sums in short form, each as what is asked and what is to be learned."""
        signs = {"add": "+", "sub": "-", "mul": "×"}
        kinds = self.rng.choices(list(signs), [6, 5, 2], k=12)
        rows = [(signs[kind], generate_row(kind, self.rng, self.heldout)) for kind in kinds]
        return [(f"{row['a']} {sign} {row['b']} =", f" {row['c']}.") for sign, row in rows]

    def prose(self) -> str:
        """Plain sentences without a conversation, for prompts that skip the chat template."""
        intents = [self.rng.choice(self.by_category[self.rng.choice(["toolkit", "facts"])]) for _ in range(6)]
        return " ".join(self.exchange(intent)[0][-1]["content"] for intent in intents)


def main() -> None:
    training = Corpus(seed=1)
    for _ in range(5):
        print(render(training.conversation(3)))


if __name__ == "__main__":
    main()
