/** Which relative paths a manifest may name. */

const PART = /^[A-Za-z0-9_][A-Za-z0-9._+-]*$/;
/** Names that Windows takes for devices, with or without an extension. */
const DEVICE = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)/i;

/**
 * Why `path` may not stand in a manifest; null if it may. Allowed are relative paths with forward slashes that
 * mean the same file on every system; as parts of an address they stay below the bundle's own.
 */
export function pathProblem(path: string): string | null {
  for (const part of path.split("/")) {
    if (!PART.test(part) || part.endsWith("."))
      return "leaves the bundle, or has a character that paths may not have";
    if (DEVICE.test(part)) return "is a device name on Windows";
  }
  return path.toLowerCase() === "edgellm.json" ? "is the manifest itself" : null;
}

/** Why these cannot be the files of one bundle; null if they can. */
export function pathsProblem(paths: readonly string[]): string | null {
  const seen = new Set<string>();
  for (const path of paths) {
    const problem = pathProblem(path);
    if (problem !== null) return `path ${JSON.stringify(path.slice(0, 80))} ${problem}`;
    if (seen.has(path.toLowerCase())) return `path ${path} is there twice where case does not count`;
    seen.add(path.toLowerCase());
  }
  for (const path of seen) {
    const parts = path.split("/");
    for (let depth = 1; depth < parts.length; depth += 1) {
      const folder = parts.slice(0, depth).join("/");
      if (seen.has(folder)) return `path ${folder} is a file and also a folder`;
    }
  }
  return null;
}
