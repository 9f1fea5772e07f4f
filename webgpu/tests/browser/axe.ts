/** axe-core on a page: what it finds wrong for people who use keyboards, screen readers or high contrast. */

import { createRequire } from "node:module";
import type axe from "axe-core";
import type { BrowserContext, Page } from "playwright-core";
import { expect } from "vitest";

/** Before any page of the context: from outside, since the pages' policy lets nothing in. */
export async function withAxe(context: BrowserContext): Promise<void> {
  await context.addInitScript({ path: createRequire(import.meta.url).resolve("axe-core/axe.min.js") });
}

/** Fails with the rules that the page breaks as it is now, and where. */
export async function checkAccess(page: Page): Promise<void> {
  // Colours are compared as they stay.
  await page.evaluate(() =>
    Promise.all(document.getAnimations().map((one) => one.finished.catch(() => undefined))),
  );
  const found = await page.evaluate(() =>
    (window as unknown as { axe: typeof axe }).axe.run(document, { resultTypes: ["violations"] }),
  );
  const said = found.violations.flatMap(({ id, help, nodes }) =>
    nodes.map((one) => `${id} (${help}): ${one.target.join(" ")}`),
  );
  expect(said).toEqual([]);
  expect(found.passes.length).toBeGreaterThan(15); // the page was there
}
