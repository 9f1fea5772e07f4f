"""The engines that can be measured. Each is loaded in a process of its own by `edgellm.bench.worker`."""

from __future__ import annotations

import copy
import ctypes
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from edgellm.bench.cases import Case, GpuFacts, GpuStep, Sample, peak_rss_mb, prompt_ids
from edgellm.errors import EdgeLLMError, MissingDependencyError

if TYPE_CHECKING:
    from edgellm.backends.memory import MemoryPlan
    from edgellm.backends.plan.executor import PlanExecutor
    from edgellm.backends.plan.host import StepTimes

_WARM_UP = Case(1, 8, 4)


class EngineRunner:
    """edgellm itself: requests through `Engine`, as the server and `generate` send them."""

    def __init__(
        self,
        bundle: str,
        threads: int | None,
        max_batch: int,
        context: int | None,
        kv: str | None,
        on_memory: Callable[[MemoryPlan], None],
    ) -> None:
        from edgellm.engine import Engine

        # The same prompts come again and again here: each time they are to be computed.
        self._engine = Engine(
            bundle,
            threads=threads,
            max_batch=max_batch,
            context=context,
            kv=kv,
            max_queue=1 << 20,
            prefix_cache=False,
            on_memory=on_memory,
        )
        manifest = self._engine.bundle.manifest
        self.name = f"edgellm-{manifest.backend}-{manifest.quant}"
        self.weight_bytes = manifest.memory.weight_bytes
        self._program = _program(self._engine.executor)
        self.gpu = None if self._program is None else _gpu_facts(self._program)
        self._run(_WARM_UP, _WARM_UP.new)

    def _run(self, case: Case, new: int) -> tuple[float, float]:
        """(wall seconds, median time to the first token)."""
        engine = self._engine
        vocab = engine.executor.limits.vocab_size
        prompts = [prompt_ids(row, case.prompt, vocab) for row in range(case.batch)]
        params = engine.params(
            max_tokens=new, temperature=0.0, ignore_eos=True, top_k=0, top_p=1.0, repetition_penalty=1.0
        )
        start = time.perf_counter()
        results = [g.result() for g in engine.submit_many(prompts, params)]
        wall = time.perf_counter() - start
        if any(r.completion_tokens != new for r in results):
            raise EdgeLLMError(
                f"the engine gave {[r.completion_tokens for r in results]} tokens instead of {new}"
            )
        return wall, statistics.median(r.ttft_s for r in results)

    def measure(self, case: Case) -> Sample:
        prefill, ttft = self._run(case, 1)
        before = None if self._program is None else copy.copy(self._program.decoding)
        total, _ = self._run(case, case.new)
        return Sample(prefill, total, ttft, peak_rss_mb(), self._gpu_step(case, before))

    def _gpu_step(self, case: Case, before: StepTimes | None) -> GpuStep | UnsetType:
        """The mean decode step since `before`."""
        if self._program is None or before is None:
            return UNSET
        from edgellm.bench.traffic import decode_traffic

        config, now = self._engine.bundle.manifest.model, self._program.decoding
        traffic = decode_traffic(self._program.plan, config, [case.prompt + case.new // 2] * case.batch)
        steps = max(1, now.steps - before.steps)
        submit, wait, total, between = (
            (getattr(now, name) - getattr(before, name)) / steps
            for name in ("submit", "wait", "total", "between")
        )
        return GpuStep(
            traffic.launches, traffic.launches_per_layer, traffic.moved_bytes, traffic.least_bytes,
            step_s=between + total, submit_s=submit, wait_s=wait, host_s=total - wait,
        )  # fmt: skip


def _program(executor: object) -> PlanExecutor | None:
    """The executor, if it runs a GPU program."""
    from edgellm.backends.plan.executor import PlanExecutor

    return executor if isinstance(executor, PlanExecutor) else None


def _gpu_facts(executor: PlanExecutor) -> GpuFacts:
    from edgellm.bench.device_copy import copy_bandwidth

    assert executor.host is not None
    adapter, plan = executor.host.adapter, executor.plan
    return GpuFacts(
        adapter=adapter.name,
        api=adapter.api,
        driver=adapter.driver,
        software=adapter.kind == "software",
        through=adapter.through,
        program=f"{plan.language}-{plan.arithmetic}",
        copy_gbps=round(copy_bandwidth(adapter), 2),
    )


class CTranslate2Runner:
    """CTranslate2 called directly, without callbacks, on a converted model's directory."""

    gpu: GpuFacts | None = None

    def __init__(self, model_dir: str, threads: int | None) -> None:
        try:
            import ctranslate2
        except ImportError:
            raise MissingDependencyError("CTranslate2 is not installed: pip install 'edgellm[cpu]'") from None
        path = Path(model_dir)
        self._generator = ctranslate2.Generator(
            str(path), device="cpu", intra_threads=threads or 0, compute_type="default"
        )
        self._vocabulary: list[str] = json.loads((path / "vocabulary.json").read_text("utf-8"))
        self.name = f"ctranslate2-{self._generator.compute_type}"
        self.weight_bytes = (path / "model.bin").stat().st_size
        self._run(Case(1, 8, 4), 4)

    def _run(self, case: Case, new: int) -> float:
        size = len(self._vocabulary)
        prompts = [[self._vocabulary[i] for i in prompt_ids(b, case.prompt, size)] for b in range(case.batch)]
        start = time.perf_counter()
        self._generator.generate_batch(
            prompts, max_length=new, min_length=new, include_prompt_in_result=False
        )
        return time.perf_counter() - start

    def measure(self, case: Case) -> Sample:
        prefill = self._run(case, 1)
        return Sample(prefill, self._run(case, case.new), prefill, peak_rss_mb())


class LlamaCppRunner:
    """llama.cpp through the C functions that llama-cpp-python exposes: one batch of tokens per step."""

    gpu: GpuFacts | None = None

    def __init__(self, gguf: str, threads: int | None) -> None:
        try:
            import llama_cpp
        except ImportError:
            raise MissingDependencyError(
                "llama-cpp-python is not installed: pip install 'edgellm[bench]' (it compiles llama.cpp)"
            ) from None
        self._lib: Any = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(gguf.encode(), params)
        if not self._model:
            raise EdgeLLMError(f"llama.cpp cannot load {gguf}")
        self._threads = threads
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self.name = f"llamacpp-{re.split('[-.]', Path(gguf).stem)[-1].lower()}"
        self.weight_bytes = llama_cpp.llama_model_size(self._model)
        self.measure(Case(1, 8, 4))

    def measure(self, case: Case) -> Sample:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx = case.batch * (case.prompt + case.new + 8)
        params.n_batch, params.n_seq_max = 2048, case.batch
        if self._threads:
            params.n_threads = params.n_threads_batch = self._threads
        context = lib.llama_init_from_model(self._model, params)
        batch = lib.llama_batch_init(case.batch * case.prompt, 0, 1)
        try:
            return self._timed(case, self._decoder(context, batch))
        finally:
            lib.llama_batch_free(batch)
            lib.llama_free(context)

    def _decoder(self, context: Any, batch: Any) -> Callable[[list[tuple[int, int, int, bool]]], None]:
        def decode(rows: list[tuple[int, int, int, bool]]) -> None:
            """Run one step over rows of (token, position, sequence, whether logits are wanted)."""
            batch.n_tokens = len(rows)
            for i, (token, position, sequence, logits) in enumerate(rows):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, logits
                batch.seq_id[i][0] = sequence
            if self._lib.llama_decode(context, batch):
                raise EdgeLLMError("llama_decode failed")
            self._lib.llama_get_logits_ith(context, len(rows) - 1)

        return decode

    def _timed(self, case: Case, decode: Callable[[list[tuple[int, int, int, bool]]], None]) -> Sample:
        prompts = [prompt_ids(row, case.prompt, self._vocab) for row in range(case.batch)]
        last = case.prompt - 1
        start = time.perf_counter()
        decode([(t, i, b, i == last) for b, prompt in enumerate(prompts) for i, t in enumerate(prompt)])
        prefill = time.perf_counter() - start
        token = min(1000, self._vocab // 2)
        for step in range(case.new - 1):
            decode([(token, case.prompt + step, b, True) for b in range(case.batch)])
        return Sample(prefill, time.perf_counter() - start, prefill, peak_rss_mb())
