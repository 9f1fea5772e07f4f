/** `plan.json` as types and readers. docs/plan.md says what the fields mean. */

import * as json from "../json.ts";
import type { Expression } from "./expressions.ts";

export const PLAN_FORMAT = 1;
export const PLAN_NAME = "plan.json";
export const MAX_PLAN_BYTES = 32 << 20;
/** Positions in one block of the key/value cache. */
export const BLOCK_SIZE = 16;

const NAME = /[A-Za-z][A-Za-z0-9_.]{0,99}/;
const SYMBOL = /[A-Za-z][A-Za-z0-9_]{0,63}/;
const SOURCE = /[A-Za-z][A-Za-z0-9_]{0,63}\.wgsl/;

const name = json.text(NAME);
const symbol = json.text(SYMBOL);
/** Looked at by `check.ts`, which knows the sizes. */
const expression = json.anything as json.Reader<Expression>;

const dtype = json.oneOf("float32", "float16", "int32", "uint32", "int8", "uint8");
export type Dtype = json.Read<typeof dtype>;
export const DTYPE_BYTES: Readonly<Record<Dtype, number>> = {
  float32: 4,
  float16: 2,
  int32: 4,
  uint32: 4,
  int8: 1,
  uint8: 1,
};

const buffer = json.object({
  name,
  kind: json.oneOf("input", "table", "cache", "slot", "output"),
  dtype,
  shape: json.list(expression, 1, 8),
});
export type Buffer = json.Read<typeof buffer>;

const rotary = json.object({
  table: name,
  frequencies: json.list(json.number(), 1, 1024),
  factor: json.withDefault(json.number(), 1),
});
export type Rotary = json.Read<typeof rotary>;

const access = json.oneOf("read", "write", "readwrite");
export type Access = json.Read<typeof access>;

const kernel = json.object({
  name: symbol,
  source: json.text(SOURCE),
  entry: symbol,
  access: json.list(access, 1, 31),
  scalars: json.list(symbol, 0, 16),
  threads: json.triple(json.integer(1)),
  shared_bytes: json.integer(0, 2 ** 31 - 1),
  grid: json.triple(expression),
});
export type Kernel = json.Read<typeof kernel>;

const launch = json.object({ kernel: symbol, arguments: json.list(name, 1, 31) });
export type Launch = json.Read<typeof launch>;

const routine = json.object({ most: json.integer(1), launches: json.list(launch, 1, 65536) });
export type Routine = json.Read<typeof routine>;

export const plan = json.object({
  format: json.oneOf(PLAN_FORMAT),
  // Programs in other languages are not for browsers.
  language: json.oneOf("wgsl"),
  arithmetic: json.oneOf("fp16", "fp32"),
  needs: json.list(json.oneOf("fp16"), 0, 8),
  sizes: json.record(SYMBOL, json.integer(0, 2 ** 31 - 1), 1, 16),
  rotary: json.list(rotary, 0, 16),
  buffers: json.list(buffer, 0, 4096),
  weights: json.record(NAME, json.integer(1), 0, 65536),
  kernels: json.list(kernel, 1, 1024),
  routines: json.list(routine, 1, 16),
});
export type Plan = json.Read<typeof plan>;

/** What every version of the format has. */
export const planHead = json.object({ format: json.integer() }, "ignored");
