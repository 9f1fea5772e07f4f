/** What a program is to keep to on this device: all that there is, or what a phone can be asked for. */

import type { Adapter } from "../plan/device.ts";
import type { Limits } from "../plan/limits.ts";

export type Profile = "phone" | "full";

/** What every WebGPU device has (https://www.w3.org/TR/webgpu/#limits). */
export const GUARANTEED: Limits = {
  maxBufferSize: 256 << 20,
  maxStorageBufferBindingSize: 128 << 20,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupSizeZ: 64,
  maxComputeWorkgroupStorageSize: 16 << 10,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** A phone's share: a browser ends pages that take much more, and drivers end steps that take long. */
export const PHONE = { context: 2048, maxBatch: 1, stepTokens: 64 } as const;

/** GiB of memory up to which a device is taken for a phone. Browsers that tell round it down to a power of two. */
const SMALL_MEMORY = 2;

interface Hints {
  readonly userAgent?: string;
  readonly userAgentData?: { readonly mobile?: boolean };
  readonly deviceMemory?: number;
}

/**
 * The profile for a device that nobody chose one for.
 *
 * @param touchPoints fingers that the screen feels: a tablet of Apple calls itself a Macintosh, which has none.
 */
export function profileFor(
  { limits }: Pick<Adapter, "limits">,
  touchPoints = 0,
  hints: Hints = navigator,
): Profile {
  const names =
    touchPoints > 1 ? /\b(Mobile|Android|iPhone|iPad|Macintosh)\b/ : /\b(Mobile|Android|iPhone|iPad)\b/;
  const mobile = hints.userAgentData?.mobile ?? names.test(hints.userAgent ?? "");
  const small = limits.maxStorageBufferBindingSize <= GUARANTEED.maxStorageBufferBindingSize;
  return mobile || small || (hints.deviceMemory ?? 8) <= SMALL_MEMORY ? "phone" : "full";
}

/** The device with no more than a phone's limits. */
export function asPhone(adapter: Adapter): Adapter {
  const limits = Object.fromEntries(
    Object.entries(adapter.limits).map(([name, most]) => [
      name,
      Math.min(most, GUARANTEED[name as keyof Limits]),
    ]),
  ) as unknown as Limits;
  return { ...adapter, limits };
}
