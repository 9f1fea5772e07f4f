/** A site that `edgellm package web` wrote, served by it, through a proxy that makes what goes wrong. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import type { Page } from "playwright-core";
import { inject } from "vitest";
import { PYTHON, ROOT } from "./reference.ts";

/** The demo bundle, or one of variants.py. */
export type Variant = "demo" | "shards" | "next" | "half" | "long" | "hostile";

const OPENING_MS = 120_000;

export class Packaged {
  /** File names to bytes of an answer after which nothing more comes. */
  readonly holds = new Map<string, number>();
  /** File names to bytes of an answer after which the connection breaks, once each. */
  readonly cuts = new Map<string, number[]>();
  /** File names to a pause between the headers and the body of an answer, ms. */
  readonly pauses = new Map<string, number>();
  /** Status of every answer, from a host in trouble. */
  status: number | null = null;
  /** As hosts do that want short addresses: `/index.html` is sent to `/`. */
  redirects = false;
  /** Script that runs in the worker before its own. */
  prelude = "";
  /** Ranges that were asked for, by file name. */
  readonly ranges = new Map<string, (string | undefined)[]>();
  url = "";
  #target = "";
  #stops: (() => Promise<void>)[] = [];

  static async open(variant: Variant): Promise<Packaged> {
    const site = new Packaged();
    await site.publish(variant);
    await site.#proxy();
    return site;
  }

  /** Puts this variant in the place of the one before. */
  async publish(variant: Variant): Promise<void> {
    const folder = path.dirname(inject("reference").bundle);
    const out = path.join(folder, `site-${variant}`);
    const words = ["-m", "edgellm", "package", "web", path.join(folder, variant), "--out", out, "--force"];
    const server = spawn(PYTHON, [...words, "--serve", "--port", "0", "--json"], {
      cwd: ROOT,
      env: { ...process.env, PYTHONPATH: ROOT },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#stops.push(() => end(server));
    const lines = createInterface({ input: server.stdout });
    const [first] = await Promise.race([once(lines, "line"), once(server, "exit")]);
    if (typeof first !== "string") throw new Error(`edgellm package web ended with status ${first}`);
    this.#target = JSON.parse(first).url;
  }

  /** Ends the servers: from then on there is no network. */
  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) await stop();
  }

  async #proxy(): Promise<void> {
    const proxy = createServer((asked, answer) => {
      const name = path.posix.basename(asked.url ?? "");
      this.ranges.set(name, [...(this.ranges.get(name) ?? []), asked.headers.range]);
      if (this.status !== null) return void answer.writeHead(this.status).end("<h1>Out of order</h1>");
      if (this.redirects && name === "index.html")
        return void answer.writeHead(308, { location: "./" }).end();
      const cut = this.cuts.get(name)?.shift();
      const most = cut ?? this.holds.get(name) ?? Number.POSITIVE_INFINITY;
      const prelude = name.startsWith("worker-") ? Buffer.from(this.prelude) : Buffer.alloc(0);
      let sent = 0;
      const passed = request(
        new URL(asked.url ?? "/", this.#target),
        { headers: asked.headers },
        async (found) => {
          const { "content-length": length, ...headers } = found.headers;
          const bytes = Number(length) + prelude.length;
          answer.writeHead(found.statusCode ?? 502, {
            ...headers,
            ...(length && { "content-length": bytes }),
          });
          answer.write(prelude);
          answer.flushHeaders();
          await setTimeout(this.pauses.get(name) ?? 0);
          found.on("data", (data: Buffer) => {
            answer.write(data.subarray(0, Math.max(0, most - sent)));
            sent += data.length;
            // What has been sent may arrive before the end.
            if (cut !== undefined && sent > cut) void setTimeout(100).then(() => answer.destroy());
          });
          found.on("end", () => sent <= most && answer.end());
        },
      );
      passed.on("error", () => answer.destroy());
      passed.end();
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    this.url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/`;
    this.#stops.push(async () => {
      proxy.closeAllConnections();
      proxy.close();
    });
  }
}

/**
 * Short steps: kernels for long ones take half a minute to compile for the processor.
 *
 * @param tokens of a step.
 */
export async function shortSteps(page: Page, tokens: number): Promise<void> {
  await page.addInitScript((stepTokens) => {
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message: unknown, ...rest: never[]) {
      const open = message as { type?: string; options?: object };
      if (open.type === "open") Object.assign(open.options ?? {}, { stepTokens });
      return post.call(this, message, ...rest);
    };
  }, tokens);
}

/** Waits until the model can be asked; fails with what the page says if it cannot be loaded. */
export async function ready(page: Page): Promise<void> {
  const wrong = page.locator("#panel.wrong:visible");
  await page.locator("#facts", { hasText: "tokens of context" }).or(wrong).waitFor({ timeout: OPENING_MS });
  if (await wrong.isVisible()) throw new Error(await wrong.innerText());
}

export async function ask(page: Page, text: string): Promise<void> {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

/** The last answer, once it has ended. */
export async function answered(page: Page): Promise<string> {
  await page.locator("body:not(.answering) .turn.assistant .note").last().waitFor({ timeout: 60_000 });
  return (await page.locator(".turn.assistant .text").last().textContent()) ?? "";
}

/** The words as they were generated: without the backticks of what is shown as code. */
export function shown(text: string | undefined): string {
  return (text ?? "").replaceAll("`", "");
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGTERM");
  await once(server, "exit");
}
