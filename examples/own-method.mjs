// A fine-tuning method of one's own: BEFT (arXiv:2509.15974), which adds a trained vector to the output of value projections.
// It is trained and loaded again without a change to Peft.js; Python's PEFT knows this method and reads its files.
//   node examples/own-method.mjs [model] [output folder]
import { fileURLToPath } from "node:url";
import { add, matchTargets, targetFields, tunerFormat, z, zeros } from "peft.js/methods";
import { pipeline, train } from "peft.js/node";

/** y + b with b [1, out], zero at first. @type {import("peft.js/methods").PeftMethod} */
const beft = {
  name: "beft",
  config: z.strictObject({ target_modules: targetFields.target_modules, modules_to_save: targetFields.modules_to_save }),
  learningRate: 1e-2,

  plan: (sites, config, origin) => new Set(matchTargets(sites, config, ["value"], origin).map(({ path }) => path)),

  linear(site, { y }, p, targets) {
    return targets.has(site.path) ? add(y, p.param("beft_bias", [1, site.outFeatures], zeros)) : y;
  },

  files: {
    ...tunerFormat("BEFT"),
    inert: ["init_weights"],
    publish: (config, targets) => ({ ...config, target_modules: [...targets] }),
  },
};

const [model = "minilm", out = "beft-adapter"] = process.argv.slice(2);
const data = fileURLToPath(new URL("data/support-train.jsonl", import.meta.url));

for await (const event of train({ model, data, method: beft, epochs: 5, out })) {
  if (event.event === "start") console.log(`${event.trained_parameters} trained numbers`);
  if (event.event === "eval") console.log(`after step ${event.step}: accuracy ${event.metrics.accuracy?.toFixed(3)}`);
}

const classify = await pipeline("text-classification", { model, adapter: out, methods: [beft] });
console.log(await classify("Where is my parcel?"));
await classify.dispose();
