import * as z from "zod";
import { parseOptions } from "../core/options.js";
import { ConfigError, nearest } from "../errors.js";
import { modelPlaces } from "../io/catalogue.js";
import { loadHeldAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import { combinationNamed } from "../programs/combine.js";
import { newFolder, writeFolder } from "./folder.js";
import { adapterPlace, type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

/** What `combine` may be told. */
export const combineOptions = z.strictObject({
  model: z.string().default("minilm").describe(`base model: ${modelPlaces}`),
  adapter: z.record(z.string(), z.string()).describe("the adapters by names of your choice: a=adapters/a"),
  type: z.string().describe("linear or cat for lora; stack, average or fuse for adapter layers"),
  weights: z.array(z.number()).nullable().default(null).describe("a number for each adapter, in their order: 0.7,0.3"),
  head: z
    .string()
    .nullable()
    .default(null)
    .describe("name of the adapter whose head the result has; the first one, of a stack the last one by default"),
  task: z.string().nullable().default(null).describe("the Hub's name of the task; the adapter names it"),
  out: z.string().describe("folder for the adapter: a new one, or an empty one"),
});

/** An adapter made of several. */
export interface Combined {
  readonly out: string;
  readonly type: string;
  readonly method: string;
  readonly adapters: readonly string[];
  /** The adapter whose head it has. */
  readonly head: string;
}

/**
 * Makes one adapter of several and writes it: a LoRA for `linear` and `cat`, a composition for the others. Throws as `loadModel` and
 * `loadAdapter` do, ConfigError or AttachError for adapters that cannot be combined so, and FileError for a folder that holds files.
 */
export async function combine({
  model: given,
  onProgress,
  signal,
  ...rest
}: Omit<z.input<typeof combineOptions>, "model"> & { readonly model?: string | LoadedModel | undefined } & Pick<
    LoadOptions,
    "onProgress" | "signal"
  >): Promise<Combined> {
  const job = parseOptions("option", combineOptions, { ...rest, ...(typeof given === "string" ? { model: given } : {}) });
  const combination = combinationNamed(job.type);
  const names = Object.keys(job.adapter);
  const headName = headAmong(names, job.head, combination.headOf);
  const folder = await newFolder(job.out);
  let opened: LoadedModel | undefined;
  try {
    if (typeof given !== "object") opened = await loadModel(job.model, { onProgress, signal });
    const model = typeof given === "object" ? given : opened!;
    const headed = {
      name: headName,
      adapter: await loadAdapter(model, job.adapter[headName]!, { onProgress, signal, task: job.task ?? undefined }),
    };
    const adapters = await Promise.all(
      names.map(async (name) => {
        if (name === headName) return headed;
        return {
          name,
          adapter: await loadHeldAdapter(model, await adapterPlace(job.adapter[name]!, { onProgress, signal }), headed.adapter.head),
        };
      }),
    );
    const adapter = await combination.combine(model, { adapters, weights: job.weights, head: headed });
    const { task, target } = adapter.head;
    const record = {
      task: task.name,
      labels: target.kind === "classes" ? target.labels : null,
      base_model: { id: model.id, revision: model.revision },
      combination: { type: job.type, weights: job.weights, adapters: job.adapter, head: headName },
    };
    await writeFolder(folder.temporary, {
      ...(await adapterFiles(model, adapter)),
      "training.json": `${JSON.stringify(record, null, 2)}\n`,
    });
    await folder.finish();
    return { out: job.out, type: job.type, method: adapter.attachment.method.name, adapters: names, head: headName };
  } finally {
    await opened?.close();
    await folder.drop();
  }
}

function headAmong(names: readonly string[], asked: string | null, otherwise: "first" | "last"): string {
  const numbers = names.filter((name) => /^\d+$/.test(name)); // objects put those first: weights would go to others
  if (numbers.length > 0) throw new ConfigError(`adapters cannot be named ${numbers.join(", ")}`, { hint: "begin names with a letter" });
  if (names.length < 2) throw new ConfigError(`combining needs two adapters or more, not ${names.length}`);
  if (asked === null) return names.at(otherwise === "first" ? 0 : -1)!;
  if (names.includes(asked)) return asked;
  const guess = nearest(asked, names);
  throw new ConfigError(`head: no adapter is named "${asked}"`, {
    hint: `${guess === undefined ? "" : `did you mean "${guess}"? `}there are: ${names.join(", ")}`,
  });
}
