// Classifies texts with an adapter, such as the one that train.mjs wrote.
//   node examples/predict.mjs [model] [adapter] [text ...]
import { pipeline } from "peft.js/node";

const [model = "minilm", adapter = "my-adapter", ...texts] = process.argv.slice(2);
if (texts.length === 0) texts.push("Where is my parcel?", "The voucher was not taken off the price.");

const classify = await pipeline("text-classification", { model, adapter });
for (const [i, { label, score }] of (await classify(texts)).entries()) console.log(`${label} (${Number(score).toFixed(2)}): ${texts[i]}`);
await classify.dispose();
