/** Opening a bundle on this device: everything is looked at before anything large is downloaded. */

import { aborted, asError, EdgeLLMError, eitherSignal } from "../errors.ts";
import { STEP_SIZE } from "../plan/check.ts";
import { decodePlan } from "../plan/decode.ts";
import { type Adapter, findAdapter, openDevice } from "../plan/device.ts";
import { PlanExecutor } from "../plan/executor.ts";
import { PlanHost } from "../plan/host.ts";
import type { Limits } from "../plan/limits.ts";
import { type Fit, fitProgram } from "../plan/sizing.ts";
import { trimPlan } from "../plan/trim.ts";
import { MAX_PLAN_BYTES, PLAN_NAME, type Plan } from "../plan/types.ts";
import { DeviceWatch } from "../plan/watch.ts";
import { MAX_TEMPLATE_BYTES } from "../text/template.ts";
import { MAX_TOKENIZER_BYTES } from "../text/tokenizer.ts";
import { bytesText, must } from "../units.ts";
import { BundleFiles, type FilesOptions } from "./files.ts";
import { type FileEntry, type Manifest, TOKENIZER_NAME } from "./manifest.ts";
import { asPhone, PHONE, type Profile, profileFor } from "./profile.ts";
import { type Progress, ProgressMeter } from "./progress.ts";
import { BundleStore, roomLeft } from "./store.ts";
import { newestVersion } from "./version.ts";
import {
  decodeWeights,
  MAX_TABLE_BYTES,
  shardName,
  TABLE_NAME,
  type WeightEntry,
  weightsOf,
} from "./weights.ts";

const MAX_SOURCE_BYTES = 4 << 20;
/** Small files that are fetched at the same time. */
const AT_ONCE = 8;
/** Bytes of weights handed to the device at once. */
const PIECE = 8 << 20;

export type Arithmetic = "fp16" | "fp32";

export interface OpenOptions {
  /** Tokens that one sequence may hold, prompt and answer; at most the bundle's own. */
  readonly context?: number | undefined;
  /** Sequences that run together. */
  readonly maxBatch?: number | undefined;
  /** Tokens of one step. */
  readonly stepTokens?: number | undefined;
  /**
   * `newest`: the one on the network. `stored`: the last one that was stored whole, where there is one, without
   * asking the network.
   */
  readonly version?: "newest" | "stored" | undefined;
  /** Whether files are kept in the browser's storage. */
  readonly store?: boolean | undefined;
  /** Which program to run; otherwise the best that the device can. */
  readonly arithmetic?: Arithmetic | undefined;
  /** What to keep to where nothing else is said; otherwise as the device looks. */
  readonly profile?: Profile | undefined;
  /** Fingers that the screen feels, which a worker cannot know. */
  readonly touchPoints?: number | undefined;
  /** Smaller limits to keep to, as if the device had no larger ones. */
  readonly limits?: Partial<Limits> | undefined;
}

export interface OpenBundle {
  readonly manifest: Manifest;
  readonly adapter: Adapter;
  readonly profile: Profile;
  readonly plan: Plan;
  readonly fit: Fit;
  readonly executor: PlanExecutor;
  readonly watch: DeviceWatch;
  readonly tokenizer: string;
  readonly template: string | null;
  /** Whether the files are kept for the next time. */
  readonly stored: boolean;
  /** Stored files that were damaged and have been fetched again. */
  readonly healed: readonly string[];
  /** Why the driver refused the fp16 program, where this is the fp32 program in its place. */
  readonly refused: string | null;
}

/**
 * @param url the bundle's absolute address.
 * @throws {EdgeLLMError} says what is wrong and what to do.
 */
export async function openBundle(
  url: string,
  options: OpenOptions,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<OpenBundle> {
  const base = url.endsWith("/") ? url : `${url}/`;
  const store = options.store === false ? null : await BundleStore.open();
  onProgress({ phase: "check", loadedBytes: 0, storedBytes: 0, totalBytes: 0 });
  const kept = options.version === "stored" ? await store?.recall(base, "whole") : null;
  const { manifest, data } = kept ?? (await newestVersion(base, store, signal));
  const found = await findAdapter(options.limits);
  const profile = options.profile ?? profileFor(found, options.touchPoints);
  const adapter = profile === "phone" ? asPhone(found) : found;
  const files = new BundleFiles(base, manifest, store);
  const program = await chooseProgram(files, adapter, profile, options, signal);
  const progress = new ProgressMeter(onProgress);
  const reading: FilesOptions = { signal, onBytes: (file, brought) => progress.moved(file, brought) };
  const shards = await planShards(files, program.plan, signal);
  const sources = [...new Set(program.plan.kernels.map((one) => `${program.folder}/${one.source}`))];
  const texts = [
    TOKENIZER_NAME,
    ...(manifest.chat_template === null ? [] : [manifest.chat_template]),
    ...sources,
  ];
  const entries = [
    ...texts.map((path) =>
      files.entry(path, path === TOKENIZER_NAME ? MAX_TOKENIZER_BYTES : MAX_SOURCE_BYTES),
    ),
    ...[...shards.keys()].map((path) => files.entry(path)),
  ];
  progress.expect(entries);
  if (store) {
    await checkRoom(files, entries);
    // From now on, so that files on their way belong to a bundle.
    await store.remember(base, data, "on its way");
  }
  const device = await openDevice(adapter, program.plan.needs.includes("fp16"));
  const watch = new DeviceWatch(device, adapter.name, program.fit.context);
  // Failing or aborted work must not go on beside the error.
  const rest = new AbortController();
  const working = { ...reading, signal: eitherSignal(signal, rest.signal) };
  try {
    const host = await PlanHost.allocate(device, program.plan, program.fit.sizes, watch);
    const read = await readTexts(files, texts, working);
    const named = new Map(
      sources.map((path) => [must(path.split("/").at(-1), path), must(read.get(path), path)]),
    );
    await Promise.all([host.compile(named), upload(host, files, shards, working)]);
    const executor = new PlanExecutor(program.plan, host, program.fit, manifest.model.vocab_size);
    await host.flush();
    const stored = store !== null && (await files.missing(entries)) === 0;
    if (stored && !kept) await store.remember(base, data, "whole");
    await store?.sweep();
    progress.ready();
    return {
      manifest,
      adapter,
      profile,
      watch,
      executor,
      ...program,
      tokenizer: must(read.get(TOKENIZER_NAME), TOKENIZER_NAME),
      template:
        manifest.chat_template === null ? null : must(read.get(manifest.chat_template), "the template"),
      stored,
      healed: files.healed,
      refused: null,
    };
  } catch (error) {
    rest.abort();
    watch.closing();
    device.destroy();
    if (signal.aborted) throw aborted();
    const failure = watch.failure ?? asError(error);
    const half = program.plan.arithmetic === "fp16" && options.arithmetic === undefined;
    const other = files.has(`${manifest.backend}/wgsl-fp32/${PLAN_NAME}`);
    if (failure.details.kernel === undefined || !half || !other) throw failure;
    // The driver says that it has 16-bit floats, and refuses a kernel. An adapter gives one device: all anew.
    const opened = await openBundle(url, { ...options, arithmetic: "fp32" }, onProgress, signal);
    return { ...opened, refused: failure.message };
  }
}

/** The best program of the bundle that the device can hold and run. */
async function chooseProgram(
  files: BundleFiles,
  adapter: Adapter,
  profile: Profile,
  options: OpenOptions,
  signal: AbortSignal,
) {
  const { manifest } = files;
  const phone = profile === "phone";
  const context = options.context ?? (phone ? Math.min(PHONE.context, manifest.context) : manifest.context);
  const maxBatch = options.maxBatch ?? (phone ? PHONE.maxBatch : undefined);
  if (!Number.isInteger(context) || context < 1 || context > manifest.context) {
    throw new EdgeLLMError("request", `context is ${context}; this bundle allows 1 to ${manifest.context}`);
  }
  const wanted: Arithmetic[] = options.arithmetic ? [options.arithmetic] : ["fp16", "fp32"];
  const folders = wanted
    .map((arithmetic) => ({ arithmetic, folder: `${manifest.backend}/wgsl-${arithmetic}` }))
    .filter(({ folder }) => files.has(`${folder}/${PLAN_NAME}`));
  if (folders.length === 0) {
    throw new EdgeLLMError(
      "bundle",
      `the bundle was built for ${manifest.target} and has no program for WebGPU: edgellm build … --target webgpu`,
    );
  }
  let refused: unknown = null;
  for (const { arithmetic, folder } of folders) {
    const path = `${folder}/${PLAN_NAME}`;
    const whole = decodePlan(
      await files.bytes(files.entry(path, MAX_PLAN_BYTES), { signal }),
      `${files.base}${path}`,
    );
    if (whole.arithmetic !== arithmetic) {
      throw new EdgeLLMError("bundle", `${files.base}${path} is another program than its folder says`);
    }
    const least = phone ? Math.min(PHONE.stepTokens, must(whole.sizes.get(STEP_SIZE), "size n")) : undefined;
    const stepTokens = options.stepTokens ?? least;
    const plan = stepTokens === undefined ? whole : trimPlan(whole, stepTokens);
    try {
      return { folder, plan, fit: fitProgram(plan, adapter, { context, maxBatch }) };
    } catch (error) {
      if (asError(error).code !== "unsupported_device") throw error;
      refused = error;
    }
  }
  throw refused;
}

/** The weights that a program takes, by the paths of their shards. */
async function planShards(
  files: BundleFiles,
  plan: Plan,
  signal: AbortSignal,
): Promise<Map<string, WeightEntry[]>> {
  const folder = files.manifest.backend;
  const path = `${folder}/${TABLE_NAME}`;
  const where = `${files.base}${path}`;
  const entries = decodeWeights(await files.bytes(files.entry(path, MAX_TABLE_BYTES), { signal }), where);
  const pathOf = (shard: number) => `${folder}/${shardName(shard)}`;
  const bytesOf = (shard: number) =>
    files.has(pathOf(shard)) ? files.entry(pathOf(shard)).bytes : undefined;
  return new Map(
    [...weightsOf(plan, entries, bytesOf, where)].map(([shard, found]) => [pathOf(shard), found]),
  );
}

async function checkRoom(files: BundleFiles, entries: readonly FileEntry[]): Promise<void> {
  const needed = await files.missing(entries);
  const room = await roomLeft();
  if (room !== null && needed > room) {
    throw new EdgeLLMError(
      "quota",
      `keeping this bundle takes ${bytesText(needed)} and the browser has ${bytesText(room)} left for this ` +
        "site. Remove other bundles or free some disk space, or open it without keeping it",
      { needed, room },
    );
  }
}

/** Small files as texts, by path. */
async function readTexts(
  files: BundleFiles,
  paths: readonly string[],
  options: FilesOptions,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const left = [...paths];
  const worker = async (): Promise<void> => {
    for (let path = left.pop(); path !== undefined; path = left.pop()) {
      const most = path === files.manifest.chat_template ? MAX_TEMPLATE_BYTES : MAX_TOKENIZER_BYTES;
      found.set(path, await files.text(path, most, options));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
}

/** Shard by shard, so that one at a time is in memory. */
async function upload(
  host: PlanHost,
  files: BundleFiles,
  shards: ReadonlyMap<string, readonly WeightEntry[]>,
  options: FilesOptions,
): Promise<void> {
  for (const [path, entries] of shards) {
    const shard = await files.bytes(files.entry(path), options);
    for (const { name, offset, bytes } of entries) {
      for (let at = 0; at < bytes; at += PIECE) {
        host.upload(name, at, shard.subarray(offset + at, offset + Math.min(bytes, at + PIECE)));
      }
    }
    await host.flush();
  }
}
