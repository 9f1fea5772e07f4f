/** What a device offers, and whether a program fits. Looked at before anything large is downloaded. */

import { EdgeLLMError } from "../errors.ts";
import { bytesText } from "../units.ts";
import type { Sizes } from "./expressions.ts";
import { evaluate } from "./expressions.ts";
import { bufferBytes } from "./launches.ts";
import type { Plan } from "./types.ts";

/** The limits that a program meets; names of WebGPU (https://www.w3.org/TR/webgpu/#limits). */
export const LIMIT_NAMES = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
] as const;
export type Limits = Readonly<Record<(typeof LIMIT_NAMES)[number], number>>;

/** A device before it is opened. */
export interface DeviceFacts {
  readonly name: string;
  readonly limits: Limits;
  /** 16-bit floats in shaders. */
  readonly fp16: boolean;
}

/** The largest buffer that a kernel can take. */
export function largestBinding(limits: Limits): number {
  return Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
}

/** Why the device cannot run the program with these largest sizes; null if it can. */
export function deviceProblem(plan: Plan, sizes: Sizes, device: DeviceFacts): string | null {
  const { limits } = device;
  if (plan.needs.includes("fp16") && !device.fp16) return "it needs 16-bit floats (shader-f16)";
  const most = largestBinding(limits);
  for (const [name, bytes] of [...bufferBytes(plan, sizes), ...plan.weights]) {
    if (bytes > most) return `${name} has ${bytesText(bytes)}, and buffers have at most ${bytesText(most)}`;
  }
  for (const kernel of plan.kernels) {
    const [x, y, z] = kernel.threads;
    const needs: [string, number, number][] = [
      ["threads in a workgroup", x * y * z, limits.maxComputeInvocationsPerWorkgroup],
      ["threads along x", x, limits.maxComputeWorkgroupSizeX],
      ["threads along y", y, limits.maxComputeWorkgroupSizeY],
      ["threads along z", z, limits.maxComputeWorkgroupSizeZ],
      ["bytes of workgroup memory", kernel.shared_bytes, limits.maxComputeWorkgroupStorageSize],
      ["buffers", kernel.access.length, limits.maxStorageBuffersPerShaderStage],
      [
        "workgroups in a row",
        Math.max(...kernel.grid.map((one) => evaluate(one, sizes))),
        limits.maxComputeWorkgroupsPerDimension,
      ],
    ];
    for (const [what, needed, limit] of needs) {
      if (needed > limit) return `kernel ${kernel.name} takes ${needed} ${what}, and the limit is ${limit}`;
    }
  }
  return null;
}

export function checkDevice(plan: Plan, sizes: Sizes, device: DeviceFacts): void {
  const problem = deviceProblem(plan, sizes, device);
  if (problem !== null) {
    throw new EdgeLLMError(
      "unsupported_device",
      `${device.name} cannot run the ${plan.arithmetic} program of this bundle: ${problem}. ` +
        "Build the bundle for the target webgpu, with a smaller quantization, or use another device",
    );
  }
}
