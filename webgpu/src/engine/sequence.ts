/** One request inside the engine: its tokens so far, its place in the cache, when it ends. */

import { ROOT } from "./blocks.ts";
import { type Decode, IncrementalDetokenizer, StopMatcher } from "./detokenize.ts";
import { isGreedy, type SamplingParams } from "./params.ts";
import { Random } from "./random.ts";

export type FinishReason = "stop" | "length";

/** Natural log-probability of a chosen token, and of the likeliest ones where asked. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** A piece of the answer. `text` may be empty; `finishReason` is set on the last one only. */
export interface Piece {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly logprobs: readonly TokenLogprob[];
  readonly finishReason: FinishReason | null;
}

/** A token that was chosen. */
export interface Choice {
  readonly token: number;
  readonly logprob: TokenLogprob | null;
}

export class Sequence {
  readonly params: SamplingParams;
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly random: Random | null;
  /** Prompt and answer so far. */
  readonly tokens: number[];
  /** How often each token has come in the answer. */
  readonly answered = new Map<number, number>();
  /** Leading tokens whose keys and values are in the cache. */
  computed = 0;
  /** The cache blocks they lie in. */
  blocks: number[] = [];
  /** The prefix-tree node of the last sealed block. */
  node = ROOT;
  sealed = 0;
  /** Blocks that were free when these were too few to let it in, else -1. */
  refusedAt = -1;
  /** Prompt tokens taken from the cache instead of being computed. */
  cachedTokens = 0;
  readonly #ends: ReadonlySet<number>;
  readonly #detokenizer: IncrementalDetokenizer;
  readonly #stops: StopMatcher;
  readonly #send: (piece: Piece) => void;
  #unsent: number[] = [];
  #unsentLogprobs: TokenLogprob[] = [];

  /**
   * @param maxTokens new tokens at most.
   * @param ends tokens that end the answer.
   * @param send takes the pieces of the answer.
   */
  constructor(
    prompt: readonly number[],
    params: SamplingParams,
    maxTokens: number,
    ends: ReadonlySet<number>,
    decode: Decode,
    send: (piece: Piece) => void,
  ) {
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.params = params;
    this.maxTokens = maxTokens;
    this.random = isGreedy(params) ? null : new Random(params.seed);
    this.#ends = ends;
    this.#detokenizer = new IncrementalDetokenizer(decode);
    this.#stops = new StopMatcher(params.stop);
    this.#send = send;
  }

  /** Tokens generated so far. */
  get newTokens(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Whether penalties or biases change its logits. */
  get adjusted(): boolean {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.params;
    return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0 || logitBias.size > 0;
  }

  /** Takes a newly chosen token and sends its text; true if the answer ends here. */
  accept({ token, logprob }: Choice): boolean {
    if (this.#ends.has(token)) return this.#finish("stop", "");
    this.tokens.push(token);
    this.answered.set(token, (this.answered.get(token) ?? 0) + 1);
    this.#unsent.push(token);
    if (logprob) this.#unsentLogprobs.push(logprob);
    const { text, stopped } = this.#stops.add(this.#detokenizer.add(token));
    if (stopped) return this.#end(text, "stop");
    if (this.newTokens >= this.maxTokens) return this.#finish("length", text);
    // The first token goes out even if its text is held back: it tells the time to the first token.
    if (text || this.newTokens === 1) this.#flush(text, null);
    return false;
  }

  /** Ends the answer: sends `text` and all that was held back, up to a stop text should one show. */
  #finish(reason: FinishReason, text: string): true {
    const tail = this.#stops.add(this.#detokenizer.finish());
    if (tail.stopped) return this.#end(text + tail.text, "stop");
    return this.#end(text + tail.text + this.#stops.finish(), reason);
  }

  #end(text: string, reason: FinishReason): true {
    this.#flush(text, reason);
    return true;
  }

  #flush(text: string, finishReason: FinishReason | null): void {
    const piece = { text, tokens: this.#unsent, logprobs: this.#unsentLogprobs, finishReason };
    this.#unsent = [];
    this.#unsentLogprobs = [];
    this.#send(piece);
  }
}
