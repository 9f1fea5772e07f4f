/** `weights.json`: what lies where in the shards. */

import { EdgeLLMError } from "../errors.ts";
import * as json from "../json.ts";
import type { Plan } from "../plan/types.ts";

export const TABLE_NAME = "weights.json";
export const MAX_TABLE_BYTES = 16 << 20;

const entry = json.object({
  name: json.text(undefined, 100),
  shard: json.integer(0, 999),
  offset: json.integer(),
  bytes: json.integer(1),
});
/** One buffer: `bytes` bytes of a shard from `offset` on. */
export type WeightEntry = json.Read<typeof entry>;

/** File of a shard. */
export function shardName(shard: number): string {
  return `weights-${String(shard).padStart(3, "0")}.bin`;
}

/** @throws {EdgeLLMError} `bundle`: the table is damaged. */
export function decodeWeights(data: Uint8Array, where: string): readonly WeightEntry[] {
  try {
    return json.decodeJson(data, json.list(entry, 0, 65536));
  } catch (error) {
    if (!(error instanceof json.MalformedError)) throw error;
    throw new EdgeLLMError("bundle", `${where} is damaged (${error.message}): build the bundle again`);
  }
}

/**
 * The entries that a program takes, by shard, in their order.
 *
 * @param shardBytes of the shard of a number; undefined if the bundle has none.
 * @throws {EdgeLLMError} `bundle`: a buffer is missing, has another size, or lies outside of its shard.
 */
export function weightsOf(
  plan: Plan,
  entries: readonly WeightEntry[],
  shardBytes: (shard: number) => number | undefined,
  where: string,
): Map<number, WeightEntry[]> {
  const missing = new Map(plan.weights);
  const shards = new Map<number, WeightEntry[]>();
  for (const one of entries) {
    const bytes = missing.get(one.name);
    if (bytes === undefined) continue;
    missing.delete(one.name);
    const outside = one.offset % 4 !== 0 || one.offset + one.bytes > (shardBytes(one.shard) ?? 0);
    if (outside || one.bytes !== bytes) {
      const what = outside
        ? "lies outside of its shard"
        : `has ${one.bytes} bytes, and the program takes ${bytes}`;
      throw new EdgeLLMError("bundle", `${where}: ${one.name} ${what}; build the bundle again`);
    }
    shards.set(one.shard, [...(shards.get(one.shard) ?? []), one]);
  }
  for (const name of missing.keys()) {
    throw new EdgeLLMError("bundle", `${where}: there is no ${name}; build the bundle again`);
  }
  return new Map([...shards].sort(([left], [right]) => left - right));
}
