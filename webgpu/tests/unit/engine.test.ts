import { describe, expect, test, vi } from "vitest";
import { StepLoop } from "../../src/engine/loop.ts";
import type { SamplingParams } from "../../src/engine/params.ts";
import { type Piece, Sequence } from "../../src/engine/sequence.ts";
import { EdgeLLMError } from "../../src/errors.ts";
import type { StepChunk, StepExecutor, StepRow } from "../../src/plan/executor.ts";
import type { Fit } from "../../src/plan/sizing.ts";
import { BLOCK_SIZE } from "../../src/plan/types.ts";
import { must } from "../../src/units.ts";

const VOCAB = 50;
const GREEDY: SamplingParams = {
  maxTokens: null,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  seed: null,
  stop: [],
  logprobs: null,
};

/**
 * A model whose next token depends on all tokens before it, which it reads from a paged cache: a wrong block,
 * a missing copy or a place written twice changes what comes out.
 */
class CacheModel implements StepExecutor {
  readonly vocabSize = VOCAB;
  readonly maxStepTokens: number;
  readonly fit: Fit;
  readonly sizes: number[] = [];
  copies = 0;
  failAt = Number.POSITIVE_INFINITY;
  readonly #cache: Int32Array;

  constructor(blocks: number, maxBatch: number, maxStepTokens: number) {
    this.maxStepTokens = maxStepTokens;
    this.#cache = new Int32Array(blocks * BLOCK_SIZE).fill(-1);
    this.fit = {
      sizes: new Map(),
      context: blocks * BLOCK_SIZE,
      maxBatch,
      blocks,
      weightBytes: 0,
      cacheBytes: 0,
      stepBytes: 0,
    };
  }

  async step(chunks: readonly StepChunk[]): Promise<StepRow[]> {
    await new Promise((resolve) => setTimeout(resolve));
    if (this.sizes.length >= this.failAt) throw new EdgeLLMError("device_lost", "the device is gone");
    this.sizes.push(chunks.reduce((total, chunk) => total + chunk.tokens.length, 0));
    for (const { tokens, start, blocks } of chunks) {
      for (const [index, token] of tokens.entries()) this.#cache[this.#place(blocks, start + index)] = token;
    }
    return chunks
      .filter((chunk) => chunk.need !== null)
      .map(({ tokens, start, blocks }) => {
        let hash = 7;
        for (let position = 0; position < start + tokens.length; position += 1) {
          hash =
            (Math.imul(hash, 31) + must(this.#cache[this.#place(blocks, position)], "a token") + 1) >>> 0;
        }
        return { id: hash % VOCAB, top: null, row: null };
      });
  }

  rows(): Promise<never> {
    return Promise.reject(new Error("greedy needs no rows"));
  }

  copyBlock(source: number, target: number): void {
    this.copies += 1;
    this.#cache.copyWithin(target * BLOCK_SIZE, source * BLOCK_SIZE, (source + 1) * BLOCK_SIZE);
  }

  close(): void {
    this.#cache.fill(-1);
  }

  #place(blocks: readonly number[], position: number): number {
    return must(blocks[Math.floor(position / BLOCK_SIZE)], "a block") * BLOCK_SIZE + (position % BLOCK_SIZE);
  }
}

/** The same model without a cache. */
function wanted(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  for (let index = 0; index < count; index += 1) {
    tokens.push(tokens.reduce((hash, token) => (Math.imul(hash, 31) + token + 1) >>> 0, 7) % VOCAB);
  }
  return tokens.slice(prompt.length);
}

function promptOf(seed: number, length: number): number[] {
  return Array.from({ length }, (_, index) => (seed * 17 + index * index * 7 + index) % VOCAB);
}

interface Answer {
  readonly tokens: Promise<number[]>;
  readonly sequence: Sequence;
}

function ask(loop: StepLoop, prompt: number[], count: number): Answer {
  let resolve: (tokens: number[]) => void;
  let reject: (error: Error) => void;
  const tokens = new Promise<number[]>((...both) => {
    [resolve, reject] = both;
  });
  const found: number[] = [];
  const sequence = new Sequence(
    prompt,
    GREEDY,
    count,
    new Set(),
    () => "x",
    (piece: Piece) => {
      found.push(...piece.tokens);
      if (piece.finishReason) resolve(found);
    },
  );
  loop.submit(sequence, (error) => reject(error));
  return { tokens, sequence };
}

describe("many sequences over a paged cache", () => {
  test("get what each would get alone, whatever joins and leaves", async () => {
    const model = new CacheModel(64, 4, 24);
    const loop = new StepLoop(model, () => undefined);
    const asked = Array.from({ length: 12 }, (_, index) => ({
      prompt: promptOf(index % 5, 3 + index * 9),
      count: 2 + index * 3,
    }));
    const answers = asked.map(({ prompt, count }) => ask(loop, prompt, count));
    for (const [index, { prompt, count }] of asked.entries()) {
      expect(await answers[index]?.tokens).toEqual(wanted(prompt, count));
    }
    await loop.idle();
    expect(loop.scheduler.pool.inUse).toBe(0);
    expect(Math.max(...model.sizes)).toBeLessThanOrEqual(24);
  });

  test("are pre-empted where blocks run out, and lose nothing", async () => {
    const model = new CacheModel(6, 3, 16);
    const loop = new StepLoop(model, () => undefined);
    const prompts = [promptOf(1, 20), promptOf(2, 18), promptOf(3, 17)];
    const answers = prompts.map((prompt) => ask(loop, prompt, 40));
    for (const [index, prompt] of prompts.entries())
      expect(await answers[index]?.tokens).toEqual(wanted(prompt, 40));
    expect(loop.scheduler.preemptions).toBeGreaterThan(0);
    expect(loop.scheduler.pool.inUse).toBe(0);
  });

  test("continue a conversation from the cache, and share what they have in common", async () => {
    const model = new CacheModel(64, 4, 32);
    const loop = new StepLoop(model, () => undefined);
    const first = promptOf(4, 50);
    const answer = await ask(loop, first, 13).tokens;
    const second = [...first, ...answer, 1, 2, 3];
    const next = ask(loop, second, 9);
    expect(await next.tokens).toEqual(wanted(second, 9));
    expect(next.sequence.cachedTokens).toBe(first.length + answer.length - 1);
    const branch = [...first, 9, 9, 9];
    const other = ask(loop, branch, 9);
    expect(await other.tokens).toEqual(wanted(branch, 9));
    expect(other.sequence.cachedTokens).toBeGreaterThanOrEqual(50);
    expect(model.copies).toBeGreaterThan(0);
  });

  test("give their places back when they are cancelled in the middle", async () => {
    const model = new CacheModel(64, 2, 32);
    const loop = new StepLoop(model, () => undefined);
    const long = ask(loop, promptOf(5, 30), 900);
    const other = ask(loop, promptOf(6, 10), 20);
    setTimeout(() => loop.cancel(long.sequence), 5);
    expect(await other.tokens).toEqual(wanted(promptOf(6, 10), 20));
    await loop.idle();
    expect(loop.scheduler.pool.inUse).toBe(0);
    const again = ask(loop, promptOf(5, 30), 5);
    expect(await again.tokens).toEqual(wanted(promptOf(5, 30), 5));
  });

  test("all end with the error when the device is gone, and so do later ones", async () => {
    const model = new CacheModel(64, 1, 32);
    const failed = vi.fn();
    const loop = new StepLoop(model, failed);
    model.failAt = 3;
    const both = [ask(loop, [1], 10), ask(loop, [2], 10)];
    for (const { tokens } of both) await expect(tokens).rejects.toMatchObject({ code: "device_lost" });
    expect(() => ask(loop, [3], 1)).toThrow("the device is gone");
    expect(failed).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: "device_lost" }));
  });
});
