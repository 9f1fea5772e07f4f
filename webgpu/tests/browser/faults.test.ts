/** The chat page on browsers, devices and bundles that are not as one would wish: each visit in a new profile. */

import { mkdirSync } from "node:fs";
import path from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { GUARANTEED } from "../../src/bundle/profile.ts";
import { checkAccess, withAxe } from "./axe.ts";
import { answered, ask, Packaged, ready, shortSteps, shown, type Variant } from "./packaged.ts";
import { ROOT } from "./reference.ts";

const PICTURES = path.join(ROOT, "webgpu/test-results");
const first = inject("reference").answers.find((one) => one.prompt === "Hello there!");
/** The adapter claims 16-bit floats, so that their program is chosen; its device has none. */
const PRETENDS_HALF = `const { has } = GPUSupportedFeatures.prototype;
  GPUSupportedFeatures.prototype.has = function (one) { return one === "shader-f16" || has.call(this, one); };
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (wanted) {
    return requestDevice.call(this, { ...wanted, requiredFeatures: [] });
  };`;

let context: BrowserContext;
let page: Page;
let site: Packaged | null = null;

beforeAll(() => void mkdirSync(PICTURES, { recursive: true }));
beforeEach(async () => {
  const browser = await chromium.connect(inject("browser"));
  // The worker's file is another one here than in the site's manifest; a service worker would refuse it.
  context = await browser.newContext({ serviceWorkers: "block", viewport: { width: 1100, height: 760 } });
  await withAxe(context);
  page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await shortSteps(page, 1);
});
afterEach(async () => {
  await context.browser()?.close();
});
afterAll(() => site?.stop());

/** The page of a variant of the demo bundle; `prelude` runs in its workers before their own script. */
async function visit(variant: Variant, prelude = ""): Promise<void> {
  await site?.stop();
  site = await Packaged.open(variant);
  site.prelude = prelude;
  await page.goto(site.url);
  await page.getByRole("button", { name: "Load the model" }).click();
}

async function picture(name: string): Promise<void> {
  await page.screenshot({ path: path.join(PICTURES, `${name}.png`) });
  await checkAccess(page);
}

/** Greedy, from the settings' dialog; what it says about the model meanwhile. */
async function greedy(): Promise<string> {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("slider", { name: "Temperature" }).fill("0");
  const about = (await page.locator("#about").textContent()) ?? "";
  await page.getByRole("button", { name: "Done" }).click();
  return about;
}

test("where the browser refuses storage, the model works and is not kept, and the page says so", async () => {
  const refuse = `StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException("no", "SecurityError"));`;
  // Nor has it what came after the first browsers with WebGPU.
  await visit("shards", `${refuse} delete AbortSignal.any; delete GPUAdapter.prototype.info;`);
  await ready(page);
  await page.getByRole("heading", { name: "The model is not kept" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain("downloaded again the next time");
  await picture("not-kept");
  await page.getByRole("button", { name: "OK" }).click();
  expect(await greedy()).toContain("not kept: the browser refuses");
  await ask(page, first?.prompt ?? "");
  expect(await answered(page)).toContain(shown(first?.text));
  await page.reload();
  await page.getByRole("button", { name: "Load the model" }).waitFor(); // asked again, with nothing loaded
});

test("where the browser has too little room, the page says so before the download, and goes on without", async () => {
  await visit("shards", `StorageManager.prototype.estimate = async () => ({ quota: 1 << 20, usage: 0 });`);
  await page.getByRole("heading", { name: "The browser has too little room" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toMatch(/takes 2\.\d MiB.*1 MiB left/);
  expect(site?.ranges.has("weights-000.bin")).toBe(false);
  await picture("no-room");
  await page.getByRole("button", { name: "Load without keeping it" }).click();
  await ready(page);
  expect(await page.locator("#panel").isVisible()).toBe(false); // it was the reader's wish
});

test("a device without 16-bit floats is told by a model that needs them, before the download", async () => {
  await visit("half");
  await page.getByRole("heading", { name: "This device cannot run the model as it is" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain("needs 16-bit floats (shader-f16)");
  expect(site?.ranges.has("weights-000.bin")).toBe(false);
  await picture("no-fp16");

  if (site) site.prelude = PRETENDS_HALF;
  await page.reload();
  await page.getByRole("button", { name: "Load the model" }).click();
  await page.locator("#panel-text", { hasText: "the driver refuses the kernel" }).waitFor();
});

test("a driver that refuses the 16-bit program it says it can run gets the other one", async () => {
  await visit("shards", PRETENDS_HALF);
  await ready(page);
  const about = await greedy();
  expect(about).toContain("computed in fp32 (the graphics driver refuses the fp16 program)");
  expect(about).toContain("kept in this browser");
  expect(about).not.toContain("without a network"); // no service worker keeps the page
});

test("a device with buffers of 128 MiB gets a phone's share, and is told what does not fit", async () => {
  // The browser holds the device to what its adapter says, since the device is asked for with that.
  const small = `const least = ${JSON.stringify(GUARANTEED)};
    const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "limits");
    const limits = (all) => new Proxy(all, { get: (at, name) => least[name] ?? at[name] });
    Object.defineProperty(GPUAdapter.prototype, "limits", { get() { return limits(get.call(this)); } });`;
  await visit("long", small);
  await ready(page);
  expect(await page.locator("#facts").textContent()).toContain("2,048 tokens of context");
  expect(await greedy()).toContain("a phone’s share of its memory");
  await ask(page, first?.prompt ?? "");
  expect(await answered(page)).toContain(shown(first?.text));

  await page.getByRole("button", { name: "Settings" }).click();
  const contexts = page.getByRole("combobox", { name: "Context, in tokens" });
  expect(await contexts.locator("option:checked").textContent()).toBe("Automatic: 2,048");
  await contexts.selectOption("524,288");
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByRole("heading", { name: "This device cannot run the model as it is" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toMatch(
    /buffers of .*, 128 MiB; take a context of 262144/,
  );
  await page.getByRole("button", { name: "Go on with a context of 262,144" }).waitFor();
  await picture("small-buffers");
  await page.getByRole("button", { name: "Settings" }).click();
  await contexts.selectOption("1,024");
  await page.getByRole("button", { name: "Done" }).click();
  await page.locator("#facts", { hasText: "1,024 tokens of context" }).waitFor({ timeout: 60_000 });
});

test("a template that does not come to an end is ended, and the page goes on", async () => {
  await page.clock.install();
  await visit("hostile");
  await ready(page);
  await ask(page, "loop");
  await page.locator(".turn.busy").waitFor();
  await page.clock.runFor(35_000);
  await page.getByRole("heading", { name: "The model’s worker was ended" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain("not answered for 30 seconds");
  expect(await page.locator(".turn .notice").textContent()).toContain(
    "does not come to an end with this text",
  );
  await page.clock.resume();
  await picture("unresponsive");
  await page.getByRole("button", { name: "Load again" }).click();
  await ready(page);
  await greedy();
  await page.getByRole("button", { name: "Edit" }).first().click();
  await ask(page, first?.prompt ?? "");
  await page.locator("body.answering").waitFor();
  expect(await answered(page)).toContain(shown(first?.text));
});

test("a step that fails, though the device is not lost, is told as a lost device is", async () => {
  const fail = `const map = GPUBuffer.prototype.mapAsync; let steps = 0;
    GPUBuffer.prototype.mapAsync = function (...given) {
      return ++steps === 12 ? Promise.reject(new DOMException("no", "OperationError")) : map.apply(this, given);
    };`;
  await visit("shards", fail);
  await ready(page);
  await ask(page, first?.prompt ?? "");
  await page.getByRole("heading", { name: "The graphics device stopped" }).waitFor();
  expect(await page.locator("#facts").textContent()).toBe("not loaded");
  await page.getByRole("button", { name: "Go on with a context of 512" }).waitFor();
  await page.getByRole("button", { name: "Load again" }).waitFor();
});
