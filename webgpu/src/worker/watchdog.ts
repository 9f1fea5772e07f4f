/** Notices a worker that no longer answers: some call in it, of a hostile template say, does not come to an end. */

const TICK_MS = 1000;

export class Watchdog {
  readonly #ask: () => void;
  readonly #bark: () => void;
  #timer: ReturnType<typeof setInterval> | undefined;
  #silent = 0;
  #patience = 0;

  /**
   * @param ask sends something that the worker answers at once.
   * @param bark is called once the worker has been silent for too long; then it is not watched any more.
   */
  constructor(ask: () => void, bark: () => void) {
    this.#ask = ask;
    this.#bark = bark;
  }

  /**
   * Watches from now on, if it does not already.
   *
   * @param patience ticks without a word. They are counted and not taken from a clock: while a computer sleeps,
   *   or a page is frozen, neither side goes on.
   */
  watch(patience: number): void {
    this.#patience = patience;
    if (this.#timer !== undefined) return;
    this.#silent = 0;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** The worker said something. */
  heard(): void {
    this.#silent = 0;
  }

  #tick(): void {
    this.#silent += 1;
    if (this.#silent <= this.#patience) {
      this.#ask();
      return;
    }
    this.rest();
    this.#bark();
  }
}
