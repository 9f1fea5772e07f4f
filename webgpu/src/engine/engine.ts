/** Text in, text out, many requests at once, over one opened bundle. Runs in the worker. */

import type { OpenBundle } from "../bundle/open.ts";
import type { Profile } from "../bundle/profile.ts";
import { EdgeLLMError } from "../errors.ts";
import { ChatTemplate } from "../text/template.ts";
import { Tokenizer } from "../text/tokenizer.ts";
import { StepLoop } from "./loop.ts";
import { type RequestBody, samplingParams } from "./request.ts";
import { type FinishReason, type Piece, Sequence, type TokenLogprob } from "./sequence.ts";

/** A token's log-probability with its text, as OpenAI's clients expect it. */
export interface NamedLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[];
}

/** A piece of an answer for the caller. */
export interface AnswerPiece {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly logprobs: readonly NamedLogprob[];
  readonly finishReason: FinishReason | null;
  /** With the last piece. */
  readonly usage: Usage | null;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** What was opened, and on what. */
export interface EngineInfo {
  /** The model's name in the bundle. */
  readonly model: string;
  readonly quant: string;
  /** Tokens that one sequence may hold, prompt and answer. */
  readonly context: number;
  readonly maxBatch: number;
  readonly device: string;
  /** Whether the device is software. */
  readonly software: boolean;
  /** What it was opened for: a phone's share of memory, or all that the device has. */
  readonly profile: Profile;
  readonly arithmetic: "fp16" | "fp32";
  /** Why the driver refused the bundle's fp16 program, where the fp32 program was opened in its place. */
  readonly refused: string | null;
  /** Bytes on the device. */
  readonly memory: { readonly weights: number; readonly cache: number; readonly step: number };
  readonly stored: boolean;
  readonly healed: readonly string[];
  /** Whether the bundle has a chat template. */
  readonly chat: boolean;
}

/** The engine at this moment. */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly steps: number;
  readonly preemptions: number;
  readonly blocks: number;
  readonly blocksInUse: number;
}

export class Engine {
  readonly info: EngineInfo;
  readonly #bundle: OpenBundle;
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate | null;
  readonly #loop: StepLoop;

  /** @throws {EdgeLLMError} `bundle`, `template`: tokenizer or template cannot be read. */
  constructor(bundle: OpenBundle) {
    const { manifest, fit, adapter, executor } = bundle;
    this.#bundle = bundle;
    this.#tokenizer = new Tokenizer(bundle.tokenizer, manifest.tokenizer);
    this.#template = bundle.template === null ? null : new ChatTemplate(bundle.template, manifest.tokenizer);
    this.#loop = new StepLoop(executor, (error) => void bundle.watch.fail(error));
    this.info = {
      model: manifest.source.name,
      quant: manifest.quant,
      context: fit.context,
      maxBatch: fit.maxBatch,
      device: adapter.name,
      software: adapter.fallback,
      profile: bundle.profile,
      arithmetic: bundle.plan.arithmetic,
      refused: bundle.refused,
      memory: { weights: fit.weightBytes, cache: fit.cacheBytes, step: fit.stepBytes },
      stored: bundle.stored,
      healed: bundle.healed,
      chat: this.#template !== null,
    };
    void this.failed().then((error) => {
      this.#loop.close(error);
      executor.close();
    });
  }

  /** Resolves with the error once the device is lost or a step has failed, which ends the engine. */
  failed(): Promise<EdgeLLMError> {
    return this.#bundle.watch.failed();
  }

  stats(): EngineStats {
    const { running, waiting, preemptions, pool } = this.#loop.scheduler;
    return {
      running: running.length,
      waiting: waiting.length,
      steps: this.#loop.steps,
      preemptions,
      blocks: pool.numBlocks,
      blocksInUse: pool.inUse,
    };
  }

  /**
   * Queues a request; the answer comes in pieces.
   *
   * @returns what cancels it, between two steps.
   * @throws {EdgeLLMError} `request`, `template`, `prompt_too_long`, `queue_full`, or why the engine has ended.
   */
  start(
    body: RequestBody,
    send: (piece: AnswerPiece) => void,
    fail: (error: EdgeLLMError) => void,
  ): () => void {
    const { manifest } = this.#bundle;
    const params = samplingParams(body, manifest.sampling);
    const prompt = this.encode(body);
    const { vocabSize } = this.#bundle.executor;
    for (const id of [...prompt, ...params.logitBias.keys()]) {
      if (id >= vocabSize)
        throw new EdgeLLMError("request", `token ${id} is outside of the vocabulary of ${vocabSize}`);
    }
    const room = this.info.context - prompt.length;
    if (room < 1) {
      throw new EdgeLLMError(
        "prompt_too_long",
        `the prompt has ${prompt.length} tokens, and the context holds ${this.info.context} for prompt and answer ` +
          "together; shorten the conversation, or open the bundle with a larger context",
        { promptTokens: prompt.length, context: this.info.context },
      );
    }
    const sequence: Sequence = new Sequence(
      prompt,
      params,
      Math.min(params.maxTokens ?? room, room),
      new Set(manifest.tokenizer.eos_ids),
      (ids) => this.#tokenizer.decode(ids),
      (piece) => send(this.#answer(sequence, piece)),
    );
    this.#loop.submit(sequence, fail);
    return () => this.#loop.cancel(sequence);
  }

  /** Token ids of a conversation through the template, or of a plain text. */
  encode(body: RequestBody): number[] {
    if ("prompt" in body) {
      if (typeof body.prompt !== "string") throw new EdgeLLMError("request", "prompt must be a text");
      const ids = this.#tokenizer.encode(body.prompt, true);
      if (ids.length === 0)
        throw new EdgeLLMError("request", "the prompt is empty: it must have at least one token");
      return ids;
    }
    if (this.#template === null) {
      throw new EdgeLLMError(
        "request",
        "this bundle has no chat template; use completions.create({ prompt }) instead",
      );
    }
    return this.#tokenizer.encode(this.#template.render(body.messages), false);
  }

  /** Ends what is running and gives the device's memory back. */
  close(): void {
    this.#loop.close(new EdgeLLMError("closed", "the engine has been closed"));
    this.#bundle.executor.close();
  }

  #answer(sequence: Sequence, piece: Piece): AnswerPiece {
    const named = ({ token, logprob, top }: TokenLogprob): NamedLogprob => ({
      token: this.#tokenizer.token(token),
      logprob,
      top_logprobs: top.map((one) => ({ token: this.#tokenizer.token(one.token), logprob: one.logprob })),
    });
    const done = piece.finishReason !== null;
    return { ...piece, logprobs: piece.logprobs.map(named), usage: done ? usageOf(sequence) : null };
  }
}

function usageOf(sequence: Sequence): Usage {
  return {
    prompt_tokens: sequence.promptLength,
    completion_tokens: sequence.newTokens,
    total_tokens: sequence.tokens.length,
    prompt_tokens_details: { cached_tokens: sequence.cachedTokens },
  };
}
