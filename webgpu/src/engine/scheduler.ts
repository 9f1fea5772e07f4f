/**
 * Which tokens of which sequences run in the next step (iteration-level scheduling, chunked prefill).
 *
 * Running decodes come first, one token each; prefill chunks fill the rest of the token budget, or half of it
 * beside decodes; waiting sequences are admitted in the order of their arrival while there are places and
 * blocks. When a running sequence finds no block, the youngest is pre-empted: its blocks are given back and
 * it returns to the head of the queue, to be recomputed. The oldest is never pre-empted, so there is always
 * progress.
 */

import { ceilDiv, must } from "../units.ts";
import { BlockPool } from "./blocks.ts";
import type { Sequence } from "./sequence.ts";

export interface SchedulerLimits {
  readonly maxBatch: number;
  readonly maxStepTokens: number;
  readonly numBlocks: number;
  readonly blockSize: number;
}

/** `count` tokens of a sequence, from its first token that is not in the cache yet. */
export interface Chunk {
  readonly sequence: Sequence;
  readonly count: number;
}

/** The next step: first the `copies` of blocks in order, then the `chunks`. */
export interface Schedule {
  readonly chunks: readonly Chunk[];
  readonly copies: readonly { readonly source: number; readonly target: number }[];
}

/** Whether logits of the next token come out of a chunk. */
export function endsAtLastToken({ sequence, count }: Chunk): boolean {
  return sequence.computed + count === sequence.tokens.length;
}

export class Scheduler {
  readonly pool: BlockPool;
  /** In the order of arrival, those that were pre-empted first. */
  readonly waiting: Sequence[] = [];
  /** In order of admission: the last one is the youngest. */
  readonly running: Sequence[] = [];
  preemptions = 0;
  readonly #maxBatch: number;
  readonly #budget: number;
  // A step takes as long as its prompt tokens do, and whoever decodes waits for it.
  readonly #budgetBesideDecodes: number;

  constructor(limits: SchedulerLimits) {
    this.pool = new BlockPool(limits.numBlocks, limits.blockSize);
    this.#maxBatch = limits.maxBatch;
    this.#budget = limits.maxStepTokens;
    this.#budgetBesideDecodes = Math.max(1, Math.floor(limits.maxStepTokens / 2));
  }

  /** The next step, blocks allocated; without chunks only if there is nothing to do. */
  schedule(): Schedule {
    let chunks: Chunk[] = [];
    const copies: { source: number; target: number }[] = [];
    let budget = this.#budget;
    const decodes = this.running.filter((one) => one.tokens.length - one.computed === 1);
    const prefills = this.running.filter((one) => one.tokens.length - one.computed > 1);
    for (const sequence of decodes) budget -= this.#continue(sequence, budget, chunks);
    if (chunks.length) budget = Math.min(budget, this.#budgetBesideDecodes);
    for (const sequence of prefills) budget -= this.#continue(sequence, budget, chunks);
    // Growing may have pre-empted a sequence that already had a chunk.
    chunks = chunks.filter((chunk) => this.running.includes(chunk.sequence));
    while (budget > 0 && this.running.length < this.#maxBatch) {
      const [sequence] = this.waiting;
      if (sequence === undefined || !this.#admit(sequence, copies)) break;
      this.waiting.shift();
      this.running.push(sequence);
      const count = Math.min(sequence.tokens.length - sequence.computed, budget);
      this.#grow(sequence, count);
      chunks.push({ sequence, count });
      budget -= count;
    }
    return { chunks, copies };
  }

  /** Notes that a chunk has run, and seals the blocks it filled. */
  advance({ sequence, count }: Chunk): void {
    const size = this.pool.blockSize;
    sequence.computed += count;
    while ((sequence.sealed + 1) * size <= sequence.computed) {
      const at = sequence.sealed;
      const tokens = sequence.tokens.slice(at * size, (at + 1) * size);
      const { block, node } = this.pool.seal(must(sequence.blocks[at], "a block"), sequence.node, tokens);
      sequence.blocks[at] = block;
      sequence.node = node;
      sequence.sealed += 1;
    }
  }

  /** Lets a finished, cancelled or failed sequence go. */
  remove(sequence: Sequence): void {
    const running = this.running.indexOf(sequence);
    if (running >= 0) {
      this.running.splice(running, 1);
      this.#dropBlocks(sequence);
      return;
    }
    const waiting = this.waiting.indexOf(sequence);
    if (waiting >= 0) this.waiting.splice(waiting, 1);
  }

  /** Adds a running sequence's next chunk to the step; the tokens that it has. */
  #continue(sequence: Sequence, budget: number, chunks: Chunk[]): number {
    const count = Math.min(sequence.tokens.length - sequence.computed, budget);
    if (count <= 0 || !this.running.includes(sequence) || !this.#grow(sequence, count)) return 0;
    chunks.push({ sequence, count });
    return count;
  }

  /** Takes the cached prefix of a waiting sequence, if the blocks for the rest of it are there too. */
  #admit(sequence: Sequence, copies: { source: number; target: number }[]): boolean {
    const size = this.pool.blockSize;
    const lone = this.running.length === 0;
    // Nothing has come back since the last look: no need to look again at every step.
    if (!lone && this.pool.available <= sequence.refusedAt) return false;
    const prefix = this.pool.match(sequence.tokens);
    const needed = ceilDiv(sequence.tokens.length + 1, size) - prefix.blocks.length;
    // With nothing running, what a lone sequence lacks can only be freed by itself: let it in.
    if (needed > this.pool.available && !lone) {
      this.pool.release(prefix.blocks);
      sequence.refusedAt = this.pool.available;
      return false;
    }
    sequence.refusedAt = -1;
    sequence.blocks = prefix.blocks;
    sequence.node = prefix.node;
    sequence.sealed = prefix.blocks.length;
    sequence.computed = sequence.sealed * size;
    const found = this.pool.follow(prefix);
    if (found) {
      if (found.block !== found.source) copies.push({ source: found.source, target: found.block });
      sequence.blocks.push(found.block);
      sequence.computed += prefix.alike;
    }
    if (sequence.newTokens === 0) sequence.cachedTokens = sequence.computed;
    return true;
  }

  /** Gives a running sequence blocks for `count` more tokens; false if it had to be pre-empted. */
  #grow(sequence: Sequence, count: number): boolean {
    const needed = ceilDiv(sequence.computed + count, this.pool.blockSize);
    while (sequence.blocks.length < needed) {
      const block = this.pool.allocate();
      if (block !== null) {
        sequence.blocks.push(block);
        continue;
      }
      const youngest = must(this.running.pop(), "a running sequence");
      this.#dropBlocks(youngest);
      this.waiting.unshift(youngest);
      this.preemptions += 1;
      if (youngest === sequence) return false;
    }
    return true;
  }

  #dropBlocks(sequence: Sequence): void {
    const start = sequence.sealed * this.pool.blockSize;
    if (start < sequence.computed) {
      const last = sequence.tokens.slice(start, sequence.computed);
      this.pool.shelve(must(sequence.blocks[sequence.sealed], "a block"), sequence.node, last);
    }
    this.pool.release(sequence.blocks);
    sequence.blocks = [];
    sequence.node = 0;
    sequence.sealed = 0;
    sequence.computed = 0;
  }
}
