import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { CellResult } from "../compare/cell.js";
import type { ResultStore, SearchResult } from "../compare/experiment.js";
import { CheckpointError, FileError } from "../errors.js";
import { writeFolder, writeWhole } from "./folder.js";

const recordFile = "experiment.json";

/**
 * Results in a folder: `search/METHOD.json`, and a folder for each cell with its adapter and, written last, `result.json`. `identity` says what
 * experiment this is. Throws CheckpointError for a folder of another experiment, naming each difference.
 */
export async function resultFolder(out: string, identity: Readonly<Record<string, unknown>>): Promise<ResultStore> {
  const known = await readJsonFile(join(out, recordFile));
  const wanted = JSON.parse(JSON.stringify(identity)) as Record<string, unknown>;
  if (known === undefined) await writeWhole(join(out, recordFile), `${JSON.stringify(wanted, null, 2)}\n`);
  else {
    const before = known as Record<string, unknown>;
    const text = (value: unknown): string => JSON.stringify(value) ?? "nothing";
    const differences = Object.keys({ ...before, ...wanted }).filter((key) => text(before[key]) !== text(wanted[key]));
    if (differences.length > 0) {
      throw new CheckpointError(
        `${out} holds another comparison: ${differences.map((key) => `${key} was ${text(before[key])}, now ${text(wanted[key])}`).join("; ")}`,
        { hint: "choose another --out, or the same settings; methods, seeds, sizes and the budget may change" },
      );
    }
  }
  await mkdir(join(out, "search"), { recursive: true });
  return {
    search: async (method) => (await readJsonFile(join(out, "search", `${method}.json`))) as SearchResult | undefined,
    keepSearch: (result) => writeWhole(join(out, "search", `${result.method}.json`), `${JSON.stringify(result, null, 2)}\n`),
    cell: async (name) => (await readJsonFile(join(out, "cells", name, "result.json"))) as CellResult | undefined,
    async keepCell(name, result, files) {
      const folder = join(out, "cells", name);
      await rm(folder, { recursive: true, force: true }); // what a killed run left there
      await mkdir(folder, { recursive: true });
      await writeFolder(folder, files);
      await writeWhole(join(folder, "result.json"), `${JSON.stringify(result)}\n`);
    },
  };
}

async function readJsonFile(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new FileError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`${path} is damaged: ${(cause as Error).message}`, {
      hint: "delete it; its part of the comparison is done again",
      cause,
    });
  }
}
