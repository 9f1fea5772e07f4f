"""Record what transformers' AutoTokenizer makes of texts by default: writes tokens.json.

    python -m tests.golden.record_tokens

Needs transformers, which the tests do not.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from tests.golden.token_cases import FILE, TEXTS, TOKEN_CASES, write_case


def main() -> None:
    recorded = {}
    for name in TOKEN_CASES:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = AutoTokenizer.from_pretrained(write_case(name, Path(folder)))
            recorded[name] = [tokenizer(text)["input_ids"] for text in TEXTS]
    FILE.write_text(json.dumps(recorded), encoding="utf-8")


if __name__ == "__main__":
    main()
