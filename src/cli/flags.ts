import { readFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import type * as z from "zod";
import { expectation, unfit } from "../core/options.js";
import { nearest, UsageError } from "../errors.js";
import type { FlagShape } from "./verb.js";

/** Adds one flag for each field of a schema: name, help and default come from the schema. */
export function addFlags(command: Command, shape: FlagShape): Command {
  for (const [key, schema] of Object.entries(shape)) {
    const flag = key.replaceAll("_", "-");
    const help = `${schema.description ?? ""}${defaultText(schema)}`;
    const kind = kindOf(schema);
    if (kind === "boolean") {
      const isOn = schema.safeParse(undefined).data === true;
      command.addOption(new Option(`--${flag}`, help).hideHelp(isOn));
      command.addOption(new Option(`--no-${flag}`, `do not ${schema.description ?? ""}`).hideHelp(!isOn));
    } else if (kind === "record")
      command.addOption(new Option(`--${flag} <key=value>`, help).argParser((text, before: string[] = []) => [...before, text]));
    else command.addOption(new Option(kind === "boolean or text" ? `--${flag} [value]` : `--${flag} ${metavariable(schema)}`, help));
  }
  return command;
}

/**
 * The values of a schema's fields: what the flags say, over what the `--config` file says. Throws UsageError for keys of the file that are
 * not known, and for values that do not fit.
 */
export async function readFlags(
  shape: FlagShape,
  given: Readonly<Record<string, unknown>>,
  configFile?: string,
): Promise<Record<string, unknown>> {
  const values: Record<string, unknown> = configFile === undefined ? {} : await readConfig(configFile, shape);
  for (const [key, schema] of Object.entries(shape)) {
    const text = given[camelCase(key)];
    if (text === undefined) continue;
    const kind = kindOf(schema);
    if (kind === "record") values[key] = { ...(values[key] as object | undefined), ...readPairs(key, text as string[], schema) };
    else values[key] = typeof text === "string" ? readValue(key, text, schema) : text;
  }
  return values;
}

async function readConfig(path: string, shape: FlagShape): Promise<Record<string, unknown>> {
  let json: unknown;
  try {
    const { parse } = await import("yaml"); // seventy modules, which few calls need
    json = parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new UsageError(`cannot read ${path}: ${(cause as Error).message}`, {
      hint: "--config names a YAML file of keys and values",
      cause,
    });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new UsageError(`${path} must hold keys and values, like "epochs: 3"`);
  const known = Object.keys(shape);
  const strange = Object.keys(json).filter((key) => !known.includes(key));
  if (strange.length > 0) {
    const guesses = strange.flatMap((key) => nearest(key, known) ?? []);
    throw new UsageError(`${path}: ${strange.map((key) => `"${key}"`).join(", ")} ${strange.length === 1 ? "is" : "are"} not known`, {
      hint: `${guesses.length > 0 ? `did you mean ${guesses.map((each) => `"${each}"`).join(", ")}? ` : ""}known: ${known.join(", ")}`,
    });
  }
  const faults = Object.entries(json).flatMap(([key, value]) =>
    shape[key]?.safeParse(value).success === false ? [`${path}: ${key}: ${unfit(shape[key], value)}`] : [],
  );
  if (faults.length > 0) throw new UsageError(faults.join("\n"));
  return { ...json };
}

/**
 * `["text=utterance,label=intent"]` to an object of texts; a comma before a further `key=` separates pairs. Where the schema's meta data say
 * `named_by_path`, a path without a key has its last part for one.
 */
function readPairs(flag: string, texts: readonly string[], schema: z.ZodType): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const text of texts.flatMap((each) => each.split(/,(?=[\w.]+=)/))) {
    const at = text.indexOf("=");
    if (at < 0 && schema.meta()?.named_by_path === true) {
      pairs[
        text
          .replace(/[/\\]+$/, "")
          .split(/[/\\]/)
          .at(-1)!
      ] = text;
      continue;
    }
    if (at < 1)
      throw new UsageError(`--${flag} "${text}": expected key=value`, { hint: `several are given as --${flag} a=1 --${flag} b=2` });
    pairs[text.slice(0, at)] = text.slice(at + 1);
  }
  return pairs;
}

/**
 * Settings given as text (`--set r=16 --set target_modules=query,value`) as the schema's fields want them: JSON, plain names as a list where
 * a list fits, or the text itself. What fits no way stays text, for the schema to refuse.
 */
export function readSettings(settings: Readonly<Record<string, unknown>>, shape: FlagShape): Record<string, unknown> {
  const value = (key: string, text: string): unknown => {
    const names = /^[\w.-]+(,[\w.-]+)*$/.test(text) && text !== "all-linear" ? [text.split(",")] : [];
    const candidates = [...json(text), ...names, text];
    const fitting = candidates.findIndex((candidate) => shape[key]?.safeParse(candidate).success === true);
    return candidates[fitting < 0 ? candidates.length - 1 : fitting]; // null may fit too
  };
  return Object.fromEntries(Object.entries(settings).map(([key, each]) => [key, typeof each === "string" ? value(key, each) : each]));
}

function json(text: string): readonly unknown[] {
  try {
    return [JSON.parse(text)];
  } catch {
    return [];
  }
}

function readValue(key: string, text: string, schema: z.ZodType): unknown {
  const candidates = [...json(text), ...json(`[${text}]`), text]; // 1,2 as a list where a list fits
  const fitting = candidates.find((candidate) => schema.safeParse(candidate).success);
  if (fitting !== undefined) return fitting;
  throw new UsageError(`--${key.replaceAll("_", "-")}: ${unfit(schema, candidates[0])}`, {
    hint: schema.description === undefined ? undefined : `it is: ${schema.description}`,
  });
}

function metavariable(schema: z.ZodType): string {
  return /^a (whole )?number/.test(expectation(schema)) ? "<number>" : "<value>";
}

type Kind = "boolean" | "record" | "boolean or text" | "value";

function kindOf(schema: z.ZodType): Kind {
  const inner = unwrap(schema);
  const { type } = inner.def;
  if (type === "boolean") return "boolean";
  if (type === "record") return "record";
  if (inner.safeParse(true).success) return "boolean or text";
  return "value";
}

function unwrap(schema: z.ZodType): z.ZodType {
  const { def } = schema as { def: { innerType?: z.ZodType } };
  return def.innerType === undefined ? schema : unwrap(def.innerType);
}

function defaultText(schema: z.ZodType): string {
  const result = schema.safeParse(undefined);
  const value = result.success ? result.data : undefined;
  if (value === undefined || value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0)) return "";
  return ` (default: ${String(value)})`;
}

function camelCase(key: string): string {
  return key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
