/** Bundles in the browser's storage: what is there, and removing it. */

import { BundleStore } from "./bundle/store.ts";

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
  const url = new URL(bundle, document.baseURI).href;
  await (await BundleStore.open())?.remove(url.endsWith("/") ? url : `${url}/`);
}
