/** Completions in the form of OpenAI's API. */

import type { AnswerPiece, NamedLogprob, Usage } from "./engine/engine.ts";
import type { GenerationSettings } from "./engine/request.ts";
import type { FinishReason } from "./engine/sequence.ts";
import type { Message } from "./text/template.ts";
import type { WorkerClient } from "./worker/client.ts";

export interface RequestOptions extends GenerationSettings {
  /** Ends the request: what reads its answer gets an `EdgeLLMError` with the code `aborted`. */
  readonly signal?: AbortSignal | undefined;
}

export interface ChatRequest extends RequestOptions {
  readonly messages: readonly Message[];
  readonly stream?: boolean | null | undefined;
}

export interface CompletionRequest extends RequestOptions {
  /** A text to go on with; for models without a chat template. */
  readonly prompt: string;
  readonly stream?: boolean | null | undefined;
}

interface Head<O extends string> {
  readonly id: string;
  readonly object: O;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

interface Logprobs {
  readonly content: readonly NamedLogprob[];
}

export interface ChatCompletionChunk extends Head<"chat.completion.chunk"> {
  readonly choices: readonly {
    readonly index: 0;
    readonly delta: { readonly role?: "assistant"; readonly content?: string };
    readonly logprobs: Logprobs | null;
    readonly finish_reason: FinishReason | null;
    /** Ids of the tokens that came with this chunk; not in OpenAI's API. */
    readonly token_ids: readonly number[];
  }[];
  /** With the last chunk. */
  readonly usage: Usage | null;
}

export interface ChatCompletion extends Head<"chat.completion"> {
  readonly choices: readonly {
    readonly index: 0;
    readonly message: { readonly role: "assistant"; readonly content: string };
    readonly logprobs: Logprobs | null;
    readonly finish_reason: FinishReason;
    readonly token_ids: readonly number[];
  }[];
  readonly usage: Usage;
}

export interface Completion extends Head<"text_completion"> {
  readonly choices: readonly {
    readonly index: 0;
    readonly text: string;
    readonly logprobs: Logprobs | null;
    readonly finish_reason: FinishReason | null;
    readonly token_ids: readonly number[];
  }[];
  readonly usage: Usage | null;
}

export class ChatCompletions {
  readonly #client: WorkerClient;

  constructor(client: WorkerClient) {
    this.#client = client;
  }

  /**
   * The assistant's next message: as chunks with `stream: true`, else as a whole.
   *
   * @throws {EdgeLLMError} at once or while the chunks are read; its `code` says what went wrong.
   */
  create(
    request: ChatRequest & { readonly stream: true },
  ): Promise<AsyncIterableIterator<ChatCompletionChunk>>;
  create(request: ChatRequest & { readonly stream?: false | null | undefined }): Promise<ChatCompletion>;
  create(request: ChatRequest): Promise<AsyncIterableIterator<ChatCompletionChunk> | ChatCompletion>;
  async create(request: ChatRequest): Promise<AsyncIterableIterator<ChatCompletionChunk> | ChatCompletion> {
    const { stream, signal, ...body } = request;
    const pieces = await started(this.#client.request(body, signal));
    const head = headOf(this.#client, "chatcmpl");
    if (stream) return chatChunks(pieces, { ...head, object: "chat.completion.chunk" }, !!body.logprobs);
    const { text, tokens, logprobs, reason, usage } = await collected(pieces);
    const content = logprobs.length || body.logprobs ? { content: logprobs } : null;
    const message = { role: "assistant", content: text } as const;
    const choice = {
      index: 0,
      message,
      logprobs: content,
      finish_reason: reason,
      token_ids: tokens,
    } as const;
    return { ...head, object: "chat.completion", choices: [choice], usage };
  }
}

export class Completions {
  readonly #client: WorkerClient;

  constructor(client: WorkerClient) {
    this.#client = client;
  }

  /** A text that goes on from `prompt`: as chunks with `stream: true`, else as a whole. */
  create(request: CompletionRequest & { readonly stream: true }): Promise<AsyncIterableIterator<Completion>>;
  create(request: CompletionRequest & { readonly stream?: false | null | undefined }): Promise<Completion>;
  create(request: CompletionRequest): Promise<AsyncIterableIterator<Completion> | Completion>;
  async create(request: CompletionRequest): Promise<AsyncIterableIterator<Completion> | Completion> {
    const { stream, signal, ...body } = request;
    const pieces = await started(this.#client.request(body, signal));
    const head = { ...headOf(this.#client, "cmpl"), object: "text_completion" } as const;
    const scored = !!body.logprobs;
    if (stream) {
      return mapped(pieces, (piece) => {
        const { text, tokens: token_ids, finishReason: finish_reason, usage } = piece;
        const logprobs = scored ? { content: piece.logprobs } : null;
        return { ...head, choices: [{ index: 0, text, logprobs, finish_reason, token_ids }], usage };
      });
    }
    const { text, tokens, logprobs, reason, usage } = await collected(pieces);
    const content = scored ? { content: logprobs } : null;
    const choice = { index: 0, text, logprobs: content, finish_reason: reason, token_ids: tokens } as const;
    return { ...head, choices: [choice], usage };
  }
}

function headOf(client: WorkerClient, prefix: string) {
  const id = `${prefix}-${crypto.randomUUID()}`;
  return { id, created: Math.floor(Date.now() / 1000), model: client.info.model };
}

function chatChunks(
  pieces: AsyncIterableIterator<AnswerPiece>,
  head: Head<"chat.completion.chunk">,
  scored: boolean,
): AsyncIterableIterator<ChatCompletionChunk> {
  let first = true;
  return mapped(pieces, (piece) => {
    const delta = { ...(first ? { role: "assistant" as const } : {}), content: piece.text };
    first = false;
    const logprobs = scored ? { content: piece.logprobs } : null;
    const { finishReason: finish_reason, tokens: token_ids, usage } = piece;
    return { ...head, choices: [{ index: 0, delta, logprobs, finish_reason, token_ids }], usage };
  });
}

async function* mapped<T, U>(
  items: AsyncIterableIterator<T>,
  change: (item: T) => U,
): AsyncGenerator<U, void> {
  for await (const item of items) yield change(item);
}

/** The same pieces, once the first is there: an error of the request itself comes from `create`. */
async function started(
  pieces: AsyncGenerator<AnswerPiece, void>,
): Promise<AsyncGenerator<AnswerPiece, void>> {
  const first = await pieces.next();
  return (async function* () {
    try {
      if (!first.done) yield first.value;
      yield* pieces;
    } finally {
      await pieces.return();
    }
  })();
}

async function collected(pieces: AsyncIterable<AnswerPiece>) {
  let text = "";
  const tokens: number[] = [];
  const logprobs: NamedLogprob[] = [];
  let last: AnswerPiece | null = null;
  for await (const piece of pieces) {
    text += piece.text;
    tokens.push(...piece.tokens);
    logprobs.push(...piece.logprobs);
    last = piece;
  }
  if (last?.finishReason == null || last.usage === null) throw new Error("the answer has no end");
  return { text, tokens, logprobs, reason: last.finishReason, usage: last.usage };
}
