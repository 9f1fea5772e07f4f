/**
 * Files kept in the browser's private file system (OPFS), by their hashes.
 *
 * Why there and not in the Cache API: a file can grow piece by piece, so that an interrupted download goes on
 * where it stopped, and a part of one can be read without the rest.
 *
 *     edgellm/files/SHA256     a file's bytes; fewer than the manifest says while it is on its way
 *     edgellm/bundles/SHA256   of a bundle's address: the address, and the manifest of the version that is whole here
 *     edgellm/bundles/SHA256.next   the same of a version that is on its way; the other one opens until it is whole
 *
 * Nothing here is trusted: whoever reads a file hashes it.
 */

import { EdgeLLMError } from "../errors.ts";
import { decodeJson, MalformedError, object, text } from "../json.ts";
import { sha256 } from "./hash.ts";
import { decodeManifest, MAX_MANIFEST_BYTES } from "./manifest.ts";
import type { Version } from "./version.ts";

const ROOT = "edgellm";
const ACCESS_TRIES = 20;
const ACCESS_WAIT_MS = 100;
/** What a version on its way has at the end of its name. */
const NEXT = ".next";
const kept = object({ url: text(), manifest: text(undefined, MAX_MANIFEST_BYTES) });

/** The parts of a file's access handle that are used; workers only. */
export interface FileAccess {
  getSize(): number;
  read(into: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  write(from: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

interface SyncFileHandle {
  createSyncAccessHandle(): Promise<FileAccess>;
}

/** A bundle in the storage. */
export interface StoredBundle {
  readonly url: string;
  readonly name: string;
  /** Bytes of its files that are stored so far, of all versions, those shared with other bundles included. */
  readonly bytes: number;
}

interface StoredVersion extends Version {
  readonly url: string;
}

export class BundleStore {
  readonly #files: FileSystemDirectoryHandle;
  readonly #bundles: FileSystemDirectoryHandle;

  private constructor(files: FileSystemDirectoryHandle, bundles: FileSystemDirectoryHandle) {
    this.#files = files;
    this.#bundles = bundles;
  }

  /** The storage; null where the browser refuses it, as some do in private windows. */
  static async open(): Promise<BundleStore | null> {
    try {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
      const files = await root.getDirectoryHandle("files", { create: true });
      return new BundleStore(files, await root.getDirectoryHandle("bundles", { create: true }));
    } catch {
      return null;
    }
  }

  /** A file for reading and writing, by nobody else meanwhile; null if that cannot be had. */
  access(hash: string): Promise<FileAccess | null> {
    return accessTo(this.#files, hash);
  }

  /** Bytes stored of a file. */
  async size(hash: string): Promise<number> {
    try {
      return (await (await this.#files.getFileHandle(hash)).getFile()).size;
    } catch {
      return 0;
    }
  }

  /**
   * Keeps a bundle's manifest, so that its files stay. The version that is whole opens without a network until
   * the next one is, and takes its place. Whenever writing is cut short, one of the two can still be read.
   */
  async remember(url: string, manifest: Uint8Array, state: "whole" | "on its way"): Promise<void> {
    const key = await keyOf(url);
    const text = new TextDecoder().decode(manifest);
    const isWhole = async () => new TextDecoder().decode((await this.recall(url, "whole"))?.data) === text;
    const whole = state === "whole";
    if (!(await isWhole())) await this.#write(whole ? key : key + NEXT, url, text);
    if (whole && (await isWhole())) await remove(this.#bundles, key + NEXT);
  }

  /** The version that is whole here; failing that, unless it must be, one on its way. Null if there is none. */
  async recall(url: string, state: "whole" | "any" = "any"): Promise<Version | null> {
    const key = await keyOf(url);
    return (await this.#read(key)) ?? (state === "whole" ? null : this.#read(key + NEXT));
  }

  async list(): Promise<StoredBundle[]> {
    const versions = await this.#versions();
    const newest = new Map(versions.map((one) => [one.url, one.manifest]));
    const sizes = [...newest].map(async ([url, manifest]) => {
      const hashes = filesOf(versions.filter((one) => one.url === url));
      const bytes = await Promise.all([...hashes].map((hash) => this.size(hash)));
      return { url, name: manifest.source.name, bytes: bytes.reduce((total, one) => total + one, 0) };
    });
    return Promise.all(sizes);
  }

  /** Removes a bundle and the files that no other one has. */
  async remove(url: string): Promise<void> {
    const key = await keyOf(url);
    for (const one of [key, key + NEXT]) await remove(this.#bundles, one);
    await this.sweep();
  }

  /** Removes files of no bundle, such as those of an older version. */
  async sweep(): Promise<void> {
    const used = filesOf(await this.#versions());
    for (const hash of await namesIn(this.#files)) if (!used.has(hash)) await remove(this.#files, hash);
  }

  /** All that can be read, of a bundle the one on its way last; what cannot is removed. */
  async #versions(): Promise<StoredVersion[]> {
    const found: StoredVersion[] = [];
    for (const key of (await namesIn(this.#bundles)).sort()) {
      const entry = await this.#read(key);
      if (entry) found.push(entry);
      else await remove(this.#bundles, key);
    }
    return found;
  }

  async #write(key: string, url: string, manifest: string): Promise<void> {
    const text = JSON.stringify({ url, manifest });
    const access = await accessTo(this.#bundles, key);
    try {
      access?.truncate(0);
      access?.write(new TextEncoder().encode(text), { at: 0 });
      access?.flush();
    } catch (error) {
      // There is no room: the bundle is fetched again next time.
      if (!(error instanceof DOMException)) throw error;
    } finally {
      access?.close();
    }
  }

  /** Null if it is not there, or was not written to its end. */
  async #read(key: string): Promise<StoredVersion | null> {
    try {
      const file = await (await this.#bundles.getFileHandle(key)).getFile();
      if (file.size > 2 * MAX_MANIFEST_BYTES) return null;
      const { url, manifest } = decodeJson(new Uint8Array(await file.arrayBuffer()), kept);
      const data = new TextEncoder().encode(manifest);
      return { url, data, manifest: await decodeManifest(data, url) };
    } catch (error) {
      const expected = [MalformedError, EdgeLLMError, DOMException].some((one) => error instanceof one);
      if (expected) return null;
      throw error;
    }
  }
}

/** Hashes of their files. */
function filesOf(versions: readonly Version[]): Set<string> {
  return new Set(versions.flatMap((one) => one.manifest.files.map((file) => file.sha256)));
}

/** Waits a little for a file that is in use: by another page, or by a worker that is just ending. */
async function accessTo(folder: FileSystemDirectoryHandle, name: string): Promise<FileAccess | null> {
  for (let tries = 0; tries < ACCESS_TRIES; tries += 1) {
    try {
      const handle = await folder.getFileHandle(name, { create: true });
      return await (handle as unknown as SyncFileHandle).createSyncAccessHandle();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NoModificationAllowedError") return null;
      await new Promise((resolve) => setTimeout(resolve, ACCESS_WAIT_MS));
    }
  }
  return null;
}

function keyOf(url: string): Promise<string> {
  return sha256(new TextEncoder().encode(url));
}

async function namesIn(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  for await (const name of folder.keys()) names.push(name);
  return names;
}

/** Removes a file; one that is in use elsewhere stays until the next time. */
async function remove(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await folder.removeEntry(name);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}

/** Bytes that the browser lets this site keep yet; null if it does not say. */
export async function roomLeft(): Promise<number | null> {
  try {
    const { quota, usage } = await navigator.storage.estimate();
    return quota === undefined ? null : Math.max(0, quota - (usage ?? 0));
  } catch {
    return null;
  }
}
