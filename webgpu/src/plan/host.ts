/** A plan on a WebGPU device: its buffers, weights and kernels, and one submission a step. */

import { EdgeLLMError, reason } from "../errors.ts";
import { must, roundUp } from "../units.ts";
import type { Sizes } from "./expressions.ts";
import { BufferUsage, MAP_READ, SHADER_COMPUTE } from "./flags.ts";
import { allocation, bufferBytes, Grids, routineOf } from "./launches.ts";
import type { Kernel, Launch, Plan, Routine } from "./types.ts";
import type { DeviceWatch } from "./watch.ts";

/** Bytes between the scalars of kernels in their buffer: an offset that every device takes. */
const SCALARS = 256;

export type Numbers = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** A part of a buffer, bytes; multiples of 4. */
export interface Part {
  readonly buffer: string;
  readonly offset: number;
  readonly bytes: number;
}

interface BoundLaunch {
  readonly kernel: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

interface Copy {
  readonly pieces: ReadonlyMap<string, number>;
  readonly source: number;
  readonly target: number;
}

export class PlanHost {
  readonly #device: GPUDevice;
  readonly #plan: Plan;
  readonly #watch: DeviceWatch;
  readonly #buffers: ReadonlyMap<string, GPUBuffer>;
  readonly #grids: Grids;
  /** Lists of scalars that kernels take; each has a place in `#uniform`. */
  readonly #kinds: readonly (readonly string[])[];
  readonly #scalars: Int32Array<ArrayBuffer>;
  readonly #uniform: GPUBuffer;
  #routines: ReadonlyMap<Routine, readonly BoundLaunch[]> = new Map();
  #back: GPUBuffer | null = null;
  #scratch: GPUBuffer | null = null;
  #copies: Copy[] = [];

  private constructor(
    device: GPUDevice,
    plan: Plan,
    watch: DeviceWatch,
    buffers: ReadonlyMap<string, GPUBuffer>,
  ) {
    this.#device = device;
    this.#plan = plan;
    this.#watch = watch;
    this.#buffers = buffers;
    this.#grids = new Grids(plan);
    const kinds = new Map(plan.kernels.map((one) => [one.scalars.join(), one.scalars]));
    kinds.delete("");
    this.#kinds = [...kinds.values()];
    this.#scalars = new Int32Array((Math.max(1, this.#kinds.length) * SCALARS) / 4);
    this.#uniform = device.createBuffer({
      label: "scalars",
      size: this.#scalars.byteLength,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
  }

  /**
   * Allocates the plan's buffers and those of its weights. `compile` and `upload` make the host ready.
   *
   * @param sizes the largest value of every size.
   * @throws {EdgeLLMError} `out_of_memory`.
   */
  static async allocate(device: GPUDevice, plan: Plan, sizes: Sizes, watch: DeviceWatch): Promise<PlanHost> {
    const usage = BufferUsage.STORAGE | BufferUsage.COPY_DST | BufferUsage.COPY_SRC;
    const bytes = bufferBytes(plan, sizes);
    for (const [name, size] of plan.weights) bytes.set(name, allocation(size));
    let total = 0;
    for (const size of bytes.values()) total += size;
    const buffers = await watch.memory("weights and cache", total, () => {
      return new Map([...bytes].map(([label, size]) => [label, device.createBuffer({ label, size, usage })]));
    });
    return new PlanHost(device, plan, watch, buffers);
  }

  /**
   * Compiles the kernels and binds their buffers, once for all steps.
   *
   * @param sources texts by file name.
   * @throws {EdgeLLMError} `unsupported_device`: a kernel is refused.
   */
  async compile(sources: ReadonlyMap<string, string>): Promise<void> {
    const pipelines = await compileKernels(this.#device, this.#plan, sources, this.#watch);
    const kernels = new Map(this.#plan.kernels.map((one) => [one.name, one]));
    const offsets = new Map(this.#kinds.map((kind, index) => [kind.join(), index * SCALARS]));
    const bound = (launch: Launch): BoundLaunch => {
      const { name, scalars } = must(kernels.get(launch.kernel), launch.kernel);
      const pipeline = must(pipelines.get(name), name);
      return {
        kernel: name,
        pipeline,
        group: this.#bind(pipeline, launch.arguments, offsets.get(scalars.join())),
      };
    };
    this.#routines = new Map(this.#plan.routines.map((one) => [one, one.launches.map(bound)]));
  }

  /** Fills a table or a weight from byte `offset` on, a multiple of 4, as are the bytes of all but the last part. */
  upload(name: string, offset: number, values: Numbers): void {
    this.#device.queue.writeBuffer(must(this.#buffers.get(name), name), offset, wholeWords(values));
  }

  /** Waits until what was uploaded has arrived, so that little is under way at a time. */
  async flush(): Promise<void> {
    try {
      await this.#device.queue.onSubmittedWorkDone();
    } catch (error) {
      throw await this.#watch.explain(error);
    }
    this.#watch.throwIfFailed();
  }

  /** Before the next run: of every buffer in `pieces`, copy piece `source` over piece `target`. */
  copy(pieces: ReadonlyMap<string, number>, source: number, target: number): void {
    if (source !== target) this.#copies.push({ pieces, source, target });
  }

  /**
   * Fills the beginnings of inputs, runs the routine that holds a step of these sizes, and brings parts of
   * buffers back: one submission. One run at a time.
   *
   * @returns the bytes of each of `wanted`.
   * @throws {EdgeLLMError} `device_lost`, `out_of_memory`.
   */
  async run(
    inputs: ReadonlyMap<string, Numbers>,
    sizes: Sizes,
    wanted: readonly Part[],
  ): Promise<ArrayBuffer[]> {
    this.#watch.throwIfFailed();
    const { queue } = this.#device;
    for (const [name, values] of inputs) this.upload(name, 0, values);
    for (const [row, names] of this.#kinds.entries()) {
      for (const [column, name] of names.entries()) {
        this.#scalars[(row * SCALARS) / 4 + column] = must(sizes.get(name), name);
      }
    }
    queue.writeBuffer(this.#uniform, 0, this.#scalars);
    const encoder = this.#device.createCommandEncoder();
    for (const copy of this.#copies) this.#encodeCopy(encoder, copy);
    this.#copies = [];
    this.#encodeLaunches(encoder, sizes);
    return this.#bringBack(encoder, wanted);
  }

  /** Brings more of what the last run left in the buffers. */
  read(wanted: readonly Part[]): Promise<ArrayBuffer[]> {
    return this.#bringBack(this.#device.createCommandEncoder(), wanted);
  }

  /** Gives all memory back. */
  close(): void {
    this.#watch.closing();
    this.#device.destroy();
  }

  #encodeLaunches(encoder: GPUCommandEncoder, sizes: Sizes): void {
    const routine = routineOf(this.#plan, must(sizes.get("n"), "size n"));
    const grids = this.#grids.of(sizes);
    const pass = encoder.beginComputePass();
    let last: GPUComputePipeline | null = null;
    for (const { kernel, pipeline, group } of must(this.#routines.get(routine), "a routine")) {
      if (pipeline !== last) pass.setPipeline(pipeline);
      last = pipeline;
      pass.setBindGroup(0, group);
      const [x, y, z] = must(grids.get(kernel), kernel);
      pass.dispatchWorkgroups(x, y, z);
    }
    pass.end();
  }

  async #bringBack(encoder: GPUCommandEncoder, wanted: readonly Part[]): Promise<ArrayBuffer[]> {
    const total = wanted.reduce((bytes, part) => bytes + part.bytes, 0);
    const back = this.#readBack(total);
    let at = 0;
    for (const { buffer, offset, bytes } of wanted) {
      encoder.copyBufferToBuffer(must(this.#buffers.get(buffer), buffer), offset, back, at, bytes);
      at += bytes;
    }
    this.#device.queue.submit([encoder.finish()]);
    try {
      await back.mapAsync(MAP_READ, 0, total);
      this.#watch.throwIfFailed();
      const mapped = back.getMappedRange(0, total);
      const parts: ArrayBuffer[] = [];
      at = 0;
      for (const { bytes } of wanted) {
        parts.push(mapped.slice(at, at + bytes));
        at += bytes;
      }
      back.unmap();
      return parts;
    } catch (error) {
      this.#back = null;
      throw await this.#watch.explain(error);
    }
  }

  /** A buffer that the host can read, made anew only when it must grow. */
  #readBack(bytes: number): GPUBuffer {
    if (this.#back === null || this.#back.size < bytes) {
      this.#back?.destroy();
      const usage = BufferUsage.MAP_READ | BufferUsage.COPY_DST;
      this.#back = this.#device.createBuffer({ label: "read back", size: Math.max(4096, bytes), usage });
    }
    return this.#back;
  }

  #bind(pipeline: GPUComputePipeline, names: readonly string[], scalars: number | undefined): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = names.map((name, binding) => ({
      binding,
      resource: { buffer: must(this.#buffers.get(name), name) },
    }));
    if (scalars !== undefined) {
      const resource = { buffer: this.#uniform, offset: scalars, size: SCALARS };
      entries.push({ binding: names.length, resource });
    }
    return this.#device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  }

  /** By way of a buffer between: WebGPU copies from one buffer to another only. */
  #encodeCopy(encoder: GPUCommandEncoder, { pieces, source, target }: Copy): void {
    if (this.#scratch === null) {
      let size = 0;
      for (const bytes of pieces.values()) size += bytes;
      const usage = BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
      this.#scratch = this.#device.createBuffer({ label: "copied blocks", size, usage });
    }
    let at = 0;
    for (const [name, bytes] of pieces) {
      encoder.copyBufferToBuffer(
        must(this.#buffers.get(name), name),
        source * bytes,
        this.#scratch,
        at,
        bytes,
      );
      at += bytes;
    }
    at = 0;
    for (const [name, bytes] of pieces) {
      encoder.copyBufferToBuffer(
        this.#scratch,
        at,
        must(this.#buffers.get(name), name),
        target * bytes,
        bytes,
      );
      at += bytes;
    }
  }
}

/** Compiles all kernels side by side, by name. */
async function compileKernels(
  device: GPUDevice,
  plan: Plan,
  sources: ReadonlyMap<string, string>,
  watch: DeviceWatch,
): Promise<Map<string, GPUComputePipeline>> {
  const layouts = new Map<string, GPUPipelineLayout>();
  const layoutOf = (kernel: Kernel): GPUPipelineLayout => {
    const types = kernel.access.map((one) => (one === "read" ? "read-only-storage" : "storage"));
    const all: GPUBufferBindingType[] = kernel.scalars.length ? [...types, "uniform"] : types;
    let layout = layouts.get(all.join());
    if (layout === undefined) {
      const entries = all.map((type, binding) => ({ binding, visibility: SHADER_COMPUTE, buffer: { type } }));
      layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
      layouts.set(all.join(), layout);
    }
    return layout;
  };
  const compiled = plan.kernels.map(async (kernel): Promise<[string, GPUComputePipeline]> => {
    const code = must(sources.get(kernel.source), kernel.source);
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: kernel.name, code });
    const refused = device.popErrorScope();
    try {
      const layout = layoutOf(kernel);
      const compute = { module, entryPoint: kernel.entry };
      const pipeline = await device.createComputePipelineAsync({ label: kernel.name, layout, compute });
      return [kernel.name, pipeline];
    } catch (error) {
      watch.throwIfFailed();
      const said = (await refused)?.message ?? reason(error);
      throw new EdgeLLMError(
        "unsupported_device",
        `the driver refuses the kernel ${kernel.name}: ${reason(said)}; update the browser or the driver` +
          (plan.arithmetic === "fp16" ? ", or use a bundle with a program in fp32" : ""),
        { kernel: kernel.name },
      );
    }
  });
  return new Map(await Promise.all(compiled));
}

/** The same bytes, with zeros up to a multiple of 4. */
function wholeWords(values: Numbers): Numbers {
  if (values.byteLength % 4 === 0) return values;
  const padded = new Uint8Array(roundUp(values.byteLength, 4));
  padded.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return padded;
}
