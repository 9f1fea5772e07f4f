/** Calling what a page of tests/browser/pages offers. */

import type { Page } from "playwright-core";
import type { EngineTests } from "./pages/engine.ts";

type Result<K extends keyof EngineTests> = Awaited<ReturnType<EngineTests[K]>>;

/** Calls a function of pages/engine.ts in the page. */
export async function call<K extends keyof EngineTests>(
  page: Page,
  name: K,
  ...given: Parameters<EngineTests[K]>
): Promise<Result<K>> {
  const result = await page.evaluate(
    ([one, values]) => {
      const tests = (window as unknown as { edgellmTests: Record<string, (...values: unknown[]) => unknown> })
        .edgellmTests;
      return tests[one as string]?.(...(values as unknown[]));
    },
    [name, given] as const,
  );
  return result as Result<K>;
}
