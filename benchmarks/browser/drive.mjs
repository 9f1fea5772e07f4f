// Opens one page for each engine in one Chromium and measures them in turn, as the job on standard input says.
// Prints a line of JSON for everything that is known: `browser`, `opened`, `refused`, `sample`.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const job = JSON.parse(await text(process.stdin));
const { chromium } = createRequire(job.packages)("playwright-core");
const PAUSE_MS = 500; // until the threads of the engine before have come to rest

const say = (kind, value) => console.log(JSON.stringify({ kind, ...value }));
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

const browser = await chromium.launch({ executablePath: job.chromium, headless: true, args: job.flags });
try {
  const pages = new Map();
  const first = await newPage();
  const call = (page, name, given) => page.evaluate(([one, value]) => window.bench[one](value), [name, given]);
  say("browser", { version: browser.version(), adapter: await call(first, "adapter", null) });
  await first.close();
  for (const { name, open, options } of job.engines) {
    const page = await newPage();
    try {
      say("opened", { engine: name, info: await call(page, open, options) });
      await call(page, "run", { prompt: job.warmUp, most: 2 });
      pages.set(name, page);
    } catch (error) {
      // Playwright's own words before the page's, and the page's stack after them, tell nothing here.
      const [reason] = String(error.message).replace(/^page\.evaluate: (Error: )?/, "").split("\n    at ");
      say("refused", { engine: name, reason: reason.slice(0, 2000) });
      await page.close();
    }
  }
  for (const [round, prompts] of job.rounds.entries()) {
    const order = [...pages];
    if (round % 2) order.reverse();
    for (const [engine, page] of order) {
      await pause();
      const prefill = await call(page, "run", { prompt: prompts[0], most: 1 });
      await pause();
      const whole = await call(page, "run", { prompt: prompts[1], most: job.tokens });
      say("sample", { engine, round, prefill, whole });
    }
  }
} finally {
  await browser.close();
}

async function newPage() {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(job.patience * 1000);
  page.on("pageerror", (error) => console.error(`page: ${error.stack ?? error.message}`));
  await page.goto(job.page);
  await page.waitForFunction(() => "bench" in window);
  return page;
}
