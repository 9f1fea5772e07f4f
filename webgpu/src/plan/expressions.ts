/**
 * Whole-number expressions over a step's sizes, as they stand in a plan: a number, the name of a size, or
 * `[operator, left, right]`. No operator makes its result smaller when a size grows.
 */

import { ceilDiv } from "../units.ts";

export type Expression = number | string | readonly [Operator, Expression, Expression];
export type Operator = "+" | "*" | "/" | "min" | "max";
export type Sizes = ReadonlyMap<string, number>;

const OPERATORS: readonly unknown[] = ["+", "*", "/", "min", "max"];
/** Operators within each other. */
const DEEPEST = 16;

/** A value is larger than every reader of JSON can hold, or a size is not there. */
export class ExpressionError extends Error {}

/** Why `value` is no expression over the sizes of these names; null if it is one. */
export function expressionProblem(value: unknown, names: Sizes, depth = DEEPEST): string | null {
  if (typeof value === "number") {
    return Number.isSafeInteger(value) && value >= 0 ? null : `${value} is not between 0 and 2^53 - 1`;
  }
  if (typeof value === "string") return names.has(value) ? null : `${shown(value)} is no size of this plan`;
  if (!Array.isArray(value) || value.length !== 3 || !OPERATORS.includes(value[0])) {
    return `${shown(value)} is no expression`;
  }
  if (depth === 0) return `an expression has more than ${DEEPEST} operators within each other`;
  if (value[0] === "/" && (typeof value[2] !== "number" || value[2] < 1)) {
    return `${shown(value)} does not divide by a whole number`;
  }
  return expressionProblem(value[1], names, depth - 1) ?? expressionProblem(value[2], names, depth - 1);
}

/** The expression's value. Throws `ExpressionError` beyond 2^53 - 1. */
export function evaluate(expression: Expression, sizes: Sizes): number {
  const value = compute(expression, sizes);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new ExpressionError(`${shown(expression)} is larger than 2^53 - 1`);
  }
  return value;
}

/** The product of a shape's extents and the bytes of one number. */
export function multiply(extents: readonly Expression[], bytes: number): Expression {
  return extents.reduceRight<Expression>((product, extent) => ["*", extent, product], bytes);
}

/** The names of the sizes in an expression. */
export function namesIn(expression: Expression): string[] {
  if (typeof expression === "string") return [expression];
  if (typeof expression === "number") return [];
  return [...namesIn(expression[1]), ...namesIn(expression[2])];
}

function compute(expression: Expression, sizes: Sizes): number {
  if (typeof expression === "number") return expression;
  if (typeof expression === "string") {
    const size = sizes.get(expression);
    if (size === undefined) throw new ExpressionError(`${shown(expression)} is no size of this plan`);
    return size;
  }
  const left = evaluate(expression[1], sizes);
  const right = evaluate(expression[2], sizes);
  switch (expression[0]) {
    case "+":
      return left + right;
    case "*":
      return left * right;
    case "/":
      return ceilDiv(left, right);
    case "min":
      return Math.min(left, right);
    case "max":
      return Math.max(left, right);
  }
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80);
}
