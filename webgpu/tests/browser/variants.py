"""The demo bundle in other forms, made from it without building again: what pages meet in the field.

shards    the weights in shards of 256 KiB instead of one
next      another version of that, with another chat template that says the same
half      without the program in fp32
long      a context so long that its cache exceeds buffers of 128 MiB
hostile   a chat template that does not come to an end when a message says "loop"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgellm.backends.plan import weights
from edgellm.bundle import Bundle, BundleWriter
from edgellm.bundle.manifest import TEMPLATE_NAME, Manifest

LONG_CONTEXT = 1 << 19
SHARD_BYTES = 256 << 10
_LOOP = """\
{%- if messages[-1].content == 'loop' %}{% for a in range(100000) %}{% for b in range(100000) %}
{%- endfor %}{% endfor %}{% endif -%}
"""


def write_variants(demo: Bundle, out: Path) -> None:
    """Write each of them to a folder of its name in `out`."""
    _copy(demo, out / "shards", lambda files: _small_shards(demo, files))
    _copy(demo, out / "next", lambda files: (_small_shards(demo, files), _comment(files)))
    _copy(demo, out / "half", lambda files: _drop(files, f"{demo.manifest.backend}/wgsl-fp32/"))
    model = replace(demo.manifest.model, context_length=LONG_CONTEXT)
    _copy(demo, out / "long", manifest=replace(demo.manifest, context=LONG_CONTEXT, model=model))
    _copy(demo, out / "hostile", _loops)


def _copy(
    demo: Bundle,
    out: Path,
    change: Callable[[dict[str, bytes]], object] = lambda files: None,
    manifest: Manifest | None = None,
) -> None:
    files = {one.path: demo.file(one.path).read_bytes() for one in demo.manifest.files}
    change(files)
    with BundleWriter(out, force=True) as writer:
        for path, data in files.items():
            (writer.path / path).parent.mkdir(parents=True, exist_ok=True)
            (writer.path / path).write_bytes(data)
        writer.commit(replace(manifest or demo.manifest, files=()))


def _small_shards(demo: Bundle, files: dict[str, bytes]) -> None:
    """The same buffers in the same order, cut as `write_weights` cuts them."""
    folder = demo.manifest.backend
    table = f"{folder}/{weights.TABLE_NAME}"
    entries: list[dict[str, Any]] = msgspec.json.decode(files[table])
    whole = {number: files.pop(f"{folder}/{weights.shard_name(number)}") for number in _shards(entries)}
    shards = [bytearray()]
    for one in entries:
        data = whole[one["shard"]][one["offset"] :][: one["bytes"]]
        if shards[-1] and len(shards[-1]) + len(data) > SHARD_BYTES:
            shards.append(bytearray())
        one["shard"], one["offset"] = len(shards) - 1, len(shards[-1])
        shards[-1] += data + bytes(-len(data) % weights.ALIGNMENT)
    files[table] = msgspec.json.encode(entries)
    files |= {f"{folder}/{weights.shard_name(number)}": bytes(data) for number, data in enumerate(shards)}


def _shards(entries: list[dict[str, Any]]) -> set[int]:
    return {one["shard"] for one in entries}


def _drop(files: dict[str, bytes], prefix: str) -> None:
    for path in [path for path in files if path.startswith(prefix)]:
        del files[path]


def _comment(files: dict[str, bytes]) -> None:
    files[TEMPLATE_NAME] = b"{#- The next version. -#}" + files[TEMPLATE_NAME]


def _loops(files: dict[str, bytes]) -> None:
    files[TEMPLATE_NAME] = _LOOP.encode() + files[TEMPLATE_NAME]
