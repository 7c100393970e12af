import type { z } from "zod";
import { ConfigError, nearest } from "../errors.js";

/** Reads options by a schema. Throws ConfigError that lists unknown keys, with the nearest known one, and values that do not fit. */
export function parseOptions<T>(
  what: string,
  schema: z.ZodType<T> & { readonly shape: Readonly<Record<string, z.ZodType>> },
  values: unknown,
): T {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const known = Object.keys(schema.shape);
  const faults = result.error.issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") return issue.keys.map((key) => `${what} "${key}" is not known`);
    return [`${what} "${issue.path.join(".")}": ${issue.message}`];
  });
  const guesses = result.error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? issue.keys.flatMap((key) => nearest(key, known) ?? []) : [],
  );
  throw new ConfigError(faults.join("; "), {
    hint: `${guesses.length > 0 ? `did you mean ${guesses.map((each) => `"${each}"`).join(", ")}? ` : ""}known: ${known.join(", ")}`,
  });
}
