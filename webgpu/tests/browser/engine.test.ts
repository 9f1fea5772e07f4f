import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
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

/** Compares what came with the Python host's; how many tokens were compared. */
function compare(got: { text: string; tokens: readonly number[] } | undefined, answer: Answer): number {
  const wanted = certain(answer);
  const [tokens, text] = [got?.tokens ?? [], got?.text ?? ""];
  expect(tokens.slice(0, wanted.length), answer.prompt).toEqual(wanted);
  if (wanted.length === answer.tokenIds.length) {
    expect(tokens, answer.prompt).toHaveLength(wanted.length);
    expect(text, answer.prompt).toBe(answer.text);
  }
  return wanted.length;
}

describe("greedy answers are the Python host's, token for token", () => {
  // Every prompt once: the first six alone, ten in pairs, four at once.
  const [alone, pairs, four] = [answers.slice(0, 6), answers.slice(6, 16), answers.slice(16)];
  let compared = 0;

  test.each(alone)("to $prompt alone", async (answer) => {
    const { value, error } = await call(page, "ask", answer.prompt, GREEDY);
    expect(error).toBeNull();
    const [choice] = value?.choices ?? [];
    compared += compare({ text: choice?.message.content ?? "", tokens: choice?.token_ids ?? [] }, answer);
    expect(value?.usage).toMatchObject({
      prompt_tokens: answer.promptIds.length,
      completion_tokens: choice?.token_ids.length,
    });
  });

  test.each([
    ["two requests at once", 2, pairs],
    ["four requests at once", 4, four],
  ] as const)("to %s", async (_, count, prompts) => {
    for (let at = 0; at < prompts.length; at += count) {
      const group = prompts.slice(at, at + count);
      const asked = group.map((one) => one.prompt);
      const { answers: got, order } = await call(page, "askTogether", asked, GREEDY);
      for (const [index, answer] of group.entries()) compared += compare(got[index], answer);
      // The first answer does not end before the second begins.
      expect(order.indexOf(1)).toBeLessThan(order.lastIndexOf(0));
      expect(order.indexOf(0)).toBeLessThan(order.lastIndexOf(1));
    }
  });

  test("for twenty prompts, of whose tokens few are near-ties", () => {
    expect(alone.length + pairs.length + four.length).toBe(20);
    expect(new Set(answers.map((one) => one.prompt)).size).toBe(20);
    const all = answers.reduce((total, one) => total + one.tokenIds.length, 0);
    expect(compared).toBeGreaterThan(0.9 * all);
  });
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
