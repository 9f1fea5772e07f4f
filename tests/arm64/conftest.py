"""What the tests of this folder share: the emulated Python, and bundles for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edgellm
from edgellm.targets import native_target
from tests.arm64.sysroot import EMULATOR, NotPreparedError, Sysroot, sysroot
from tests.compile.kernels import HERE
from tests.support import require

QUANTS = ("int4", "int8")


@pytest.fixture(scope="session")
def arm(request: pytest.FixtureRequest) -> Sysroot:
    """An aarch64 Python with what running a bundle needs, kept from one run of the tests to the next."""
    require(program=EMULATOR, reason="it runs Arm programs: apt install qemu-user-static")
    try:
        return sysroot(request.config.cache.mkdir("arm64"))
    except NotPreparedError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(f"no aarch64 Python could be prepared: {error}")


@pytest.fixture(scope="session")
def bundles(arm: Sysroot, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The demo model by quantization and target: arm64, and native (one instruction set, to save time)."""
    for module in ("tvm", "ziglang"):
        require(module=module, reason="it compiles the bundles: pip install 'edgellm[tvm]'")
    from edgellm.backends.tvm import build as build_module

    folder = tmp_path_factory.mktemp("arm64-bundles")
    here = native_target().name
    made = {}
    for quant in QUANTS:
        for target in ("arm64", "native"):
            with pytest.MonkeyPatch.context() as patch:
                if target == "native":
                    patch.setattr(build_module, "ISAS", {here: HERE[:1]})
                out = folder / f"{target}-{quant}"
                made[quant, target] = edgellm.build(
                    "demo", target, quant=quant, backend="tvm", context=256, out=out
                ).path
    return made
