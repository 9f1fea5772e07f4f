/** Numbers that a host needs of a plan: workgroups, bytes of buffers, the routine of a step. */

import { must, roundUp } from "../units.ts";
import { bufferSize } from "./check.ts";
import { evaluate, namesIn, type Sizes } from "./expressions.ts";
import type { Plan, Routine } from "./types.ts";

export type Grid = readonly [number, number, number];

/** Combinations of sizes whose numbers are kept; a decoding batch meets few. */
const KEPT = 1024;

/** Workgroups of the kernels of a plan, computed once for each combination of the sizes in them. */
export class Grids {
  readonly #plan: Plan;
  readonly #names: readonly string[];
  readonly #known = new Map<string, ReadonlyMap<string, Grid>>();

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#names = [...new Set(plan.kernels.flatMap((kernel) => kernel.grid.flatMap(namesIn)))];
  }

  /** By the kernel's name. */
  of(sizes: Sizes): ReadonlyMap<string, Grid> {
    const key = this.#names.map((name) => sizes.get(name)).join();
    let grids = this.#known.get(key);
    if (grids === undefined) {
      if (this.#known.size >= KEPT) this.#known.clear();
      grids = new Map(
        this.#plan.kernels.map(({ name, grid: [x, y, z] }) => [
          name,
          [evaluate(x, sizes), evaluate(y, sizes), evaluate(z, sizes)],
        ]),
      );
      this.#known.set(key, grids);
    }
    return grids;
  }
}

/** The routine that runs a step of so many tokens: the first that holds it. */
export function routineOf(plan: Plan, tokens: number): Routine {
  return must(
    plan.routines.find((one) => tokens <= one.most),
    `a routine for ${tokens} tokens`,
  );
}

/** Bytes to allocate for every buffer of the plan but weights: whole groups of 16. */
export function bufferBytes(plan: Plan, sizes: Sizes): Map<string, number> {
  return new Map(plan.buffers.map((one) => [one.name, allocation(evaluate(bufferSize(one), sizes))]));
}

/** Bytes to allocate for `bytes` bytes of content. */
export function allocation(bytes: number): number {
  return Math.max(16, roundUp(bytes, 16));
}

/** Bytes of one block in every cache of the plan. */
export function blockBytes(plan: Plan): Map<string, number> {
  const ones = new Map([...plan.sizes.keys()].map((name) => [name, 1]));
  const caches = plan.buffers.filter((one) => one.kind === "cache");
  return new Map(caches.map((one) => [one.name, evaluate(bufferSize(one), ones)]));
}
