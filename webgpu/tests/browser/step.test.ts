/** Script time of decoding: `npm run step` prints it. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { measure, StepTimes } from "./pages/step.ts";
import { Site } from "./site.ts";

type Tests = { edgellmTests: { measure: typeof measure } };

/** Milliseconds of a step of one request that are promised. */
const MOST = 2;
const GROUPS = 20;

let site: Site;
beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site.close());

function quantile(values: readonly number[], part: number): string {
  const ordered = values.toSorted((left, right) => left - right);
  return (ordered[Math.floor(part * (ordered.length - 1))] ?? Number.NaN).toFixed(2);
}

async function times(batch: number): Promise<StepTimes> {
  const page = await site.page("step.ts");
  const found = await page.evaluate(
    ([requests, groups]) => (window as unknown as Tests).edgellmTests.measure(requests ?? 0, groups ?? 0),
    [batch, GROUPS],
  );
  const { script, whole, launches } = found;
  console.log(
    `decode step of 22 layers, ${batch} at once, ${launches} launches, kernels that return at once: script ` +
      `${quantile(script, 0.5)} ms (best ${quantile(script, 0)}, 90 % ${quantile(script, 0.9)}), ` +
      `with waiting for the device ${quantile(whole, 0.5)} ms`,
  );
  return found;
}

test("the script of a step of the 22-layer plan takes at most 2 ms", async () => {
  const { script, launches, text } = await times(1);
  expect(script).toHaveLength(GROUPS);
  expect(launches).toBeGreaterThan(22 * 5);
  expect(text.length).toBeGreaterThan(10 * GROUPS);
  expect(Number(quantile(script, 0))).toBeGreaterThan(0);
  expect(Number(quantile(script, 0.5))).toBeLessThan(MOST);
  await times(4);
});
