// Trains a LoRA adapter on the sample data and shows the loss and the accuracy.
//   node examples/train.mjs [model] [output folder]
import { fileURLToPath } from "node:url";
import { train } from "peft.js/node";

const [model = "minilm", out = "my-adapter"] = process.argv.slice(2);
const sample = (/** @type {string} */ name) => fileURLToPath(new URL(`data/${name}`, import.meta.url));

const training = train({
  model,
  data: sample("support-train.jsonl"),
  eval: sample("support-test.jsonl"),
  method: "lora",
  set: { r: 8, lora_alpha: 16, target_modules: ["query", "value"] },
  epochs: 3,
  learning_rate: 2e-3,
  out,
});

for await (const event of training) {
  if (event.event === "step" && event.step % 10 === 0) console.log(`step ${event.step}: loss ${event.loss.toFixed(3)}`);
  if (event.event === "eval") console.log(`after step ${event.step}: accuracy ${event.metrics.accuracy?.toFixed(3)}`);
  if (event.event === "end") console.log(`adapter in ${event.adapter}`);
}
