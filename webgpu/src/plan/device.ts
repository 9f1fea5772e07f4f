/** Finding and opening the browser's WebGPU device. */

import { EdgeLLMError, reason } from "../errors.ts";
import { type DeviceFacts, LIMIT_NAMES, type Limits } from "./limits.ts";

export interface Adapter extends DeviceFacts {
  readonly handle: GPUAdapter;
  /** Software without a GPU. */
  readonly fallback: boolean;
}

const HELP =
  "Use a current Chrome, Edge, Safari or Firefox, served over https or from localhost, with hardware " +
  "acceleration on; on Linux WebGPU may have to be enabled in the browser's settings";

/**
 * The browser's adapter.
 *
 * @param caps smaller limits to keep to, as if the device had no larger ones.
 * @throws {EdgeLLMError} `no_webgpu`: there is none; says what to do.
 */
export async function findAdapter(caps: Partial<Limits> = {}): Promise<Adapter> {
  const gpu = (globalThis.navigator as Partial<Navigator> | undefined)?.gpu;
  if (!gpu) {
    const insecure = !globalThis.isSecureContext;
    const why = insecure ? "this page is not served securely" : "this browser has no WebGPU";
    throw new EdgeLLMError("no_webgpu", `${why}. ${HELP}`, { insecure });
  }
  let handle: GPUAdapter | null;
  try {
    handle = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    throw new EdgeLLMError("no_webgpu", `WebGPU has no device (${reason(error)}). ${HELP}`);
  }
  if (!handle) throw new EdgeLLMError("no_webgpu", `WebGPU has no device here. ${HELP}`);
  // Chrome tells it from version 127 on.
  const info = (handle as { info?: GPUAdapterInfo }).info ?? ({} as Partial<GPUAdapterInfo>);
  const { vendor, architecture, device, description, isFallbackAdapter } = info;
  const name = description || [vendor, architecture, device].filter(Boolean).join(" ") || "this device";
  const found = handle.limits;
  const limits = Object.fromEntries(
    LIMIT_NAMES.map((one) => [one, Math.min(found[one], caps[one] ?? Number.MAX_SAFE_INTEGER)]),
  ) as Limits;
  return {
    handle,
    name,
    limits,
    fp16: handle.features.has("shader-f16"),
    fallback: isFallbackAdapter ?? false,
  };
}

/** A device with all of the adapter's limits that programs meet. */
export async function openDevice(adapter: Adapter, fp16: boolean): Promise<GPUDevice> {
  try {
    return await adapter.handle.requestDevice({
      requiredFeatures: fp16 ? ["shader-f16"] : [],
      requiredLimits: Object.fromEntries(LIMIT_NAMES.map((one) => [one, adapter.handle.limits[one]])),
    });
  } catch (error) {
    throw new EdgeLLMError(
      "unsupported_device",
      `${adapter.name} cannot be opened (${reason(error)}); close other pages that use it, or update the browser`,
    );
  }
}
