"""What quantization costs a model: perplexity, KL divergence to a reference, and top-1 agreement."""

from __future__ import annotations

from edgellm.evaluation.report import Comparison, Report
from edgellm.evaluation.run import evaluate

__all__ = ["Comparison", "Report", "evaluate"]
