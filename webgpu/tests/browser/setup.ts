/** Before all browser tests: one headless Chromium, and the demo bundle with the answers of the Python host. */

import { chromium } from "playwright-core";
import type { TestProject } from "vitest/node";
import { makeReference, type Reference } from "./reference.ts";

declare module "vitest" {
  export interface ProvidedContext {
    browser: string;
    reference: Reference;
  }
}

/** WebGPU on SwiftShader, and nothing that reaches out of this machine. */
const FLAGS = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
];

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const reference = await makeReference();
  const executablePath = process.env.EDGELLM_CHROMIUM ?? "/usr/bin/chromium";
  const server = await chromium.launchServer({ executablePath, args: FLAGS });
  project.provide("browser", server.wsEndpoint());
  project.provide("reference", reference);
  return () => server.close();
}
