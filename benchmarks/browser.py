#!/usr/bin/env python3
"""Measure edgellm beside wllama (llama.cpp for browsers) in one Chromium, on the same weights and prompts.

    python benchmarks/browser.py --work DIR [--model demo] [--rounds 5]    measure
    python benchmarks/browser.py --table FILE.jsonl                        print the table of a result

`--model` is a checkpoint that `edgellm build` takes, or a shape of make_checkpoint.py, which is made in DIR.
wllama comes from the npm registry into DIR, and is measured on the processor and, where it can, on WebGPU.
Writes `benchmarks/results/browser-DATE.jsonl`. Needs Node, Chromium, `npm ci` in webgpu/, and
`pip install 'edgellm[tvm,bench]'`. Without `--flag` Chromium chooses its adapter; on a machine without a GPU
`--software` takes SwiftShader, which computes on the processor.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpu import HERE, commit, edgellm, say
from make_checkpoint import SHAPES, make
from tokenizers import Tokenizer

from edgellm.bench.conversions import Conversions
from edgellm.bundle import Bundle
from edgellm.bundle.manifest import TOKENIZER_NAME
from edgellm.errors import EdgeLLMError

WEBGPU = HERE.parent / "webgpu"
WLLAMA = "3.8.1"
WLLAMA_PATH = "node_modules/@wllama/wllama"
QUIET = [
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--enable-unsafe-webgpu",
]  # fmt: skip
SOFTWARE = "--use-webgpu-adapter=swiftshader"
TITLES = {
    "edgellm-webgpu": "edgellm int4, WebGPU",
    "wllama-cpu-1": "wllama q4_0, WebAssembly, one thread",
    "wllama-cpu": "wllama q4_0, WebAssembly, all threads",
    "wllama-webgpu": "wllama q4_0, WebGPU",
}
ENOUGH_NEW = 8
"""Decoding fewer tokens than this says little."""
Record = dict[str, Any]


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of a few folders, with the headers that give pages several threads."""

    protocol_version = "HTTP/1.1"
    types = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def __init__(self, folders: dict[str, Path], *args: Any) -> None:
        self.folders = folders
        super().__init__(*args)

    def do_GET(self) -> None:
        name, _, rest = self.path.lstrip("/").partition("/")
        root = self.folders.get(name)
        file = (root / rest).resolve() if root else None
        if root is None or file is None or not file.is_relative_to(root.resolve()) or not file.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", self.types.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(file.stat().st_size))
        for header in ("Opener-Policy: same-origin", "Embedder-Policy: require-corp"):
            self.send_header("Cross-Origin-" + header.split(": ")[0], header.split(": ")[1])
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        with file.open("rb") as stream:
            shutil.copyfileobj(stream, self.wfile)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served(folders: dict[str, Path]) -> Iterator[str]:
    """The folders by their names, on a free port of 127.0.0.1."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, folders))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def prepare(args: argparse.Namespace) -> tuple[Bundle, Path | None]:
    """The bundle of the model and, where wllama is measured, its GGUF file; both packages lie in DIR."""
    work, model = args.work, args.model
    if model in SHAPES:
        if not (work / model / "config.json").exists():
            say(f"making the checkpoint {model}")
            make(work / model, SHAPES[model])
        model = str(work / model)
    bundle = work / f"{Path(model).name}-webgpu"
    edgellm("build", model, "--target", "webgpu", "--quant", "int4", "--out", bundle, "--force")
    # Not into dist/, which others may be reading.
    npm(WEBGPU, "exec", "--", "vite", "build", "--outDir", str((work / "edgellm").resolve()), "--emptyOutDir")
    if not any(engine.startswith("wllama") for engine in args.engines):
        return Bundle.open(bundle), None
    gguf = Conversions(model, work / "converted", say).gguf("q4_0")
    installed = work / "wllama" / WLLAMA_PATH / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != args.wllama:
        say(f"fetching @wllama/wllama {args.wllama}")
        (work / "wllama").mkdir(parents=True, exist_ok=True)
        npm(work / "wllama", "install", "--no-audit", "--no-fund", "--prefix", ".",
            f"@wllama/wllama@{args.wllama}")  # fmt: skip
    return Bundle.open(bundle), gguf


def npm(folder: Path, *arguments: str) -> None:
    """Run npm; what it says goes to standard error."""
    if shutil.which("npm") is None:
        sys.exit("error: npm is not installed: install Node 20.19 or newer")
    subprocess.run(["npm", "--silent", *arguments], cwd=folder, check=True, stdout=sys.stderr)


def prompts(bundle: Bundle, count: int, tokens: int) -> list[str]:
    """Different texts of words that are one token each, in both tokenizers: letters between spaces."""
    tokenizer = Tokenizer.from_file(str(bundle.file(TOKENIZER_NAME)))
    words = [
        word[1:]
        for word in sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
        if word.startswith("Ġ") and word[1:].isascii() and word[1:].isalpha() and len(word) > 2
    ]
    found: list[str] = []
    for start in range(len(words)):
        # Steps that have no factor in common with the number of words meet all of them.
        text = "".join(f" {words[(start + 7 * index) % len(words)]}" for index in range(tokens))
        if len(tokenizer.encode(text, add_special_tokens=False).ids) == tokens:
            found.append(text)
        if len(found) == count:
            return found
    sys.exit(f"error: the tokenizer has too few words for {count} prompts of {tokens} tokens")


def measure(args: argparse.Namespace) -> tuple[Record, list[Record]]:
    """What was measured, and a record for each engine."""
    started = datetime.datetime.now(datetime.UTC)
    bundle, gguf = prepare(args)
    threads = args.threads or os.cpu_count() or 1
    texts = prompts(bundle, 2 * args.rounds + 1, args.prompt)
    facts = bundle.manifest.tokenizer
    load = {"n_ctx": bundle.manifest.context, "n_threads": threads, "log_level": 2}
    wllama = {
        "gguf": f"/gguf/{gguf.name if gguf else ''}",
        "bos": facts.bos_token if facts.prefix_ids else "",
    }
    opens = {
        "edgellm-webgpu": ("openEdgellm", {"bundle": "/bundle/", "options": {}}),
        "wllama-cpu-1": ("openWllama", {**wllama, "load": {**load, "n_gpu_layers": 0, "n_threads": 1}}),
        "wllama-cpu": ("openWllama", {**wllama, "load": {**load, "n_gpu_layers": 0}}),
        "wllama-webgpu": ("openWllama", {**wllama, "device": True, "load": {**load, "n_gpu_layers": 999}}),
    }
    job = {
        "chromium": args.chromium,
        "packages": str(WEBGPU / "package.json"),
        "flags": [*QUIET, *([SOFTWARE] if args.software else []), *args.flag],
        "engines": [{"name": name, "open": open_, "options": given} for name, (open_, given) in opens.items()
                    if name in args.engines],
        "warmUp": texts[0],
        "rounds": [texts[1 + 2 * round_ : 3 + 2 * round_] for round_ in range(args.rounds)],
        "tokens": args.tokens,
        "patience": args.patience,
    }  # fmt: skip
    folders = {"page": HERE / "browser", "edgellm": args.work / "edgellm", "bundle": bundle.path}
    if gguf:
        folders |= {"gguf": gguf.parent, "wllama": args.work / "wllama" / WLLAMA_PATH / "esm"}
    load_before = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    with served(folders) as url:
        lines = list(drive({**job, "page": f"{url}/page/page.html"}))
    machine = edgellm("doctor")
    [browser] = [one for one in lines if one["kind"] == "browser"]
    about = {
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "model": args.model,
        "prompt": args.prompt,
        "tokens": args.tokens,
        "rounds": args.rounds,
        "chromium": browser["version"],
        "adapter": browser["adapter"],
        "flags": job["flags"],
        "wllama": args.wllama,
        "threads": threads,
        "load_before": load_before,
        **{key: machine[key] for key in ("edgellm", "platform", "cpu")},
    }
    return about, [summary(name, lines) for name in opens if name in args.engines]


def drive(job: Record) -> Iterator[Record]:
    """Run drive.mjs; what it tells, as it comes."""
    command = ["node", str(HERE / "browser/drive.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        for line in process.stdout:
            told = json.loads(line)
            say(_progress(told))
            yield told
    if process.returncode:
        sys.exit(f"error: Chromium was not driven to the end (status {process.returncode})")


def _progress(told: Record) -> str:
    match told["kind"]:
        case "sample":
            prefill, whole = told["prefill"]["ms"], told["whole"]
            return (
                f"{told['engine']}: prefill {prefill:.0f} ms, {whole['tokens']} tokens {whole['ms']:.0f} ms"
            )
        case "refused":
            return f"{told['engine']} did not run: {told['reason']}"
    return json.dumps(told)


def summary(engine: str, lines: list[Record]) -> Record:
    """Medians over the rounds, tokens/s.

    Prefill ends with the first token; decoding is the rest of a whole run. Answers may end early, by the
    model's will: what came is what counts.
    """
    mine = [one for one in lines if one.get("engine") == engine]
    info = next((one["info"] for one in mine if one["kind"] == "opened"), None)
    refused = next((one["reason"] for one in mine if one["kind"] == "refused"), None)
    samples = [one for one in mine if one["kind"] == "sample"]
    prefill = [1e3 * one["prefill"]["prompt"] / one["prefill"]["ms"] for one in samples]
    decode = [
        1e3 * (one["whole"]["tokens"] - 1) / (one["whole"]["ms"] - one["prefill"]["ms"])
        for one in samples
        if one["whole"]["tokens"] >= ENOUGH_NEW
    ]
    return {
        "engine": engine,
        "info": info,
        "refused": refused,
        "prefill_tokens_per_s": _median(prefill),
        "decode_tokens_per_s": _median(decode),
        "samples": samples,
    }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def render(records: list[Record]) -> str:
    """A Markdown table with what was measured under it."""
    about, *engines = records
    rows = [["", "prefill, tokens/s", "decode, tokens/s"], ["---", "---:", "---:"]]
    for one in engines:
        figures = (one["prefill_tokens_per_s"], one["decode_tokens_per_s"])
        rows.append([TITLES[one["engine"]], *("–" if x is None else f"{x:,.1f}" for x in figures)])
    adapter = about["adapter"] or {}
    names = ("description", "vendor", "architecture", "device")
    name = " ".join(filter(None, (adapter.get(key) for key in names))) or "no adapter"
    software = " (software, on the processor)" if adapter.get("software") else ""
    lines = [
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"{about['model']}, prompts of {about['prompt']} tokens and {about['tokens']} new ones, medians of "
        f"{about['rounds']} rounds in turn, {about['started'][:10]}. Chromium {about['chromium']}, WebGPU on "
        f"{name}{software}; {about['cpu']['model']}, {about['threads']} threads; "
        f"@wllama/wllama {about['wllama']}.",
        *(f"{TITLES[one['engine']]} did not run: {one['refused']}." for one in engines if one["refused"]),
    ]
    return "\n".join(lines)


def _engines(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(TITLES):
        raise argparse.ArgumentTypeError(f"no engine is called {min(unknown)}; known are {', '.join(TITLES)}")
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="where checkpoints, conversions and wllama are kept")
    parser.add_argument("--model", default="demo", help="a checkpoint, or one of " + ", ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens")
    parser.add_argument("--threads", type=int, help="of wllama on the processor; default: all")
    parser.add_argument("--engines", type=_engines, default=list(TITLES))
    parser.add_argument("--software", action="store_true", help="WebGPU on SwiftShader")
    parser.add_argument(
        "--flag", action="append", default=[], help="one more for Chromium, such as --flag=--no-sandbox"
    )
    parser.add_argument("--chromium", default=os.environ.get("EDGELLM_CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--patience", type=int, default=300, help="seconds for one run")
    parser.add_argument("--wllama", default=WLLAMA, help="its version")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--table", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.table:
        print(render([json.loads(line) for line in args.table.read_text("utf-8").splitlines()]))
        return
    if args.work is None:
        parser.error("--work DIR is needed")
    try:
        about, records = measure(args)
    except EdgeLLMError as error:
        sys.exit(f"error: {error}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"browser-{Path(args.model).name}-{about['started'][:10]}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (about, *records)), "utf-8")
    print(render([about, *records]))
    say(f"wrote {path}")


if __name__ == "__main__":
    main()
