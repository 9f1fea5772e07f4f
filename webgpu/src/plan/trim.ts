/** A plan for shorter steps than it was made for. */

import { EdgeLLMError } from "../errors.ts";
import { must } from "../units.ts";
import { STEP_SIZE } from "./check.ts";
import type { Plan } from "./types.ts";

/**
 * The plan with steps of at most `tokens` tokens: without the routines for longer ones, and the kernels that
 * only those launch. Shorter steps take less memory and leave the device free for the page more often; a long
 * prompt takes more of them.
 *
 * @throws {EdgeLLMError} `request`: the plan has no such steps.
 */
export function trimPlan(plan: Plan, tokens: number): Plan {
  const most = must(plan.sizes.get(STEP_SIZE), "size n");
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > most) {
    throw new EdgeLLMError(
      "request",
      `stepTokens is ${tokens}; this program's steps have 1 to ${most} tokens`,
    );
  }
  const last = plan.routines.findIndex((one) => tokens <= one.most);
  const routines = plan.routines
    .slice(0, last + 1)
    .map((one, index) => (index === last ? { ...one, most: tokens } : one));
  const used = new Set(routines.flatMap((one) => one.launches.map((launch) => launch.kernel)));
  return {
    ...plan,
    routines,
    sizes: new Map(plan.sizes).set(STEP_SIZE, tokens),
    kernels: plan.kernels.filter((one) => used.has(one.name)),
  };
}
