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
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from generators import generate_row

HERE = Path(__file__).parent
Row = dict[str, str]
Message = dict[str, str]

HELDOUT_SHARE = 0.15
CATEGORY_WEIGHTS = {
    "toolkit": 0.32,
    "facts": 0.26,
    "sums": 0.18,
    "chat": 0.05,
    "refusals": 0.09,
    "followups": 0.10,
}

SYSTEM_PROMPTS = (
    "You are {a} {adjective} assistant{place}.{manner}",
    "You are the assistant of edgellm.{manner}",
    "You answer questions{place}.{manner}",
    "Answer the user's questions.{manner}",
    "This is a chat between a user and {a} {adjective} assistant.{manner}",
)
ADJECTIVES = (
    "helpful",
    "friendly",
    "polite",
    "kind",
    "careful",
    "honest",
    "clever",
    "small",
    "local",
    "patient",
)
PLACES = ("", "", " for edgellm", " for newcomers", " on a phone", " in a browser", " about this toolkit")
MANNERS = (
    "",
    "",
    " Be brief.",
    " Answer in one sentence.",
    " Be polite.",
    " Keep it short.",
    " Do not guess.",
)
OPENERS = [
    "Please",
    "Hi!",
    "Hello,",
    "Quick question:",
    "Hey,",
    "Sorry,",
    "I have a question.",
    "One more thing:",
    "OK,",
    "So,",
    "Tell me:",
]
CLOSERS = ["Thanks!", "Please.", "Thank you.", "I am new to this.", "I would like to know.", "Can you help?"]


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

    def split(self) -> tuple[list[str], list[str]]:
        """The questions for training and the held-out ones. The split depends on the wording alone."""
        candidates = sorted(self.questions[2:], key=lambda text: hashlib.sha256(text.encode()).digest())
        out = candidates[: max(1, round(HELDOUT_SHARE * len(self.questions)))]
        return [text for text in self.questions if text not in out], out


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

    def draw_row(self, intent: Intent) -> Row:
        source = self.intents.get(intent.first, intent)
        if source.generator:
            return generate_row(source.generator, self.rng, self.heldout)
        rows = self.rows(intent)
        return self.rng.choice(rows) if rows else {}

    def question(self, intent: Intent, row: Row, heldout: bool) -> str:
        train, out = intent.split()
        text = fill(self.rng.choice(out if heldout else train), row, self.rng)
        return text[:1].upper() + text[1:] if text.endswith("?") and self.rng.random() < 0.9 else text

    def exchange(self, intent: Intent, question: str | None = None) -> tuple[list[Message], Row]:
        """One question with its answer, after the turn it follows up on if there is one."""
        before: list[Message] = []
        row = self.draw_row(intent)
        answer, source = intent.answer, intent
        if intent.first == "any":
            source = self.intents[
                self.rng.choice(["facts.capital", "facts.opposite", "toolkit.which_target"])
            ]
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

    def system_prompt(self) -> Message:
        rng, adjective = self.rng, self.rng.choice(ADJECTIVES)
        slots = {"a": "an" if adjective == "honest" else "a", "adjective": adjective}
        text = rng.choice(SYSTEM_PROMPTS).format(
            **slots, place=rng.choice(PLACES), manner=rng.choice(MANNERS)
        )
        return {"role": "system", "content": text}

    def roughen(self, text: str) -> str:
        """A question as people type it: with an opening or closing phrase, in lower case, with a slip."""
        rng = self.rng
        if rng.random() < 0.12:
            text = f"{rng.choice(OPENERS)} {text}"
        if rng.random() < 0.08:
            text = f"{text} {rng.choice(CLOSERS)}"
        if rng.random() < 0.12:
            text = text.lower()
        if rng.random() < 0.12:
            text = text.rstrip("?.!")
        spot = rng.randrange(len(text))
        if rng.random() < 0.06 and len(text) > 12 and text[spot].isalpha():
            text = text[:spot] + text[spot + 1 :]
        return text

    def conversation(self, max_turns: int) -> list[Message]:
        """A training conversation of one or more exchanges, with or without a system prompt."""
        rng = self.rng
        messages = [self.system_prompt()] if rng.random() < 0.3 else []
        turns = 1 if rng.random() < 0.5 else rng.randint(1, max_turns)
        for _ in range(turns):
            exchange, _ = self.exchange(self.draw_intent())
            messages += [
                {**turn, "content": self.roughen(turn["content"])} if turn["role"] == "user" else turn
                for turn in exchange
            ]
        return messages

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
