import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { EdgeLLMError } from "../../src/errors.ts";
import { decodePlan } from "../../src/plan/decode.ts";
import { type Expression, evaluate, expressionProblem } from "../../src/plan/expressions.ts";
import { bufferBytes, Grids, routineOf } from "../../src/plan/launches.ts";
import { type DeviceFacts, deviceProblem, LIMIT_NAMES, type Limits } from "../../src/plan/limits.ts";
import { fitProgram } from "../../src/plan/sizing.ts";
import { trimPlan } from "../../src/plan/trim.ts";

const PROGRAMS = path.resolve(import.meta.dirname, "../../../tests/conformance/programs");

// biome-ignore lint/suspicious/noExplicitAny: plans are broken on purpose here
type Loose = any;

function read(name: string): Loose {
  return JSON.parse(readFileSync(path.join(PROGRAMS, name, "wgsl-fp32/plan.json"), "utf8"));
}

function decode(plan: unknown) {
  return decodePlan(new TextEncoder().encode(JSON.stringify(plan)), "plan.json");
}

/** What a changed plan is refused for. */
function refusal(name: string, change: (plan: Loose) => void): string {
  const plan = read(name);
  change(plan);
  try {
    decode(plan);
  } catch (error) {
    if (error instanceof EdgeLLMError && error.code === "bundle") return error.message;
    throw error;
  }
  return "taken";
}

describe("expressions", () => {
  const sizes = new Map([
    ["n", 5],
    ["r", 3],
  ]);

  test.each<[Expression, number]>([
    [7, 7],
    ["n", 5],
    [["+", "n", "r"], 8],
    [["*", ["min", "n", 2], ["max", "r", 4]], 8],
    [["/", "n", 2], 3],
    [["/", 9007199254740991, 2], 4503599627370496],
  ])("%j is %i", (expression, value) => {
    expect(expressionProblem(expression, sizes)).toBeNull();
    expect(evaluate(expression, sizes)).toBe(value);
  });

  test("values beyond 2^53 - 1 are errors", () => {
    expect(() => evaluate(["+", 9007199254740991, "n"], sizes)).toThrow("2^53");
    expect(() => evaluate(["*", ["*", 94906267, 94906267], 0], sizes)).toThrow("2^53");
  });

  test.each([
    -1,
    0.5,
    2 ** 53,
    "m",
    "toString",
    null,
    true,
    [],
    ["-", 1, 2],
    ["+", 1],
    ["/", 4, "n"],
    ["/", 4, 0],
  ])("%j is none", (value) => {
    expect(expressionProblem(value, sizes)).toBeTypeOf("string");
  });

  test("deep ones are refused", () => {
    let deep: unknown = 1;
    for (let depth = 0; depth < 17; depth += 1) deep = ["+", deep, 1];
    expect(expressionProblem(deep, sizes)).toContain("16");
    expect(expressionProblem((deep as unknown[])[1], sizes)).toBeNull();
  });
});

describe("plans", () => {
  test.each(readdirSync(PROGRAMS).filter((name) => name !== "half"))("%s is taken", (name) => {
    expect(decode(read(name)).language).toBe("wgsl");
  });

  test.each<[string, (plan: Loose) => void]>([
    ["plan format 2", (plan) => (plan.format = 2)],
    ["language", (plan) => (plan.language = "opencl")],
    ["not known", (plan) => (plan.extra = 1)],
    ["not known", (plan) => (plan.kernels[0].extra = 1)],
    ["is missing", (plan) => delete plan.kernels[0].grid],
    ["no largest value", (plan) => (plan.sizes.n = 0)],
    ["may not stand there", (plan) => (plan.kernels[0].source = "../../secret.wgsl")],
    ["may not stand there", (plan) => (plan.kernels[0].source = "a/b.wgsl")],
    ["may not stand there", (plan) => (plan.kernels[0].source = "scale.cl")],
    ["buffer x is there more than once", (plan) => plan.buffers.push(plan.buffers[0])],
    ["there is no kernel", (plan) => (plan.routines[0].launches[0].kernel = "nothing")],
    ["there is no buffer", (plan) => (plan.routines[0].launches[0].arguments[0] = "constructor")],
    ["buffers, not 1", (plan) => plan.routines[0].launches[0].arguments.splice(1)],
    [
      "more than once",
      (plan) => (plan.routines[0].launches[0].arguments[1] = plan.routines[0].launches[0].arguments[0]),
    ],
    ["no size of this plan", (plan) => (plan.buffers[0].shape = ["q"])],
    ["no size of this plan", (plan) => plan.kernels[0].scalars.push("q")],
    ["may be empty", (plan) => (plan.kernels[0].grid[0] = 0)],
    ["larger than 65535", (plan) => (plan.kernels[0].grid[0] = 65536)],
    ["z other than 1", (plan) => (plan.kernels[0].grid[2] = 2)],
    ["never launched", (plan) => plan.kernels.push({ ...plan.kernels[0], name: "idle" })],
    ["these must grow", (plan) => (plan.routines[0].most += 1)],
    ["2^53", (plan) => (plan.buffers[0].shape = [94906267, 94906267])],
    [
      "read before",
      (plan) => {
        for (const one of plan.buffers) if (one.kind === "input") one.kind = "slot";
      },
    ],
    [
      "does not write",
      (plan) => plan.buffers.push({ name: "more", kind: "output", dtype: "float32", shape: ["n"] }),
    ],
    [
      "nothing says what fills",
      (plan) => plan.buffers.push({ name: "more", kind: "table", dtype: "float32", shape: ["n", 2] }),
    ],
    ["no float32 table", (plan) => plan.rotary.push({ table: "x", frequencies: [1] })],
    ["an input is not", (plan) => (plan.kernels[0].access = plan.kernels[0].access.map(() => "readwrite"))],
  ])("one with a fault is refused: %s", (problem, change) => {
    expect(refusal("scale", change).replace("a input", "an input")).toContain(problem);
  });

  test("what is no JSON, or not UTF-8, is refused", () => {
    expect(() => decodePlan(new TextEncoder().encode("{"), "plan.json")).toThrow("no JSON");
    expect(() => decodePlan(new Uint8Array([0xff, 0xfe]), "plan.json")).toThrow("no JSON");
  });

  test("a step takes the first routine that holds it", () => {
    const plan = decode(read("routines"));
    const most = plan.routines.map((one) => one.most);
    for (const tokens of [1, ...most]) {
      expect(routineOf(plan, tokens).most).toBe(most.find((one) => one >= tokens));
    }
  });

  test("grids are those of the step's sizes", () => {
    const plan = decode(read("scale"));
    const grids = new Grids(plan);
    for (const n of [1, 5, 1]) {
      const sizes = new Map([...plan.sizes, ["n", n] as const]);
      const wanted = plan.kernels[0]?.grid.map((one) => evaluate(one, sizes));
      expect(grids.of(sizes).get("scale")).toEqual(wanted);
    }
  });

  test("a plan for shorter steps has fewer routines and kernels, and smaller buffers", () => {
    const plan = decode(read("routines"));
    const short = trimPlan(plan, 1);
    expect(short.routines).toHaveLength(1);
    expect(short.routines[0]?.most).toBe(1);
    expect(short.kernels.length).toBeLessThan(plan.kernels.length);
    const [whole, trimmed] = [plan, short].map((one) => [...bufferBytes(one, one.sizes).values()]);
    expect(Math.max(...(trimmed ?? []))).toBeLessThan(Math.max(...(whole ?? [])));
    expect(() => trimPlan(plan, 0)).toThrow("stepTokens");
  });
});

describe("devices", () => {
  const plenty = Object.fromEntries(LIMIT_NAMES.map((one) => [one, 2 ** 31])) as Limits;
  const device = (limits: Partial<Limits>, fp16 = true): DeviceFacts => ({
    name: "a device",
    limits: { ...plenty, ...limits },
    fp16,
  });

  test("limits are compared with what the kernels take", () => {
    const plan = decode(read("cache"));
    const sizes = new Map([...plan.sizes].map(([name, size]) => [name, size || 4]));
    expect(deviceProblem(plan, sizes, device({}))).toBeNull();
    for (const name of LIMIT_NAMES) {
      const small = name === "maxComputeWorkgroupStorageSize" ? -1 : 0;
      expect(deviceProblem(plan, sizes, device({ [name]: small })), name).toBeTypeOf("string");
    }
  });

  test("a cache is as large as asked for, or as the device's buffers allow", () => {
    const plan = decode({ ...read("cache"), sizes: { ...read("cache").sizes, blocks: 0 } });
    const fit = fitProgram(plan, device({}), { context: 100, maxBatch: 1 });
    expect(fit.blocks).toBe(7);
    const block = fit.cacheBytes / 7;
    const tight = device({ maxStorageBufferBindingSize: 20 * block });
    expect(() => fitProgram(plan, tight, { context: 1000, maxBatch: 1 })).toThrow("take a context of 320");
    expect(fitProgram(plan, tight, { context: 320, maxBatch: 1 }).blocks).toBe(20);
    expect(fitProgram(plan, tight, { context: 320 }).blocks).toBe(20);
  });
});
