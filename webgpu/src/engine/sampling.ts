/**
 * Choosing tokens from logits.
 *
 * The order is that of vLLM and transformers: penalties and biases; then temperature, top-k, top-p, min-p.
 * The device gives the 64 largest logits of a row and the logarithm of the sum of all exponentials. They
 * decide on nearly every token: of what lies below them, only the sum of the weights matters, and bounds of
 * it follow from the two. Where these bounds leave more than one answer, the whole row is looked at, with
 * the same random number, and the answer is the same that the row alone would have given.
 */

import { must } from "../units.ts";
import type { SamplingParams } from "./params.ts";
import type { Choice, Sequence, TokenLogprob } from "./sequence.ts";

/** Logits of one row, the largest ones; ties by the lower id. */
export interface TopLogits {
  /** Falling. */
  readonly values: Float32Array;
  readonly ids: Int32Array;
  /** Logarithm of the sum of the exponentials of the row. */
  readonly logSum: number;
  /** Logits in the row. */
  readonly vocabSize: number;
}

/** Largest entries of a row that are looked at first, as many as devices give. */
export const TOP = 64;
/** Below it float32 logits divided by it lose their meaning. */
const SMALLEST_TEMPERATURE = 1e-6;
/** How far a sum that the device made in float32 may be off, relative to it. */
const SUM_ERROR = 2e-5;
/** Part of the probability that may be left out of a sum: less than float32 logits can tell. */
const NEGLIGIBLE = 1e-9;

/** What is needed of a sequence's row: the likeliest id, the largest logits, or all of it. */
export type Need = "id" | "top" | "row";

export function needOf(sequence: Sequence): Need {
  const { topK, logprobs } = sequence.params;
  if (sequence.adjusted || (sequence.random !== null && topK > TOP)) return "row";
  return sequence.random === null && logprobs === null ? "id" : "top";
}

/** The next token from the largest logits, or null: the whole row decides. `uniform` is in [0, 1). */
export function chooseFromTop(sequence: Sequence, top: TopLogits, uniform: number): Choice | null {
  const { params } = sequence;
  const at =
    sequence.random === null ? 0 : draw(weigh(top.values, params), tailOf(top, params), uniform, params);
  if (at === null) return null;
  return choice(must(top.ids[at], "an id"), must(top.values[at], "a logit"), top, params);
}

/** The next token from a whole row, which is changed where penalties or biases apply. */
export function chooseFromRow(sequence: Sequence, row: Float32Array, uniform: number): Choice {
  if (sequence.adjusted) adjust(row, sequence);
  const { params } = sequence;
  const ids = largest(row, TOP);
  const top = { ids, values: valuesOf(row, ids), vocabSize: row.length, logSum: logSumOf(row) };
  const token = sequence.random === null ? must(ids[0], "an id") : drawFromRow(row, top, uniform, params);
  return choice(token, must(row[token], "a logit"), top, params);
}

/** A token of a whole row: among the largest where they decide, else below. */
function drawFromRow(row: Float32Array, top: TopLogits, uniform: number, params: SamplingParams): number {
  const weights = weigh(row, params, top.values[0]);
  const inTop = new Set(top.ids);
  let total = 0;
  for (const weight of weights) total += weight;
  let mass = 0;
  for (const id of top.ids) mass += must(weights[id], "a weight");
  const tail = top.ids.length === row.length ? 0 : Math.max(0, total - mass);
  const at = draw(weigh(top.values, params), { least: tail, most: tail }, uniform, params);
  if (at !== null) return must(top.ids[at], "an id");
  if (params.topP === 1 && params.minP === 0 && params.topK === 0) {
    return drawBelow(weights, inTop, mass, uniform * (mass + tail));
  }
  const floor = (NEGLIGIBLE * total) / row.length;
  const ids = Int32Array.from(row.keys()).filter((id) => (weights[id] ?? 0) >= floor);
  ids.sort((left, right) => (row[right] ?? 0) - (row[left] ?? 0) || left - right);
  const sorted = Float64Array.from(ids, (id) => weights[id] ?? 0);
  return must(ids[draw(sorted, { least: 0, most: 0 }, uniform, params) ?? 0], "an id");
}

/** The token outside of `inTop`, in the order of ids, at which the sum of the weights from `mass` on passes `goal`. */
function drawBelow(weights: Float64Array, inTop: ReadonlySet<number>, mass: number, goal: number): number {
  let cumulative = mass;
  let last = -1;
  for (const [id, weight] of weights.entries()) {
    if (inTop.has(id) || weight === 0) continue;
    cumulative += weight;
    last = id;
    if (cumulative > goal) break;
  }
  return last;
}

/** Bounds of the sum of the weights that `draw` does not see. */
interface Tail {
  readonly least: number;
  readonly most: number;
}

/**
 * The place of the drawn token among falling weights: the cumulative sum of the truncated distribution
 * inverted at `uniform`. Null: that depends on what the tail is, or the token lies in it.
 */
function draw(weights: Float64Array, tail: Tail, uniform: number, params: SamplingParams): number | null {
  const { topK, topP, minP } = params;
  const whole = tail.most === 0;
  if (topK > weights.length && !whole) return null;
  const kept = topK > 0 ? weights.subarray(0, topK) : weights;
  const [least, most] = topK > 0 ? [0, 0] : [tail.least, tail.most];
  const sums = cumulate(kept);
  const mass = must(sums.at(-1), "a sum");
  // What ends beyond the weights is infinite: whether it does before the tail's end is not known here.
  // Weights are relative to the likeliest token's, so min-p is a bound for them.
  const above = countWhile(kept, (weight) => weight >= minP);
  const aboveMin = above < kept.length || most === 0 ? above : Number.POSITIVE_INFINITY;
  const few = Math.min(aboveMin, nucleus(sums, topP, mass + least));
  const count = Math.min(aboveMin, nucleus(sums, topP, mass + most));
  if (few !== count) return null;
  if (Number.isFinite(count)) {
    const goal = uniform * must(sums[count - 1], "a sum");
    return Math.min(
      count - 1,
      countWhile(sums, (sum) => sum <= goal),
    );
  }
  if (topP < 1 || minP > 0) return null;
  const first = countWhile(sums, (sum) => sum <= uniform * (mass + least));
  const last = countWhile(sums, (sum) => sum <= uniform * (mass + most));
  return first === last && last < kept.length ? first : null;
}

/** How many of the first tokens make up the part `topP` of `total`, with the one that crosses it. */
function nucleus(sums: Float64Array, topP: number, total: number): number {
  const count = topP < 1 ? countWhile(sums, (sum) => sum < topP * total) : sums.length;
  return count < sums.length ? count + 1 : Number.POSITIVE_INFINITY;
}

/**
 * Bounds of the tail's weights at a temperature T, from its sum R at 1. Of n numbers x between 0 and e with
 * the sum R, the sum of x^(1/T) lies between that of equal numbers, n (R / n)^(1/T), and that of numbers
 * which are e or 0, R e^(1/T - 1); for T > 1 the other way round (x^a is convex for a > 1, concave below).
 */
function tailOf(top: TopLogits, params: SamplingParams): Tail {
  const { values, logSum, vocabSize } = top;
  const rest = vocabSize - values.length;
  if (rest <= 0) return { least: 0, most: 0 };
  const peak = must(values[0], "a logit");
  const edge = Math.exp(must(values.at(-1), "a logit") - peak);
  const total = Math.exp(logSum - peak);
  let sum = total;
  for (const value of values) sum -= Math.exp(value - peak);
  const power = 1 / temperatureOf(params);
  const bounds = [sum - SUM_ERROR * total, sum + SUM_ERROR * total].map((one) => {
    const mass = Math.max(0, Math.min(one, rest * edge));
    const even = rest * (mass / rest) ** power;
    const uneven = mass * edge ** (power - 1);
    return edge === 0 ? [0, 0] : [Math.min(even, uneven), Math.max(even, uneven)];
  });
  return { least: must(bounds[0]?.[0], "a bound"), most: must(bounds[1]?.[1], "a bound") };
}

/** Penalties and biases, in place. */
function adjust(row: Float32Array, sequence: Sequence): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = sequence.params;
  if (repetitionPenalty !== 1) {
    for (const token of new Set(sequence.tokens)) {
      const value = row[token] ?? 0;
      row[token] = value > 0 ? value / repetitionPenalty : value * repetitionPenalty;
    }
  }
  if (presencePenalty !== 0 || frequencyPenalty !== 0) {
    for (const [token, times] of sequence.answered) {
      row[token] = (row[token] ?? 0) - presencePenalty - frequencyPenalty * times;
    }
  }
  for (const [token, bias] of logitBias) row[token] = (row[token] ?? 0) + bias;
}

/** Weights relative to the largest logit, `peak`, at the temperature. */
function weigh(values: Float32Array, params: SamplingParams, peak = values[0] ?? 0): Float64Array {
  const scale = 1 / temperatureOf(params);
  return Float64Array.from(values, (value) => Math.exp((value - peak) * scale));
}

function temperatureOf(params: SamplingParams): number {
  return Math.max(params.temperature, SMALLEST_TEMPERATURE);
}

/** A chosen token, with log-probabilities where asked: the model's, after penalties, before temperature. */
function choice(token: number, logit: number, top: TopLogits, params: SamplingParams): Choice {
  if (params.logprobs === null) return { token, logprob: null };
  const places = [...top.ids.keys()].slice(0, params.logprobs);
  const likeliest = places.map((at) => ({
    token: must(top.ids[at], "an id"),
    logprob: must(top.values[at], "a logit") - top.logSum,
  }));
  const logprob: TokenLogprob = { token, logprob: logit - top.logSum, top: likeliest };
  return { token, logprob };
}

/** Ids of the `count` largest entries, falling; ties by the lower id. */
export function largest(row: Float32Array, count: number): Int32Array {
  const most = Math.min(count, row.length);
  const ids = new Int32Array(most);
  const values = new Float32Array(most).fill(Number.NEGATIVE_INFINITY);
  let filled = 0;
  for (const [id, value] of row.entries()) {
    if (filled === most && !(value > (values[most - 1] ?? 0))) continue;
    let at = filled < most ? filled : most - 1;
    for (; at > 0 && value > (values[at - 1] ?? 0); at -= 1) {
      values[at] = values[at - 1] ?? 0;
      ids[at] = ids[at - 1] ?? 0;
    }
    values[at] = value;
    ids[at] = id;
    filled = Math.min(filled + 1, most);
  }
  return ids;
}

function valuesOf(row: Float32Array, ids: Int32Array): Float32Array {
  return Float32Array.from(ids, (id) => row[id] ?? 0);
}

function logSumOf(row: Float32Array): number {
  let peak = Number.NEGATIVE_INFINITY;
  for (const value of row) peak = Math.max(peak, value);
  let sum = 0;
  for (const value of row) sum += Math.exp(value - peak);
  return peak + Math.log(sum);
}

function cumulate(weights: Float64Array): Float64Array {
  let sum = 0;
  return weights.map((weight) => {
    sum += weight;
    return sum;
  });
}

function countWhile(values: Float64Array, holds: (value: number) => boolean): number {
  let count = 0;
  while (count < values.length && holds(values[count] ?? 0)) count += 1;
  return count;
}
