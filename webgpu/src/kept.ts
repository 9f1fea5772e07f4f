/** Bundles in the browser's storage: what is there, and removing it. */

import { BundleStore } from "./bundle/store.ts";
import { findUpdate } from "./bundle/version.ts";

/** A bundle in this site's storage. */
export interface KeptBundle {
  readonly url: string;
  readonly name: string;
  /** Bytes of its files that are stored. */
  readonly bytes: number;
}

/** The bundles that are stored; none where the browser refuses storage. */
export async function listBundles(): Promise<KeptBundle[]> {
  const found = (await (await BundleStore.open())?.list()) ?? [];
  return found.map(({ url, name, bytes }) => ({ url, name, bytes }));
}

/** Removes a bundle from the storage, with all files that no other one has. */
export async function removeBundle(bundle: string | URL): Promise<void> {
  await (await BundleStore.open())?.remove(addressOf(bundle));
}

/**
 * Whether another version of a stored bundle has been published: the bytes that it takes to download; null if there
 * is none.
 *
 * @throws {EdgeLLMError} `network`, `bundle`: it cannot be known.
 */
export async function updateOf(bundle: string | URL): Promise<number | null> {
  const store = await BundleStore.open();
  return store && findUpdate(addressOf(bundle), store);
}

function addressOf(bundle: string | URL): string {
  const url = new URL(bundle, document.baseURI).href;
  return url.endsWith("/") ? url : `${url}/`;
}
