/** Fetching a file of known size, going on after interruptions. */

import { aborted, EdgeLLMError, eitherSignal, reason, throwIfAborted } from "../errors.ts";

/** Tries without a byte of progress before a download is given up. */
const TRIES = 4;
const FIRST_WAIT_MS = 300;
/** A connection that brings nothing for so long is cut. */
const STALL_MS = 30_000;

export interface DownloadOptions {
  readonly signal: AbortSignal | undefined;
  /** Called with bytes in order; their sum grows from `start` on. A server may send some again. */
  readonly write: (bytes: Uint8Array<ArrayBuffer>, at: number) => void;
  readonly waitMs?: number;
}

/**
 * Brings the bytes of a file from `start` to `bytes`; asks for the rest where a connection breaks. What the
 * server refuses for good (a status such as 404) is not tried again.
 *
 * @throws {EdgeLLMError} `network`, `aborted`; `bundle`: the file is larger than it must be.
 */
export async function download(
  url: string,
  start: number,
  bytes: number,
  options: DownloadOptions,
): Promise<void> {
  let at = start;
  let failures = 0;
  while (at < bytes) {
    throwIfAborted(options.signal);
    const before = at;
    try {
      at = await attempt(url, at, bytes, options, (place) => {
        at = place;
      });
      if (at >= bytes) return;
      throw new Error("the connection ended early");
    } catch (error) {
      if (options.signal?.aborted) throw aborted();
      if (error instanceof EdgeLLMError) throw error;
      failures = at > before ? 1 : failures + 1;
      if (failures >= TRIES) {
        throw new EdgeLLMError(
          "network",
          `${url} cannot be fetched (${reason(error)}); try again, what has come is kept`,
        );
      }
      await pause((options.waitMs ?? FIRST_WAIT_MS) * 2 ** (failures - 1), options.signal);
    }
  }
}

/** A small file as a whole, of at most `most` bytes, within `limitMs` if that is given. */
export async function fetchWhole(
  url: string,
  most: number,
  signal: AbortSignal | undefined,
  limitMs?: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const late = new AbortController();
  const timer = limitMs === undefined ? undefined : setTimeout(() => late.abort(), limitMs);
  try {
    const response = await fetch(url, { cache: "no-cache", signal: eitherSignal(signal, late.signal) });
    refuseStatus(url, response);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    for await (const part of chunks(response)) {
      size += part.length;
      if (size > most)
        throw new EdgeLLMError("bundle", `${url} is larger than ${most} bytes: it is not what it says`);
      parts.push(part);
    }
    const whole = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  } catch (error) {
    if (signal?.aborted) throw aborted();
    if (error instanceof EdgeLLMError) throw error;
    const why = late.signal.aborted ? `nothing came within ${limitMs} ms` : reason(error);
    throw new EdgeLLMError("network", `${url} cannot be fetched (${why})`);
  } finally {
    clearTimeout(timer);
    late.abort();
  }
}

async function attempt(
  url: string,
  start: number,
  bytes: number,
  options: DownloadOptions,
  moved: (at: number) => void,
): Promise<number> {
  const stalled = new AbortController();
  const signal = eitherSignal(options.signal, stalled.signal);
  let timer = setTimeout(() => stalled.abort(), STALL_MS);
  try {
    const headers: Record<string, string> = start > 0 ? { range: `bytes=${start}-` } : {};
    // What is kept is kept by hash; a second copy in the browser's cache would take the room of the first.
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    refuseStatus(url, response);
    let at = startOf(response, start);
    for await (const part of chunks(response)) {
      clearTimeout(timer);
      timer = setTimeout(() => stalled.abort(), STALL_MS);
      if (at + part.length > bytes) {
        throw new EdgeLLMError(
          "bundle",
          `${url} is larger than the ${bytes} bytes of the manifest; publish the bundle again`,
        );
      }
      options.write(part, at);
      at += part.length;
      moved(at);
    }
    return at;
  } finally {
    clearTimeout(timer);
    stalled.abort();
  }
}

/** Where in the file an answer begins: servers may send all of it. */
function startOf(response: Response, start: number): number {
  if (response.status !== 206) return 0;
  const said = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
  if (said !== undefined && Number(said) > start)
    throw new Error("the server sent another part than was asked for");
  return said === undefined ? start : Number(said);
}

function refuseStatus(url: string, response: Response): void {
  if (response.ok) return;
  const { status } = response;
  const passing = status >= 500 || status === 408 || status === 429;
  const text = `${url}: the server answers ${status}${response.statusText ? ` ${response.statusText}` : ""}`;
  if (passing) throw new Error(text);
  throw new EdgeLLMError("network", `${text}; is the address of the bundle right?`, { status });
}

async function* chunks(response: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        reject(aborted());
      },
      { once: true },
    );
  });
}
