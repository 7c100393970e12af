import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, vi } from "vitest";
import { peft } from "./run-peft.fixture.js";

/** A command that must end in an error. */
export interface BadInput {
  /** What is wrong, for the test's name. */
  readonly what: string;
  /** `{name}` is a file of the test's folder. */
  readonly args: string;
  readonly code: 1 | 2;
  /** What stands before the hint. */
  readonly error: RegExp;
  readonly hint?: RegExp;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command, and expects its error, its hint, and that it leaves nothing behind in the folder. */
export async function expectRefusal(folder: string, { args, code, error, hint, env = {} }: BadInput): Promise<void> {
  const at = (name: string): string => join(folder, name);
  vi.stubEnv("HF_HOME", at("cache"));
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const before = (await readdir(folder)).sort();
  const run = await peft([...args.split(" ").map((word) => word.replace(/\{(.+?)\}/g, (_, name: string) => at(name))), "--json"]);
  expect(run.stderr).not.toMatch(/E_INTERNAL|\n {4}at /);
  const [message = "", advice = ""] = run.stderr.split("\nhint: ");
  expect(message).toMatch(error);
  if (hint !== undefined) expect(advice).toMatch(hint);
  expect(run.code).toBe(code);
  expect(run.stdout).toBe("");
  expect((await readdir(folder)).sort().filter((name) => name !== "cache")).toEqual(before.filter((name) => name !== "cache"));
}
