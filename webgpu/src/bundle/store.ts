/**
 * Files kept in the browser's private file system (OPFS), by their hashes.
 *
 * Why there and not in the Cache API: a file can grow piece by piece, so that an interrupted download goes on
 * where it stopped, and a part of one can be read without the rest.
 *
 *     edgellm/files/SHA256     a file's bytes; fewer than the manifest says while it is on its way
 *     edgellm/bundles/SHA256   of a bundle's address: the address and the manifest as it was fetched
 *
 * Nothing here is trusted: whoever reads a file hashes it.
 */

import { decodeJson, MalformedError, object, text } from "../json.ts";
import { sha256 } from "./hash.ts";
import { decodeManifest, MAX_MANIFEST_BYTES, type Manifest } from "./manifest.ts";

const ROOT = "edgellm";
const ACCESS_TRIES = 20;
const ACCESS_WAIT_MS = 100;
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
  /** Bytes of its files that are stored so far, those shared with other bundles included. */
  readonly bytes: number;
  readonly manifest: Manifest;
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

  /** Keeps a bundle's manifest, so that it opens without a network, and its files stay. */
  async remember(url: string, manifest: Uint8Array): Promise<void> {
    const text = JSON.stringify({ url, manifest: new TextDecoder().decode(manifest) });
    const access = await accessTo(this.#bundles, await keyOf(url));
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

  /** The manifest of a bundle as it was fetched last; null if it is not there. */
  async recall(url: string): Promise<Uint8Array<ArrayBuffer> | null> {
    return (await this.#read(await keyOf(url)))?.manifest ?? null;
  }

  async list(): Promise<StoredBundle[]> {
    const found: StoredBundle[] = [];
    for (const key of await namesIn(this.#bundles)) {
      const entry = await this.#read(key);
      if (entry === null) continue;
      try {
        const manifest = await decodeManifest(entry.manifest, entry.url);
        const sizes = await Promise.all(manifest.files.map((one) => this.size(one.sha256)));
        const bytes = sizes.reduce((total, one) => total + one, 0);
        found.push({ url: entry.url, name: manifest.source.name, bytes, manifest });
      } catch {
        await remove(this.#bundles, key);
      }
    }
    return found;
  }

  /** Removes a bundle and the files that no other one has. */
  async remove(url: string): Promise<void> {
    await remove(this.#bundles, await keyOf(url));
    await this.sweep();
  }

  /** Removes files of no bundle, such as those of an older version. */
  async sweep(): Promise<void> {
    const used = new Set((await this.list()).flatMap((one) => one.manifest.files.map((file) => file.sha256)));
    for (const hash of await namesIn(this.#files)) if (!used.has(hash)) await remove(this.#files, hash);
  }

  async #read(key: string): Promise<{ url: string; manifest: Uint8Array<ArrayBuffer> } | null> {
    try {
      const file = await (await this.#bundles.getFileHandle(key)).getFile();
      if (file.size > 2 * MAX_MANIFEST_BYTES) return null;
      const { url, manifest } = decodeJson(new Uint8Array(await file.arrayBuffer()), kept);
      return { url, manifest: new TextEncoder().encode(manifest) };
    } catch (error) {
      if (error instanceof MalformedError || error instanceof DOMException) return null;
      throw error;
    }
  }
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
