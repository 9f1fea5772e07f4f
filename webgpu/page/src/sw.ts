/**
 * The service worker: keeps the page and its runtime, so that the page opens without a network. The bundle is
 * not its business: the runtime keeps what it needs of it by hash.
 */

// Another version of the site is another file to the browser, and so another worker.
const VERSION = "__EDGELLM_VERSION__";
const PREFIX = "edgellm-page:";
/** A network that does not begin to answer for so long counts as none, ms. */
const PATIENCE_MS = 4000;

interface Entry {
  readonly path: string;
  readonly sha256: string;
}

/** The parts of a service worker's scope that are used. */
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: Lasting) => void): void;
  addEventListener(type: "fetch", listener: (event: Fetching) => void): void;
}
interface Lasting {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Lasting {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

const scope = globalThis as unknown as Scope;
const base = scope.registration.scope;
/** Of this site alone: several may stand on one origin. */
const family = `${PREFIX}${base}:`;
const cacheName = `${family}${VERSION}`;
/** Files with a hash in their names, which are never others. */
const fixed = `${base}assets/`;

/** Whole or not at all: one file that is not what the site's manifest says, and nothing is kept. */
async function keep(): Promise<void> {
  const site = await (await fetch(`${base}site.json`, { cache: "no-cache" })).json();
  if (site.version !== VERSION) throw new Error("the site is being changed");
  const files: Entry[] = site.page;
  const found = await Promise.all(
    files.map(async ({ path, sha256 }) => {
      const integrity = `sha256-${base64(sha256)}`;
      const response = await fetch(`${base}${path}`, { cache: "no-cache", integrity });
      if (!response.ok) throw new Error(`${path}: status ${response.status}`);
      return [path, plain(response)] as const;
    }),
  );
  const cache = await caches.open(cacheName);
  await Promise.all(found.map(([path, response]) => cache.put(`${base}${path}`, response)));
  await scope.skipWaiting();
}

/** Keeps the version before as well: pages that are open still ask for its files. */
async function forgetOlder(): Promise<void> {
  const names = await caches.keys(); // the oldest first
  const old = names.filter((one) => one.startsWith(family) && one !== cacheName);
  await Promise.all(old.slice(0, -1).map((one) => caches.delete(one)));
  await scope.clients.claim();
}

/** From the network, so that a new version is seen at once; as it was kept where there is none, or a bad one. */
async function answer(request: Request, stored: string): Promise<Response> {
  const kept = await keptCopy(stored);
  if (kept && stored.startsWith(fixed)) return kept;
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    const found = await fetch(request.url, { signal: patience.signal });
    return found.ok ? plain(found) : (kept ?? found);
  } catch (error) {
    if (kept) return kept;
    throw error;
  } finally {
    clearTimeout(timer); // what has begun may take its time
  }
}

async function keptCopy(address: string): Promise<Response | undefined> {
  const names = await caches.keys();
  for (const one of [cacheName, ...names.filter((name) => name.startsWith(family))]) {
    const kept = await (await caches.open(one)).match(address);
    if (kept) return kept;
  }
  return undefined;
}

/** Browsers refuse a page that came by way of a redirection, as from hosts that send `/index.html` to `/`. */
function plain(response: Response): Response {
  return response.redirected ? new Response(response.body, response) : response;
}

scope.addEventListener("install", (event) => event.waitUntil(keep()));
scope.addEventListener("activate", (event) => event.waitUntil(forgetOlder()));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const address = url.origin + url.pathname;
  if (request.method !== "GET" || !address.startsWith(base) || address.startsWith(`${base}model/`)) return;
  event.respondWith(answer(request, address === base ? `${base}index.html` : address));
});

function base64(hex: string): string {
  const bytes = hex.match(/../g)?.map((one) => Number.parseInt(one, 16)) ?? [];
  return btoa(String.fromCharCode(...bytes));
}
