/**
 * Readers of JSON from outside: each checks a value and gives it a type. A type made of readers is at once
 * the parser, the check and the TypeScript type (`Read<typeof plan>`).
 */

/** Checks a value; `at` says where it stands, for the error. */
export type Reader<T> = (value: unknown, at: string) => T;
export type Read<R> = R extends Reader<infer T> ? T : never;

/** A value is not what it must be. Callers say in which file. */
export class MalformedError extends Error {
  constructor(at: string, problem: string) {
    super(`${at || "the file"} ${problem}`);
  }
}

const LARGEST = Number.MAX_SAFE_INTEGER;

export function integer(least = 0, most = LARGEST): Reader<number> {
  return (value, at) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value)) {
      throw new MalformedError(at, "is no whole number");
    }
    if (value < least || value > most) throw new MalformedError(at, `is not between ${least} and ${most}`);
    return value;
  };
}

export function number(least = -Number.MAX_VALUE, most = Number.MAX_VALUE): Reader<number> {
  return (value, at) => {
    if (typeof value !== "number" || !Number.isFinite(value)) throw new MalformedError(at, "is no number");
    if (value < least || value > most) throw new MalformedError(at, `is not between ${least} and ${most}`);
    return value;
  };
}

/** A text of at most `most` characters that `pattern` matches as a whole. */
export function text(pattern?: RegExp, most = 1 << 20): Reader<string> {
  return (value, at) => {
    if (typeof value !== "string") throw new MalformedError(at, "is no text");
    if (value.length > most) throw new MalformedError(at, `has more than ${most} characters`);
    if (pattern && pattern.exec(value)?.[0] !== value) {
      throw new MalformedError(at, `is ${JSON.stringify(value.slice(0, 80))}, which may not stand there`);
    }
    return value;
  };
}

export function oneOf<const T extends string | number>(...allowed: readonly T[]): Reader<T> {
  return (value, at) => {
    const found = allowed.find((one) => one === value);
    if (found === undefined) throw new MalformedError(at, `is none of ${allowed.join(", ")}`);
    return found;
  };
}

export function list<T>(read: Reader<T>, least = 0, most = LARGEST): Reader<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) throw new MalformedError(at, "is no list");
    if (value.length < least || value.length > most) {
      throw new MalformedError(at, `has ${value.length} items, not ${least} to ${most}`);
    }
    return value.map((one, index) => read(one, `${at}[${index}]`));
  };
}

/** Three values of one kind: x, y, z. */
export function triple<T>(read: Reader<T>): Reader<readonly [T, T, T]> {
  const items = list(read, 3, 3);
  return (value, at) => items(value, at) as readonly [T, T, T];
}

/** An object whose keys are names, as a map: names such as `constructor` mean nothing special. */
export function record<T>(
  name: RegExp,
  read: Reader<T>,
  least = 0,
  most = LARGEST,
): Reader<ReadonlyMap<string, T>> {
  const readName = text(name);
  return (value, at) => {
    const entries = Object.entries(plainObject(value, at));
    if (entries.length < least || entries.length > most) {
      throw new MalformedError(at, `has ${entries.length} entries, not ${least} to ${most}`);
    }
    return new Map(
      entries.map(([key, one]) => [readName(key, `a name in ${at}`), read(one, `${at}.${key}`)]),
    );
  };
}

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, at) => (value === null ? null : read(value, at));
}

/** A field that may be left out. */
export function withDefault<T>(read: Reader<T>, otherwise: T): Reader<T> {
  return (value, at) => (value === undefined ? otherwise : read(value, at));
}

/** Anything; for parts whose content does not matter here. */
export const anything: Reader<unknown> = (value) => value;

type Fields = Readonly<Record<string, Reader<unknown>>>;

/** An object with these fields; others are an error unless `others` are welcome. */
export function object<F extends Fields>(
  fields: F,
  others: "refused" | "ignored" = "refused",
): Reader<{ readonly [K in keyof F]: Read<F[K]> }> {
  const names = Object.keys(fields);
  return (value, at) => {
    const found = plainObject(value, at);
    if (others === "refused") {
      const unknown = Object.keys(found).find((key) => !Object.hasOwn(fields, key));
      if (unknown !== undefined) {
        throw new MalformedError(
          at,
          `has the field ${JSON.stringify(unknown.slice(0, 80))}, which is not known`,
        );
      }
    }
    const result: Record<string, unknown> = {};
    for (const name of names) {
      const read = fields[name] as Reader<unknown>;
      const where = at ? `${at}.${name}` : name;
      const given = Object.hasOwn(found, name) ? found[name] : undefined;
      if (given === undefined && !acceptsNothing(read, where)) throw new MalformedError(where, "is missing");
      result[name] = read(given, where);
    }
    return result as { readonly [K in keyof F]: Read<F[K]> };
  };
}

function acceptsNothing(read: Reader<unknown>, at: string): boolean {
  try {
    read(undefined, at);
    return true;
  } catch {
    return false;
  }
}

function plainObject(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new MalformedError(at, "is no object");
  }
  return value as Record<string, unknown>;
}

/** The JSON in `data`, UTF-8, through a reader. Throws `MalformedError`. */
export function decodeJson<T>(data: Uint8Array, read: Reader<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data));
  } catch (error) {
    throw new MalformedError(
      "the file",
      `is no JSON (${error instanceof Error ? error.message : "damaged"})`,
    );
  }
  return read(value, "");
}
