/** The page's side of a worker: requests go in, pieces of answers come out. */

import type { OpenOptions } from "../bundle/open.ts";
import type { Progress } from "../bundle/progress.ts";
import type { AnswerPiece, EngineInfo, EngineStats } from "../engine/engine.ts";
import type { RequestBody } from "../engine/request.ts";
import { aborted, EdgeLLMError, errorFromData, throwIfAborted } from "../errors.ts";
import type { FromWorker, ToWorker } from "./protocol.ts";
import { Watchdog } from "./watchdog.ts";

/** How long a worker may take to give its memory back before it is ended, ms. */
const CLOSING_MS = 2000;
/** Seconds that a worker may be silent while it reads the tokenizer and the template, and during requests. */
const OPENING_PATIENCE = 120;
const PATIENCE = 30;

/** What reads one answer. */
interface Reader {
  piece(piece: AnswerPiece): void;
  fail(error: EdgeLLMError): void;
}

interface Waiting {
  resolve(stats: EngineStats): void;
  reject(error: EdgeLLMError): void;
}

export interface ClientOptions {
  readonly url: string;
  readonly open: OpenOptions;
  readonly worker: Worker;
  readonly onProgress: ((progress: Progress) => void) | undefined;
  readonly onLost: ((error: EdgeLLMError) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

export class WorkerClient {
  readonly info: EngineInfo;
  readonly #worker: Worker;
  readonly #readers = new Map<number, Reader>();
  readonly #stats = new Map<number, Waiting>();
  readonly #onLost: ((error: EdgeLLMError) => void) | undefined;
  readonly #watchdog: Watchdog;
  #ended: EdgeLLMError | null = null;
  #nextId = 1;

  private constructor(worker: Worker, info: EngineInfo, onLost: ((error: EdgeLLMError) => void) | undefined) {
    this.#worker = worker;
    this.info = info;
    this.#onLost = onLost;
    this.#watchdog = new Watchdog(
      () => this.#send({ type: "ping" }),
      () => {
        worker.terminate();
        this.#end(unresponsive(PATIENCE));
      },
    );
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    worker.onerror = (event) => this.#end(workerFailed(event));
  }

  /** Opens the bundle in the worker, which is ended if that fails or is aborted. */
  static async open(options: ClientOptions): Promise<WorkerClient> {
    const { worker, signal } = options;
    let stop = (): void => undefined;
    let watchdog: Watchdog | null = null;
    try {
      throwIfAborted(signal);
      const info = await new Promise<EngineInfo>((resolve, reject) => {
        stop = () => reject(aborted());
        signal?.addEventListener("abort", stop);
        worker.onerror = (event) => reject(workerFailed(event));
        const ping = (): void => worker.postMessage({ type: "ping" } satisfies ToWorker);
        const guard = new Watchdog(ping, () => reject(unresponsive(OPENING_PATIENCE)));
        watchdog = guard;
        worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
          guard.heard();
          if (data.type === "progress") {
            // Before that, time goes by on the network and in drivers, and `signal` ends it.
            if (data.progress.phase === "ready") guard.watch(OPENING_PATIENCE);
            options.onProgress?.(data.progress);
          } else if (data.type === "opened") resolve(data.info);
          else if (data.type === "ended") reject(errorFromData(data.error));
        };
        worker.postMessage({ type: "open", url: options.url, options: options.open } satisfies ToWorker);
      });
      return new WorkerClient(worker, info, options.onLost);
    } catch (error) {
      worker.terminate();
      throw error;
    } finally {
      (watchdog as Watchdog | null)?.rest();
      signal?.removeEventListener("abort", stop);
    }
  }

  /** The pieces of an answer. Leaving the loop, or `signal`, cancels the request. */
  async *request(body: RequestBody, signal: AbortSignal | undefined): AsyncGenerator<AnswerPiece, void> {
    throwIfAborted(signal);
    if (this.#ended) throw this.#ended;
    const id = this.#nextId;
    this.#nextId += 1;
    const pieces: AnswerPiece[] = [];
    let failure: EdgeLLMError | null = null;
    let done = false;
    let wake = (): void => undefined;
    const fail = (error: EdgeLLMError): void => {
      failure ??= error;
      wake();
    };
    const onAbort = (): void => fail(aborted());
    this.#readers.set(id, {
      fail,
      piece: (piece) => {
        pieces.push(piece);
        wake();
      },
    });
    signal?.addEventListener("abort", onAbort);
    try {
      this.#send({ type: "request", id, body });
      this.#watchdog.watch(PATIENCE);
      while (!done) {
        while (failure === null && pieces.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        if (failure !== null) throw failure;
        const piece = pieces.shift();
        if (piece === undefined) continue;
        done = piece.finishReason !== null;
        yield piece;
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#readers.delete(id);
      this.#restIfIdle();
      if (!done && !this.#ended) this.#send({ type: "cancel", id });
    }
  }

  stats(): Promise<EngineStats> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#stats.set(id, { resolve, reject });
      this.#send({ type: "stats", id });
      this.#watchdog.watch(PATIENCE);
    });
  }

  close(): void {
    if (!this.#ended) this.#send({ type: "close" });
    this.#end(new EdgeLLMError("closed", "the engine has been closed"), false);
    setTimeout(() => this.#worker.terminate(), CLOSING_MS);
  }

  #send(message: ToWorker): void {
    try {
      this.#worker.postMessage(message);
    } catch {
      throw new EdgeLLMError(
        "request",
        "the request holds something that is neither text, number, list nor object",
      );
    }
  }

  #receive(data: FromWorker): void {
    this.#watchdog.heard();
    switch (data.type) {
      case "piece":
        this.#readers.get(data.id)?.piece(data.piece);
        break;
      case "error":
        this.#readers.get(data.id)?.fail(errorFromData(data.error));
        break;
      case "stats":
        this.#stats.get(data.id)?.resolve(data.stats);
        this.#stats.delete(data.id);
        this.#restIfIdle();
        break;
      case "ended":
        this.#worker.terminate();
        this.#end(errorFromData(data.error));
        break;
      case "progress":
      case "opened":
      case "pong":
        break;
    }
  }

  #restIfIdle(): void {
    if (this.#readers.size + this.#stats.size === 0) this.#watchdog.rest();
  }

  /** Nothing comes any more. */
  #end(error: EdgeLLMError, tell = true): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#watchdog.rest();
    for (const reader of this.#readers.values()) reader.fail(error);
    for (const { reject } of this.#stats.values()) reject(error);
    if (tell) this.#onLost?.(error);
  }
}

function unresponsive(seconds: number): EdgeLLMError {
  return new EdgeLLMError(
    "unresponsive",
    `the engine's worker has not answered for ${seconds} seconds and was ended: this bundle's chat template or ` +
      "tokenizer does not come to an end with this text. Change the text, or use a bundle that you trust",
  );
}

function workerFailed(event: ErrorEvent): EdgeLLMError {
  const said =
    event.message || "its file cannot be loaded; is it served beside the page, and allowed by its policy?";
  return new EdgeLLMError("internal", `the engine's worker failed: ${said}`);
}
