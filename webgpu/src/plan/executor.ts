/** Steps of a language model over a plan host: packs inputs, runs the routine, brings back what is needed. */

import { EdgeLLMError } from "../errors.ts";
import { must } from "../units.ts";
import type { Part, PlanHost } from "./host.ts";
import { blockBytes } from "./launches.ts";
import { rotaryTable } from "./rotary.ts";
import type { Fit } from "./sizing.ts";
import { BLOCK_SIZE, type Plan } from "./types.ts";

/** Tokens of one sequence in a step: those from `start` on, which continue what is in the cache. */
export interface StepChunk {
  readonly tokens: readonly number[];
  /** Position of the first of them. */
  readonly start: number;
  /** The sequence's blocks, for all positions up to the last of the tokens. */
  readonly blocks: readonly number[];
  /** What is needed of the logits after the last token; null: nothing. */
  readonly need: "id" | "top" | "row" | null;
}

/** Of a chunk that asked for it. `top` is there for the needs `id` (ids only) and `top`, `row` for `row`. */
export interface StepRow {
  readonly id: number | null;
  readonly top: { readonly values: Float32Array; readonly ids: Int32Array; readonly logSum: number } | null;
  readonly row: Float32Array | null;
}

/** What an engine runs. */
export interface StepExecutor {
  readonly fit: Fit;
  readonly vocabSize: number;
  readonly maxStepTokens: number;
  /** One step; a row for every chunk with a need, in order. */
  step(chunks: readonly StepChunk[]): Promise<readonly StepRow[]>;
  /** The whole row of the last step's rows at these places. */
  rows(places: readonly number[]): Promise<readonly Float32Array[]>;
  /** Before the next step: copy a block of every cache. */
  copyBlock(source: number, target: number): void;
  close(): void;
}

export class PlanExecutor implements StepExecutor {
  readonly fit: Fit;
  readonly vocabSize: number;
  readonly maxStepTokens: number;
  readonly #host: PlanHost;
  readonly #caches: ReadonlyMap<string, number>;
  /** Logits of a row, padded. */
  readonly #width: number;
  /** Largest logits that the plan gives; 0 if it gives none. */
  readonly #top: number;

  /** @throws {EdgeLLMError} `bundle`: the plan is no language model's. */
  constructor(plan: Plan, host: PlanHost, fit: Fit, vocabSize: number) {
    this.fit = fit;
    this.vocabSize = vocabSize;
    this.maxStepTokens = must(plan.sizes.get("n"), "size n");
    this.#host = host;
    this.#caches = blockBytes(plan);
    const { width, top } = outputsOf(plan, vocabSize);
    this.#width = width;
    this.#top = top;
    for (const one of plan.rotary) host.upload(one.table, 0, rotaryTable(one, fit.context));
  }

  async step(chunks: readonly StepChunk[]): Promise<readonly StepRow[]> {
    const { inputs, sizes } = this.#pack(chunks);
    const needs = chunks.map((chunk) => chunk.need).filter((need) => need !== null);
    const top = this.#top;
    const count = needs.length;
    const seen = needs.map((need) => (top ? need : "row"));
    const parts: Part[] = [];
    if (seen.some((need) => need !== "row"))
      parts.push({ buffer: "top_ids", offset: 0, bytes: 4 * count * top });
    if (seen.includes("top")) {
      parts.push({ buffer: "top", offset: 0, bytes: 4 * count * top });
      parts.push({ buffer: "log_sums", offset: 0, bytes: 4 * count });
    }
    for (const [place, need] of seen.entries()) if (need === "row") parts.push(this.#rowPart(place));
    const back = await this.#host.run(inputs, sizes, parts);
    if (parts.length === 0) await this.#host.flush();
    const found = new Map(
      parts.map((part, index) => [`${part.buffer}@${part.offset}`, must(back[index], "a part")]),
    );
    const ids = new Int32Array(found.get("top_ids@0") ?? new ArrayBuffer(0));
    const values = new Float32Array(found.get("top@0") ?? new ArrayBuffer(0));
    const sums = new Float32Array(found.get("log_sums@0") ?? new ArrayBuffer(0));
    return seen.map((need, place): StepRow => {
      if (need === "row") {
        const row = found.get(`logits@${this.#rowPart(place).offset}`);
        return { id: null, top: null, row: new Float32Array(must(row, "a row")) };
      }
      const [first, end] = [place * top, (place + 1) * top];
      const id = must(ids[first], "an id");
      if (need === "id") return { id, top: null, row: null };
      const largest = { ids: ids.subarray(first, end), values: values.subarray(first, end) };
      return { id, top: { ...largest, logSum: must(sums[place], "a sum") }, row: null };
    });
  }

  async rows(places: readonly number[]): Promise<readonly Float32Array[]> {
    const back = await this.#host.read(places.map((place) => this.#rowPart(place)));
    return back.map((bytes) => new Float32Array(bytes));
  }

  copyBlock(source: number, target: number): void {
    this.#host.copy(this.#caches, source, target);
  }

  close(): void {
    this.#host.close();
  }

  #rowPart(place: number): Part {
    return { buffer: "logits", offset: 4 * place * this.#width, bytes: 4 * this.vocabSize };
  }

  /** The inputs as docs/plan.md describes them, and the sizes of the step. */
  #pack(chunks: readonly StepChunk[]) {
    const count = chunks.reduce((total, chunk) => total + chunk.tokens.length, 0);
    const width = Math.max(...chunks.map((chunk) => chunk.blocks.length));
    const tokens = new Int32Array(4 * count);
    const tables = new Int32Array(chunks.length * width);
    const rows: number[] = [];
    let at = 0;
    for (const [sequence, chunk] of chunks.entries()) {
      tables.set(chunk.blocks, sequence * width);
      for (const [index, token] of chunk.tokens.entries()) {
        const position = chunk.start + index;
        const block = must(chunk.blocks[Math.floor(position / BLOCK_SIZE)], "a block");
        tokens.set([token, position, block * BLOCK_SIZE + (position % BLOCK_SIZE), sequence], 4 * at);
        at += 1;
      }
      if (chunk.need !== null) rows.push(at - 1);
    }
    if (rows.length === 0) rows.push(0);
    const sizes = new Map(this.fit.sizes);
    for (const [name, size] of [
      ["n", count],
      ["b", chunks.length],
      ["m", width],
      ["r", rows.length],
    ] as const) {
      sizes.set(name, size);
    }
    const inputs = new Map([
      ["tokens", tokens],
      ["tables", tables],
      ["rows", new Int32Array(rows)],
    ]);
    return { inputs, sizes };
  }
}

/** The width of a row of logits, and how many of the largest the plan gives. */
function outputsOf(plan: Plan, vocabSize: number): { width: number; top: number } {
  const shapes = new Map(plan.buffers.map((one) => [one.name, one]));
  for (const [name, kind] of [
    ["tokens", "input"],
    ["tables", "input"],
    ["rows", "input"],
    ["logits", "output"],
  ]) {
    if (shapes.get(name ?? "")?.kind !== kind) {
      throw new EdgeLLMError("bundle", `the program has no ${kind} ${name}: it is no language model's`);
    }
  }
  const width = shapes.get("logits")?.shape[1];
  if (typeof width !== "number" || width < vocabSize) {
    throw new EdgeLLMError(
      "bundle",
      `the program's rows of logits are smaller than ${vocabSize}; build the bundle again`,
    );
  }
  const most = ["top", "top_ids"].map((name) => shapes.get(name)?.shape[1]);
  const [top] = most;
  const given = shapes.has("log_sums") && typeof top === "number" && most[1] === top;
  return { width, top: given ? top : 0 };
}
