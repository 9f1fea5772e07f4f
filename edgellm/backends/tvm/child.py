"""A compiler in a child process.

A process that holds TVM's runtime-only libraries cannot compile, TVM's memory goes back to the system with
the process, and several compile side by side.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from edgellm.errors import EdgeLLMError


class Child:
    """`python -m MODULE` with a request on its standard input."""

    def __init__(self, module: str, request: bytes, what: str) -> None:
        """Start it. `what` it makes is named when it fails."""
        environment = {name: value for name, value in os.environ.items() if name != "TVM_USE_RUNTIME_LIB"}
        self.what = what
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        with tempfile.TemporaryFile() as file:
            file.write(request)
            file.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=file, stdout=subprocess.DEVNULL, stderr=self._said, env=environment,
            )  # fmt: skip

    def done(self) -> bool:
        """Whether it has ended.

        Raises:
            EdgeLLMError: it has, and it failed.
        """
        if self.process.poll() is None:
            return False
        with self._said:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
        if self.process.returncode:
            raise EdgeLLMError(
                f"compiling {self.what} failed (status {self.process.returncode}): "
                f"{said[-1] if said else 'nothing was said'}"
            )
        return True

    def stop(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()
        self._said.close()
