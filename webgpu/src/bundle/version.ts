/** Which version of a bundle to open: the one on the network, or the one in the storage. */

import { fetchWhole } from "./download.ts";
import { BundleFiles } from "./files.ts";
import { decodeManifest, MANIFEST_NAME, MAX_MANIFEST_BYTES, type Manifest } from "./manifest.ts";
import type { BundleStore } from "./store.ts";

/** How long the network may take for a manifest where the storage has one, ms. */
const PATIENCE_MS = 5000;

/** A manifest, and its bytes as they were read. */
export interface Version {
  readonly manifest: Manifest;
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * The version on the network; the one in the storage where the network brings nothing of use.
 *
 * @param base the bundle's address, ending in a slash.
 * @throws {EdgeLLMError} `network`, `aborted`; `bundle`: it is damaged.
 */
export async function newestVersion(
  base: string,
  store: BundleStore | null,
  signal: AbortSignal,
): Promise<Version> {
  const stored = await store?.recall(base);
  try {
    return await fetchVersion(base, signal, stored ? PATIENCE_MS : undefined);
  } catch (error) {
    if (!stored || signal.aborted) throw error;
    return stored;
  }
}

/**
 * Bytes that are to be downloaded for the version on the network; null if the one that is stored whole is the
 * same, or none is.
 */
export async function findUpdate(base: string, store: BundleStore): Promise<number | null> {
  const stored = await store.recall(base, "whole");
  if (!stored) return null;
  const { manifest } = await fetchVersion(base, undefined, PATIENCE_MS);
  if (manifest.checksum === stored.manifest.checksum) return null;
  // Of what both have, what is not stored is not needed on this device.
  const shared = new Set(stored.manifest.files.map((one) => one.sha256));
  const other = manifest.files.filter((one) => !shared.has(one.sha256));
  return new BundleFiles(base, manifest, store).missing(other);
}

async function fetchVersion(
  base: string,
  signal: AbortSignal | undefined,
  limitMs: number | undefined,
): Promise<Version> {
  const where = `${base}${MANIFEST_NAME}`;
  const data = await fetchWhole(where, MAX_MANIFEST_BYTES, signal, limitMs);
  return { data, manifest: await decodeManifest(data, where) };
}
