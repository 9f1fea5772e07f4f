import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { call } from "./call.ts";
import type { Answer } from "./reference.ts";
import { Site } from "./site.ts";

const { answers } = inject("reference");
const GREEDY = { temperature: 0, max_tokens: 24 };
/** Answers may differ from where the logits of the two best tokens are this close. */
const NEAR_TIE = 0.01;

let site: Site;
let page: Page;
beforeAll(async () => {
  site = await Site.open();
  page = await site.page("engine.ts");
  const { value, error } = await call(page, "open", { bundle: "/bundle/" });
  expect(error).toBeNull();
  expect(value?.info).toMatchObject({
    model: "demo",
    quant: "int4",
    context: 1024,
    arithmetic: "fp32",
    chat: true,
    stored: true,
  });
});
afterAll(() => site.close());

/** The tokens up to the first near-tie of the reference. */
function certain({ tokenIds, margins }: Answer): readonly number[] {
  const tie = margins.findIndex((margin) => margin < NEAR_TIE);
  return tie < 0 ? tokenIds : tokenIds.slice(0, tie);
}

test.each(answers.slice(0, 2))("the answer to $prompt is the Python host's", async (answer) => {
  const { value, error } = await call(page, "ask", answer.prompt, GREEDY);
  expect(error).toBeNull();
  const wanted = certain(answer);
  expect(value?.choices[0]?.token_ids.slice(0, wanted.length)).toEqual(wanted);
  expect(value?.usage.prompt_tokens).toBe(answer.promptIds.length);
  if (wanted.length === answer.tokenIds.length) expect(value?.choices[0]?.message.content).toBe(answer.text);
});

test("so are those to all prompts, four at once", async () => {
  expect(answers).toHaveLength(20);
  let compared = 0;
  for (let at = 0; at < answers.length; at += 4) {
    const group = answers.slice(at, at + 4);
    const prompts = group.map((one) => one.prompt);
    const { answers: got, order } = await call(page, "askTogether", prompts, GREEDY);
    for (const [index, answer] of group.entries()) {
      const wanted = certain(answer);
      compared += wanted.length;
      expect(got[index]?.tokens.slice(0, wanted.length), answer.prompt).toEqual(wanted);
    }
    // The first answer does not end before the second begins.
    expect(order.indexOf(1)).toBeLessThan(order.lastIndexOf(0));
    expect(order.indexOf(0)).toBeLessThan(order.lastIndexOf(1));
  }
  const all = answers.reduce((total, one) => total + one.tokenIds.length, 0);
  expect(compared).toBeGreaterThan(0.9 * all); // near-ties are few
});

test("an aborted answer ends, and its place is free", async () => {
  const { error } = await call(page, "abortAfter", answers[0]?.prompt ?? "", 3);
  expect(error?.code).toBe("aborted");
  await expect.poll(async () => (await call(page, "stats")).running).toBe(0);
  expect((await call(page, "stats")).blocksInUse).toBe(0);
});

test("a sampled answer is the same for the same seed, and scored where asked", async () => {
  const settings = { temperature: 1.5, top_p: 0.95, seed: 5, max_tokens: 5, logprobs: true, top_logprobs: 2 };
  const given = [];
  for (const one of [settings, settings]) given.push((await call(page, "ask", "Hello there!", one)).value);
  const tokens = given.map((one) => one?.choices[0]?.token_ids);
  expect(tokens[0]).toHaveLength(5);
  expect(tokens[1]).toEqual(tokens[0]);
  const scored = given[0]?.choices[0]?.logprobs?.content ?? [];
  expect(scored).toHaveLength(5);
  for (const { logprob, top_logprobs } of scored) {
    expect(logprob).toBeLessThanOrEqual(0);
    expect(top_logprobs).toHaveLength(2);
    expect(top_logprobs[0]?.logprob).toBeGreaterThanOrEqual(logprob);
  }
  expect(given[1]?.usage.prompt_tokens_details.cached_tokens).toBeGreaterThan(0);
});

test("what cannot be answered is told with a code", async () => {
  const long = "very ".repeat(2000);
  expect((await call(page, "ask", long, GREEDY)).error).toMatchObject({
    code: "prompt_too_long",
    details: { context: 1024 },
  });
  expect((await call(page, "ask", "Hello", { temperature: -1 })).error).toMatchObject({ code: "request" });
});

test("a plain text goes on as the same text in a conversation does", async () => {
  const [answer] = answers;
  const chat = `<|im_start|>user\n${answer?.prompt}<|im_end|>\n<|im_start|>assistant\n`;
  const { value } = await call(page, "complete", chat, { temperature: 0, max_tokens: 4, stop: "\n" });
  expect(value).toMatchObject({ object: "text_completion", usage: { completion_tokens: 4 } });
  expect(value?.choices[0]?.token_ids).toEqual(answer?.tokenIds.slice(0, 4));
});
