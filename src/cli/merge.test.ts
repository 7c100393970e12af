import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);
/** Runs a command line in which `{name}` is a file of the test's folder. */
const run = (line: string) => peft(line.split(" ").map((word) => word.replace(/\{(.+?)\}/g, (_, name: string) => at(name))));

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-merge-"));
  vi.stubEnv("HF_HOME", at("cache"));
  await writeTinyModel(at("model"));
  await writeTinyModel(at("wider"), { config: { hidden_size: 24 } });
  await writeFile(
    at("rows.jsonl"),
    tinyRows(24)
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(""),
  );
  await mkdir(at("full"));
  await writeFile(at("full/notes.txt"), "mine");
  const train = "train --model {model} --data {rows.jsonl} --max-steps 4 --learning-rate 0.03";
  for (const [name, method] of [
    ["a", "--method lora --set r=4"],
    ["b", "--method lora --set r=4 --seed 1 --set target_modules=key,value"],
    ["wide", "--method lora --set r=6 --set bias=all"],
    ["ia3", "--method ia3"],
    ["bitfit", "--method bitfit"],
    ["prefix", "--method prefix --set num_virtual_tokens=2"],
    ["seq", "--method seq_bn"],
    ["seq2", "--method seq_bn --seed 1"],
  ]) {
    const { code, stderr } = await run(`${train} ${method} --out {${name}}`);
    expect(code, stderr).toBe(0);
  }
  for (const name of ["a", "bitfit"]) await run(`merge --model {model} --adapter {${name}} --out {model-${name}}`);
}, 120_000);

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

async function logits(line: string): Promise<readonly number[]> {
  const { stdout } = await run(`predict ${line} --input {rows.jsonl} --logits`);
  return stdout
    .trim()
    .split("\n")
    .flatMap((text) => JSON.parse(text).logits as number[]);
}
const farthest = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe("merge and unmerge", () => {
  test("write a checkpoint that predicts alone, and the base again", async () => {
    const merged = await run("merge --model {model} --adapter {a} --out {merged} --json");
    expect(merged.json()).toEqual([
      { out: at("merged"), max_abs_difference: expect.any(Number), before_rounding: null, rows: 8, layers: 4, dtypes: ["F32"] },
    ]);
    expect(merged.json()[0]!.max_abs_difference).toBeLessThan(1e-5);
    expect((await readdir(at("merged"))).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    const [expected, plain] = [await logits("--model {model} --adapter {a}"), await logits("--model {model} --adapter {ia3}")];
    expect(farthest(await logits("--model {merged}"), expected)).toBeLessThan(1e-5);
    expect(farthest(plain, expected)).toBeGreaterThan(1e-3);
    const back = await run("unmerge --model {merged} --adapter {a} --base {model} --out {back} --json");
    expect(back.json()).toEqual([
      {
        out: at("back"),
        layers: 4,
        from_base: 0,
        dropped: ["classifier.weight", "classifier.bias"],
        max_abs_difference: expect.any(Number),
      },
    ]);
    expect(back.json()[0]!.max_abs_difference).toBeLessThan(1e-6);
    expect(farthest(await logits("--model {back} --adapter {a}"), expected)).toBeLessThan(1e-5);
  });

  test("compare on rows of one's own, and say how rounding moves the outputs", async () => {
    const { stdout, code } = await run("merge --model {model} --adapter {ia3} --data {rows.jsonl} --dtype bf16 --out {rounded}");
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /8 linear layers changed, weights in BF16\n.*outputs on 24 rows: \d\.\de-\d\n.*rounded to BF16: \d\.\de-\d; --dtype f32/,
    );
    expect(JSON.parse(await readFile(at("rounded/config.json"), "utf8"))).toMatchObject({ dtype: "bfloat16" });
  });

  test("take what was replaced from the base", async () => {
    await run("merge --model {model} --adapter {bitfit} --out {merged-bitfit}");
    const { stdout } = await run("unmerge --model {merged-bitfit} --adapter {bitfit} --base {model} --out {back-bitfit}");
    expect(stdout).toMatch(
      /18 weights that the adapter had replaced, taken from .*model\nleft out, since the adapter brought them: classifier/,
    );
  });
});

describe("combine", () => {
  test.each(["linear", "cat"])("%s writes a LoRA with the first one's head", async (type) => {
    const { code, stdout, stderr } = await run(
      `combine --model {model} --type ${type} --adapter a={a} --adapter b={b} --weights 0.5,0.5 --out {${type}}`,
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(`${type} of a, b, with the head of a`);
    const config = JSON.parse(await readFile(at(`${type}/adapter_config.json`), "utf8"));
    const r = type === "cat" ? 8 : 4;
    expect(config).toMatchObject({ peft_type: "LORA", r, lora_alpha: r, target_modules: ["key", "query", "value"], use_rslora: false });
    const [both, first] = [await logits(`--model {model} --adapter {${type}}`), await logits("--model {model} --adapter {a}")];
    expect(farthest(both, first)).toBeGreaterThan(1e-4);
  });

  test("cat with weights 1 and 0 is the first one", async () => {
    await run("combine --model {model} --type cat --adapter a={a} --adapter b={b} --weights 1,0 --out {only-a}");
    expect(farthest(await logits("--model {model} --adapter {only-a}"), await logits("--model {model} --adapter {a}"))).toBeLessThan(1e-5);
    await run("combine --model {model} --type cat --adapter a={a} --adapter b={b} --weights 1,0 --head b --out {head-b}");
    expect(farthest(await logits("--model {model} --adapter {head-b}"), await logits("--model {model} --adapter {a}"))).toBeGreaterThan(
      1e-3,
    );
  });

  test.each(["stack", "average", "fuse"])("%s writes a composition that is loaded like an adapter", async (type) => {
    const { code, stdout, stderr } = await run(
      `combine --model {model} --type ${type} --adapter one={seq} --adapter two={seq2} --out {${type}}`,
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(`with the head of ${type === "stack" ? "two" : "one"}`);
    expect(await readdir(at(type))).toEqual(expect.arrayContaining(["adapter_setup.json", "one", "two", "training.json"]));
    const evaluated = await run(`evaluate --model {model} --adapter {${type}} --data {rows.jsonl} --json`);
    expect(evaluated.json()[0]).toMatchObject({ task: "text-classification", rows: 24 });
  });

  test("average of an adapter with weights is AdapterHub's", async () => {
    await run("combine --model {model} --type average --adapter one={seq} --adapter two={seq2} --weights 3,1 --out {weighted}");
    const setup = JSON.parse(await readFile(at("weighted/adapter_setup.json"), "utf8"));
    expect(setup.adapter_setup).toMatchObject({ type: "Average", kwargs: { weights: [3, 1] } });
  });
});

describe("each ends in a clear error and leaves nothing behind:", () => {
  const combine = "combine --model {model} --out {out}";
  test.each([
    ["a base of other sizes", "merge --model {wider} --adapter {a} --out {out}", /E_ATTACH.*does not fit this model; \d+ tensors differ/],
    [
      "an adapter that cannot be merged",
      "merge --model {model} --adapter {prefix} --out {out}",
      /E_CONFIG.*prefix-tuning adds computation that no weight of the base can hold: keys and values in attention\nhint: .*lora, vera, ia3/,
    ],
    ["an output folder with files", "merge --model {model} --adapter {a} --out {full}", /E_FILE.*full holds files already: notes\.txt/],
    ["a dtype that does not exist", "merge --model {model} --adapter {a} --out {out} --dtype f8", /--dtype: expected .*, got "f8"/],
    [
      "a tolerance that cannot be kept",
      "merge --model {model} --adapter {a} --out {out} --tolerance 1e-12",
      /E_NUMERIC.*differ by up to .*, more than 1e-12; nothing was written/,
    ],
    [
      "an unmerge that lacks the original",
      "unmerge --model {model-bitfit} --adapter {bitfit} --out {out}",
      /E_WEIGHT.*does not tell what these weights were.*: 18 faults:\n {2}bert\.embeddings\.LayerNorm\.bias/,
    ],
    [
      "an original of other sizes",
      "unmerge --model {model-a} --adapter {a} --base {wider} --out {out}",
      /E_WEIGHT.*of other sizes than the merged checkpoint: \d+ faults:\n.*word_embeddings\.weight: \[282,24\], merged \[282,16\]/,
    ],
    [
      "an unknown type",
      `${combine} --type add --adapter a={a} --adapter b={b} --weights 1,1`,
      /E_CONFIG.*combination "add" is not supported\nhint: supported: linear, cat, stack, average, fuse/,
    ],
    [
      "a type that only PEFT has",
      `${combine} --type ties --adapter a={a} --adapter b={b} --weights 1,1`,
      /combination "ties" is not supported here, though PEFT has it\nhint: supported: linear, cat/,
    ],
    [
      "kinds that do not go together, and all else that is wrong",
      `${combine} --type linear --adapter a={a} --adapter w={wide} --adapter i={ia3} --adapter p={prefix} --weights 1,1`,
      /cannot be combined by linear:\n {2}i: ia3; linear combines lora\n {2}p: prefix-tuning; linear combines lora\n {2}2 weights for 4 adapters\n {2}w: bias "all" .*\n(.*\n)* {2}bert\.encoder\.layer\.0\.attention\.self\.query: ranks a 4, w 6\n/,
    ],
    [
      "lora in an average",
      `${combine} --type average --adapter one={seq} --adapter a={a} --head one`,
      /cannot be composed by average:\n {2}a: average takes adapter layers, not lora/,
    ],
    ["weights for a stack", `${combine} --type stack --adapter one={seq} --adapter two={seq2} --weights 1,2`, /stack takes no weights/],
    [
      "no weights for linear",
      `${combine} --type linear --adapter a={a} --adapter b={b}`,
      /linear needs a weight for each of the 2 adapters/,
    ],
    ["one adapter", `${combine} --type cat --adapter a={a} --weights 1`, /combining needs two adapters or more, not 1/],
    [
      "a head of nobody",
      `${combine} --type cat --adapter one={a} --adapter two={b} --weights 1,1 --head won`,
      /no adapter is named "won"\nhint: did you mean "one"\?/,
    ],
    ["names that are numbers", `${combine} --type cat --adapter 2={a} --adapter 1={b} --weights 1,2`, /adapters cannot be named 1, 2/],
  ] as const)("%s", async (_, line, error) => {
    const before = (await readdir(folder)).sort();
    const { code, stdout, stderr } = await run(`${line} --json`);
    expect(stderr).toMatch(error);
    expect(stderr).not.toMatch(/E_INTERNAL|\n {4}at /);
    expect(code).toBe(line.includes("f8") ? 2 : 1);
    expect(stdout).toBe("");
    expect((await readdir(folder)).sort()).toEqual(before);
    expect(await readdir(at("full"))).toEqual(["notes.txt"]);
  });
});
