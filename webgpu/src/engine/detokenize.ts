/** From token ids to text as it arrives: no broken UTF-8, no text past a stop text. */

const REPLACEMENT = "\ufffd";
/** Tokens held back at most while a character is incomplete; UTF-8 needs 4 bytes, so more is not text. */
const MAX_PENDING = 32;

export type Decode = (ids: readonly number[]) => string;

/**
 * Turns tokens into text piece by piece, so that the pieces add up to the decoded whole.
 *
 * A token can end in the middle of a character, and some decoders strip a space at the start of a text. So
 * each new token is decoded together with the tokens of the piece before it, and what that piece gave alone
 * is cut off; text that ends in U+FFFD waits for the rest of its character.
 */
export class IncrementalDetokenizer {
  readonly #decode: Decode;
  /** Tokens of the last piece. */
  #context: number[] = [];
  #contextText = "";
  #pending: number[] = [];

  constructor(decode: Decode) {
    this.#decode = decode;
  }

  /** Text that became complete with this token; "" while a character is incomplete. */
  add(token: number): string {
    this.#pending.push(token);
    const text = this.#decode([...this.#context, ...this.#pending]);
    if (text.endsWith(REPLACEMENT) && this.#pending.length < MAX_PENDING) return "";
    return this.#emit(text);
  }

  /** What is still held back, broken characters included. */
  finish(): string {
    return this.#pending.length ? this.#emit(this.#decode([...this.#context, ...this.#pending])) : "";
  }

  #emit(text: string): string {
    const piece = text.slice(this.#contextText.length);
    // A token that gives no text yet (a leading space, a special token) may matter to the next one.
    if (piece || this.#pending.length >= MAX_PENDING) {
      this.#context = this.#pending;
      this.#pending = [];
      this.#contextText = this.#decode(this.#context);
    }
    return piece;
  }
}

/** Finds the first of several stop texts in a stream, also when it is cut anywhere by token borders. */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Text that cannot be part of a stop, and whether a stop was found; then the stream is over. */
  add(text: string): { text: string; stopped: boolean } {
    if (this.#stops.length === 0) return { text, stopped: false };
    this.#held += text;
    const found = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0);
    if (found.length) return { text: this.#held.slice(0, Math.min(...found)), stopped: true };
    const cut = this.#held.length - Math.max(...this.#stops.map((stop) => overlap(this.#held, stop)));
    const safe = this.#held.slice(0, cut);
    this.#held = this.#held.slice(cut);
    return { text: safe, stopped: false };
  }

  /** What was held back as the possible start of a stop text. */
  finish(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}

/** Length of the longest proper beginning of `stop` that `text` ends with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length -= 1) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
