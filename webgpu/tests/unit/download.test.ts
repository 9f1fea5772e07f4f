import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { download, fetchWhole } from "../../src/bundle/download.ts";
import { eitherSignal } from "../../src/errors.ts";
import { findAdapter } from "../../src/plan/device.ts";
import { LIMIT_NAMES } from "../../src/plan/limits.ts";

const FILE = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff);

let server: Server;
let url: string;
/** What the server does with requests, in order; the last one goes on. */
let answers: ((request: IncomingMessage, response: ServerResponse) => void)[];
let ranges: (string | undefined)[];
beforeEach(async () => {
  answers = [];
  ranges = [];
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    (answer ?? part())(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Sends what was asked for, and cuts the connection after `bytes`. */
function part(bytes = FILE.length, ranged = true) {
  return (request: IncomingMessage, response: ServerResponse): void => {
    const start = ranged ? Number(/\d+/.exec(request.headers.range ?? "0")?.[0]) : 0;
    const headers = {
      "content-length": FILE.length - start,
      "content-range": `bytes ${start}-${FILE.length - 1}/${FILE.length}`,
    };
    response.writeHead(request.headers.range && ranged ? 206 : 200, headers);
    response.write(FILE.subarray(start, start + bytes), () =>
      bytes < FILE.length - start ? response.destroy() : response.end(),
    );
  };
}

function status(code: number) {
  return (_: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(code).end();
  };
}

async function fetched(bytes = FILE.length, signal?: AbortSignal): Promise<Uint8Array> {
  const data = new Uint8Array(bytes);
  await download(url, 0, bytes, { signal, waitMs: 1, write: (some, at) => data.set(some, at) });
  return data;
}

test("a file comes whole, whatever breaks on the way", async () => {
  answers = [part(100_000), status(503), part(50_000), part()];
  expect(Buffer.compare(await fetched(), FILE)).toBe(0);
  expect(ranges[0]).toBeUndefined();
  const starts = ranges.slice(1).map((one) => Number(/\d+/.exec(one ?? "")?.[0]));
  expect(starts[0]).toBeGreaterThan(0);
  expect(starts[1]).toBe(starts[0]);
  expect(starts[2]).toBeGreaterThan(starts[1] ?? 0);
});

test("a server that knows no ranges sends all of it again", async () => {
  answers = [part(100_000), part(FILE.length, false)];
  expect(Buffer.compare(await fetched(), FILE)).toBe(0);
});

test("a download without progress is given up", async () => {
  answers = [status(500)];
  await expect(fetched()).rejects.toMatchObject({ code: "network" });
  expect(ranges).toHaveLength(4);
});

test("what is not there is not asked for again", async () => {
  answers = [status(404)];
  await expect(fetched()).rejects.toMatchObject({ code: "network", details: { status: 404 } });
  expect(ranges).toHaveLength(1);
});

test("a file that is larger than the manifest says is refused", async () => {
  await expect(fetched(FILE.length - 1)).rejects.toMatchObject({ code: "bundle" });
  await expect(fetchWhole(url, 1000, undefined)).rejects.toMatchObject({ code: "bundle" });
  expect((await fetchWhole(url, FILE.length, undefined)).length).toBe(FILE.length);
});

test("an abort ends a download that brings nothing", async () => {
  answers = [(_, response) => void response.writeHead(200).write("x")];
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 50);
  await expect(fetched(FILE.length, controller.signal)).rejects.toMatchObject({ code: "aborted" });
});

test("a small file that does not come in time is told as such, however slowly it comes", async () => {
  answers = [
    (_, response) => {
      const trickle = setInterval(() => response.write("x"), 5);
      response.on("close", () => clearInterval(trickle));
    },
  ];
  await expect(fetchWhole(url, FILE.length, undefined, 50)).rejects.toMatchObject({
    code: "network",
    message: expect.stringContaining("within 50 ms"),
  });
});

test.each([0, 1])("one of two signals is enough, of browsers without AbortSignal.any too", async (which) => {
  const any = vi.spyOn(AbortSignal, "any").mockImplementation(() => {
    throw new TypeError("AbortSignal.any is not a function");
  });
  const both = [new AbortController(), new AbortController()] as const;
  const either = eitherSignal(both[0].signal, both[1].signal);
  expect(either.aborted).toBe(false);
  both[which]?.abort();
  expect(either.aborted).toBe(true);
  expect(eitherSignal(both[0].signal, both[1].signal).aborted).toBe(true);
  expect(await fetched(FILE.length, new AbortController().signal)).toHaveLength(FILE.length);
  any.mockRestore();
});

test("an adapter of a browser that tells nothing about it has no name", async () => {
  const limits = Object.fromEntries(LIMIT_NAMES.map((one) => [one, 1 << 20]));
  const adapter = { limits, features: new Set(["shader-f16"]) };
  vi.stubGlobal("navigator", { gpu: { requestAdapter: async () => adapter } });
  expect(await findAdapter()).toMatchObject({ name: "this device", fallback: false, fp16: true });
  vi.unstubAllGlobals();
});

test("without WebGPU the error says what to do", async () => {
  await expect(findAdapter()).rejects.toMatchObject({
    code: "no_webgpu",
    message: expect.stringContaining("Chrome"),
  });
});
