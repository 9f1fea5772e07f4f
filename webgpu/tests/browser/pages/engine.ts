/** Engines for tests in a page; values go in and out as plain data. */

import * as library from "../../../src/index.ts";
import { type BrowserEngine, createEngine, EdgeLLMError, type EngineOptions } from "../../../src/index.ts";
import { Tokenizer } from "../../../src/text/tokenizer.ts";

let engine: BrowserEngine | null = null;
const progress: library.Progress[] = [];

/** What was thrown, as data. */
export interface Thrown {
  readonly code: string;
  readonly message: string;
  readonly details: Record<string, unknown>;
}

export type Outcome<T> =
  | { readonly value: T; readonly error: null }
  | { readonly value: null; readonly error: Thrown };

async function outcome<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work(), error: null };
  } catch (error) {
    if (!(error instanceof EdgeLLMError)) throw error;
    return {
      value: null,
      error: { code: error.code, message: error.message, details: { ...error.details } },
    };
  }
}

/** Opens a bundle, the engine of the calls that follow; `worker` is a file beside this one. */
function open(options: EngineOptions, worker?: string) {
  progress.length = 0;
  return outcome(async () => {
    engine?.close();
    const own = worker ? { worker: new Worker(`/tests/browser/pages/${worker}`, { type: "module" }) } : {};
    engine = await createEngine({ ...options, ...own, onProgress: (one) => progress.push(one) });
    return { info: engine.info, progress };
  });
}

function opened(): BrowserEngine {
  if (!engine) throw new Error("no engine is open");
  return engine;
}

export type Settings = Omit<library.ChatRequest, "messages" | "stream" | "signal">;

/** An answer as a whole. */
function ask(prompt: string, settings: Settings) {
  return outcome(() => {
    const messages = [{ role: "user", content: prompt }];
    return opened().chat.completions.create({ messages, ...settings, stream: false });
  });
}

/** A text that goes on from `prompt`. */
function complete(prompt: string, settings: Settings) {
  return outcome(() => opened().completions.create({ prompt, ...settings, stream: false }));
}

/** Several answers at once, streamed; tokens and texts of each, and its order among all chunks. */
async function askTogether(prompts: readonly string[], settings: Settings) {
  const order: number[] = [];
  const answers = await Promise.all(
    prompts.map(async (content, index) => {
      const chunks = await opened().chat.completions.create({
        messages: [{ role: "user", content }],
        ...settings,
        stream: true,
      });
      let text = "";
      const tokens: number[] = [];
      for await (const { choices } of chunks) {
        text += choices[0]?.delta.content ?? "";
        tokens.push(...(choices[0]?.token_ids ?? []));
        order.push(index);
      }
      return { text, tokens };
    }),
  );
  return { answers, order };
}

/** A streamed answer that is aborted after some chunks. */
function abortAfter(prompt: string, chunks: number) {
  const controller = new AbortController();
  let seen = 0;
  return outcome(async () => {
    const messages = [{ role: "user", content: prompt }];
    const stream = await opened().chat.completions.create({
      messages,
      stream: true,
      signal: controller.signal,
    });
    for await (const _ of stream) {
      seen += 1;
      if (seen === chunks) controller.abort();
    }
    return seen;
  });
}

async function encodeAll(
  bundle: string,
  facts: ConstructorParameters<typeof Tokenizer>[1],
  texts: readonly string[],
) {
  const tokenizer = new Tokenizer(await (await fetch(`${bundle}tokenizer.json`)).text(), facts);
  return texts.map((text) => {
    const ids = tokenizer.encode(text, false);
    return { text, ids, decoded: tokenizer.decode(ids) };
  });
}

/** Turns the bits of a byte of a stored file over. */
async function damage(hash: string, at: number): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const files = await (await root.getDirectoryHandle("edgellm")).getDirectoryHandle("files");
  const handle = await files.getFileHandle(hash);
  const byte = new Uint8Array(await (await handle.getFile()).slice(at, at + 1).arrayBuffer());
  const writable = await handle.createWritable({ keepExistingData: true });
  await writable.write({ type: "write", position: at, data: byte.map((one) => one ^ 0xff) });
  await writable.close();
}

/** Names and sizes of the stored files. */
async function storedFiles(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  const root = await navigator.storage.getDirectory();
  const files = await (await root.getDirectoryHandle("edgellm")).getDirectoryHandle("files");
  for await (const [name, handle] of files.entries()) {
    found[name] = (await (handle as FileSystemFileHandle).getFile()).size;
  }
  return found;
}

/** Opens a bundle and aborts as soon as so many bytes are there. */
function openAborted(options: EngineOptions, bytes: number) {
  const controller = new AbortController();
  return outcome(async () => {
    await createEngine({
      ...options,
      signal: controller.signal,
      onProgress: (one) => {
        if (one.loadedBytes >= bytes) controller.abort();
      },
    });
    return null;
  });
}

/** What the engine says when its device is lost while an answer is on its way. */
async function untilLost(options: EngineOptions, prompt: string) {
  let told = 0;
  const opening = await createEngine({ ...options, onLost: () => (told += 1) });
  const answering = outcome(async () => {
    const stream = await opening.chat.completions.create({
      messages: [{ role: "user", content: prompt }],
      stream: true,
    });
    for await (const _ of stream) document.title = "answering";
    return null;
  });
  const during = await answering;
  const after = await outcome(() =>
    opening.chat.completions.create({ messages: [{ role: "user", content: prompt }] }),
  );
  return { during: during.error, after: after.error, told };
}

const tests = {
  damage,
  storedFiles,
  openAborted,
  untilLost,
  open,
  ask,
  complete,
  askTogether,
  abortAfter,
  encodeAll,
  stats: () => opened().stats(),
  close: () => opened().close(),
  listBundles: library.listBundles,
  removeBundle: library.removeBundle,
};
export type EngineTests = typeof tests;

Object.assign(window, { edgellmTests: tests });
