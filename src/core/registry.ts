import { ConfigError, nearest } from "../errors.js";

/** The item of a registry whose name, as `key` gives it, is `name`. Throws ConfigError that lists the names there are and suggests the nearest. */
export function named<T>(items: readonly T[], what: string, name: string, key: (item: T) => string | readonly string[]): T {
  const found = items.find((item) => [key(item)].flat().includes(name));
  if (found !== undefined) return found;
  const names = items.flatMap(key);
  const guess = nearest(name, names);
  throw new ConfigError(`${what} "${name}" is not supported`, {
    hint: `${guess === undefined ? "" : `did you mean "${guess}"? `}supported: ${names.join(", ")}`,
  });
}
