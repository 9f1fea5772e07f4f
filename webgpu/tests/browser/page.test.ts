/**
 * The chat page as `edgellm package web` writes it, with a model in several shards: one visit after another, in
 * one browser profile.
 */

import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { FileEntry } from "../../src/bundle/manifest.ts";
import { checkAccess, withAxe } from "./axe.ts";
import { answered, ask, Packaged, ready, shortSteps, shown } from "./packaged.ts";
import { ROOT } from "./reference.ts";

const PICTURES = path.join(ROOT, "webgpu/test-results");
const { answers, bundle } = inject("reference");
const [long, first, , second] = answers;

let site: Packaged;
let context: BrowserContext;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  mkdirSync(PICTURES, { recursive: true });
  site = await Packaged.open("shards");
  site.redirects = true;
  const browser = await chromium.connect(inject("browser"));
  context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
  await withAxe(context);
  page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.stack ?? error.message));
  await shortSteps(page, 1);
  await page.addInitScript(() => {
    navigator.storage.persist = async () => {
      document.documentElement.dataset.persists = "asked";
      throw new DOMException("no", "SecurityError");
    };
  });
});
afterAll(async () => {
  await context?.close();
  await site?.stop();
});

function picture(name: string): Promise<unknown> {
  return page.screenshot({ path: path.join(PICTURES, `${name}.png`) });
}

/** Where the requests for a file of the model began. */
function starts(name: string): number[] {
  return (site.ranges.get(name) ?? []).map((one) => Number(/\d+/.exec(one ?? "0")?.[0]));
}

/** Id of what has the keyboard. */
function focused(): Promise<string | undefined> {
  return page.evaluate(() => document.activeElement?.id);
}

/** Names of the stored files. Runs in the page. */
async function kept(): Promise<string[]> {
  const root = await navigator.storage.getDirectory();
  const files = await (await root.getDirectoryHandle("edgellm")).getDirectoryHandle("files");
  const names: string[] = [];
  for await (const name of files.keys()) names.push(name);
  return names;
}

function hashOf(file: string): string {
  const manifest = JSON.parse(readFileSync(path.join(bundle, "../shards/edgellm.json"), "utf8"));
  return manifest.files.find((one: FileEntry) => one.path === file).sha256;
}

test("a browser without WebGPU is told what to do", async () => {
  const other = await context.newPage();
  await other.addInitScript(() => {
    Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined });
  });
  await other.goto(site.url);
  await other.getByRole("heading", { name: "This browser cannot run the model" }).waitFor();
  expect(await other.locator("#panel-text").textContent()).toMatch(
    /has no WebGPU.*Chrome or Edge 113.*Safari/,
  );
  expect(await other.locator("#panel-buttons button").count()).toBe(0);
  await other.screenshot({ path: path.join(PICTURES, "no-webgpu.png") });
  await other.close();
});

test("a first visit asks, shows progress, and can be cancelled", async () => {
  site.holds.set("weights-004.bin", 100_000);
  await page.goto(site.url);
  expect(await page.title()).toBe("demo");
  await picture("first-visit");
  await checkAccess(page);
  await page.getByRole("button", { name: "Load the model" }).click();
  await page.waitForFunction(() => /^1\.. MiB of/.test(document.getElementById("amount")?.textContent ?? ""));
  await picture("loading");
  await checkAccess(page);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("heading", { name: "Loading was stopped" }).waitFor();
  site.holds.clear();
});

test("a shard that is cut again and again is told, and goes on from there; one cut mends itself", async () => {
  site.cuts.set("weights-005.bin", [50_000, 0, 0, 0]);
  site.cuts.set("weights-006.bin", [60_000]);
  await page.getByRole("button", { name: "Go on loading" }).click();
  await page.getByRole("heading", { name: "The model cannot be downloaded" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toMatch(/weights-005\.bin.*what has come is kept/);
  await picture("cut");
  await page.getByRole("button", { name: "Load again" }).press("Enter");
  expect(await focused()).toBe("panel-title");
  await ready(page);
  expect(await page.locator("#panel").isVisible()).toBe(false);
  expect(await focused()).toBe("prompt");
  expect(starts("weights-003.bin")).toEqual([0]);
  expect(starts("weights-004.bin")).toEqual([0, 100_000]);
  expect(starts("weights-005.bin")).toEqual([0, 50_000, 50_000, 50_000, 50_000]);
  expect(starts("weights-006.bin")).toEqual([0, 60_000]);
});

test("the first visit ends in an answer", async () => {
  expect(await page.evaluate(() => document.documentElement.dataset.persists)).toBe("asked");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("slider", { name: "Temperature" }).fill("0");
  expect(await page.locator("#about").textContent()).toContain("works without a network");
  expect(await page.locator("#about").textContent()).toContain("computed in fp32");
  await picture("settings");
  await checkAccess(page);
  await page.getByRole("button", { name: "Done" }).click();

  await ask(page, first?.prompt ?? "");
  expect(await answered(page)).toContain(shown(first?.text));
  expect(await page.locator(".note").textContent()).toMatch(/^\d+ tokens · [\d.]+ tokens\/s · first after/);
  expect(await page.locator("#facts").textContent()).toMatch(/MiB of memory · 1,024 tokens of context/);
  // Whole sentences were handed to screen readers.
  const spoken = await page.locator("#spoken p").allTextContents();
  expect(shown(spoken.join(" "))).toContain(shown(first?.text));
  await picture("answer");
  await checkAccess(page);
});

test("an answer stops in the middle, and is tried again", async () => {
  await ask(page, long?.prompt ?? "");
  await page.waitForFunction(() => {
    const texts = document.querySelectorAll(".turn.assistant .text");
    return texts.length === 2 && (texts[1]?.textContent ?? "").length > 3;
  });
  const stored = () => Object.entries(localStorage).find(([name]) => name.startsWith("edgellm.page:"))?.[1];
  const turns = await page
    .evaluate(() => void dispatchEvent(new Event("pagehide")))
    .then(() => page.evaluate(stored));
  expect(JSON.parse(turns ?? "").messages.at(-1)).toMatchObject({
    role: "assistant",
    content: expect.stringMatching(/./),
  });
  await page.keyboard.press("Escape");
  const part = await answered(page);
  expect(await page.locator(".note").last().textContent()).toContain("stopped by you");
  await page.getByRole("button", { name: "Try again" }).press("Enter");
  await page.locator("body.answering").waitFor();
  expect(await focused()).toBe("prompt");
  const whole = await answered(page);
  expect(whole.length).toBeGreaterThan(part.length);
  expect(whole.startsWith(part)).toBe(true);
});

test("an edited message replaces what follows", async () => {
  await page.getByRole("button", { name: "Edit" }).first().click();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe(first?.prompt);
  await ask(page, second?.prompt ?? "");
  await page.locator("body.answering").waitFor();
  expect(await answered(page)).toContain(shown(second?.text));
  expect(await page.locator(".turn").count()).toBe(2);
});

test("a flipped byte in the stored model is mended, and the page says so", async () => {
  const [damaged, asked] = ["weights-002.bin", site.ranges.size];
  const before = starts(damaged);
  await page.evaluate(
    async (hash) => {
      const root = await navigator.storage.getDirectory();
      const files = await (await root.getDirectoryHandle("edgellm")).getDirectoryHandle("files");
      const handle = await files.getFileHandle(hash);
      const byte = new Uint8Array(await (await handle.getFile()).slice(1000, 1001).arrayBuffer());
      const writable = await handle.createWritable({ keepExistingData: true });
      await writable.write({ type: "write", position: 1000, data: byte.map((one) => one ^ 0xff) });
      await writable.close();
    },
    hashOf(`tvm/${damaged}`),
  );
  await page.reload();
  await ready(page);
  await page.getByRole("heading", { name: "The model was mended" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain(`network again: tvm/${damaged}.`);
  expect(starts(damaged)).toEqual([...before, 0]);
  expect(site.ranges.size).toBe(asked); // and nothing but the manifest, the page and that shard
  expect(starts("weights-003.bin")).toEqual([0]);
  await picture("mended");
  await page.getByRole("button", { name: "OK" }).click();
  expect(await page.locator("#panel").isVisible()).toBe(false);
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, first?.prompt ?? "");
  expect(await answered(page)).toContain(shown(first?.text));
});

test("words are text, whatever they look like", async () => {
  const markup = "<img src=x onerror=\"document.title='run'\"><script>1</script>\n```html\n<b>bold</b>\n```";
  await page.evaluate((content) => {
    const name = Object.keys(localStorage).find((one) => one.startsWith("edgellm.page:")) ?? "";
    const stored = JSON.parse(localStorage.getItem(name) ?? "{}");
    stored.messages.push({ role: "user", content }, { role: "assistant", content });
    localStorage.setItem(name, JSON.stringify(stored));
  }, markup);
  const blocked = await page.evaluate(() => {
    try {
      document.createElement("p").innerHTML = "<b>x</b>";
      return "";
    } catch (error) {
      return String(error);
    }
  });
  expect(blocked).toContain("TrustedHTML");
  expect(complaints.splice(0).filter((one) => !one.includes("TrustedHTML"))).toEqual([]);
});

test("a new version is loaded when it is asked for, and takes the place of the old one", async () => {
  const [template, before] = ["chat_template.jinja", starts("chat_template.jinja").length];
  await site.publish("next");
  await page.reload();
  await ready(page); // the version that is kept
  await page.getByRole("heading", { name: "There is another version of demo" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toMatch(/^\d+ bytes are downloaded/);
  expect(starts(template)).toHaveLength(before);
  await picture("another-version");
  await checkAccess(page);
  await page.getByRole("button", { name: "Load the other version" }).press("Enter");
  await ready(page);
  expect(starts(template)).toHaveLength(before + 1);
  expect(await focused()).toBe("prompt");
  expect((await page.evaluate(kept)).includes(hashOf(template))).toBe(false); // that of the version before
});

test("a new version that does not come to its end leaves the one before", async () => {
  await site.publish("shards");
  await page.reload();
  await ready(page);
  site.holds.set("chat_template.jinja", 10);
  await page.getByRole("button", { name: "Load the other version" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Go on loading" }).waitFor();
  expect(await page.getByRole("button", { name: "Go on with the version before" }).isVisible()).toBe(true);
  expect((await page.evaluate(kept)).includes(hashOf("tvm/weights-003.bin"))).toBe(true);
  // The page's files of the version before are there for pages that are still open.
  expect(await page.evaluate(async () => (await caches.keys()).length)).toBe(2);
  // That model opens without a network, below.
});

test("a host that is slow or in trouble gets in nobody's way, and what does not change is not asked for", async () => {
  const assets = () => [...site.ranges].filter(([name]) => /-.*\.(js|css)$/.test(name)).flat(2).length;
  const before = assets();
  site.status = 503;
  await page.reload();
  expect(await page.locator(".turn").count()).toBe(4);
  site.status = null;
  site.pauses.set("", 4500); // longer than the service worker waits for an answer to begin
  await page.reload();
  site.pauses.clear();
  expect(await page.locator(".turn").count()).toBe(4);
  expect(before).toBeGreaterThan(0);
  expect(assets()).toBe(before);
  complaints.splice(0); // a browser tells of the status by itself
});

test("without a network the page, the conversation and the model are there", async () => {
  await site.stop();
  await page.setViewportSize({ width: 390, height: 780 });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.reload();
  await ready(page);
  expect(await page.locator(".turn").count()).toBe(4);
  const last = page.locator(".turn.assistant .text").last();
  expect(await last.textContent()).toContain("<script>1</script>");
  expect(await last.locator("pre code").textContent()).toBe("<b>bold</b>");
  expect(await last.locator("img, script, b").count()).toBe(0);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  const facts = page.locator("#facts");
  expect(await facts.evaluate((one) => one.scrollWidth <= one.clientWidth)).toBe(true); // nothing is cut off
  await picture("phone-dark");
  await checkAccess(page);
  await page.getByRole("button", { name: "New chat" }).click();
  await picture("phone-new-chat");
  await checkAccess(page);
  await page.getByRole("button", { name: "Bring the last chat back" }).press("Enter");
  expect(await page.locator(".turn").count()).toBe(4);
  expect(await focused()).toBe("prompt");
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, first?.prompt ?? "");
  expect(await answered(page)).toContain(shown(first?.text));
});

test("a lost device is told with its cause, and a smaller context goes on", async () => {
  await page.setViewportSize({ width: 1100, height: 760 });
  await ask(page, long?.prompt ?? "");
  await page.waitForFunction(() => document.querySelectorAll(".turn.busy .text")[0]?.textContent);
  const session = await context.browser()?.newBrowserCDPSession();
  await session?.send("Browser.crashGpuProcess").catch(() => undefined);
  await page.getByRole("heading", { name: "The graphics device stopped" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain("Likely causes");
  expect(await page.locator(".turn .notice").textContent()).toContain("in the middle of this answer");
  await picture("device-lost");
  await checkAccess(page);
  await page.getByRole("button", { name: "Go on with a context of 512" }).click();
  await ready(page);
  expect(await page.locator("#facts").textContent()).toContain("512 tokens of context");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("body.answering").waitFor();
  expect((await answered(page)).length).toBeGreaterThan(10);
});
