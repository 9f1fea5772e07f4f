/** The package as it is built, used as README says. */

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { shortSteps } from "./packaged.ts";
import { ROOT } from "./reference.ts";
import { Site } from "./site.ts";

const WEBGPU = path.join(ROOT, "webgpu");

let site: Site;
let page: Page | null = null;
let folder: string;
beforeAll(async () => {
  await build({ root: WEBGPU, configFile: path.join(WEBGPU, "vite.config.ts"), logLevel: "warn" });
  folder = await mkdtemp(path.join(tmpdir(), "edgellm-readme-"));
  site = await Site.open({ "/readme/": folder });
});
afterAll(async () => {
  await site?.close();
  await rm(folder, { recursive: true, force: true });
});

/** The lines of the code under a heading of README. */
async function code(heading: string): Promise<string[]> {
  const text = await readFile(path.join(WEBGPU, "README.md"), "utf8");
  const [, part] = text.split(`## ${heading}\n`);
  const lines = (part ?? "").split("\n## ")[0]?.split("\n") ?? [];
  const first = lines.findIndex((line) => line.startsWith("    "));
  const end = lines.findIndex((line, index) => index > first && line !== "" && !line.startsWith("    "));
  const block = lines.slice(first, end).map((line) => line.slice(4));
  return block.join("\n").trimEnd().split("\n");
}

async function visit(where: string): Promise<Page> {
  await page?.close(); // which ends its answer
  page = await (await site.context()).newPage();
  page.on("pageerror", (error) => console.error(`page: ${error.stack ?? error.message}`));
  await shortSteps(page, 1);
  await page.goto(new URL(where, site.url).href);
  return page;
}

test("the runtime is small", async () => {
  const { stdout } = await promisify(execFile)("node", [path.join(WEBGPU, "scripts/size.js")]);
  expect(stdout).toContain("tokenizer.js");
});

test("ten lines through a bundler stream an answer", async () => {
  const lines = await code("From a bundler");
  expect(lines.length).toBeLessThanOrEqual(10);
  const project = path.join(folder, "project");
  await mkdir(path.join(project, "node_modules"), { recursive: true });
  await symlink(WEBGPU, path.join(project, "node_modules/edgellm"));
  await writeFile(path.join(project, "main.js"), lines.join("\n"));
  const html = `<!doctype html><link rel="icon" href="data:,"><body><script type="module" src="./main.js"></script>`;
  await writeFile(path.join(project, "index.html"), html);
  const out = path.join(folder, "built");
  await build({
    root: project,
    base: "./",
    configFile: false,
    logLevel: "warn",
    // Top-level await, as in the lines.
    build: { outDir: out, emptyOutDir: true, target: "es2022" },
    worker: { format: "es" },
  });
  const shown = await visit("/readme/built/index.html");
  const [wanted] = inject("reference").answers;
  await shown.waitForFunction(
    (text) => document.body.textContent?.includes(text),
    wanted?.text.slice(0, 20) ?? "",
    {
      timeout: 120_000,
    },
  );
});

test("five lines of plain HTML give an answer", async () => {
  const lines = await code("From plain HTML");
  expect(lines.length).toBeLessThanOrEqual(5);
  const plain = path.join(folder, "plain");
  await mkdir(path.join(plain, "models"), { recursive: true });
  await symlink(path.join(WEBGPU, "dist"), path.join(plain, "edgellm"));
  await symlink(inject("reference").bundle, path.join(plain, "models/demo"));
  await writeFile(path.join(plain, "index.html"), lines.join("\n"));
  const shown = await visit("/readme/plain/index.html");
  await shown.waitForFunction(() => (document.getElementById("answer")?.textContent ?? "").length > 5, null, {
    timeout: 120_000,
  });
});
