/** Runs conformance programs (docs/plan.md, "Conformance") in a page. */

import { decodeWeights, shardName } from "../../../src/bundle/weights.ts";
import * as json from "../../../src/json.ts";
import { decodePlan } from "../../../src/plan/decode.ts";
import { findAdapter, openDevice } from "../../../src/plan/device.ts";
import { type Numbers, PlanHost } from "../../../src/plan/host.ts";
import { checkDevice } from "../../../src/plan/limits.ts";
import { rotaryTable } from "../../../src/plan/rotary.ts";
import { type Dtype, PLAN_NAME, type Plan } from "../../../src/plan/types.ts";
import { DeviceWatch } from "../../../src/plan/watch.ts";
import { must } from "../../../src/units.ts";

const ANY_NAME = /.+/;
const numbers = json.list(json.number());
const stepsReader = json.object({
  about: json.text(),
  tolerance: json.number(0),
  sizes: json.record(ANY_NAME, json.integer()),
  output: json.text(),
  steps: json.list(
    json.object({
      sizes: json.record(ANY_NAME, json.integer()),
      inputs: json.record(ANY_NAME, numbers),
      output: numbers,
    }),
  ),
});

export interface Outcome {
  readonly steps: number;
  readonly problems: readonly string[];
}

async function bytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Every step of a program on one host; what differs from what it must be. */
export async function runProgram(name: string, program: string): Promise<Outcome> {
  const folder = `/conformance/${name}`;
  const plan = decodePlan(await bytes(`${folder}/${program}/${PLAN_NAME}`), name);
  const sources = new Map<string, string>();
  for (const { source } of plan.kernels) {
    sources.set(source, new TextDecoder().decode(await bytes(`${folder}/${program}/${source}`)));
  }
  const steps = json.decodeJson(await bytes(`${folder}/steps.json`), stepsReader);
  const sizes = new Map([...plan.sizes, ...steps.sizes]);
  const adapter = await findAdapter();
  checkDevice(plan, sizes, adapter);
  const device = await openDevice(adapter, plan.needs.includes("fp16"));
  const host = await PlanHost.allocate(device, plan, sizes, new DeviceWatch(device, adapter.name, 0));
  try {
    await host.compile(sources);
    await uploadWeights(host, plan, folder);
    for (const one of plan.rotary)
      host.upload(one.table, 0, rotaryTable(one, must(sizes.get("context"), "context")));
    const dtypes = new Map(plan.buffers.map((one) => [one.name, one.dtype]));
    const problems: string[] = [];
    for (const [index, step] of steps.steps.entries()) {
      const inputs = new Map(
        [...step.inputs].map(([key, values]) => [key, numbersOf(values, must(dtypes.get(key), key))]),
      );
      const part = { buffer: steps.output, offset: 0, bytes: 4 * step.output.length };
      const [back] = await host.run(inputs, step.sizes, [part]);
      const got = new Float32Array(must(back, "the output"));
      const wrong = step.output.findIndex(
        (one, place) => !(Math.abs((got[place] ?? NaN) - one) <= steps.tolerance * (1 + Math.abs(one))),
      );
      if (wrong >= 0)
        problems.push(`step ${index}, number ${wrong}: ${got[wrong]}, not ${step.output[wrong]}`);
    }
    return { steps: steps.steps.length, problems };
  } finally {
    host.close();
  }
}

async function uploadWeights(host: PlanHost, plan: Plan, folder: string): Promise<void> {
  for (const entry of decodeWeights(await bytes(`${folder}/weights.json`), folder)) {
    if (!plan.weights.has(entry.name)) continue;
    const shard = await bytes(`${folder}/${shardName(entry.shard)}`);
    host.upload(entry.name, 0, shard.subarray(entry.offset, entry.offset + entry.bytes));
  }
}

function numbersOf(values: readonly number[], dtype: Dtype): Numbers {
  switch (dtype) {
    case "float32":
      return new Float32Array(values);
    case "int32":
      return new Int32Array(values);
    case "uint32":
      return new Uint8Array(new Uint32Array(values).buffer);
    case "int8":
      return new Uint8Array(new Int8Array(values).buffer);
    case "uint8":
      return new Uint8Array(values);
    case "float16":
      return new Uint8Array(new Uint16Array(values.map(halfBits)).buffer);
  }
}

/** The bits of a number that fp16 holds exactly, normal or zero. */
function halfBits(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0] ?? 0;
  if (value === 0) return bits >>> 16;
  return (
    ((bits >>> 16) & 0x8000) | (((((bits >>> 23) & 0xff) - 112) << 10) & 0x7c00) | ((bits >>> 13) & 0x3ff)
  );
}

Object.assign(window, { edgellmTests: { runProgram } });
