/** The files of a bundle: from the storage where they are whole, else from the network; always hashed. */

import { EdgeLLMError, throwIfAborted } from "../errors.ts";
import { type DownloadOptions, download } from "./download.ts";
import { sha256 } from "./hash.ts";
import type { FileEntry, Manifest } from "./manifest.ts";
import type { BundleStore, FileAccess } from "./store.ts";

/** How often a file is fetched anew whose bytes are not those of the manifest. */
const FRESH_TRIES = 2;

/** What has been brought so far. */
export interface Brought {
  /** Bytes of the file in hand, from wherever they came. */
  readonly bytes: number;
  /** Those of them that came from the storage. */
  readonly stored: number;
}

export interface FilesOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told as a file's bytes arrive; they begin again where stored ones turn out to be damaged. */
  readonly onBytes?: (file: FileEntry, brought: Brought) => void;
}

export class BundleFiles {
  readonly base: string;
  readonly manifest: Manifest;
  readonly store: BundleStore | null;
  /** Stored files that were damaged and have been fetched again. */
  readonly healed: string[] = [];
  readonly #entries: ReadonlyMap<string, FileEntry>;

  /** @param base the bundle's address, ending in a slash. */
  constructor(base: string, manifest: Manifest, store: BundleStore | null) {
    this.base = base;
    this.manifest = manifest;
    this.store = store;
    this.#entries = new Map(manifest.files.map((one) => [one.path, one]));
  }

  has(path: string): boolean {
    return this.#entries.has(path);
  }

  /** @throws {EdgeLLMError} `bundle`: the manifest does not list it, or it is larger than `most` bytes. */
  entry(path: string, most = Number.MAX_SAFE_INTEGER): FileEntry {
    const found = this.#entries.get(path);
    if (!found) throw new EdgeLLMError("bundle", `${this.base} has no file ${path}; build the bundle again`);
    if (found.bytes > most)
      throw new EdgeLLMError("bundle", `${this.base}${path} is larger than ${most} bytes`);
    return found;
  }

  /** Bytes of these files that are not stored yet. */
  async missing(files: Iterable<FileEntry>): Promise<number> {
    let bytes = 0;
    for (const file of files) {
      const stored = (await this.store?.size(file.sha256)) ?? 0;
      bytes += Math.max(0, file.bytes - stored);
    }
    return bytes;
  }

  async text(path: string, most: number, options: FilesOptions = {}): Promise<string> {
    return new TextDecoder().decode(await this.bytes(this.entry(path, most), options));
  }

  /**
   * A file's bytes, which are those of the manifest. What is missing in the storage is fetched and kept there;
   * a damaged file is replaced.
   *
   * @throws {EdgeLLMError} `network`, `aborted`; `bundle`: the server's file is not the manifest's.
   */
  bytes(file: FileEntry, options: FilesOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return alone(file.sha256, options.signal, async () => {
      throwIfAborted(options.signal);
      const access = (await this.store?.access(file.sha256)) ?? null;
      try {
        return await this.#bring(file, new Kept(access), options);
      } finally {
        access?.close();
      }
    });
  }

  async #bring(
    file: FileEntry,
    kept: Kept,
    { signal, onBytes }: FilesOptions,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const data = reserve(file, this.base);
    let have = kept.read(data);
    const whole = have === data.length;
    onBytes?.(file, { bytes: have, stored: have });
    if (whole && (await sha256(data)) === file.sha256) return data;
    if (whole && data.length > 0) {
      this.healed.push(file.path);
      have = kept.discard();
    }
    for (let tries = 0; ; tries += 1) {
      const stored = have;
      const write: DownloadOptions["write"] = (bytes, at) => {
        data.set(bytes, at);
        kept.write(bytes, at);
        onBytes?.(file, { bytes: at + bytes.length, stored: Math.min(stored, at) });
      };
      await download(new URL(file.path, this.base).href, have, data.length, { signal, write });
      if ((await sha256(data)) === file.sha256) {
        kept.flush();
        return data;
      }
      have = kept.discard();
      // The first part may have been damaged, or of another version: all of it once more.
      if (tries + 1 >= FRESH_TRIES) {
        throw new EdgeLLMError(
          "bundle",
          `${this.base}${file.path} is not the file of the manifest: it was damaged on the server or on the way, ` +
            "or belongs to another version; publish the bundle again as a whole",
        );
      }
    }
  }
}

/** A stored file while it is read and written. Without one, or where there is no room, nothing is kept. */
class Kept {
  #access: FileAccess | null;

  constructor(access: FileAccess | null) {
    this.#access = access;
  }

  /** Fills the beginning of `data`; how many bytes. */
  read(data: Uint8Array<ArrayBuffer>): number {
    const size = this.#access?.getSize() ?? 0;
    if (size > data.length) return this.discard();
    return this.#access?.read(data.subarray(0, size), { at: 0 }) ?? 0;
  }

  write(bytes: Uint8Array<ArrayBuffer>, at: number): void {
    try {
      const written = this.#access?.write(bytes, { at }) ?? bytes.length;
      if (written < bytes.length) this.#giveUp(at + written);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#giveUp(at);
    }
  }

  flush(): void {
    this.#access?.flush();
  }

  /** Empties the file; 0. */
  discard(): number {
    this.#access?.truncate(0);
    return 0;
  }

  /** There is no more room: what is stored stays, for the next time. */
  #giveUp(size: number): void {
    try {
      this.#access?.truncate(size);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
    this.#access = null;
  }
}

function reserve(file: FileEntry, base: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(file.bytes);
  } catch {
    throw new EdgeLLMError(
      "out_of_memory",
      `there is no memory for the ${file.bytes} bytes of ${base}${file.path}`,
    );
  }
}

/** Runs `work` while no other page of this site works on the same file. */
async function alone<T>(hash: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const { locks } = navigator as { locks?: LockManager };
  if (!locks) return work();
  try {
    return (await locks.request(`edgellm ${hash}`, signal ? { signal } : {}, work)) as T;
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}
