"""The JSON Schema of `edgellm.json`, made from the manifest's types: `python -m edgellm.bundle.schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from edgellm.bundle.manifest import FORMAT_VERSION, Manifest

SCHEMA_FILE = Path("docs") / "bundle.schema.json"


def schema_text() -> str:
    """The schema (JSON Schema 2020-12) as it stands in `docs/bundle.schema.json`."""
    schema = msgspec.json.schema(Manifest)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgellm.json, bundle format {FORMAT_VERSION}",
    }
    return json.dumps(head | schema, indent=2) + "\n"


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else SCHEMA_FILE
    file.write_text(schema_text())
