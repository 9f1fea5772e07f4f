"""The JSON Schema of `plan.json`, made from the plan's types: `python -m edgellm.compile.plan.schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from edgellm.compile.plan.plan import FORMAT, Plan
from edgellm.compile.plan.sizes import LARGEST, OPERATORS

SCHEMA_FILE = Path("docs") / "plan.schema.json"
_EXPRESSION = {"$ref": "#/$defs/Expression"}


def schema_text() -> str:
    """The schema (JSON Schema 2020-12) as it stands in `docs/plan.schema.json`."""
    schema: dict[str, Any] = msgspec.json.schema(Plan)
    definitions = schema["$defs"]
    definitions["Expression"] = {
        "description": "A whole number, a size's name, or [operator, left, right].",
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": LARGEST},
            {"type": "string"},
            {
                "type": "array",
                "prefixItems": [{"enum": list(OPERATORS)}, _EXPRESSION, _EXPRESSION],
                "minItems": 3,
                "maxItems": 3,
            },
        ],
    }
    # The types leave these open, because they contain themselves.
    definitions["Buffer"]["properties"]["shape"]["items"] = _EXPRESSION
    definitions["Kernel"]["properties"]["grid"]["prefixItems"] = [_EXPRESSION] * 3
    definitions["Plan"]["properties"]["format"] = {"const": FORMAT}
    flat = {"items": {"properties": {"grid": {"prefixItems": [True, True, {"const": 1}]}}}}
    definitions["Plan"]["if"] = {"properties": {"language": {"const": "wgsl"}}}
    definitions["Plan"]["then"] = {"properties": {"kernels": flat}}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"plan.json, plan format {FORMAT}",
    }
    return json.dumps(head | schema, indent=2) + "\n"


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else SCHEMA_FILE
    file.write_text(schema_text())
