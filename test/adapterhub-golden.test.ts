import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { parseJsonl } from "../src/data/rows.js";
import { directory } from "../src/io/directory.js";
import { loadAdapter } from "../src/programs/adapter.js";
import { openBaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { differences } from "./golden.fixture.js";

const golden = fileURLToPath(new URL("golden/", import.meta.url));
/** Another set made by tools/golden/make_adapterhub.py, if one is named. */
const set = process.env.ADAPTERHUB_CASES ?? join(golden, "adapterhub");
const names = readdirSync(join(set, "cases")).sort();

/** case.json, as the Python script that made the case wrote it. */
interface Case {
  readonly base: string;
  readonly task: string;
  readonly tolerance: number;
  /** A pattern of the error with which files are refused that make no sense here. */
  readonly refused?: { readonly error: string };
}

const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

it("has golden cases of all kinds", () => {
  const kinds = [
    "seq_bn",
    "par",
    "phm",
    "gated",
    "inv",
    "ln_before",
    "stack",
    "average",
    "fuse",
    "head",
    "static",
    "tagging",
    "regression",
    "version",
  ];
  expect(kinds.filter((kind) => !names.some((name) => name.includes(kind)))).toEqual([]);
});

describe("adapters of Python's adapters give here what they give there", () => {
  it.each(names)("%s", async (name) => {
    const folder = join(set, "cases", name);
    const { base, task, tolerance, refused } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8")) as Case;
    const own = join(set, "bases", base);
    const model = await openBaseModel(directory(existsSync(own) ? own : join(golden, "peft/bases", base)), { id: base, runtime });
    const loading = loadAdapter(model, directory(join(folder, "adapter")));
    if (refused !== undefined)
      return expect(loading.then((adapter) => predictor(model, adapter))).rejects.toThrow(new RegExp(refused.error));
    const adapter = await loading;
    expect(adapter.head.task.name).toBe(task);
    const ready = predictor(model, adapter);
    const wanted = parseJsonl(readFileSync(join(folder, "expected.jsonl"), "utf8"), "expected.jsonl").rows;
    const lines = readFileSync(join(set, `${task}.jsonl`), "utf8").split("\n");
    const rows = parseJsonl(lines.slice(0, wanted.length).join("\n"), "rows"); // the last is a pair, which decoders are not given
    const got = adapter.head.task.predict(await ready.run(ready.encode(rows), true), rows, adapter.head.target, true);
    await ready.dispose();
    expect(got.length).toBe(wanted.length);
    expect(differences(got, wanted, tolerance)).toEqual([]);
  });
});
