import { readdirSync } from "node:fs";
import path from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Outcome, runProgram } from "./pages/conformance.ts";
import { ROOT } from "./reference.ts";
import { Site } from "./site.ts";

type Tests = { edgellmTests: { runProgram: typeof runProgram } };

const PROGRAMS = path.join(ROOT, "tests/conformance/programs");
const programs = readdirSync(PROGRAMS).map((name) => {
  const folder = readdirSync(path.join(PROGRAMS, name)).find((one) => one.startsWith("wgsl-")) ?? "";
  return { name, folder };
});

let site: Site;
let page: Page;
beforeAll(async () => {
  site = await Site.open();
  page = await site.page("conformance.ts");
});
afterAll(() => site.close());

function run(name: string, folder: string): Promise<Outcome> {
  return page.evaluate(
    ([one, program]) => (window as unknown as Tests).edgellmTests.runProgram(one ?? "", program ?? ""),
    [name, folder],
  );
}

test.each(programs.filter((one) => one.folder === "wgsl-fp32"))("$name", async ({ name, folder }) => {
  const outcome = await run(name, folder);
  expect(outcome.problems).toEqual([]);
  expect(outcome.steps).toBeGreaterThan(0);
});

test("a program in fp16 runs, or is refused where the device has no 16-bit floats", async () => {
  const half = await page.evaluate(async () => {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter?.features.has("shader-f16") ?? false;
  });
  const [program] = programs.filter((one) => one.folder === "wgsl-fp16");
  expect(program?.name).toBe("half");
  if (half) expect((await run("half", "wgsl-fp16")).problems).toEqual([]);
  else await expect(run("half", "wgsl-fp16")).rejects.toThrow("16-bit floats");
});
