/** The chat page as `edgellm package web` writes it: one visit after another, in one browser profile. */

import { mkdirSync } from "node:fs";
import path from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { Packaged } from "./packaged.ts";
import { ROOT } from "./reference.ts";

const PICTURES = path.join(ROOT, "webgpu/test-results");
const OPENING_MS = 120_000;
const { answers } = inject("reference");
const [first, second] = answers;

let site: Packaged;
let context: BrowserContext;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  mkdirSync(PICTURES, { recursive: true });
  site = await Packaged.open();
  const browser = await chromium.connect(inject("browser"));
  context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
  page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.stack ?? error.message));
  // Kernels for long steps take half a minute to compile for the processor: short steps instead.
  await page.addInitScript(() => {
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message: unknown, ...rest: never[]) {
      const open = message as { type?: string; options?: object };
      if (open.type === "open") Object.assign(open.options ?? {}, { stepTokens: 4 });
      return post.call(this, message, ...rest);
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

/** Waits until the model can be asked; fails with what the page says if it cannot be loaded. */
async function ready(): Promise<void> {
  const wrong = page.locator("#panel.wrong");
  await page.locator("#facts", { hasText: "tokens of context" }).or(wrong).waitFor({ timeout: OPENING_MS });
  if (await wrong.isVisible()) throw new Error(await wrong.innerText());
}

async function ask(text: string): Promise<void> {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

/** The last answer, once it has ended. */
async function answered(): Promise<string> {
  await page.locator("body:not(.answering) .turn.assistant .note").last().waitFor({ timeout: 60_000 });
  return (await page.locator(".turn.assistant .text").last().textContent()) ?? "";
}

/** The words as they were generated: without the backticks of what is shown as code. */
function shown(text: string | undefined): string {
  return (text ?? "").replaceAll("`", "");
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

test("a first visit asks, shows progress, can be cancelled, and ends in an answer", async () => {
  site.holds.set("weights-000.bin", 1_200_000);
  await page.goto(site.url);
  expect(await page.title()).toBe("demo");
  await picture("first-visit");
  await page.getByRole("button", { name: "Load the model" }).click();
  await page.waitForFunction(() => /^1\.. MiB of/.test(document.getElementById("amount")?.textContent ?? ""));
  await picture("loading");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("heading", { name: "Loading was stopped" }).waitFor();
  site.holds.clear();
  await page.getByRole("button", { name: "Go on loading" }).click();
  await ready();
  const [, again] = site.ranges.get("weights-000.bin") ?? [];
  expect(Number(/^bytes=(\d+)-$/.exec(again ?? "")?.[1])).toBeGreaterThan(500_000);

  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("slider", { name: "Temperature" }).fill("0");
  expect(await page.locator("#about").textContent()).toContain("works without a network");
  await picture("settings");
  await page.getByRole("button", { name: "Done" }).click();

  await ask(first?.prompt ?? "");
  expect(await answered()).toContain(shown(first?.text));
  expect(await page.locator(".note").textContent()).toMatch(/^\d+ tokens · [\d.]+ tokens\/s · first after/);
  expect(await page.locator("#facts").textContent()).toMatch(/MiB of memory · 1,024 tokens of context/);
  // Whole sentences were handed to screen readers.
  const spoken = await page.locator("#spoken p").allTextContents();
  expect(shown(spoken.join(" "))).toContain(shown(first?.text));
  await picture("answer");
});

test("an answer stops in the middle, and is tried again", async () => {
  await ask("What is quantization?");
  await page.waitForFunction(() => {
    const texts = document.querySelectorAll(".turn.assistant .text");
    return texts.length === 2 && (texts[1]?.textContent ?? "").length > 3;
  });
  await page.keyboard.press("Escape");
  const part = await answered();
  expect(await page.locator(".note").last().textContent()).toContain("stopped by you");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("body.answering").waitFor();
  const whole = await answered();
  expect(whole.length).toBeGreaterThan(part.length);
  expect(whole.startsWith(part)).toBe(true);
});

test("an edited message replaces what follows", async () => {
  await page.getByRole("button", { name: "Edit" }).first().click();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe(first?.prompt);
  await ask(second?.prompt ?? "");
  await page.locator("body.answering").waitFor();
  expect(await answered()).toContain(shown(second?.text));
  expect(await page.locator(".turn").count()).toBe(2);
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

test("without a network the page, the conversation and the model are there", async () => {
  await site.stop();
  await page.setViewportSize({ width: 390, height: 780 });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.reload();
  await ready();
  expect(await page.locator(".turn").count()).toBe(4);
  const last = page.locator(".turn.assistant .text").last();
  expect(await last.textContent()).toContain("<script>1</script>");
  expect(await last.locator("pre code").textContent()).toBe("<b>bold</b>");
  expect(await last.locator("img, script, b").count()).toBe(0);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  await picture("phone-dark");
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(first?.prompt ?? "");
  expect(await answered()).toContain(shown(first?.text));
});

test("a lost device is told with its cause, and a smaller context goes on", async () => {
  await page.setViewportSize({ width: 1100, height: 760 });
  await ask("What is quantization?");
  await page.waitForFunction(() => document.querySelectorAll(".turn.busy .text")[0]?.textContent);
  const session = await context.browser()?.newBrowserCDPSession();
  await session?.send("Browser.crashGpuProcess").catch(() => undefined);
  await page.getByRole("heading", { name: "The graphics device stopped" }).waitFor();
  expect(await page.locator("#panel-text").textContent()).toContain("Likely causes");
  expect(await page.locator(".turn .notice").textContent()).toContain("in the middle of this answer");
  await picture("device-lost");
  await page.getByRole("button", { name: "Go on with a context of 512" }).click();
  await ready();
  expect(await page.locator("#facts").textContent()).toContain("512 tokens of context");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("body.answering").waitFor();
  expect((await answered()).length).toBeGreaterThan(10);
});
