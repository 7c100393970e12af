// A task learnt in one language, used in others (MAD-X, Pfeiffer et al. 2020, arXiv:2005.00052): see README.md beside this file.
//   node examples/languages/transfer.mjs --data FOLDER --source indonesian --targets javanese,minangkabau
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exchange, loadAdapter, loadModel, predictor, readRows, train } from "peft.js/node";

const { values: flags } = parseArgs({
  options: {
    data: { type: "string" },
    source: { type: "string" },
    targets: { type: "string" },
    model: { type: "string", default: "minilm" },
    out: { type: "string", default: "languages" },
    seeds: { type: "string", default: "0" },
    "language-epochs": { type: "string", default: "3" },
    "task-epochs": { type: "string", default: "5" },
    "batch-size": { type: "string", default: "16" },
    "max-length": { type: "string", default: "64" },
    threads: { type: "string" },
  },
});
const { data, source, out } = flags;
if (data === undefined || source === undefined || flags.targets === undefined) throw new Error("--data, --source and --targets are needed");
const languages = [source, ...flags.targets.split(",")];
const seeds = flags.seeds.split(",").map(Number);
const common = { max_length: Number(flags["max-length"]), batch_size: Number(flags["batch-size"]), save_steps: 1_000_000 };
const rowsOf = (/** @type {string} */ language, /** @type {string} */ split) => join(data, language, `${split}.jsonl`);

const model = await loadModel(flags.model, flags.threads === undefined ? {} : { threads: Number(flags.threads) });

/** Trains into a folder, unless it was done before. */
async function trained(/** @type {Omit<import("peft.js/node").TrainOptions, "model">} */ options) {
  if (existsSync(join(options.out, "training.json"))) return options.out;
  for await (const event of train({ ...common, ...options, model })) {
    if (event.event === "eval") console.error(`${options.out}: step ${event.step}, ${JSON.stringify(event.metrics)}`);
    if (event.event === "end") console.error(`${options.out}: ${event.seconds.toFixed(0)} s`);
  }
  return options.out;
}

/** The share of a language's test rows that an adapter gets right. */
async function accuracy(/** @type {import("peft.js/node").Adapter} */ adapter, /** @type {string} */ language) {
  const ready = await predictor(model, adapter);
  const { task, target } = ready.head;
  const examples = ready.encode(await readRows(rowsOf(language, "test")), common.max_length);
  const { metrics } = task.evaluate(await ready.run(examples), examples, target);
  await ready.dispose();
  return Number(metrics.accuracy);
}

/** @type {Record<string, string>} */
const places = {};
for (const language of languages) {
  places[language] = await trained({
    task: "fill-mask",
    data: rowsOf(language, "train"),
    eval: rowsOf(language, "validation"),
    method: "seq_bn_inv",
    epochs: Number(flags["language-epochs"]),
    eval_on_start: true,
    out: join(out, `language-${language}`),
  });
}

for (const seed of seeds) {
  const labelled = { data: rowsOf(source, "train"), eval: rowsOf(source, "validation"), seed, epochs: Number(flags["task-epochs"]) };
  const head = await loadAdapter(model, await trained({ ...labelled, method: "head", out: join(out, `head-${seed}`) }));
  const alone = await loadAdapter(model, await trained({ ...labelled, method: "seq_bn", out: join(out, `alone-${seed}`) }));
  const below = { [source]: String(places[source]) };
  const stack = await loadAdapter(model, await trained({ ...labelled, method: "seq_bn", adapter: below, out: join(out, `stack-${seed}`) }));
  for (const language of languages) {
    const other = await loadAdapter(model, String(places[language]));
    const swapped = language === source ? stack : exchange(model, stack, source, { name: language, adapter: other });
    const row = {
      seed,
      language,
      head_only: await accuracy(head, language),
      task_adapter: await accuracy(alone, language),
      stack_not_swapped: await accuracy(stack, language),
      stack_swapped: await accuracy(swapped, language),
    };
    console.log(JSON.stringify(row));
  }
}
await model.close();
