/** The demo bundle, and what the Python wgpu host answers with it; made once and kept while nothing changes. */

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

/** One prompt and its greedy answer. */
export interface Answer {
  readonly prompt: string;
  readonly promptIds: readonly number[];
  readonly tokenIds: readonly number[];
  /** Of each token: its logit minus that of the next best. */
  readonly margins: readonly number[];
  readonly text: string;
}

/** A text and its tokens, by the tokenizers library of Python. */
export interface Tokenized {
  readonly text: string;
  readonly ids: readonly number[];
  readonly decoded: string;
}

export interface Reference {
  readonly bundle: string;
  readonly answers: readonly Answer[];
  readonly tokenized: readonly Tokenized[];
  /** Small tokenizers of the kinds that checkpoints have. */
  readonly tokenizers: readonly {
    readonly kind: string;
    readonly json: string;
    readonly cases: readonly Tokenized[];
  }[];
}

const WEBGPU = path.resolve(import.meta.dirname, "../..");
export const ROOT = path.dirname(WEBGPU);
/** `EDGELLM_PYTHON`, or the interpreter of `make`. */
export const PYTHON = process.env.EDGELLM_PYTHON ?? path.join(ROOT, ".venv/bin/python");

/** Runs `reference.py`. */
export async function makeReference(): Promise<Reference> {
  const out = path.join(WEBGPU, ".cache");
  const script = path.join(WEBGPU, "tests/browser/reference.py");
  const options = { cwd: ROOT, env: { ...process.env, PYTHONPATH: ROOT }, timeout: 300_000 };
  await promisify(execFile)(PYTHON, [script, out], options);
  const answers = JSON.parse(await readFile(path.join(out, "reference.json"), "utf8"));
  return { bundle: path.join(out, "demo"), ...answers };
}
