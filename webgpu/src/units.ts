/** Bytes for people: 1.5 MiB, 2 GiB. */
export function bytesText(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit && value < 10 && !Number.isInteger(value) ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** `value` divided by `by`, rounded up, exact for all safe integers. */
export function ceilDiv(value: number, by: number): number {
  const rest = value % by;
  return (value - rest) / by + (rest ? 1 : 0);
}

/** `value` rounded up to a multiple. */
export function roundUp(value: number, multiple: number): number {
  return ceilDiv(value, multiple) * multiple;
}

/** What must be there because of what was checked before; an internal error if it is not. */
export function must<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new Error(`${what} is missing`);
  return value;
}
