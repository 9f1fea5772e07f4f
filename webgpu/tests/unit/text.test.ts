import { describe, expect, test } from "vitest";
import type { TokenizerFacts } from "../../src/bundle/manifest.ts";
import { IncrementalDetokenizer, StopMatcher } from "../../src/engine/detokenize.ts";
import { checkParams } from "../../src/engine/params.ts";
import { samplingParams } from "../../src/engine/request.ts";
import { EdgeLLMError, errorData, errorFromData } from "../../src/errors.ts";
import { ChatTemplate } from "../../src/text/template.ts";
import { bytesText, ceilDiv } from "../../src/units.ts";

/** Tokens that are bytes: the hardest case for a stream. */
const decode = (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids));

test.each(["plain", "naïve café", "東京 и 👩‍👩‍👧‍👦", "a\ufffdb"])(
  "pieces of %j add up, without broken characters",
  (text) => {
    const detokenizer = new IncrementalDetokenizer(decode);
    const pieces = [...new TextEncoder().encode(text)].map((byte) => detokenizer.add(byte));
    expect(pieces.join("") + detokenizer.finish()).toBe(text);
    if (!text.includes("\ufffd")) expect(pieces.join("")).not.toContain("\ufffd");
  },
);

test("an incomplete end is told as such", () => {
  const detokenizer = new IncrementalDetokenizer(decode);
  expect([0x61, 0xe6, 0x9d].map((byte) => detokenizer.add(byte))).toEqual(["a", "", ""]);
  expect(detokenizer.finish()).toBe("\ufffd");
});

test.each([
  [["STOP"], "go on STOP here", "go on "],
  [["STOP"], "go on STO", "go on STO"],
  [["bc", "abc"], "xxabcx", "xx"],
  [["aab"], "aaab", "a"],
  [["\n\n"], "one\ntwo\n\nthree", "one\ntwo"],
])("stop texts %j in %j, however it is cut", (stops, text, wanted) => {
  for (let size = 1; size <= text.length; size += 1) {
    const matcher = new StopMatcher(stops);
    let found = "";
    let stopped = false;
    for (let at = 0; at < text.length && !stopped; at += size) {
      const result = matcher.add(text.slice(at, at + size));
      found += result.text;
      stopped = result.stopped;
    }
    const whole = stopped ? found : found + matcher.finish();
    expect(whole).toBe(wanted);
  }
});

test("requests take the bundle's defaults, and refuse what cannot be", () => {
  const defaults = { temperature: 0.5, top_k: 20, top_p: 0.9, min_p: 0.1, repetition_penalty: 1.1 };
  const params = samplingParams({ top_k: 0, stop: "x", logprobs: true, logit_bias: { 5: -3 } }, defaults);
  expect(params).toMatchObject({
    temperature: 0.5,
    topK: 0,
    topP: 0.9,
    minP: 0.1,
    repetitionPenalty: 1.1,
    stop: ["x"],
    logprobs: 0,
  });
  expect(params.logitBias.get(5)).toBe(-3);
  for (const bad of [
    { temperature: -1 },
    { temperature: Number.NaN },
    { top_p: 0 },
    { top_p: 2 },
    { top_k: 1.5 },
    { max_tokens: 0 },
    { seed: -1 },
    { stop: [""] },
    { stop: new Array(17).fill("a") },
    { logit_bias: { x: 1 } },
    { logit_bias: { 1: 101 } },
    { logprobs: true, top_logprobs: 21 },
    { presence_penalty: 3 },
  ]) {
    expect(() => samplingParams(bad, defaults), JSON.stringify(bad)).toThrow(EdgeLLMError);
  }
  expect(() => checkParams(params)).not.toThrow();
});

test("errors keep their code and details between worker and page", () => {
  const error = new EdgeLLMError("quota", "no room", { needed: 5 });
  expect(errorFromData(structuredClone(errorData(error)))).toEqual(error);
  expect(errorData(new TypeError("x is not a function"))).toMatchObject({ code: "internal" });
});

test("numbers for people", () => {
  expect([0, 1023, 1024, 1536, 128 << 20, 1.5 * 2 ** 30].map(bytesText)).toEqual([
    "0 bytes",
    "1023 bytes",
    "1 KiB",
    "1.5 KiB",
    "128 MiB",
    "1.5 GiB",
  ]);
  expect(ceilDiv(Number.MAX_SAFE_INTEGER, 2)).toBe(2 ** 52);
});

describe("a request as OpenAI's clients send it", () => {
  const defaults = { temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };

  test("may name its tokens anew, and say what changes nothing", () => {
    const off = { n: 1, tools: [], tool_choice: "auto", response_format: { type: "text" }, grammar: null };
    const given = { ...off, user: "someone", store: false, max_tokens: 5, max_completion_tokens: 7 };
    expect(samplingParams(given, defaults).maxTokens).toBe(7);
    expect(samplingParams({ tools: [{}], tool_choice: "none" } as object, defaults).maxTokens).toBeNull();
  });

  test.each([
    { n: 2 },
    { tools: [{ type: "function" }] },
    { tool_choice: "required" },
    { response_format: { type: "json_object" } },
    { stop_token_ids: [1] },
    { chat_template: "x" },
  ])("is refused where the answer would be another: %j", (given) => {
    const [field] = Object.keys(given);
    const refusal = expect.objectContaining({ code: "request", details: { field } });
    expect(() => samplingParams(given as object, defaults)).toThrow(refusal);
  });

  test("may have its content in parts, of text", () => {
    const facts = { bos_token: "", eos_token: "", unk_token: "" } as TokenizerFacts;
    const template = new ChatTemplate(
      "{% for one in messages %}{{ one.role }}:{{ one.content }};{% endfor %}",
      facts,
    );
    const parts = ["Hel", "lo"].map((text) => ({ type: "text", text }) as const);
    const system = { role: "developer", content: "Be short." };
    expect(template.render([system, { role: "user", content: parts }])).toBe("system:Be short.;user:Hello;");
    for (const content of [[{ type: "image_url", image_url: {} }], [null], [{ type: "text" }], null]) {
      expect(() => template.render([{ role: "user", content } as never])).toThrow("messages[0]");
    }
  });
});
