import * as z from "zod";
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
    const [key] = issue.path;
    const field = typeof key === "string" ? schema.shape[key] : undefined;
    if (field === undefined || issue.code === "custom")
      return [issue.path.length === 0 ? issue.message : `${issue.path.map(String).join(".")}: ${issue.message}`];
    const value = typeof values === "object" && values !== null ? (values as Readonly<Record<PropertyKey, unknown>>)[key!] : undefined;
    return [value === undefined ? `${what} "${String(key)}" is missing` : `${what} "${String(key)}": ${unfit(field, value)}`];
  });
  const keysOf = (unknown: boolean): readonly string[] =>
    result.error.issues.flatMap((issue) => {
      if (issue.code === "unrecognized_keys") return unknown ? issue.keys : [];
      return unknown || issue.path.length === 0 ? [] : [String(issue.path[0])];
    });
  const guesses = keysOf(true).flatMap((key) => nearest(key, known) ?? []);
  const meanings = [...new Set(keysOf(false))].flatMap((key) => {
    const meaning = schema.shape[key]?.description;
    return meaning === undefined ? [] : [`${key} is: ${meaning}`];
  });
  const hints = [
    ...(guesses.length > 0 ? [`did you mean ${guesses.map((each) => `"${each}"`).join(", ")}?`] : []),
    ...(keysOf(true).length > 0 ? [`known: ${known.join(", ")}`] : meanings),
  ];
  throw new ConfigError([...new Set(faults)].join("; "), { hint: hints.length > 0 ? hints.join(" ") : undefined });
}

/** What does not fit a schema, a line each, as schemas say it: for files, whose fields are not the user's words. */
export function misfits({ issues }: z.ZodError): readonly string[] {
  return issues.map(({ path, message }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`));
}

/** What is wrong with a value, in words: `expected a number above 0, got "abc"`. */
export function unfit(schema: z.ZodType, value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return `expected ${expectation(schema)}, got ${text.length > 80 ? `${text.slice(0, 80)}…` : text}`;
}

/** What a schema takes, in words: `a whole number from 1, or null`. */
export function expectation(schema: z.ZodType): string {
  const kinds = [...new Set(kindsOf(z.toJSONSchema(schema, { io: "input", unrepresentable: "any" })))];
  return kinds.length < 3 ? kinds.join(", or ") : `${kinds.slice(0, -1).join(", ")}, or ${kinds.at(-1)}`;
}

type JsonSchema = z.core.JSONSchema.BaseSchema;

function kindsOf(json: JsonSchema): readonly string[] {
  if (json.anyOf !== undefined) return json.anyOf.flatMap(kindsOf);
  if (json.enum !== undefined) return json.enum.map((value) => JSON.stringify(value));
  switch (json.type) {
    case "null":
      return ["null"];
    case "boolean":
      return ["true", "false"];
    case "string":
      return ["a text"];
    case "array":
      return ["a list"];
    case "object":
      return ["keys with values"];
    case "integer":
    case "number":
      return [numbersOf(json)];
    default:
      return ["another value"];
  }
}

function numbersOf({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }: JsonSchema): string {
  const whole = type === "integer";
  const least = whole && typeof exclusiveMinimum === "number" ? exclusiveMinimum + 1 : minimum;
  const parts = [
    least !== undefined && least > Number.MIN_SAFE_INTEGER ? `from ${least}` : "",
    !whole && exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "",
    maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER ? `to ${maximum}` : "",
    exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : "",
  ];
  return [whole ? "a whole number" : "a number", ...parts.filter((part) => part !== "")].join(" ");
}
