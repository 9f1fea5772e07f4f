/** How large the cache is to be: from what is asked for and from the device's limits. */

import { EdgeLLMError } from "../errors.ts";
import { bytesText, ceilDiv } from "../units.ts";
import { blockBytes, bufferBytes } from "./launches.ts";
import { checkDevice, type DeviceFacts, largestBinding } from "./limits.ts";
import { BLOCK_SIZE, type Plan } from "./types.ts";

export const DEFAULT_BATCH = 4;
/** Bytes of a cache that nobody asked for: WebGPU does not say how much memory a device has. */
const DEFAULT_CACHE = 1 << 29;

export interface Wanted {
  /** Tokens of one sequence, prompt and answer. */
  readonly context: number;
  /** Sequences that run together; undefined: a few, with a cache of half a gibibyte at most. */
  readonly maxBatch?: number | undefined;
}

/** What a program takes on a device. */
export interface Fit {
  /** The largest value of every size. */
  readonly sizes: ReadonlyMap<string, number>;
  readonly context: number;
  readonly maxBatch: number;
  readonly blocks: number;
  /** Bytes on the device, by parts. */
  readonly weightBytes: number;
  readonly cacheBytes: number;
  readonly stepBytes: number;
}

/**
 * Chooses the sizes that the plan leaves open, and checks that the device can hold and run the program.
 *
 * @throws {EdgeLLMError} `unsupported_device`: it cannot; `details.context` is a context that would fit, if
 *   one does. `request`: more sequences are asked for than a step has tokens or rows of logits.
 */
export function fitProgram(plan: Plan, device: DeviceFacts, wanted: Wanted): Fit {
  const maxBatch = wanted.maxBatch ?? Math.min(DEFAULT_BATCH, mostRows(plan));
  if (!Number.isInteger(maxBatch) || maxBatch < 1 || maxBatch > mostRows(plan)) {
    throw new EdgeLLMError(
      "request",
      `maxBatch is ${maxBatch}; this program's steps hold 1 to ${mostRows(plan)}`,
    );
  }
  const { context } = wanted;
  const caches = blockBytes(plan);
  const block = sum(caches.values());
  const each = ceilDiv(context, BLOCK_SIZE);
  const most = caches.size ? Math.floor(largestBinding(device.limits) / Math.max(...caches.values())) : each;
  if (most < each) {
    const fits = most * BLOCK_SIZE;
    const way = fits > 0 ? `; take a context of ${fits}` : "; use another device";
    throw new EdgeLLMError(
      "unsupported_device",
      `the cache of one layer for ${context} tokens is larger than the buffers of ${device.name}, ` +
        `${bytesText(largestBinding(device.limits))}${way}`,
      fits > 0 ? { context: fits } : {},
    );
  }
  const asked = each * maxBatch;
  const affordable = Math.max(each, Math.floor(DEFAULT_CACHE / Math.max(block, 1)));
  const blocks = Math.min(asked, most, wanted.maxBatch === undefined ? affordable : asked);
  const chosen = { b: maxBatch, m: each, context, blocks };
  const sizes = new Map([...plan.sizes, ...Object.entries(chosen).filter(([name]) => plan.sizes.has(name))]);
  checkDevice(plan, sizes, device);
  const cacheBytes = block * blocks;
  return {
    sizes,
    context,
    maxBatch,
    blocks,
    cacheBytes,
    weightBytes: sum(plan.weights.values()),
    stepBytes: sum(bufferBytes(plan, sizes).values()) - cacheBytes,
  };
}

function mostRows(plan: Plan): number {
  return Math.min(plan.sizes.get("n") ?? 1, plan.sizes.get("r") ?? 1);
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
