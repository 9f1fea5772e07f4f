/** The engine of this page: opening it, losing it, and the ways to go on. */

import {
  type BrowserEngine,
  createEngine,
  EdgeLLMError,
  type EngineInfo,
  listBundles,
  type Profile,
  removeBundle,
  updateOf,
} from "../../src/index.ts";
import { bytesText } from "../../src/units.ts";
import { byId, meta, say } from "./dom.ts";
import {
  type Choice,
  headline,
  hidePanel,
  panelShown,
  showLoading,
  showPanel,
  showProgress,
} from "./panel.ts";

/** Less than this and hardly a question fits. */
const LEAST_CONTEXT = 64;
/** Which browsers can, for people whose browser cannot. */
const BROWSERS =
  "It needs WebGPU: Chrome or Edge 113 or newer, Safari 26 or newer, or Firefox 141 or newer on Windows; with " +
  "hardware acceleration on, and this page opened over https";

const bundle = new URL(meta("bundle"), document.baseURI).href;
export const fullContext = Number(meta("context")) || LEAST_CONTEXT;
const bytes = Number(meta("bytes"));
const OK: Choice = { label: "OK", act: hidePanel };
const name = byId("model").textContent ?? "the model";
const LOADED = `edgellm.loaded:${new URL(bundle).pathname}`;

/** What the reader chose for opening; null: as the device looks. */
export interface Wishes {
  context: number | null;
  readonly profile: Profile | null;
}

export class Session {
  engine: BrowserEngine | null = null;
  readonly #wishes: Wishes;
  readonly #onChange: () => void;
  readonly #keep: () => void;
  #opening: AbortController | null = null;
  /** Whether the browser is to keep the bundle; null: the reader has not asked for it yet. */
  #store: boolean | null = null;
  /** The version to open: the one that is kept, until the reader wants the newest. */
  #version: "stored" | "newest" = "stored";

  /** @param keep called when the reader goes on with another context, which `wishes` has from then on. */
  constructor(wishes: Wishes, onChange: () => void, keep: () => void) {
    this.#wishes = wishes;
    this.#onChange = onChange;
    this.#keep = keep;
  }

  /** Opens at once what is here already; asks before anything large is downloaded. */
  async begin(): Promise<void> {
    const error = await missingWebGPU();
    if (error) {
      showPanel(headline(error), `${error.message}. ${BROWSERS}.`, [], true);
      return;
    }
    const kept = wasLoaded() && (await listBundles().catch(() => [])).some((one) => one.url === bundle);
    if (kept) await this.open();
    else this.offer();
  }

  offer(): void {
    showPanel(
      `Load ${name}`,
      `Up to ${bytesText(bytes)} are downloaded once and kept in this browser; then it works without a network.`,
      [{ label: "Load the model", act: () => void this.open() }],
    );
  }

  /** @param store whether the browser keeps the bundle. */
  async open(store = this.#store ?? true, version = this.#version): Promise<void> {
    this.close();
    this.#store = store;
    this.#version = version;
    const opening = new AbortController();
    this.#opening = opening;
    showLoading(name, () => opening.abort());
    this.#onChange();
    const { context, profile } = this.#wishes;
    try {
      const engine = await createEngine({
        bundle,
        store,
        version,
        maxBatch: 1, // one conversation: its cache may be as large as the device allows
        ...(context === null ? {} : { context: Math.min(context, fullContext) }),
        ...(profile === null ? {} : { profile }),
        signal: opening.signal,
        onProgress: (progress) => {
          if (this.#opening === opening) showProgress(progress);
        },
        onLost: (error) => {
          if (this.engine === engine) this.#lost(error);
        },
      });
      this.engine = engine;
      remember(engine.info.stored);
      // So that a full disk does not take it; where the browser refuses, it may.
      if (engine.info.stored) void navigator.storage.persist().catch(() => undefined);
      say(`${name} is ready`);
      tellAboutFiles(engine.info, store);
      this.#version = "stored";
      if (version === "stored" && engine.info.stored) void this.#offerUpdate(engine);
    } catch (error) {
      if (this.#opening === opening) this.#explain(error);
    } finally {
      if (this.#opening === opening) this.#opening = null;
      this.#onChange();
    }
  }

  /** Opens it anew with what is wished now, if it was to be open. */
  async reopen(): Promise<void> {
    if (this.#store !== null) await this.open();
  }

  close(): void {
    this.#opening?.abort();
    this.#opening = null;
    this.engine?.close();
    this.engine = null;
  }

  /** Takes the bundle out of the browser's storage. */
  async remove(): Promise<void> {
    this.close();
    await removeBundle(bundle).catch(() => undefined);
    remember(false);
    this.#store = null;
    this.#version = "stored";
    this.offer();
    this.#onChange();
  }

  /** The kept version is open; whether there is another one, and its download, is the reader's to say. */
  async #offerUpdate(engine: BrowserEngine): Promise<void> {
    const size = await updateOf(bundle).catch(() => null);
    if (size === null || this.engine !== engine || panelShown()) return;
    showPanel(
      `There is another version of ${name}`,
      `${bytesText(size)} are downloaded. Until all of it has come, the version in this browser is kept.`,
      [
        { label: "Load the other version", act: () => void this.open(true, "newest") },
        { label: "Not now", act: hidePanel },
      ],
    );
  }

  #lost(error: EdgeLLMError): void {
    this.engine = null;
    this.#explain(error);
    this.#onChange();
  }

  #explain(thrown: unknown): void {
    const error =
      thrown instanceof EdgeLLMError ? thrown : new EdgeLLMError("internal", `the page failed: ${thrown}`);
    // A kept file that is damaged may be gone from a site that has another version now.
    const version = error.code === "bundle" ? "newest" : this.#version;
    const again: Choice = { label: "Load again", act: () => void this.open(undefined, version) };
    const back: Choice = {
      label: "Go on with the version before",
      act: () => void this.open(true, "stored"),
    };
    const backs = this.#version === "newest" && wasLoaded() ? [back] : [];
    if (error.code === "aborted") {
      showPanel(headline(error), "What has come is kept.", [{ ...again, label: "Go on loading" }, ...backs]);
      return;
    }
    const choices: Choice[] = [];
    const smaller = smallerContext(error);
    if (smaller !== null) {
      const act = (): void => {
        this.#wishes.context = smaller;
        this.#keep();
        void this.open();
      };
      choices.push({ label: `Go on with a context of ${smaller.toLocaleString("en")}`, act });
    }
    if (error.code === "quota") {
      choices.push({ label: "Load without keeping it", act: () => void this.open(false) });
    }
    if (error.code !== "no_webgpu") choices.push(again);
    showPanel(headline(error), sentence(error.message), [...choices, ...backs], true);
  }
}

/** Once the model is there: what became of its files, where that is not as it should be. */
function tellAboutFiles({ healed, stored }: EngineInfo, store: boolean): void {
  const said: string[] = [];
  if (healed.length) {
    const files = healed.length === 1 ? "A file" : `${healed.length} files`;
    said.push(
      `${files} of the model in this browser’s storage had been damaged, and came from the network again: ` +
        `${healed.join(", ")}.`,
    );
  }
  if (store && !stored) {
    said.push(
      "This browser does not let the page keep files, as in private windows, or has no room left. The model " +
        "works, and is downloaded again the next time.",
    );
  }
  const heading = healed.length ? "The model was mended" : "The model is not kept";
  if (said.length) showPanel(heading, said.join(" "), [OK]);
  else hidePanel();
}

/** A context to try next, where less of it may help. */
export function smallerContext({ code, details }: EdgeLLMError): number | null {
  const context = Number(details.context);
  if (!Number.isFinite(context)) return null;
  if (code === "unsupported_device") return context; // the largest that fits
  if (code !== "device_lost" && code !== "out_of_memory") return null;
  const half = 2 ** Math.floor(Math.log2(context / 2));
  return half >= LEAST_CONTEXT ? half : null;
}

/** Told by the page itself, before it offers a download; the worker looks at the device. */
async function missingWebGPU(): Promise<EdgeLLMError | null> {
  const { gpu } = navigator as Partial<Navigator>;
  if (!gpu) {
    const why = isSecureContext ? "This browser has no WebGPU" : "This page is not served securely";
    return new EdgeLLMError("no_webgpu", why);
  }
  const adapter = await gpu.requestAdapter().catch(() => null);
  return adapter ? null : new EdgeLLMError("no_webgpu", "WebGPU finds no graphics device here");
}

function sentence(text: string): string {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

function wasLoaded(): boolean {
  try {
    return localStorage.getItem(LOADED) === "1";
  } catch {
    return false;
  }
}

function remember(stored: boolean): void {
  try {
    if (stored) localStorage.setItem(LOADED, "1");
    else localStorage.removeItem(LOADED);
  } catch {
    // Asked again the next time.
  }
}
