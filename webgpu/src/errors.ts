/**
 * The one error family. A message says what happened, to which file, kernel or option, and what to do;
 * `code` says it to programs.
 */

export type ErrorCode =
  /** The browser has no WebGPU, or shows it to pages of another kind only. */
  | "no_webgpu"
  /** The device has too small limits, or lacks what every program of the bundle needs. */
  | "unsupported_device"
  /** The device has no memory left for the weights or the cache. */
  | "out_of_memory"
  /** The device went away, or failed in the middle of a step. */
  | "device_lost"
  /** The bundle is not one that this version reads, or was damaged before it was published. */
  | "bundle"
  /** A file cannot be fetched. */
  | "network"
  /** The browser's storage has no room for the weights. */
  | "quota"
  /** The prompt leaves no room for an answer. */
  | "prompt_too_long"
  /** The chat template refuses the messages. */
  | "template"
  /** An option or a request is wrong. */
  | "request"
  /** Too many requests wait. */
  | "queue_full"
  /** The caller's signal ended it. */
  | "aborted"
  /** The worker did not answer any more and was ended: a template or tokenizer that finds no end. */
  | "unresponsive"
  /** The engine has been closed. */
  | "closed"
  /** A mistake in this library. */
  | "internal";

/** Plain values that say more about an error; they travel between worker and page. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean>>;

export class EdgeLLMError extends Error {
  override readonly name = "EdgeLLMError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** An error as a message between worker and page. */
export interface ErrorData {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails;
}

/** What was thrown, as one of the family. */
export function asError(thrown: unknown): EdgeLLMError {
  if (thrown instanceof EdgeLLMError) return thrown;
  return new EdgeLLMError("internal", `edgellm failed: ${reason(thrown)}`);
}

export function errorData(thrown: unknown): ErrorData {
  const { code, message, details } = asError(thrown);
  return { code, message, details };
}

export function errorFromData(data: ErrorData): EdgeLLMError {
  return new EdgeLLMError(data.code, data.message, data.details);
}

/** The first lines of what something else threw or said, as one. */
export function reason(thrown: unknown): string {
  const said = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  const lines = said.split("\n").map((line) => line.trim());
  return lines.filter(Boolean).join(" ").slice(0, 300) || "no reason given";
}

/** The error of an operation that `signal` ended. */
export function aborted(): EdgeLLMError {
  return new EdgeLLMError("aborted", "the request was aborted");
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

/** A signal that is aborted with the first of two; AbortSignal.any is younger than WebGPU. */
export function eitherSignal(first: AbortSignal | undefined, second: AbortSignal): AbortSignal {
  if (!first || second.aborted) return second;
  const either = new AbortController();
  const { signal } = either;
  for (const one of [first, second]) {
    if (one.aborted) either.abort();
    one.addEventListener("abort", () => either.abort(), { once: true, signal });
  }
  return signal;
}
