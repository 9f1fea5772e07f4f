import { describe, expect, test } from "vitest";
import type { SamplingParams } from "../../src/engine/params.ts";
import { Random } from "../../src/engine/random.ts";
import {
  chooseFromRow,
  chooseFromTop,
  largest,
  needOf,
  TOP,
  type TopLogits,
} from "../../src/engine/sampling.ts";
import { Sequence } from "../../src/engine/sequence.ts";

const OFF: SamplingParams = {
  maxTokens: null,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  seed: 1,
  stop: [],
  logprobs: null,
};

function sequenceOf(params: Partial<SamplingParams>, prompt: number[] = [0]): Sequence {
  return new Sequence(
    prompt,
    { ...OFF, ...params },
    10,
    new Set(),
    () => "",
    () => undefined,
  );
}

/** Normally distributed logits, the same every time. */
function logitsOf(seed: number, count: number, spread: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.uniform()));
    return spread * radius * Math.cos(2 * Math.PI * random.uniform());
  });
}

/** What a device gives of a row. */
function topOf(row: Float32Array): TopLogits {
  const ids = largest(row, TOP);
  const sum = row.reduce((total, value) => total + Math.exp(value), 0);
  return {
    ids,
    values: Float32Array.from(ids, (id) => row[id] ?? 0),
    logSum: Math.fround(Math.log(sum)),
    vocabSize: row.length,
  };
}

/** The probabilities of all tokens after truncation, straight from the definitions. */
function probabilities(row: Float32Array, { temperature, topK, topP, minP }: SamplingParams): number[] {
  const peak = Math.max(...row);
  const order = [...row.keys()].sort((left, right) => (row[right] ?? 0) - (row[left] ?? 0) || left - right);
  const kept = topK ? order.slice(0, topK) : order;
  const weight = (id: number) => Math.exp(((row[id] ?? 0) - peak) / temperature);
  const mass = kept.reduce((total, id) => total + weight(id), 0);
  const result = new Array<number>(row.length).fill(0);
  let before = 0;
  for (const id of kept) {
    if (before < topP * mass && weight(id) >= minP) result[id] = weight(id);
    before += weight(id);
  }
  const total = result.reduce((sum, one) => sum + one, 0);
  return result.map((one) => one / total);
}

const SETTINGS: Partial<SamplingParams>[] = [
  {},
  { temperature: 0.3 },
  { temperature: 2 },
  { topK: 5 },
  { topK: 100 },
  { topP: 0.5 },
  { topP: 0.95 },
  { topP: 0.99, temperature: 0.7 },
  { topP: 0.9, temperature: 1.5 },
  { minP: 0.05 },
  { minP: 0.001 },
  { topK: 20, topP: 0.8 },
  { topP: 0.95, minP: 0.1 },
  { topK: 80, topP: 0.9, minP: 0.01, temperature: 0.8 },
  { topP: 0.999, minP: 0.0001 },
];

describe.each(SETTINGS)("%j", (settings) => {
  test("tokens are as frequent as they are likely", () => {
    const row = logitsOf(3, 300, 2);
    const sequence = sequenceOf(settings);
    const wanted = probabilities(row, sequence.params);
    const counts = new Array<number>(row.length).fill(0);
    const tries = 1500;
    for (let index = 0; index < tries; index += 1) {
      const { token } = chooseFromRow(sequence, row.slice(), (index + 0.5) / tries);
      counts[token] = (counts[token] ?? 0) + 1;
    }
    for (const [token, probability] of wanted.entries()) {
      expect(Math.abs((counts[token] ?? 0) - tries * probability), `token ${token}`).toBeLessThanOrEqual(
        1.01,
      );
    }
  });

  test("what the largest logits decide is what the whole row decides", () => {
    const sequence = sequenceOf(settings);
    let decided = 0;
    for (let seed = 0; seed < 60; seed += 1) {
      const row = logitsOf(seed, 400, 1 + (seed % 5));
      for (const uniform of [0.001, 0.2, 0.5, 0.77, 0.95, 0.9999]) {
        const found = chooseFromTop(sequence, topOf(row), uniform);
        if (found === null) continue;
        decided += 1;
        expect(found.token).toBe(chooseFromRow(sequence, row.slice(), uniform).token);
      }
    }
    if (needOf(sequence) === "top") expect(decided).toBeGreaterThan(10);
  });
});

test("peaked rows, as those of trained models, are decided by the largest logits", () => {
  const sequence = sequenceOf({ temperature: 0.7, topP: 0.95 });
  const row = logitsOf(1, 30_000, 1);
  for (let id = 0; id < 20; id += 1) row[id * 7] = 18 - id * 0.7;
  for (const uniform of [0, 0.3, 0.6, 0.9, 0.999])
    expect(chooseFromTop(sequence, topOf(row), uniform)).not.toBeNull();
});

test("greedy takes the likeliest, the lower id among equals", () => {
  const row = Float32Array.of(1, 5, 5, 2);
  const sequence = sequenceOf({ temperature: 0 });
  expect(needOf(sequence)).toBe("id");
  expect(chooseFromRow(sequence, row, 0).token).toBe(1);
});

test("penalties and biases change the logits as vLLM's do", () => {
  const prompt = [1, 2];
  const repeated = sequenceOf({ temperature: 0, repetitionPenalty: 2 }, prompt);
  expect(needOf(repeated)).toBe("row");
  expect(chooseFromRow(repeated, Float32Array.of(2.1, 4, -1, 0), 0).token).toBe(0);
  const penalized = sequenceOf({ temperature: 0, frequencyPenalty: 1, presencePenalty: 0.5 }, prompt);
  for (const token of [3, 3]) penalized.accept({ token, logprob: null });
  const row = Float32Array.of(0, 5, 0, 7.4);
  expect(chooseFromRow(penalized, row, 0).token).toBe(1); // 7.4 - 0.5 - 2 × 1 is less than 5
  const biased = sequenceOf({ temperature: 0, logitBias: new Map([[0, 9]]) });
  expect(chooseFromRow(biased, Float32Array.of(0, 5, 0, 7.4), 0).token).toBe(0);
});

test("log-probabilities are those of the row", () => {
  const row = logitsOf(9, 500, 3);
  const sum = Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
  const sequence = sequenceOf({ temperature: 0, logprobs: 3 });
  expect(needOf(sequence)).toBe("top");
  for (const choice of [chooseFromTop(sequence, topOf(row), 0), chooseFromRow(sequence, row.slice(), 0)]) {
    const order = largest(row, 3);
    expect(choice?.logprob?.top.map((one) => one.token)).toEqual([...order]);
    expect(choice?.logprob?.logprob).toBeCloseTo((row[order[0] ?? 0] ?? 0) - sum, 4);
  }
});

test("the same seed gives the same numbers, and they are spread evenly", () => {
  const draws = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 20_000 }, () => random.uniform());
  };
  const numbers = draws(7);
  expect(draws(7)).toEqual(numbers);
  expect(draws(8).slice(0, 4)).not.toEqual(numbers.slice(0, 4));
  expect(draws(7 + 2 ** 32).slice(0, 4)).not.toEqual(numbers.slice(0, 4));
  const buckets = new Array<number>(20).fill(0);
  for (const one of numbers) buckets[Math.floor(one * 20)] = (buckets[Math.floor(one * 20)] ?? 0) + 1;
  const surprise = buckets.reduce((total, count) => total + (count - 1000) ** 2 / 1000, 0);
  expect(surprise).toBeLessThan(45); // chi-square of 19 degrees: beyond 45 once in 1,000 seeds
});
