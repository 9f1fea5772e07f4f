"""Record what PEFT itself makes of the adapters in `lora_cases.py`: writes lora.npz.

    python -m tests.golden.record_lora

Needs torch, transformers and peft, which the tests do not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.golden.lora_cases import FILE, LORA_CASES, digest


def main() -> None:
    recorded = {}
    for name, case in LORA_CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            directory, adapters = case.write(Path(folder))
            model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
            before = {key: value.clone() for key, value in model.state_dict().items()}
            for adapter in adapters:
                model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            for key, value in model.state_dict().items():
                if not torch.equal(value, before[key]):
                    recorded[f"{name}/{key}"] = digest(value.numpy())
    np.savez_compressed(FILE, **recorded)
    print(f"{len(recorded)} changed parameters -> {FILE.name}, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
