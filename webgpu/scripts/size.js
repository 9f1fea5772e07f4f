/** Prints the gzipped size of the built runtime; fails if it is larger than promised. */

import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { gzipSync } from "node:zlib";

const LIMIT = 60_000;
const dist = resolve(import.meta.dirname, "../dist");
let runtime = 0;
for (const name of readdirSync(dist).filter((one) => one.endsWith(".js"))) {
  const bytes = gzipSync(readFileSync(resolve(dist, name)), { level: 9 }).length;
  if (name !== "tokenizer.js") runtime += bytes;
  console.log(`${String(bytes).padStart(7)}  ${name}`);
}
console.log(`${String(runtime).padStart(7)}  without the tokenizer library; at most ${LIMIT}`);
process.exitCode = runtime > 0 && runtime <= LIMIT ? 0 : 1;
