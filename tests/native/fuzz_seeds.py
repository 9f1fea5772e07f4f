"""The files that fuzzing begins with. `python -m tests.native.fuzz_seeds FOLDER` writes them."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import edgellm
from edgellm.package.chat_format import compile_template
from tests.conformance.runner import PROGRAMS
from tests.native.test_tokenizer import texts
from tests.native.tokenizers_of_families import FAMILIES
from tests.package.templates import KNOWN
from tests.package.test_chat_format import conversations, template_of

Seeds = Callable[[Path, Path], list[Path]]
"""Called with a folder to write into and a bundle for a GPU."""


def manifests(folder: Path, bundle: Path) -> list[Path]:
    return [bundle / "edgellm.json"]


def plans(folder: Path, bundle: Path) -> list[Path]:
    return sorted(PROGRAMS.glob("*/*/plan.json"))


def tokenizers(folder: Path, bundle: Path) -> list[Path]:
    """Each family's with a few tokens, so that changes meet more than the vocabulary."""
    for index, make in enumerate(FAMILIES.values()):
        data = json.loads(make().to_str())
        model = data["model"]
        model["vocab"] = dict(list(model["vocab"].items())[:60])
        made = [[*merge, "".join(merge)] for merge in model["merges"]]
        known = [row[:2] for row in made if all(one in model["vocab"] for one in row)]
        model["merges"] = known[:20]
        (folder / f"{index}.json").write_text(json.dumps(data))
    return sorted(folder.glob("*.json"))


def prompts(folder: Path, bundle: Path) -> list[Path]:
    for index, text in enumerate(texts(2, 100)):
        (folder / f"{index}.txt").write_bytes(text.encode())
    return sorted(folder.glob("*.txt"))


def chats(folder: Path, bundle: Path) -> list[Path]:
    """Each family's format, with a conversation behind it."""
    for index, known in enumerate(KNOWN.values()):
        format = json.loads(compile_template(template_of(known), "under test").encode())
        messages = [one["content"].encode() for one in conversations(known, 5, seed=index)[-1]]
        # Without line ends, so that more of the changes are in what counts.
        (folder / f"{index}.json").write_bytes(b"\0".join([json.dumps(format).encode(), *messages]))
    return sorted(folder.glob("*.json"))


SEEDS: dict[str, Seeds] = {
    "manifest": manifests,
    "plan": plans,
    "tokenizer": tokenizers,
    "prompt": prompts,
    "chat": chats,
}
"""For each target of native/fuzz."""


def main() -> None:
    """A folder of files for each target."""
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as made:
        bundle = edgellm.build("demo", target="adreno", out=Path(made) / "demo").path
        for target, seeds in SEEDS.items():
            folder = out / target
            folder.mkdir(parents=True)
            for index, file in enumerate(seeds(folder, bundle)):
                if file.parent != folder:
                    shutil.copyfile(file, folder / f"{index}{file.suffix}")


if __name__ == "__main__":
    main()
