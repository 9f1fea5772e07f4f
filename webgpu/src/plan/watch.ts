/** Failures that end an engine, also those that arrive on their own: the device was lost, or refused something after the call. */

import { EdgeLLMError, reason } from "../errors.ts";

/** How long a failed step waits for the browser to say that the device is lost, ms. */
const PATIENCE = 500;

export class DeviceWatch {
  readonly #device: GPUDevice;
  readonly #name: string;
  readonly #context: number;
  readonly #failed: Promise<EdgeLLMError>;
  #tell: (error: EdgeLLMError) => void = () => undefined;
  #failure: EdgeLLMError | null = null;
  #closing = false;

  /** @param context tokens of a sequence as the engine was opened, for the advice in an error. */
  constructor(device: GPUDevice, name: string, context: number) {
    this.#device = device;
    this.#name = name;
    this.#context = context;
    this.#failed = new Promise((resolve) => {
      this.#tell = resolve;
    });
    device.addEventListener("uncapturederror", (event) => {
      this.fail(this.#refused((event as GPUUncapturedErrorEvent).error));
    });
    void device.lost.then((info) => {
      if (!this.#closing)
        this.fail(this.#lost(info.reason === "destroyed" ? "it was shut down" : info.message));
    });
  }

  get failure(): EdgeLLMError | null {
    return this.#failure;
  }

  /** Resolves with the error once the device is lost, or something has failed after which nothing goes on. */
  failed(): Promise<EdgeLLMError> {
    return this.#failed;
  }

  /** Nothing goes on after this error; the first of several counts, and is returned. */
  fail(error: EdgeLLMError): EdgeLLMError {
    this.#failure ??= error;
    this.#tell(this.#failure);
    return this.#failure;
  }

  /** From now on the loss of the device is no failure: it is being closed. */
  closing(): void {
    this.#closing = true;
  }

  throwIfFailed(): void {
    if (this.#failure) throw this.#failure;
  }

  /** What a rejected call means, once the browser has had time to say that the device is lost. */
  async explain(thrown: unknown): Promise<EdgeLLMError> {
    if (thrown instanceof EdgeLLMError) return thrown;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise((resolve) => {
      timer = setTimeout(resolve, PATIENCE);
    });
    await Promise.race([this.#device.lost, patience]);
    clearTimeout(timer);
    await Promise.resolve(); // the handler of the constructor runs first
    return this.#failure ?? this.fail(this.#lost(reason(thrown)));
  }

  /** Runs `allocate`, which makes buffers; says so if there was no memory for them. */
  async memory<T>(what: string, bytes: number, allocate: () => T): Promise<T> {
    this.#device.pushErrorScope("out-of-memory");
    this.#device.pushErrorScope("validation");
    let made: T;
    try {
      made = allocate();
    } finally {
      const scopes = [this.#device.popErrorScope(), this.#device.popErrorScope()];
      for (const error of await Promise.all(scopes)) {
        if (error) this.fail(this.noMemory(what, bytes, error.message));
      }
    }
    this.throwIfFailed();
    return made;
  }

  noMemory(what: string, bytes: number, said: string): EdgeLLMError {
    return new EdgeLLMError(
      "out_of_memory",
      `${this.#name} has no room for ${what} of ${bytes.toLocaleString("en")} bytes (${reason(said)}). ` +
        "Close other pages and apps, or take a smaller context",
      { context: this.#context },
    );
  }

  #refused(error: GPUError): EdgeLLMError {
    if (error instanceof GPUOutOfMemoryError) return this.noMemory("a buffer", 0, error.message);
    return this.#lost(`the browser refused a step: ${error.message}`);
  }

  #lost(said: string): EdgeLLMError {
    return new EdgeLLMError(
      "device_lost",
      `${this.#name} stopped (${reason(said)}). Likely causes: its memory ran out, the driver ended a step ` +
        "that took too long, or the device went away. Open the engine again, with a smaller context if it " +
        "happens again",
      { context: this.#context },
    );
  }
}
