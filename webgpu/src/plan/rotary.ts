import type { Rotary } from "./types.ts";

/** float32[context, 2 * pairs]: cosines, then sines of each position, computed in double precision. */
export function rotaryTable(rotary: Rotary, context: number): Float32Array<ArrayBuffer> {
  const { frequencies, factor } = rotary;
  const pairs = frequencies.length;
  const table = new Float32Array(context * 2 * pairs);
  for (let position = 0; position < context; position += 1) {
    const row = position * 2 * pairs;
    for (let pair = 0; pair < pairs; pair += 1) {
      const angle = position * (frequencies[pair] ?? 0);
      table[row + pair] = Math.cos(angle) * factor;
      table[row + pairs + pair] = Math.sin(angle) * factor;
    }
  }
  return table;
}
