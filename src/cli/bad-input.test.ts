import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import type { Row } from "../data/rows.js";
import { directory } from "../io/directory.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import { type BadInput, expectRefusal } from "./bad-input.fixture.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);
const jsonl = (rows: readonly Row[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-bad-"));
  await writeTinyModel(at("model"));
  await writeTinyModel(at("wider"), { config: { hidden_size: 24 } });
  await writeFile(at("rows.jsonl"), jsonl(tinyRows(24)));
  await writeFile(at("empty.jsonl"), "");
  await writeFile(at("blank.jsonl"), "\n\n");
  await writeFile(at("broken.jsonl"), jsonl(tinyRows(12)).replace(/^((?:.*\n){6}).*\n/, '$1{"text": "half a row, "label": "card"}\n'));
  await writeFile(at("texts.jsonl"), jsonl(tinyRows(12).map(({ text, label }) => ({ texts: text, label }))));
  await writeFile(at("named.jsonl"), jsonl(tinyRows(12).map(({ text, label }) => ({ utterance: text, intent: label }))));
  await writeFile(at("half-named.jsonl"), jsonl(tinyRows(12).map(({ text, label }) => ({ text, intent: label }))));
  await writeFile(at("only-text.jsonl"), jsonl(tinyRows(12).map(({ text }) => ({ text }))));
  await writeFile(at("one-label.jsonl"), jsonl(tinyRows(12).map(({ text }) => ({ text, label: "card" }))));
  await writeFile(at("new-label.jsonl"), jsonl([...tinyRows(4), { text: "the post is late", label: "post" }]));
  await writeFile(at("unknown-key.yaml"), "epochs: 2\nlerning_rate: 1e-3\n");
  await writeFile(at("bad-value.yaml"), "epochs: many\n");
  await writeFile(at("not-yaml.yaml"), "epochs: [1\n");
  await writeFile(at("model.safetensors.txt"), "");

  const damaged = async (name: string, change: (bytes: Buffer) => Buffer): Promise<void> => {
    await writeTinyModel(at(name));
    const file = join(at(name), "model.safetensors");
    await writeFile(file, change(await readFile(file)));
  };
  await damaged("truncated", (bytes) => bytes.subarray(0, bytes.length - 1000));
  await damaged("corrupt", (bytes) => Buffer.concat([bytes.subarray(0, 8), Buffer.from("nonsense"), bytes.subarray(16)]));
  await damaged("other-type", (bytes) => bytes);
  await writeFile(join(at("other-type"), "config.json"), JSON.stringify({ model_type: "bart" }));
  await damaged("mixed-up", (bytes) => bytes);
  await copyFile(join(at("wider"), "config.json"), join(at("mixed-up"), "config.json"));
  await damaged("lacking", (bytes) => bytes);
  const source = await openSafetensors(directory(at("lacking")), "model.safetensors");
  const kept = [...source.tensors.keys()].filter((name) => !/layer\.1\..*(query|value)\.weight/.test(name));
  const tensors = await Promise.all(kept.map(async (name) => [name, await source.readFloat32(name)] as const));
  await writeFile(join(at("lacking"), "model.safetensors"), writeSafetensors(tensors));
  await mkdir(at("empty-folder"));

  const trained = await peft(["train", "--model", at("model"), "--data", at("rows.jsonl"), "--out", at("adapter"), "--max-steps", "1"]);
  expect(trained.stderr + trained.stdout).toContain("done in");
});

afterAll(() => rm(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const train = "train --model {model} --out {out}";

const cases: readonly BadInput[] = [
  {
    what: "a missing file",
    args: `${train} --data {row.jsonl}`,
    code: 1,
    error: /E_FILE\]: there is no file .*row\.jsonl/,
    hint: /Did you mean .*rows\.jsonl\?/,
  },
  { what: "an empty file", args: `${train} --data {empty.jsonl}`, code: 1, error: /E_DATA\]: .*empty\.jsonl is empty/ },
  { what: "a file of blank lines", args: `${train} --data {blank.jsonl}`, code: 1, error: /E_DATA\]: .*blank\.jsonl holds no rows/ },
  {
    what: "broken JSON in line 7",
    args: `${train} --data {broken.jsonl}`,
    code: 1,
    error: /E_DATA\]: .*broken\.jsonl:7: broken JSON, column \d+/,
  },
  {
    what: "a missing column",
    args: `${train} --data {texts.jsonl} --task text-classification`,
    code: 1,
    error: /E_DATA\]: .*texts\.jsonl:1: no column "text"/,
    hint: /--map text=texts/,
  },
  {
    what: "columns that fit no task",
    args: `${train} --data {named.jsonl}`,
    code: 1,
    error: /the columns of .*named\.jsonl \(utterance, intent\) fit no task/,
    hint: /--map text=utterance/,
  },
  {
    what: "one column of a task under another name",
    args: `${train} --data {half-named.jsonl}`,
    code: 1,
    error: /the columns of .*half-named\.jsonl \(text, intent\) fit no task/,
    hint: /--map label=intent/,
  },
  {
    what: "columns that are a part of what a task needs",
    args: `${train} --data {only-text.jsonl}`,
    code: 1,
    error: /the columns of .*only-text\.jsonl \(text\) fit no task/,
    hint: /^tasks need text-classification: text, label;/,
  },
  {
    what: "a map to a column that is not there",
    args: `${train} --data {named.jsonl} --map text=utterence,label=intent`,
    code: 1,
    error: /no column "utterence"/,
    hint: /"utterance"/,
  },
  {
    what: "one label only",
    args: `${train} --data {one-label.jsonl}`,
    code: 1,
    error: /all rows have the label "card"/,
    hint: /at least two/,
  },
  {
    what: "a label in the eval file only",
    args: `${train} --data {rows.jsonl} --eval {new-label.jsonl}`,
    code: 1,
    error: /E_DATA\]: .*new-label\.jsonl:5: label "post" is not one the model knows: card, film, hats/,
    hint: /must occur in the training rows/,
  },
  { what: "an unknown verb", args: "trian", code: 2, error: /E_USAGE\]: there is no verb "trian"/, hint: /did you mean "train"\?/ },
  { what: "an unknown second word", args: "data chekc", code: 2, error: /there is no verb "data chekc"/, hint: /"data check"/ },
  {
    what: "an unknown flag",
    args: `${train} --data {rows.jsonl} --epoch 3`,
    code: 2,
    error: /E_USAGE\]: unknown option '--epoch'/,
    hint: /did you mean --epochs\?/,
  },
  {
    what: "a flag's value that does not fit",
    args: `${train} --data {rows.jsonl} --epochs many`,
    code: 2,
    error: /--epochs: expected a number above 0, got "many"/,
  },
  { what: "flags left out", args: "train", code: 2, error: /peft train needs --data and --out/, hint: /For example: peft train/ },
  { what: "a word too many", args: `pull {model} more`, code: 2, error: /too many arguments/ },
  {
    what: "an unknown method",
    args: `${train} --data {rows.jsonl} --method lroa`,
    code: 1,
    error: /E_CONFIG\]: method "lroa" is not supported/,
    hint: /did you mean "lora"\?/,
  },
  {
    what: "an unknown task",
    args: `${train} --data {rows.jsonl} --task text-clasification`,
    code: 1,
    error: /task "text-clasification" is not supported/,
    hint: /text-classification/,
  },
  {
    what: "an unknown key of the method",
    args: `${train} --data {rows.jsonl} --set lora_alfa=8`,
    code: 1,
    error: /lora option "lora_alfa" is not known/,
    hint: /did you mean "lora_alpha"\?/,
  },
  {
    what: "a method's value that does not fit",
    args: `${train} --data {rows.jsonl} --set r=0`,
    code: 1,
    error: /lora option "r": expected a whole number from 1, got/,
    hint: /rank/,
  },
  { what: "settings without =", args: `${train} --data {rows.jsonl} --set r8`, code: 2, error: /--set "r8": expected key=value/ },
  {
    what: "an unknown key in the config file",
    args: `${train} --data {rows.jsonl} --config {unknown-key.yaml}`,
    code: 2,
    error: /unknown-key\.yaml: "lerning_rate" is not known/,
    hint: /"learning_rate"/,
  },
  {
    what: "a value in the config file that does not fit",
    args: `${train} --data {rows.jsonl} --config {bad-value.yaml}`,
    code: 2,
    error: /bad-value\.yaml: epochs: expected a number above 0, got "many"/,
  },
  {
    what: "a config file that is no YAML",
    args: `${train} --data {rows.jsonl} --config {not-yaml.yaml}`,
    code: 2,
    error: /cannot read .*not-yaml\.yaml/,
  },
  {
    what: "targets that match nothing",
    args: `${train} --data {rows.jsonl} --set target_modules=querry`,
    code: 1,
    error: /E_ATTACH\]: target_modules/,
    hint: /query.*\(query\).*all-linear/s,
  },
  {
    what: "truncated weights",
    args: "train --model {truncated} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /E_WEIGHT\]: .*truncated.model\.safetensors: .*truncated: data up to byte/,
  },
  {
    what: "corrupt weights",
    args: "train --model {corrupt} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /E_WEIGHT\]: .*corrupt.model\.safetensors: /,
  },
  {
    what: "weights of another shape",
    args: "train --model {mixed-up} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /E_WEIGHT\]: the checkpoint does not fit config\.json; \d\d weights differ:(\n {2}\S+: \[[\d,]+\], expected \[[\d,]+\]){10}/,
  },
  {
    what: "missing weights",
    args: "train --model {lacking} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /E_WEIGHT\]: the checkpoint lacks 2 weights:\n.*query\.weight\n.*value\.weight/,
  },
  {
    what: "a model type that is not supported",
    args: "train --model {other-type} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /model_type "bart" is not supported/,
    hint: /bert/,
  },
  {
    what: "a folder without a model",
    args: "train --model {empty-folder} --out {out} --data {rows.jsonl}",
    code: 1,
    error: /holds no config\.json/,
  },
  {
    what: "no such model folder",
    args: "train --model ./no/such --out {out} --data {rows.jsonl}",
    code: 1,
    error: /there is no folder \.\/no\/such/,
  },
  {
    what: "an adapter given as the model",
    args: "evaluate --model {adapter} --data {rows.jsonl}",
    code: 1,
    error: /holds no config\.json/,
    hint: /give it with --adapter/,
  },
  {
    what: "an adapter of another base",
    args: "evaluate --model {wider} --adapter {adapter} --data {rows.jsonl}",
    code: 1,
    error: /E_ATTACH\]: the adapter .* does not fit this model; \d+ tensors differ:\n.*: \[8,16\], expected \[8,24\]/,
    hint: /it was trained on .*model/,
  },
  {
    what: "a model without a head",
    args: "evaluate --model {model} --data {rows.jsonl}",
    code: 1,
    error: /has no trained head for text-classification/,
    hint: /adapter/,
  },
  {
    what: "rows without labels to evaluate on",
    args: "evaluate --model {model} --adapter {adapter} --data {named.jsonl} --map text=utterance",
    code: 1,
    error: /named\.jsonl:1: no column "label"/,
  },
  { what: "nothing to predict", args: "predict --model {model} --adapter {adapter}", code: 2, error: /give either --input FILE or texts/ },
  {
    what: "an output file in no folder",
    args: "predict --model {model} --adapter {adapter} --output {nowhere}/x.jsonl text",
    code: 1,
    error: /E_FILE\]: cannot write .*nowhere.x\.jsonl/,
  },
  {
    what: "an output folder under a file",
    args: "train --model {model} --data {rows.jsonl} --out /dev/null/x",
    code: 1,
    error: /E_FILE\]: cannot write to \/dev\/null\/x/,
    hint: /another output folder/,
  },
  {
    what: "an output folder that is a file",
    args: "train --model {model} --data {rows.jsonl} --out {rows.jsonl}",
    code: 1,
    error: /E_FILE\]: cannot write to .*rows\.jsonl/,
  },
  {
    what: "an output folder where none can be made",
    args: "train --model {model} --data {rows.jsonl} --out /proc/x",
    code: 1,
    error: /E_FILE\]: cannot write to \/proc\/x/,
  },
  {
    what: "no checkpoint to resume from",
    args: `${train} --data {rows.jsonl} --resume`,
    code: 1,
    error: /E_CHECKPOINT\]: .*out has no checkpoint/,
  },
  {
    what: "no network, offline",
    args: "train --model org/name --out {out} --data {rows.jsonl}",
    env: { HF_HUB_OFFLINE: "1" },
    code: 1,
    error: /E_NETWORK\]: HF_HUB_OFFLINE is set and the model org\/name is not/,
    hint: /unset HF_HUB_OFFLINE/,
  },
  {
    what: "no network, hub unreachable",
    args: "train --model org/name --out {out} --data {rows.jsonl}",
    env: { HF_ENDPOINT: "http://127.0.0.1:9" },
    code: 1,
    error: /E_NETWORK\]: cannot reach http:\/\/127\.0\.0\.1:9/,
    hint: /network|HF_ENDPOINT/,
  },
  {
    what: "no network for a dataset",
    args: `${train} --data hf:org/name`,
    env: { HF_ENDPOINT: "http://127.0.0.1:9" },
    code: 1,
    error: /E_NETWORK\]: cannot fetch http:\/\/127\.0\.0\.1:9/,
    hint: /network/,
  },
];

describe("each ends in a clear error and leaves nothing behind:", () => {
  test.each(cases)("$what", (input) => expectRefusal(folder, input));

  test("a folder that was there stays", async () => {
    await mkdir(at("kept"));
    await peft(["train", "--model", at("model"), "--data", at("empty.jsonl"), "--out", at("kept")]);
    expect(await readdir(at("kept"))).toEqual([]);
  });

  test("a folder without write permission", { skip: process.getuid?.() === 0 }, async () => {
    await mkdir(at("locked"));
    await chmod(at("locked"), 0o555);
    const run = await peft(["train", "--model", at("model"), "--data", at("rows.jsonl"), "--out", at("locked")]);
    expect(run.stderr).toMatch(/E_FILE\]: cannot write to/);
  });
});

test("--debug shows the stack, and what lies underneath", async () => {
  const run = await peft(["train", "--model", at("model"), "--data", at("rows.jsonl"), "--out", "/dev/null/x", "--debug"]);
  expect(run.stderr).toMatch(/\n {4}at /);
  expect(run.stderr).toContain("caused by: Error: ENOTDIR");
});
