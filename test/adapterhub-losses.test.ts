import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hubNames } from "../src/adapters/adapterhub-format.js";
import { directory } from "../src/io/directory.js";
import { attach } from "../src/programs/adapted-model.js";
import { type Adapter, loadAdapter } from "../src/programs/adapter.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { farthest, type TenSteps, trainTenSteps } from "./ten-steps.fixture.js";
import { jsonBytes, overlay } from "./tiny-model.fixture.js";

const golden = fileURLToPath(new URL("golden/adapterhub-losses/", import.meta.url));

/** expected.json, as golden/README.md describes it. */
interface Expected {
  readonly losses: readonly number[];
  readonly grad_norms: readonly number[];
  readonly final_loss: number;
  readonly decayed: readonly string[];
  readonly not_decayed: readonly string[];
}

const { training, batches } = JSON.parse(readFileSync(join(golden, "training.json"), "utf8")) as {
  readonly training: TenSteps["training"];
  readonly batches: readonly (readonly { readonly ids: number[]; readonly label: number }[])[];
};
const given: TenSteps = {
  training,
  micro_batches: [4],
  batches: batches.map((rows) => rows.map((row) => ({ ...row, token_type_ids: row.ids.map(() => 0) }))),
};

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  const tokenizer = jsonBytes({ model: { type: "WordPiece", unk_token: "[UNK]", vocab: { "[UNK]": 0 } } });
  const base = directory(join(golden, "../lora-losses/base"));
  model = await openBaseModel(overlay(base, { "tokenizer.json": tokenizer }), { id: "base", runtime });
});
afterAll(() => runtime.close());

const variants = readdirSync(golden).filter((name) => statSync(join(golden, name)).isDirectory());

it("has all golden variants", () => {
  expect(variants).toEqual([
    "compacter",
    "double_seq_bn",
    "fuse",
    "gated",
    "inv",
    "ln_after",
    "ln_both",
    "par_bn",
    "scaled_par_bn",
    "seq_bn",
    "stack",
  ]);
});

describe.each(variants)("ten steps of AdapterHub's %s", (variant) => {
  const folder = join(golden, variant);
  const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as Expected;
  let ours: Awaited<ReturnType<typeof trainTenSteps>>;

  beforeAll(async () => {
    ours = await trainTenSteps(model, trainable(await loadAdapter(model, directory(join(folder, "initial")))), given);
  });

  it("have the same losses and norms", () => {
    expect(farthest(ours.losses, expected.losses)).toBeLessThan(2e-5);
    expect(Math.abs(ours.finalLoss - expected.final_loss)).toBeLessThan(2e-5);
    const ratios = ours.norms.map((norm, i) => norm / expected.grad_norms[i]!);
    expect(farthest(ratios, new Array(ratios.length).fill(1))).toBeLessThan(2e-5);
  });

  it("train the same parameters and decay the same of them", () => {
    const names = (decay: boolean) => ours.trained.flatMap((leaf) => (leaf.decay === decay ? [pythonName(leaf.path, variant)] : [])).sort();
    expect(names(true)).toEqual(expected.decayed);
    expect(names(false)).toEqual(expected.not_decayed);
  });
});

/** A stack as it is trained: the last adapter learns on top of the others. */
function trainable(adapter: Adapter): Adapter {
  const { head, attachment } = adapter;
  if (attachment.method.name !== "stack") return adapter;
  const last = attachment.children.length - 1;
  const children = attachment.children.map((child, i) => ({ ...child, trained: i === last }));
  return { ...adapter, attachment: attach(model, head, attachment.method, attachment.config, "file", children) };
}

/** A parameter's name in Python, where the head is named as the last adapter. */
function pythonName(path: string, variant: string): string {
  const composed = variant === "stack" || variant === "fuse";
  if (path.startsWith("heads.")) return path.replace("heads.", `heads.${composed ? "b" : "golden"}.`);
  return hubNames(path.slice(path.indexOf(":") + 1), variant === "fuse" ? "a,b" : composed ? "b" : "golden", "bert")[0]!;
}
