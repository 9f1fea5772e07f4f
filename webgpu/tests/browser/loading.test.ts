import { readFileSync } from "node:fs";
import path from "node:path";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, inject, test } from "vitest";
import type { FileEntry } from "../../src/bundle/manifest.ts";
import { call } from "./call.ts";
import { Site } from "./site.ts";

const { bundle, answers } = inject("reference");
const manifest = JSON.parse(readFileSync(path.join(bundle, "edgellm.json"), "utf8"));
const SHARD = "tvm/weights-000.bin";
const shard = manifest.files.find((one: FileEntry) => one.path === SHARD) as FileEntry;
/** The smallest program: one token a step. */
const SMALL = { bundle: "/bundle/", stepTokens: 1, maxBatch: 1, context: 64 };

let site: Site;
let page: Page;
beforeAll(async () => {
  site = await Site.open();
  page = await site.page("engine.ts");
});
afterEach(() => site.faults.clear());
afterAll(() => site.close());

function requested(from: number): string[] {
  return site.requests.slice(from).map((one) => one.path);
}

/** Requests made while `work` ran. */
async function requestsOf<T>(work: () => Promise<T>): Promise<{ result: T; paths: string[] }> {
  const before = site.requests.length;
  const result = await work();
  return { result, paths: requested(before) };
}

test("a device with too small buffers is refused before weights are downloaded", async () => {
  const limits = { maxStorageBufferBindingSize: 128 << 10 };
  const { result, paths } = await requestsOf(() => call(page, "open", { ...SMALL, limits }));
  expect(result.error).toMatchObject({ code: "unsupported_device" });
  expect(result.error?.message).toContain("128 KiB");
  expect(paths.filter((one) => one.endsWith(".bin") || one.endsWith(".wgsl"))).toEqual([]);
});

test("a context whose cache is too large for the device's buffers is refused, with one that fits", async () => {
  const limits = { maxStorageBufferBindingSize: 300 << 10 };
  const { result } = await requestsOf(() => call(page, "open", { ...SMALL, context: 1024, limits }));
  expect(result.error).toMatchObject({ code: "unsupported_device", details: { context: 592 } });
});

test("a program that the device cannot run is refused", async () => {
  const half = await page.evaluate(async () => {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter?.features.has("shader-f16") ?? false;
  });
  expect(half).toBe(false); // else this test needs another way to be without 16-bit floats
  const { error } = await call(page, "open", { ...SMALL, arithmetic: "fp16" });
  expect(error).toMatchObject({ code: "unsupported_device" });
  expect(error?.message).toContain("shader-f16");
});

test("what does not fit into the browser's storage is refused before it is downloaded", async () => {
  const { result, paths } = await requestsOf(() => call(page, "open", SMALL, "full_disk_worker.ts"));
  expect(result.error).toMatchObject({ code: "quota", details: { room: 1 << 20 } });
  expect(paths).not.toContain(SHARD);
});

test("where the browser refuses storage, the bundle opens and is not kept", async () => {
  const { value, error } = await call(page, "open", SMALL, "no_storage_worker.ts");
  expect(error).toBeNull();
  expect(value?.info.stored).toBe(false);
});

test("where the storage runs full on the way, the bundle opens and is not kept", async () => {
  const session = await page.context().newCDPSession(page);
  const origin = new URL(site.url).origin;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 << 20 });
  const { value, error } = await call(page, "open", SMALL);
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  expect(error).toBeNull();
  expect(value?.info.stored).toBe(false);
  expect((await call(page, "storedFiles"))[shard.sha256]).toBeLessThan(shard.bytes);
  await call(page, "removeBundle", "/bundle/");
});

test("a cut download goes on where it stopped, also after an abort; then nothing is downloaded", async () => {
  site.faults.set(SHARD, { hold: 1_200_000 });
  const abort = await call(page, "openAborted", SMALL, 1_000_000);
  expect(abort.error).toMatchObject({ code: "aborted" });
  const part = (await call(page, "storedFiles"))[shard.sha256] ?? 0;
  expect(part).toBeGreaterThan(0);
  expect(part).toBeLessThan(shard.bytes);

  site.faults.set(SHARD, { cut: 1_500_000 });
  const before = site.requests.length;
  const { value, error } = await call(page, "open", SMALL);
  expect(error).toBeNull();
  expect(value?.info).toMatchObject({ stored: true, healed: [] });
  expect(value?.progress.at(-1)).toMatchObject({
    phase: "ready",
    loadedBytes: value?.progress.at(-1)?.totalBytes,
  });
  const ranges = site.requests.slice(before).filter((one) => one.path === SHARD);
  const starts = ranges.map((one) => Number(/\d+/.exec(one.range ?? "0")?.[0] ?? 0));
  expect(starts).toHaveLength(2);
  expect(starts[0]).toBe(part);
  expect(starts[1]).toBeGreaterThanOrEqual(part);

  const again = await requestsOf(() => call(page, "open", SMALL));
  expect(again.result.error).toBeNull();
  expect(again.paths).toEqual(["edgellm.json"]);
  const last = again.result.value?.progress.at(-1);
  expect(last?.storedBytes).toBe(last?.totalBytes);
});

test("a damaged stored shard is fetched anew", async () => {
  await call(page, "damage", shard.sha256, 1_000_000);
  const { result, paths } = await requestsOf(() => call(page, "open", SMALL));
  expect(result.value?.info.healed).toEqual([SHARD]);
  expect(paths).toEqual(["edgellm.json", SHARD]);
  const { value } = await call(page, "ask", answers[0]?.prompt ?? "", { temperature: 0, max_tokens: 4 });
  expect(value?.choices[0]?.token_ids).toEqual(answers[0]?.tokenIds.slice(0, 4));
});

test("without a network a stored bundle opens", async () => {
  const offline = await requestsOf(async () => {
    await page.route(`${site.url}bundle/**`, (route) => route.abort("internetdisconnected"));
    const result = await call(page, "open", SMALL);
    await page.unroute(`${site.url}bundle/**`);
    return result;
  });
  expect(offline.result.error).toBeNull();
  expect(offline.paths).toEqual([]);
});

test.each([
  ["brings nothing", { hold: 0 }],
  ["is in trouble", { status: 503 }],
  ["no longer has it", { status: 404 }],
  ["gives something else", { flip: 100 }],
] as const)("a stored bundle opens where the host %s", async (_, fault) => {
  site.faults.set("edgellm.json", fault);
  // Bytes come from the storage: its manifest was taken, and that is enough.
  expect((await call(page, "openAborted", SMALL, 1)).error).toMatchObject({ code: "aborted" });
});

test("bundles share files, and the last one takes them along", async () => {
  await call(page, "openAborted", { ...SMALL, bundle: "/copy/" }, 1);
  const kept = await call(page, "listBundles");
  expect(kept.map((one) => new URL(one.url).pathname).sort()).toEqual(["/bundle/", "/copy/"]);
  await call(page, "removeBundle", "/copy/");
  expect((await call(page, "listBundles")).map((one) => one.name)).toEqual(["demo"]);
  expect((await call(page, "storedFiles"))[shard.sha256]).toBe(shard.bytes);
});

test("a lost device ends the answer and the engine with a cause", async () => {
  const lost = call(page, "untilLost", { ...SMALL, context: 64 }, answers[0]?.prompt ?? "");
  await page.waitForFunction(() => document.title === "answering", null, { timeout: 60_000 });
  const session = await page.context().browser()?.newBrowserCDPSession();
  await session?.send("Browser.crashGpuProcess").catch(() => undefined);
  const { during, after, told } = await lost;
  expect(during).toMatchObject({ code: "device_lost", details: { context: 64 } });
  expect(after).toMatchObject({ code: "device_lost" });
  expect(told).toBe(1);
  expect((await call(page, "open", SMALL)).error).toBeNull();
});

test("a file that is damaged on the server is refused", async () => {
  await call(page, "removeBundle", `${site.url}bundle/`);
  expect(await call(page, "listBundles")).toEqual([]);
  expect(await call(page, "storedFiles")).toEqual({});
  site.faults.set(SHARD, { flip: 5000 });
  const { error } = await call(page, "open", SMALL);
  expect(error).toMatchObject({ code: "bundle" });
  expect(error?.message).toContain(SHARD);
  expect((await call(page, "storedFiles"))[shard.sha256]).toBe(0);
});

test("an address without a bundle is told as such", async () => {
  const { error } = await call(page, "open", { ...SMALL, bundle: "/bundle/nothing" });
  expect(error).toMatchObject({ code: "network", details: { status: 404 } });
});
