/** edgellm in browsers: `createEngine({ bundle })` opens a bundle on WebGPU, in a worker of its own. */

import type { Arithmetic } from "./bundle/open.ts";
import type { Profile } from "./bundle/profile.ts";
import type { Progress } from "./bundle/progress.ts";
import { ChatCompletions, Completions } from "./chat.ts";
import type { EngineInfo, EngineStats } from "./engine/engine.ts";
import { EdgeLLMError } from "./errors.ts";
import type { Limits } from "./plan/limits.ts";
import { WorkerClient } from "./worker/client.ts";

export interface EngineOptions {
  /** Address of the bundle's folder, absolute or relative to the page. */
  readonly bundle: string | URL;
  /** Tokens that one sequence may hold, prompt and answer; at most, and by default, the bundle's own. */
  readonly context?: number;
  /** Sequences that run together. Default: 4, with a cache of half a gibibyte at most. */
  readonly maxBatch?: number;
  /**
   * Tokens of a prompt that are read in one step. Fewer leave a slow device free for the page more often, and
   * take less memory. Default: the bundle's own, often 256.
   */
  readonly stepTokens?: number;
  /**
   * `"newest"`: the version on the network, if that answers. `"stored"`: the last one that was stored whole, if
   * there is one; the network is not asked. Default: `"newest"`.
   */
  readonly version?: "newest" | "stored";
  /** Whether the bundle is kept in the browser's storage for the next time. Default: true. */
  readonly store?: boolean;
  /** Which of the bundle's programs to run. Default: the best that the device can. */
  readonly arithmetic?: Arithmetic;
  /**
   * `"phone"`: small buffers, and unless other options say so short steps, one request at a time, and a context of
   * 2,048 tokens. `"full"`: all that the device has. Default: as the device looks.
   */
  readonly profile?: Profile;
  /** Smaller limits to keep to, to see how the bundle does on a smaller device. */
  readonly limits?: Partial<Limits>;
  readonly onProgress?: (progress: Progress) => void;
  /** Called once if the device is lost or fails in a step later on; all requests then fail with the same error. */
  readonly onLost?: (error: EdgeLLMError) => void;
  /** Ends opening. */
  readonly signal?: AbortSignal;
  /** A worker of one's own making, from this package's `worker.js`; for pages with special needs. */
  readonly worker?: Worker;
}

/** An opened bundle. */
export class BrowserEngine {
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: Completions;
  readonly #client: WorkerClient;

  /** Use `createEngine`. */
  constructor(client: WorkerClient) {
    this.#client = client;
    this.chat = { completions: new ChatCompletions(client) };
    this.completions = new Completions(client);
  }

  /** What was opened, and on what. */
  get info(): EngineInfo {
    return this.#client.info;
  }

  /** The engine at this moment. */
  stats(): Promise<EngineStats> {
    return this.#client.stats();
  }

  /** Ends all requests and gives the device's memory back. */
  close(): void {
    this.#client.close();
  }
}

/**
 * Opens a bundle: looks at the device and the manifest, brings the weights onto the device, and gets ready.
 *
 * @throws {EdgeLLMError} its `code` says what went wrong, its message what to do.
 */
export async function createEngine(options: EngineOptions): Promise<BrowserEngine> {
  const { bundle, onProgress, onLost, signal } = options;
  let url: string;
  try {
    url = new URL(bundle, document.baseURI).href;
  } catch {
    throw new EdgeLLMError("request", `${String(bundle).slice(0, 200)} is no address of a bundle`);
  }
  const worker =
    options.worker ?? new Worker(new URL("./worker/worker.ts", import.meta.url), { type: "module" });
  const { context, maxBatch, stepTokens, version, store, arithmetic, profile, limits } = options;
  const { maxTouchPoints: touchPoints } = navigator;
  const open = { context, maxBatch, stepTokens, version, store, arithmetic, profile, limits, touchPoints };
  return new BrowserEngine(await WorkerClient.open({ url, open, worker, onProgress, onLost, signal }));
}

export type { Arithmetic } from "./bundle/open.ts";
export type { Profile } from "./bundle/profile.ts";
export type { Progress } from "./bundle/progress.ts";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatRequest,
  Completion,
  CompletionRequest,
} from "./chat.ts";
export type { EngineInfo, EngineStats, NamedLogprob, Usage } from "./engine/engine.ts";
export type { GenerationSettings } from "./engine/request.ts";
export type { ErrorCode, ErrorDetails } from "./errors.ts";
export { type KeptBundle, listBundles, removeBundle, updateOf } from "./kept.ts";
export type { Limits } from "./plan/limits.ts";
export type { Message } from "./text/template.ts";
export { EdgeLLMError };
