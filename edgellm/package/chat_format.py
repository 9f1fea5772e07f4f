"""Chat templates as data: what a device needs of a bundle's Jinja template, proven to give the same text.

A device has no Jinja. But nearly all templates are linear: each message stands between texts that depend
only on its place. `compile_chat_format` finds these texts by rendering marked messages, and then compares its
result with Jinja's on random conversations. docs/chat.md describes the format, native/src/chat.c reads it.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from edgellm.bundle.bundle import Bundle
from edgellm.errors import EdgeLLMError, TemplateError
from edgellm.text.template import ChatTemplate

FORMAT_VERSION = 1
FORMAT_NAME = "chat.json"

Trim = Literal["keep", "lines", "space"]
Message = dict[str, str]
Render = Callable[[Sequence[Message]], str]

PLACES = ("only", "first", "assistant", "middle", "last")
TRIMS: tuple[Trim, ...] = ("keep", "lines", "space")
_CONVERSATIONS = 150
_TURNS = 7
_PADDING = ("\n\n \t\n ", " \n\t \n\n")
_DATE_LETTERS = frozenset("aAbBdHMmYy%")
_MARK = re.compile("\ue0f0(u[0-9]|a[0-9]|s)\ue0f1")
_DATE = re.compile("\ue0f2([^\ue0f3]*)\ue0f3")
_CLOSING = re.compile(r"</[\w:]{1,40}>|\[/[A-Z_]{1,40}\]|<\|/?[\w:]{1,40}\|>")
"""What ends the thoughts of an answer in some templates, which then leave them out of later turns."""


class Slot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the text of the message goes, or that of the system message."""

    put: Literal["content", "system"]
    left: Trim = "keep"
    """What is taken from its beginning: nothing, line ends, or white space as `str.strip` knows it."""
    right: Trim = "keep"
    after: str = ""
    """Where the text has this, only what is behind the last of them is put,"""
    after_left: Trim = "keep"
    """with this taken from its beginning."""

    def fill(self, text: str) -> str:
        """What is put of `text`."""
        if self.after and self.after in text:
            text = _strip(text.rsplit(self.after, 1)[1], self.after_left, "keep")
        return _strip(text, self.left, self.right)


class Date(msgspec.Struct, frozen=True):
    """Today, as strftime writes it in English."""

    date: str


Block = tuple[str | Slot | Date, ...]


class Blocks(msgspec.Struct, frozen=True):
    """What is written for each message, by its place: the only one, the first of several, ..."""

    only: Block
    first: Block
    assistant: Block
    middle: Block
    last: Block


class ChatFormat(msgspec.Struct, frozen=True):
    """A compiled chat template."""

    format: int
    drop_system: Literal["never", "empty", "blank"]
    """Which system messages count as none."""
    plain: Blocks
    """For conversations without a system message."""
    system: Blocks | None
    """For those with one; None where the template refuses it."""

    def encode(self) -> bytes:
        """As JSON: what `chat.json` contains."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def render(self, messages: Sequence[Message], now: datetime | None = None) -> str:
        """The text of a conversation: a system message or none, then user and assistant in turns.

        Raises:
            TemplateError: it is no such conversation, or the format takes no system message.
        """
        head, turns = _parts(messages)
        if len(turns) % 2 == 0 or any(
            one["role"] != ("assistant" if i % 2 else "user") for i, one in enumerate(turns)
        ):
            raise TemplateError("user and assistant must take turns, and the user must have the last word")
        if head is None or self._drops(head["content"]):
            return _render(self.plain, turns, (now or datetime.now()).strftime)
        if self.system is None:
            raise TemplateError("the chat template of this model refuses system messages")
        return _render(self.system, messages, (now or datetime.now()).strftime)

    def _drops(self, system: str) -> bool:
        return self.drop_system != "never" and not (system.strip() if self.drop_system == "blank" else system)


class _NotLinearError(Exception):
    """Why a template cannot be expressed."""


def compile_chat_format(bundle: str | os.PathLike[str] | Bundle) -> ChatFormat:
    """The chat format of a bundle.

    Raises:
        EdgeLLMError: the bundle has no chat template, or one that is not linear. BundleError: it is damaged.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    template = opened.chat_template()
    if template is None:
        raise EdgeLLMError(
            f"bundle {opened.path} has no chat template, so no app can chat with it: build it from a "
            "checkpoint that was trained for chats"
        )
    return compile_template(template, f"of bundle {opened.path}")


def compile_template(template: ChatTemplate, whose: str) -> ChatFormat:
    """As `compile_chat_format`; `whose` template it is, for errors."""
    try:
        format = _derive(_rendering(template, _mark_date), template.source)
        _prove(format, template)
    except _NotLinearError as reason:
        raise EdgeLLMError(
            f"the chat template {whose} cannot be carried to a device: {reason}. Put a template into the "
            "checkpoint (chat_template.jinja) that writes each message between fixed texts, and build again"
        ) from None
    return format


# -- finding the texts


def _derive(render: Render, source: str) -> ChatFormat:
    try:
        plain = _blocks(render, source, None)
    except TemplateError as error:
        raise _NotLinearError(f"it fails on an ordinary conversation ({error})") from None
    try:
        system = _blocks(render, source, "s")
    except TemplateError:
        return ChatFormat(FORMAT_VERSION, "never", plain, None)
    empty, blank = (
        all(render(_marked(n, text)) == render(_marked(n, None)) for n in (1, 3)) for text in ("", " \n\t ")
    )
    if blank and not empty:
        raise _NotLinearError("it takes a blank system message for none, and an empty one for one")
    return ChatFormat(FORMAT_VERSION, "blank" if blank else "empty" if empty else "never", plain, system)


def _blocks(render: Render, source: str, system: str | None) -> Blocks:
    only = _cut(render(_marked(1, system)), ["u0"])
    first, one, middle, other, last = _cut(render(_marked(3, system)), ["u0", "a0", "u1", "a1", "u2"])
    if one != other:
        raise _NotLinearError("it writes the first answer and later ones differently")
    blocks = Blocks(only[0], first, one, middle, last)
    for place in PLACES:
        for put in ("content", "system"):
            blocks = _find_trim(blocks, render, place, put, system)
    for mark in dict.fromkeys(_CLOSING.findall(source)):
        blocks = _find_after(blocks, render, mark, system)
    return blocks


def _marked(turns: int, system: str | None) -> list[Message]:
    """A conversation with `turns` messages of the user, each a mark; `system`: "s" for a mark, or itself."""
    messages = [
        {"role": role, "content": f"\ue0f0{role[0]}{i}\ue0f1"}
        for i in range(turns)
        for role in ("user", "assistant")
    ][:-1]
    if system is None:
        return messages
    return [{"role": "system", "content": "\ue0f0s\ue0f1" if system == "s" else system}, *messages]


def _cut(text: str, order: Sequence[str]) -> list[Block]:
    """The blocks of a rendered conversation: each ends with its message, the last one with the text."""
    blocks: list[Block] = []
    pieces: list[str | Slot | Date] = []
    for index, part in enumerate(_MARK.split(text)):
        if index % 2 == 0:
            pieces += _with_dates(part)
        elif part == "s":
            pieces.append(Slot("system"))
        else:
            if len(blocks) == len(order) or part != order[len(blocks)]:
                raise _NotLinearError("it repeats messages, or puts them into another order")
            blocks.append((*pieces, Slot("content")))
            pieces = []
    if len(blocks) != len(order):
        raise _NotLinearError("it leaves messages out, or changes them")
    blocks[-1] += tuple(pieces)
    return blocks


def _with_dates(text: str) -> Iterator[str | Date]:
    for index, part in enumerate(_DATE.split(text)):
        if index % 2:
            yield Date(part)
        elif part:
            yield part


def _mark_date(pattern: str) -> str:
    if not isinstance(pattern, str) or not set(re.findall("%(.?)", pattern, re.DOTALL)) <= _DATE_LETTERS:
        raise _NotLinearError("it writes the date in an unusual way")
    return f"\ue0f2{pattern}\ue0f3"


def _find_trim(blocks: Blocks, render: Render, place: str, put: str, system: str | None) -> Blocks:
    """Find out what is taken from both ends of the text that is put at a place."""
    if not any(isinstance(piece, Slot) and piece.put == put for piece in getattr(blocks, place)):
        return blocks
    messages = _marked(1 if place == "only" else 3, system)
    head, turns = _parts(messages)
    padded = [one for at, one in zip(_places(len(turns)), turns, strict=True) if at == place]
    for one in padded if put == "content" else [head or {}]:
        one["content"] = one["content"].join(_PADDING)
    tries = (
        _with_slot(blocks, place, put, left=left, right=right)
        for left, right in itertools.product(TRIMS, TRIMS)
    )
    if found := _first_that_fits(tries, render, messages):
        return found
    raise _NotLinearError("it changes the ends of messages in a way of its own")


def _find_after(blocks: Blocks, render: Render, mark: str, system: str | None) -> Blocks:
    """Find out whether answers are written from behind a mark on, as where thoughts end."""
    messages = _marked(3, system)
    for one in messages:
        if one["role"] == "assistant":
            one["content"] = f"a thought{mark}{one['content'].join(_PADDING)}"
    tries = (_with_slot(blocks, "assistant", "content", after=mark, after_left=left) for left in TRIMS)
    return _first_that_fits((blocks, *tries), render, messages) or blocks


def _first_that_fits(tries: Iterable[Blocks], render: Render, messages: Sequence[Message]) -> Blocks | None:
    text = render(messages)
    return next((one for one in tries if _render(one, messages, _mark_date) == text), None)


def _with_slot(blocks: Blocks, place: str, put: str, **changes: str) -> Blocks:
    block = tuple(
        msgspec.structs.replace(piece, **changes) if isinstance(piece, Slot) and piece.put == put else piece
        for piece in getattr(blocks, place)
    )
    return msgspec.structs.replace(blocks, **{place: block})


# -- writing conversations


def _parts(messages: Sequence[Message]) -> tuple[Message | None, Sequence[Message]]:
    """The system message, and the turns."""
    if messages and messages[0]["role"] == "system":
        return messages[0], messages[1:]
    return None, messages


def _places(turns: int) -> list[str]:
    if turns == 1:
        return ["only"]
    inner = ["assistant" if i % 2 else "middle" for i in range(1, turns - 1)]
    return ["first", *inner, "last"]


def _render(blocks: Blocks, messages: Sequence[Message], write_date: Callable[[str], str]) -> str:
    head, turns = _parts(messages)
    text: list[str] = []
    for place, one in zip(_places(len(turns)), turns, strict=True):
        for piece in getattr(blocks, place):
            if isinstance(piece, str):
                text.append(piece)
            elif isinstance(piece, Date):
                text.append(write_date(piece.date))
            else:
                text.append(piece.fill((one if piece.put == "content" else head or one)["content"]))
    return "".join(text)


def _strip(text: str, left: Trim, right: Trim) -> str:
    characters = {"keep": "", "lines": "\n", "space": None}
    return text.lstrip(characters[left]).rstrip(characters[right])


def _rendering(template: ChatTemplate, strftime: Callable[[str], str]) -> Render:
    return lambda messages: template.render(messages, strftime=strftime)


# -- the proof


def _prove(format: ChatFormat, template: ChatTemplate) -> None:
    """Compare with Jinja's texts on random conversations; the same ones each time."""
    rng = random.Random(7)
    marks = list(dict.fromkeys(_CLOSING.findall(template.source)))[:16]
    opening = [mark.replace("/", "", 1) for mark in marks]
    special = [token for token in template.tokens.values() if token]
    for number in range(_CONVERSATIONS):
        turns = 2 * (number % _TURNS) + 1
        messages = [
            {"role": "user", "content": _user_text(rng, marks + opening + special)}
            if i % 2 == 0
            else {"role": "assistant", "content": _text(rng, marks + opening + special)}
            for i in range(turns)
        ]
        if format.system is not None and rng.random() < 0.6:
            messages.insert(0, {"role": "system", "content": rng.choice(["", " \n", _text(rng, special)])})
        now = datetime(2024, 1, 1) + timedelta(minutes=rng.randrange(8_000_000))
        try:
            expected = template.render(messages, strftime=now.strftime)
        except TemplateError as error:
            raise _NotLinearError(f"it refuses some conversations ({error})") from None
        if format.render(messages, now) != expected:
            raise _NotLinearError("what it writes for a message depends on more than the message's place")


_BITS = (
    *(
        "word",
        "a",
        "It's",
        "Über",
        "日本語",
        "مرحبا",
        "🙂",
        "👩‍👩‍👧",
        "e\u0301",
        "0",
        "-1",
        "3.14",
        "true",
        "None",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "\u00a0",
        "\u2003",
        "\u2028",
        "\x1c",
        "\x85",
        "\u200b",
        "\ufeff",
    ),
    *(
        "<b>&amp;</b>",
        "<",
        ">",
        "|",
        '"',
        "'",
        "\\n",
        "{{ x }}",
        "{% endif %}",
        "{#",
        "%s",
        "$&",
        "`",
        "</s>",
        "[INST]",
    ),
)


def _text(rng: random.Random, more: Sequence[str]) -> str:
    return "".join(
        rng.choice(more if more and rng.random() < 0.1 else _BITS) for _ in range(rng.randrange(9))
    )


def _user_text(rng: random.Random, more: Sequence[str]) -> str:
    # Not empty, and no document of marks: some templates know tools' answers by their first and last mark.
    return rng.choice(("Why?", "\n what ", " 1")) + _text(rng, more)
