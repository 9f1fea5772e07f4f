/** Messages between a page and the worker that runs its engine. */

import type { OpenOptions } from "../bundle/open.ts";
import type { Progress } from "../bundle/progress.ts";
import type { AnswerPiece, EngineInfo, EngineStats } from "../engine/engine.ts";
import type { RequestBody } from "../engine/request.ts";
import type { ErrorData } from "../errors.ts";

export type ToWorker =
  | { readonly type: "open"; readonly url: string; readonly options: OpenOptions }
  | { readonly type: "request"; readonly id: number; readonly body: RequestBody }
  | { readonly type: "cancel"; readonly id: number }
  | { readonly type: "stats"; readonly id: number }
  /** Answered at once. */
  | { readonly type: "ping" }
  | { readonly type: "close" };

export type FromWorker =
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "opened"; readonly info: EngineInfo }
  /** Opening failed, or the device was lost, or a step failed: nothing comes after it. */
  | { readonly type: "ended"; readonly error: ErrorData }
  | { readonly type: "piece"; readonly id: number; readonly piece: AnswerPiece }
  | { readonly type: "error"; readonly id: number; readonly error: ErrorData }
  | { readonly type: "pong" }
  | { readonly type: "stats"; readonly id: number; readonly stats: EngineStats };
