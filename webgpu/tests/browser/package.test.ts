import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { build } from "vite";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { answer } from "./pages/built.ts";
import { ROOT } from "./reference.ts";
import { Site } from "./site.ts";

type Tests = { edgellmTests: { answer: typeof answer } };

const WEBGPU = path.join(ROOT, "webgpu");

let site: Site;
beforeAll(async () => {
  await build({ root: WEBGPU, configFile: path.join(WEBGPU, "vite.config.ts"), logLevel: "warn" });
  site = await Site.open();
});
afterAll(() => site.close());

test("the runtime is small", async () => {
  const { stdout } = await promisify(execFile)("node", [path.join(WEBGPU, "scripts/size.js")]);
  expect(stdout).toContain("tokenizer.js");
});

test("the package as it is built answers in a page", async () => {
  const page = await site.page("built.ts");
  const [wanted] = inject("reference").answers;
  const text = await page.evaluate(
    (prompt) => (window as unknown as Tests).edgellmTests.answer(prompt),
    wanted?.prompt ?? "",
  );
  expect(text.length).toBeGreaterThan(10);
  expect(wanted?.text.startsWith(text)).toBe(true);
});
