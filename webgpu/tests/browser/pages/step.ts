/** The engine on the plan of a real model whose kernels return at once: what is left of a step is script. */

import { decodeManifest } from "../../../src/bundle/manifest.ts";
import { type AnswerPiece, Engine } from "../../../src/engine/engine.ts";
import { decodePlan } from "../../../src/plan/decode.ts";
import { findAdapter, openDevice } from "../../../src/plan/device.ts";
import { PlanExecutor } from "../../../src/plan/executor.ts";
import { PlanHost } from "../../../src/plan/host.ts";
import { fitProgram } from "../../../src/plan/sizing.ts";
import { trimPlan } from "../../../src/plan/trim.ts";
import { PLAN_NAME } from "../../../src/plan/types.ts";
import { DeviceWatch } from "../../../src/plan/watch.ts";
import { must } from "../../../src/units.ts";

const CONTEXT = 512;
const GROUP = 10;
/** A token that is text, in place of what the kernels do not compute. */
const TOKEN = 300;

export interface StepTimes {
  readonly launches: number;
  /** Milliseconds of script of a step: means of `GROUP` steps each, since the browser's clock is coarse. */
  readonly script: readonly number[];
  /** Milliseconds from one step to the next, the waiting for the device included; as many. */
  readonly whole: readonly number[];
  readonly text: string;
}

/** All time that was spent waiting for the device. */
let waited = 0;
const mapAsync = GPUBuffer.prototype.mapAsync;
GPUBuffer.prototype.mapAsync = async function (...given) {
  const from = performance.now();
  await mapAsync.apply(this, given);
  waited += performance.now() - from;
};

async function bytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}

async function open(batch: number): Promise<{ engine: Engine; launches: number }> {
  const manifest = await decodeManifest(await bytes("/bundle/edgellm.json"), "edgellm.json");
  const plan = trimPlan(decodePlan(await bytes(`/step/${PLAN_NAME}`), PLAN_NAME), batch);
  const adapter = await findAdapter();
  const fit = fitProgram(plan, adapter, { context: CONTEXT, maxBatch: batch });
  const device = await openDevice(adapter, false);
  const watch = new DeviceWatch(device, adapter.name, CONTEXT);
  const host = await PlanHost.allocate(device, plan, fit.sizes, watch);
  const names = [...new Set(plan.kernels.map((one) => one.source))];
  const texts = await Promise.all(
    names.map(async (name) => [name, await (await fetch(`/step/${name}`)).text()] as const),
  );
  await host.compile(new Map(texts));
  const top = must(
    plan.buffers.find((one) => one.name === "top_ids"),
    "top_ids",
  );
  host.upload("top_ids", 0, new Int32Array(batch * Number(top.shape[1])).fill(TOKEN));
  const engine = new Engine({
    manifest,
    adapter,
    profile: "full",
    plan,
    fit,
    executor: new PlanExecutor(plan, host, fit, manifest.model.vocab_size),
    watch,
    tokenizer: new TextDecoder().decode(await bytes("/bundle/tokenizer.json")),
    template: null,
    stored: false,
    healed: [],
    refused: null,
  });
  return { engine, launches: must(plan.routines.at(-1), "a routine").launches.length };
}

/** Decodes `GROUP * groups` greedy steps of `batch` requests, after two groups that do not count. */
export async function measure(batch: number, groups: number): Promise<StepTimes> {
  const { engine, launches } = await open(batch);
  const ends: { at: number; waited: number }[] = [];
  let text = "";
  const answers = Array.from({ length: batch }, (_, index) => {
    return new Promise<void>((resolve, reject) => {
      const take = (piece: AnswerPiece): void => {
        if (index === batch - 1 && piece.tokens.length) ends.push({ at: performance.now(), waited });
        if (index === 0) text += piece.text;
        if (piece.finishReason !== null) resolve();
      };
      const body = { prompt: "Hello", temperature: 0, max_tokens: GROUP * (groups + 2) + 1 };
      engine.start(body, take, reject);
    });
  });
  await Promise.all(answers);
  engine.close();
  const last = ends.filter((_, index) => index % GROUP === 0).slice(-groups - 1);
  const script: number[] = [];
  const whole: number[] = [];
  for (const [index, end] of last.slice(1).entries()) {
    const before = must(last[index], "a step");
    whole.push((end.at - before.at) / GROUP);
    script.push((end.at - before.at - (end.waited - before.waited)) / GROUP);
  }
  return { launches, script, whole, text };
}

Object.assign(window, { edgellmTests: { measure } });
