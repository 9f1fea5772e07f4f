/** A site that `edgellm package web` wrote, served by it, through a proxy that can hold a download up. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { inject } from "vitest";
import { PYTHON, ROOT } from "./reference.ts";

const OUT = path.join(ROOT, "webgpu/.cache/site");

export class Packaged {
  /** File names to bytes after which nothing more comes. */
  readonly holds = new Map<string, number>();
  /** Ranges that were asked for, by file name. */
  readonly ranges = new Map<string, (string | undefined)[]>();
  url = "";
  #stops: (() => Promise<void>)[] = [];

  static async open(): Promise<Packaged> {
    const site = new Packaged();
    const { bundle } = inject("reference");
    const words = ["-m", "edgellm", "package", "web", bundle, "--out", OUT, "--force"];
    const server = spawn(PYTHON, [...words, "--serve", "--port", "0", "--json"], {
      cwd: ROOT,
      env: { ...process.env, PYTHONPATH: ROOT },
      stdio: ["ignore", "pipe", "inherit"],
    });
    site.#stops.push(() => end(server));
    const lines = createInterface({ input: server.stdout });
    const [first] = await Promise.race([once(lines, "line"), once(server, "exit")]);
    if (typeof first !== "string") throw new Error(`edgellm package web ended with status ${first}`);
    await site.#proxy(JSON.parse(first).url);
    return site;
  }

  /** Ends the servers: from then on there is no network. */
  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) await stop();
  }

  async #proxy(target: string): Promise<void> {
    const proxy = createServer((asked, answer) => {
      const name = path.posix.basename(asked.url ?? "");
      this.ranges.set(name, [...(this.ranges.get(name) ?? []), asked.headers.range]);
      const hold = this.holds.get(name) ?? Number.POSITIVE_INFINITY;
      let sent = 0;
      const passed = request(new URL(asked.url ?? "/", target), { headers: asked.headers }, (found) => {
        answer.writeHead(found.statusCode ?? 502, found.headers);
        found.on("data", (data: Buffer) => {
          answer.write(data.subarray(0, Math.max(0, hold - sent)));
          sent += data.length;
        });
        found.on("end", () => sent <= hold && answer.end());
      });
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

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGTERM");
  await once(server, "exit");
}
