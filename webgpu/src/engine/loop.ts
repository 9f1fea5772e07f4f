/** The step loop: schedules, runs and samples steps. Between any two a request can join, leave or be cancelled. */

import { asError, EdgeLLMError } from "../errors.ts";
import type { StepExecutor, StepRow } from "../plan/executor.ts";
import { BLOCK_SIZE } from "../plan/types.ts";
import { must } from "../units.ts";
import { chooseFromRow, chooseFromTop, type Need, needOf } from "./sampling.ts";
import { type Chunk, endsAtLastToken, type Schedule, Scheduler } from "./scheduler.ts";
import type { Choice, Sequence } from "./sequence.ts";

/** Requests that may wait. */
const MAX_QUEUE = 256;

export class StepLoop {
  readonly scheduler: Scheduler;
  steps = 0;
  readonly #executor: StepExecutor;
  readonly #onFailure: (error: EdgeLLMError) => void;
  /** Whom to tell when a sequence fails. */
  readonly #failed = new Map<Sequence, (error: EdgeLLMError) => void>();
  #running: Promise<void> | null = null;
  #closed: EdgeLLMError | null = null;

  /** @param onFailure is called when a step has failed, after which there are no others. */
  constructor(executor: StepExecutor, onFailure: (error: EdgeLLMError) => void) {
    this.#executor = executor;
    this.#onFailure = onFailure;
    this.scheduler = new Scheduler({
      maxBatch: executor.fit.maxBatch,
      maxStepTokens: executor.maxStepTokens,
      numBlocks: executor.fit.blocks,
      blockSize: BLOCK_SIZE,
    });
  }

  /**
   * Queues a sequence; it can be part of the very next step.
   *
   * @param fail is called if it ends with an error.
   * @throws {EdgeLLMError} `queue_full`, or why the loop has ended.
   */
  submit(sequence: Sequence, fail: (error: EdgeLLMError) => void): void {
    if (this.#closed) throw this.#closed;
    const { waiting } = this.scheduler;
    if (waiting.length >= MAX_QUEUE) {
      throw new EdgeLLMError("queue_full", `${waiting.length} requests wait already; try again later`);
    }
    waiting.push(sequence);
    this.#failed.set(sequence, fail);
    this.#running ??= this.#run();
  }

  /** Lets go of a sequence between two steps, without a word. */
  cancel(sequence: Sequence): void {
    if (this.#failed.delete(sequence)) this.scheduler.remove(sequence);
  }

  /** Ends all sequences with `error`, now and in future. */
  close(error: EdgeLLMError): void {
    this.#closed ??= error;
    this.#failAll([...this.scheduler.running, ...this.scheduler.waiting], this.#closed);
  }

  /** Resolves when nothing is under way on the device. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // what is submitted at once shares the first step
    while (!this.#closed && this.scheduler.running.length + this.scheduler.waiting.length > 0)
      await this.#step();
    this.#running = null;
  }

  async #step(): Promise<void> {
    try {
      const schedule = this.scheduler.schedule();
      if (schedule.chunks.length === 0) throw new Error("no sequence can go on");
      const chosen = await this.#execute(schedule);
      this.steps += 1;
      // A sequence that was cancelled meanwhile has given its blocks back.
      for (const chunk of schedule.chunks)
        if (this.#failed.has(chunk.sequence)) this.scheduler.advance(chunk);
      for (const [sequence, choice] of chosen) {
        if (this.#failed.has(sequence) && sequence.accept(choice)) this.cancel(sequence);
      }
    } catch (thrown) {
      // Nothing goes on after a failed step: the device is gone, or what it holds is not to be trusted.
      const error = asError(thrown);
      this.close(error);
      this.#onFailure(error);
    }
  }

  /** Runs a step; the next tokens of the sequences whose last token is in it. */
  async #execute({ chunks, copies }: Schedule): Promise<Map<Sequence, Choice>> {
    for (const { source, target } of copies) this.#executor.copyBlock(source, target);
    const needs = chunks.map((chunk): Need | null =>
      endsAtLastToken(chunk) ? needOf(chunk.sequence) : null,
    );
    const sampled = chunks.filter((_, index) => needs[index] !== null).map((chunk) => chunk.sequence);
    const rows = await this.#executor.step(chunks.map((chunk, index) => packed(chunk, needs[index] ?? null)));
    const uniform = sampled.map((sequence) => sequence.random?.uniform() ?? 0);
    const choices = sampled.map((sequence, place) =>
      this.#choose(sequence, must(rows[place], "a row"), uniform[place] ?? 0),
    );
    const open = choices.flatMap((choice, place) => (choice === null ? [place] : []));
    const whole = open.length ? await this.#executor.rows(open) : [];
    for (const [index, place] of open.entries()) {
      const sequence = must(sampled[place], "a sequence");
      choices[place] = chooseFromRow(sequence, must(whole[index], "a row"), uniform[place] ?? 0);
    }
    return new Map(sampled.map((sequence, place) => [sequence, must(choices[place], "a choice")]));
  }

  /** From what the step brought back; null: the whole row is needed. */
  #choose(sequence: Sequence, { id, top, row }: StepRow, uniform: number): Choice | null {
    if (row) return chooseFromRow(sequence, row, uniform);
    if (top) return chooseFromTop(sequence, { ...top, vocabSize: this.#executor.vocabSize }, uniform);
    return { token: must(id, "an id"), logprob: null };
  }

  #failAll(sequences: readonly Sequence[], error: EdgeLLMError): void {
    for (const sequence of sequences) {
      const fail = this.#failed.get(sequence);
      this.cancel(sequence);
      fail?.(error);
    }
  }
}

function packed({ sequence, count }: Chunk, need: Need | null) {
  const { tokens, computed: start, blocks } = sequence;
  return { tokens: tokens.slice(start, start + count), start, blocks, need };
}
