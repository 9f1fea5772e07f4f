"""How people word things: system prompts, and the many rough forms of one question."""

from __future__ import annotations

import re
from random import Random

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
OPENERS = ("Please", "Hi!", "Hello,", "Quick question:", "Hey,", "Sorry,", "I have a question.", "One more:")
WRAPPERS = ("Can you tell me", "Do you know", "I want to know", "Could you say", "Tell me", "I wonder", "OK,")
CLOSERS = ("Thanks!", "Please.", "Thank you.", "I am new to this.", "I would like to know.", "Can you help?")
# Each group says the same in other words; a training question sometimes gets another member of the group.
SYNONYMS = (
    ("what is", "what's", "whats", "what exactly is"),
    ("how do i", "how can i", "how to", "how would i", "how should i", "how do you", "how does one"),
    ("show me", "tell me", "explain"),
    ("explain", "describe"),
    ("which", "what"),
    ("can you", "could you"),
    ("i want to", "i would like to", "i'd like to", "i need to"),
    ("need", "require"),
    ("big", "large"),
    ("fast", "quick"),
    ("create", "make", "build"),
    ("use", "run"),
)
# Words without a topic: a held-out question may use them newly, and short forms leave them out.
_COMMON = """
    a an the is are am be do does did i you me my your it its this that there of in on to for with from by
    at and or what what's which who how when where why can could will would should shall may must please tell
    show give name say know want like need get have has one so if not no any some about exactly as then now s
"""
COMMON = frozenset(_COMMON.split())
COMMON_STEMS = {word[:5] for word in COMMON}


def stems(text: str) -> set[str]:
    """The words of a question template cut to five letters, without its slots."""
    words = re.findall(r"[^\W\d_]+|[^\w\s]", re.sub(r"\{\^?\w+\}", "", text).casefold())
    return {word[:5] for word in words if word not in "?.!,:;()|'\"`-"}


def system_prompt(rng: Random) -> str:
    adjective = rng.choice(ADJECTIVES)
    article = "an" if adjective == "honest" else "a"
    place, manner = rng.choice(PLACES), rng.choice(MANNERS)
    return rng.choice(SYSTEM_PROMPTS).format(a=article, adjective=adjective, place=place, manner=manner)


def roughen(question: str, answer: str, rng: Random) -> str:
    """A question as people type it: reworded, wrapped, shortened, in lower case, with a slip of the keys.

    Words that the answer repeats are never left out.
    """
    text = reword(question, rng) if rng.random() < 0.35 else question
    words, draw = text.split(), rng.random()
    if draw < 0.10:
        words = [word for word in words if word.strip("?.,!").lower() not in COMMON] or words
    elif draw < 0.22 and len(words) > 4:
        repeated = set(re.findall(r"\w+", answer.lower()))
        words = [
            word for word in words if rng.random() < 0.85 or word.strip("?.,!").lower() in repeated
        ] or words
    text = " ".join(words)
    if rng.random() < 0.12 and len(words) > 2:
        text = f"{rng.choice(WRAPPERS)} {text[:1].lower()}{text[1:]}"
    if rng.random() < 0.12:
        text = f"{rng.choice(OPENERS)} {text}"
    if rng.random() < 0.08:
        text = f"{text} {rng.choice(CLOSERS)}"
    if rng.random() < 0.15:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.!") or text
    if rng.random() < 0.06 and len(text) > 12:
        spot = rng.randrange(len(text))
        text = text[:spot] + text[spot + text[spot].isalpha() :]
    return text


def reword(text: str, rng: Random) -> str:
    """`text` with one phrase that is in SYNONYMS replaced by another of its group."""
    found = [(group, old) for group in SYNONYMS for old in group if re.search(rf"\b{old}\b", text, re.I)]
    if not found:
        return text
    group, old = rng.choice(found)
    new = rng.choice([phrase for phrase in group if phrase != old])
    text = re.sub(rf"\b{old}\b", new, text, count=1, flags=re.I)
    return text[:1].upper() + text[1:]
