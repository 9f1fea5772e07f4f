/** What must hold of a plan beyond the types of its fields (docs/plan.md, "What a reader checks"). */

import {
  type Expression,
  ExpressionError,
  evaluate,
  expressionProblem,
  multiply,
  namesIn,
} from "./expressions.ts";
import { type Buffer, DTYPE_BYTES, type Kernel, type Plan, type Routine } from "./types.ts";

/** Workgroups along one dimension, in every language. */
export const MAX_GRID = 65535;
/** The size by which a routine is chosen. */
export const STEP_SIZE = "n";

/** The first thing that is wrong with a plan; null if nothing is. */
export function planProblem(plan: Plan): string | null {
  for (const problem of problems(plan)) return problem;
  return null;
}

/** An expression for the bytes of a buffer. */
export function bufferSize(buffer: Buffer): Expression {
  return multiply(buffer.shape, DTYPE_BYTES[buffer.dtype]);
}

/** Whether an expression names a size whose largest value the host chooses. */
export function isChosen(expression: Expression, plan: Plan): boolean {
  return namesIn(expression).some((name) => !plan.sizes.get(name));
}

function* problems(plan: Plan): Generator<string> {
  if (!plan.sizes.get(STEP_SIZE)) yield `size ${STEP_SIZE} has no largest value`;
  yield* twice("buffer", [...plan.buffers.map((one) => one.name), ...plan.weights.keys()]);
  yield* twice(
    "kernel",
    plan.kernels.map((one) => one.name),
  );
  for (const buffer of plan.buffers) yield* bufferProblems(buffer, plan);
  yield* rotaryProblems(plan);
  for (const kernel of plan.kernels) yield* kernelProblems(kernel, plan);
  const most = plan.routines.map((one) => one.most);
  const grows = most.every((one, index) => index === 0 || one > (most[index - 1] ?? 0));
  if (!grows || most.at(-1) !== plan.sizes.get(STEP_SIZE)) {
    yield `routines are for ${most.join(", ")} tokens: these must grow, up to ${plan.sizes.get(STEP_SIZE)}`;
  }
  for (const routine of plan.routines) yield* launchProblems(routine, plan);
  const used = new Set(plan.routines.flatMap((one) => one.launches.map((launch) => launch.kernel)));
  const idle = plan.kernels.find((one) => !used.has(one.name));
  if (idle) yield `kernel ${idle.name} is never launched`;
}

function* bufferProblems(buffer: Buffer, plan: Plan): Generator<string> {
  for (const extent of buffer.shape) {
    const problem = expressionProblem(extent, plan.sizes);
    if (problem) yield `buffer ${buffer.name}: ${problem}`;
  }
  const problem = tooLarge([bufferSize(buffer)], plan);
  if (problem) yield `buffer ${buffer.name}: ${problem}`;
}

function* rotaryProblems(plan: Plan): Generator<string> {
  const tables = new Map(plan.buffers.filter((one) => one.kind === "table").map((one) => [one.name, one]));
  yield* twice(
    "table",
    plan.rotary.map((one) => one.table),
  );
  for (const one of plan.rotary) {
    const table = tables.get(one.table);
    const columns = 2 * one.frequencies.length;
    if (table?.dtype !== "float32" || table.shape.length !== 2 || table.shape[1] !== columns) {
      yield `rotary angles for ${one.table}, which is no float32 table of ${columns} columns`;
    }
    tables.delete(one.table);
  }
  for (const name of tables.keys()) yield `nothing says what fills table ${name}`;
}

function* kernelProblems(kernel: Kernel, plan: Plan): Generator<string> {
  const missing = kernel.scalars.find((one) => !plan.sizes.has(one));
  if (missing !== undefined) yield `kernel ${kernel.name} takes "${missing}", which is no size of this plan`;
  yield* twice(`scalar of kernel ${kernel.name}`, kernel.scalars);
  for (const extent of kernel.grid) {
    const problem = expressionProblem(extent, plan.sizes);
    if (problem) yield `grid of kernel ${kernel.name}: ${problem}`;
  }
  const problem = tooLarge(kernel.grid, plan);
  if (problem) yield `grid of kernel ${kernel.name}: ${problem}`;
  const ones = new Map([...plan.sizes.keys()].map((name) => [name, 1]));
  for (const extent of kernel.grid) {
    if (evaluate(extent, ones) < 1) yield `the grid of kernel ${kernel.name} may be empty`;
    if (!isChosen(extent, plan) && evaluate(extent, plan.sizes) > MAX_GRID) {
      yield `the grid of kernel ${kernel.name} is larger than ${MAX_GRID}`;
    }
  }
  if (kernel.grid[2] !== 1) yield `the grid of kernel ${kernel.name} has a z other than 1`;
}

/** Names resolve, values are there before they are read, and no launch reads what it writes. */
function* launchProblems(routine: Routine, plan: Plan): Generator<string> {
  const kernels = new Map(plan.kernels.map((one) => [one.name, one]));
  const kinds = new Map<string, string>(plan.buffers.map((one) => [one.name, one.kind]));
  for (const name of plan.weights.keys()) kinds.set(name, "weight");
  const written = new Set(
    [...kinds].filter(([, kind]) => kind !== "slot" && kind !== "output").map(([name]) => name),
  );
  for (const [index, launch] of routine.launches.entries()) {
    const where = `launch ${index} of the routine for ${routine.most} tokens`;
    const kernel = kernels.get(launch.kernel);
    if (!kernel) {
      yield `${where}: there is no kernel ${launch.kernel}`;
      return;
    }
    if (launch.arguments.length !== kernel.access.length) {
      yield `${where}: ${kernel.name} takes ${kernel.access.length} buffers, not ${launch.arguments.length}`;
    }
    yield* twice(`argument of ${where}`, launch.arguments);
    const results: string[] = [];
    for (const [place, name] of launch.arguments.entries()) {
      const access = kernel.access[place];
      const kind = kinds.get(name);
      if (kind === undefined) yield `${where}: there is no buffer ${name}`;
      if (access !== "write" && !written.has(name))
        yield `${where}: ${name} is read before anything is written to it`;
      if (access === "read") continue;
      if (kind === "input" || kind === "table" || kind === "weight") {
        yield `${where}: ${name} is written, and a ${kind} is not`;
      }
      results.push(name);
    }
    for (const name of results) written.add(name);
  }
  for (const [name, kind] of kinds) {
    if (kind === "output" && !written.has(name))
      yield `the routine for ${routine.most} tokens does not write ${name}`;
  }
}

/** Which value is beyond what numbers in a plan may be, even if the host chooses the smallest sizes. */
function tooLarge(expressions: readonly Expression[], plan: Plan): string | null {
  const sizes = new Map([...plan.sizes].map(([name, size]) => [name, size || 1]));
  try {
    for (const one of expressions) evaluate(one, sizes);
  } catch (error) {
    if (error instanceof ExpressionError) return error.message;
    throw error;
  }
  return null;
}

function* twice(what: string, names: readonly string[]): Generator<string> {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) yield `${what} ${name} is there more than once`;
    seen.add(name);
  }
}
