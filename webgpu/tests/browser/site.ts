/** A site for browser tests: the library's sources through Vite, and bundles with faults on demand. */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import path from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { createServer } from "vite";
import { inject } from "vitest";
import { ROOT } from "./reference.ts";

/** What goes wrong with one file. */
export interface Fault {
  /** Bytes after which the connection is cut. */
  cut?: number;
  /** Bytes after which nothing more comes. */
  hold?: number;
  /** Byte whose bits are turned over. */
  flip?: number;
  /** Status of every answer. */
  status?: number;
  /** Ranges are ignored. */
  wholeOnly?: boolean;
}

export interface Request {
  readonly path: string;
  readonly range: string | undefined;
}

const TYPES: Record<string, string> = { ".js": "text/javascript", ".html": "text/html" };

export class Site {
  /** By the file's path in the bundle; a cut happens once. */
  readonly faults = new Map<string, Fault>();
  /** Of files under /bundle/, in order. */
  readonly requests: Request[] = [];
  #close: (() => Promise<void>)[] = [];
  url = "";

  /** @param more folders by the addresses that they get, beside those of all tests. */
  static async open(more: Readonly<Record<string, string>> = {}): Promise<Site> {
    const site = new Site();
    const folders: Record<string, string> = {
      "/conformance/": path.join(ROOT, "tests/conformance/programs"),
      "/bundle/": inject("reference").bundle,
      "/copy/": inject("reference").bundle,
      "/step/": path.join(path.dirname(inject("reference").bundle), "step"),
      "/models/demo/": inject("reference").bundle,
      ...more,
    };
    const server = await createServer({
      root: path.join(ROOT, "webgpu"),
      configFile: false,
      appType: "custom",
      logLevel: "warn",
      server: { host: "127.0.0.1", port: 0, strictPort: false, hmr: false, watch: null },
      optimizeDeps: { include: ["@huggingface/jinja", "@huggingface/tokenizers"] },
      plugins: [
        {
          name: "bundles",
          configureServer(vite) {
            vite.middlewares.use((request, response, next) => {
              const url = decodeURIComponent(new URL(request.url ?? "/", "http://site").pathname);
              const prefix = Object.keys(folders).find((one) => url.startsWith(one));
              if (url === "/blank") {
                response.setHeader("content-type", "text/html");
                response.end("<!doctype html><title>edgellm</title><link rel=icon href=data:,>");
              } else if (prefix) {
                const name = url.slice(prefix.length);
                if (prefix === "/bundle/") site.requests.push({ path: name, range: request.headers.range });
                void site.#serve(path.join(folders[prefix] ?? "", name), name, request, response);
              } else next();
            });
          },
        },
      ],
    });
    await server.listen();
    site.url = server.resolvedUrls?.local[0] ?? "";
    site.#close.push(() => server.close());
    return site;
  }

  /** A new page in a new profile, with `module` (a file of tests/browser/pages) loaded. */
  async page(module: string, context?: BrowserContext): Promise<Page> {
    const page = await (context ?? (await this.context())).newPage();
    page.on("console", (message) => {
      if (message.type() === "error") console.error(`page: ${message.text()}`);
    });
    page.on("pageerror", (error) => console.error(`page: ${error.stack ?? error.message}`));
    await page.goto(`${this.url}blank`);
    await page.addScriptTag({ url: `/tests/browser/pages/${module}`, type: "module" });
    await page.waitForFunction(() => "edgellmTests" in window);
    return page;
  }

  async context(): Promise<BrowserContext> {
    return (await this.browser()).newContext();
  }

  async browser(): Promise<Browser> {
    const browser = await chromium.connect(inject("browser"));
    this.#close.push(() => browser.close());
    return browser;
  }

  async close(): Promise<void> {
    for (const close of this.#close.reverse()) await close();
  }

  async #serve(
    file: string,
    name: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const fault = this.faults.get(name) ?? {};
    const found = await stat(file).catch(() => null);
    if (!found?.isFile() || fault.status !== undefined) {
      response.statusCode = fault.status ?? 404;
      response.end();
      return;
    }
    const range = fault.wholeOnly ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const type = TYPES[path.extname(file)];
    if (type) response.setHeader("content-type", type);
    response.statusCode = range ? 206 : 200;
    response.setHeader("content-length", found.size - start);
    if (range) response.setHeader("content-range", `bytes ${start}-${found.size - 1}/${found.size}`);
    let at = start;
    // An end without bytes cannot be asked for.
    for await (const chunk of createReadStream(file, { start, highWaterMark: 64 << 10 })) {
      const bytes: Buffer = chunk;
      if (fault.flip !== undefined && fault.flip >= at && fault.flip < at + bytes.length) {
        bytes[fault.flip - at] = (bytes[fault.flip - at] ?? 0) ^ 0xff;
      }
      if (fault.hold !== undefined && at + bytes.length > fault.hold) {
        response.write(bytes.subarray(0, fault.hold - at));
        return;
      }
      if (fault.cut !== undefined && at + bytes.length > fault.cut) {
        this.faults.delete(name);
        response.write(bytes.subarray(0, fault.cut - at));
        setTimeout(() => response.destroy(), 100); // what has been sent may arrive
        return;
      }
      response.write(bytes);
      at += bytes.length;
    }
    response.end();
  }
}
