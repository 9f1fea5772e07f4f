/** `plan.json`: bytes to a checked plan. */

import { EdgeLLMError } from "../errors.ts";
import { decodeJson, MalformedError } from "../json.ts";
import { planProblem } from "./check.ts";
import { MAX_PLAN_BYTES, PLAN_FORMAT, type Plan, planHead, plan as planReader } from "./types.ts";

/**
 * The plan in `data`, checked: format version, types, and what `check.ts` looks at.
 *
 * @param where what to call the file in an error.
 * @throws {EdgeLLMError} `bundle`: says what is wrong.
 */
export function decodePlan(data: Uint8Array, where: string): Plan {
  if (data.length > MAX_PLAN_BYTES) {
    throw new EdgeLLMError("bundle", `${where} is larger than ${MAX_PLAN_BYTES >> 20} MiB: it is no plan`);
  }
  let problem: string | null;
  try {
    const { format } = decodeJson(data, planHead);
    if (format !== PLAN_FORMAT) {
      throw new EdgeLLMError(
        "bundle",
        `${where} has plan format ${format} and this edgellm reads format ${PLAN_FORMAT}: ` +
          "use the edgellm that built the bundle, or build it again",
      );
    }
    const plan = decodeJson(data, planReader);
    problem = planProblem(plan);
    if (problem === null) return plan;
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    problem = error.message;
  }
  throw new EdgeLLMError("bundle", `${where} is damaged (${problem}): build the bundle again`);
}
