/** The worker: opens one bundle and answers requests until it is closed. */

import { openBundle } from "../bundle/open.ts";
import type { Progress } from "../bundle/progress.ts";
import { Engine } from "../engine/engine.ts";
import { EdgeLLMError, errorData } from "../errors.ts";
import type { FromWorker, ToWorker } from "./protocol.ts";

/** The parts of a worker's global scope that are used. */
interface Scope {
  postMessage(message: FromWorker): void;
  addEventListener(type: "message", listener: (event: MessageEvent<ToWorker>) => void): void;
  close(): void;
}

const scope = globalThis as unknown as Scope;
const opening = new AbortController();
const cancels = new Map<number, () => void>();
let engine: Engine | null = null;

async function open(message: ToWorker & { type: "open" }): Promise<void> {
  const report = throttled<Progress>((progress) => scope.postMessage({ type: "progress", progress }));
  try {
    engine = new Engine(await openBundle(message.url, message.options, report, opening.signal));
  } catch (error) {
    scope.postMessage({ type: "ended", error: errorData(error) });
    return;
  }
  scope.postMessage({ type: "opened", info: engine.info });
  const error = await engine.failed();
  if (!opening.signal.aborted) scope.postMessage({ type: "ended", error: errorData(error) });
}

function request({ id, body }: ToWorker & { type: "request" }): void {
  const fail = (error: unknown): void => {
    cancels.delete(id);
    scope.postMessage({ type: "error", id, error: errorData(error) });
  };
  try {
    if (engine === null) throw new EdgeLLMError("closed", "the engine is not open");
    const cancel = engine.start(
      body,
      (piece) => {
        if (piece.finishReason !== null) cancels.delete(id);
        scope.postMessage({ type: "piece", id, piece });
      },
      fail,
    );
    cancels.set(id, cancel);
  } catch (error) {
    fail(error);
  }
}

scope.addEventListener("message", ({ data }) => {
  switch (data.type) {
    case "open":
      void open(data);
      break;
    case "request":
      request(data);
      break;
    case "cancel":
      cancels.get(data.id)?.();
      cancels.delete(data.id);
      break;
    case "stats":
      if (engine) scope.postMessage({ type: "stats", id: data.id, stats: engine.stats() });
      break;
    case "ping":
      scope.postMessage({ type: "pong" });
      break;
    case "close":
      opening.abort();
      engine?.close();
      scope.close();
      break;
  }
});

/** Passes on what changes the phase at once, and of the rest the latest every 50 ms. */
function throttled<T extends { readonly phase: string }>(report: (value: T) => void): (value: T) => void {
  let phase = "";
  let latest: T | null = null;
  let waiting = false;
  return (value) => {
    if (value.phase !== phase) {
      phase = value.phase;
      latest = null;
      report(value);
      return;
    }
    latest = value;
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      if (latest) report(latest);
      latest = null;
    }, 50);
  };
}
