import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { call } from "./call.ts";
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
function certain(tokens: readonly number[], margins: readonly number[]): readonly number[] {
  const tie = margins.findIndex((margin) => margin < NEAR_TIE);
  return tie < 0 ? tokens : tokens.slice(0, tie);
}

test.each(answers)(
  "the answer to $prompt is the Python host's",
  async ({ prompt, promptIds, tokenIds, margins }) => {
    const { value, error } = await call(page, "ask", prompt, GREEDY);
    expect(error).toBeNull();
    const [choice] = value?.choices ?? [];
    const wanted = certain(tokenIds, margins);
    expect(choice?.token_ids.slice(0, wanted.length)).toEqual(wanted);
    expect(wanted.length).toBeGreaterThan(0);
    expect(value?.usage.prompt_tokens).toBe(promptIds.length);
  },
);

test("two requests at once give the same answers, in turns", async () => {
  const both = answers.slice(0, 2);
  const { answers: got, order } = await call(
    page,
    "askTogether",
    both.map((one) => one.prompt),
    GREEDY,
  );
  for (const [index, { tokenIds, margins }] of both.entries()) {
    const wanted = certain(tokenIds, margins);
    expect(got[index]?.tokens.slice(0, wanted.length)).toEqual(wanted);
  }
  // The first answer does not end before the second begins.
  expect(order.indexOf(1)).toBeLessThan(order.lastIndexOf(0));
  expect(order.indexOf(0)).toBeLessThan(order.lastIndexOf(1));
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
