/** What a page is told while a bundle is opened. */

import type { FileEntry } from "./manifest.ts";

/** How far opening has come. */
export interface Progress {
  /** `check`: manifest and device; `load`: weights into the device's memory; `ready`. */
  readonly phase: "check" | "load" | "ready";
  readonly loadedBytes: number;
  /** Of those, bytes that came from the browser's storage. */
  readonly storedBytes: number;
  readonly totalBytes: number;
}

/** Adds up the bytes of files that arrive side by side. */
export class ProgressMeter {
  readonly #report: (progress: Progress) => void;
  readonly #files = new Map<string, { bytes: number; stored: number }>();
  #total = 0;

  constructor(report: (progress: Progress) => void) {
    this.#report = report;
  }

  expect(entries: readonly FileEntry[]): void {
    this.#total = entries.reduce((bytes, one) => bytes + one.bytes, 0);
  }

  moved(file: FileEntry, brought: { bytes: number; stored: number }): void {
    this.#files.set(file.path, brought);
    this.#tell("load");
  }

  ready(): void {
    this.#tell("ready");
  }

  #tell(phase: Progress["phase"]): void {
    let loadedBytes = 0;
    let storedBytes = 0;
    for (const { bytes, stored } of this.#files.values()) {
      loadedBytes += bytes;
      storedBytes += stored;
    }
    this.#report({ phase, loadedBytes, storedBytes, totalBytes: this.#total });
  }
}
