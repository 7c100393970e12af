// @ts-check
// The comparisons behind docs/comparison.md: `peft compare` on each data set, at most 1,000 training rows and 30 minutes a set.
//   npm run build && node bench/comparison.js DATA OUT MODEL [LANGUAGE_MODEL] [sets,…]
// DATA has a folder for each set with train.jsonl and test.jsonl. Interrupted, it goes on where it was. OUT/comparison.md is all reports' beginnings.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const methods = "lora,seq_bn,prefix,prompt,p-tuning,bitfit,ia3,head,full";
const classification = ["banking77", "sst2", "trec", "wnut17", "stsb", "pubmedqa", "nusax_sentiment/english", "nusax_sentiment/javanese"];
const generation = ["wikisql_mini"];

const [data, out, model = "minilm", languageModel, only] = process.argv.slice(2);
if (data === undefined || out === undefined) throw new Error("usage: node bench/comparison.js DATA OUT MODEL [LANGUAGE_MODEL] [sets,…]");
const peft = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const wanted = [...classification, ...(languageModel === undefined ? [] : generation)].filter(
  (name) => only === undefined || only.split(",").includes(name),
);

const parts = wanted.map((name) => {
  const folder = join(out, name.replace("/", "-"));
  const writes = generation.includes(name);
  const args = [
    ...["compare", "--data", join(data, name, "train.jsonl"), "--eval", join(data, name, "test.jsonl"), "--out", folder],
    ...["--model", writes ? String(languageModel) : model, "--methods", writes ? "lora,ia3,prefix" : methods],
    ...["--train-sizes", "100,1000", "--seeds", "3", "--budget", "30m", "--max-length", "128"],
  ];
  console.log(`peft ${args.join(" ")}`);
  const { status } = spawnSync(process.execPath, [peft, ...args], { stdio: "inherit" });
  if (status !== 0) throw new Error(`${name}: peft compare ended with ${status}`);
  const report = readFileSync(join(folder, "report.md"), "utf8");
  return `${report.slice(0, report.indexOf("## Worst mistakes") + 1 || report.indexOf("## To repeat it")).replace(/#$/, "")}Command: \`peft ${args.join(" ")}\`\n`;
});
writeFileSync(join(out, "comparison.md"), parts.join("\n"));
