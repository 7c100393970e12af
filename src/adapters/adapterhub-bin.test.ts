import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { fillUniform, keyOf } from "../core/random.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors } from "../io/safetensors.js";
import { openTorch } from "../io/torch-bin.js";
import { bottleneck } from "../methods/bottleneck.js";
import { fuse } from "../methods/fuse.js";
import type { Attachment } from "../methods/method.js";
import { attach, forwardGraph, type TaskHead } from "../programs/adapted-model.js";
import { type Adapter, loadAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { compose } from "../programs/compose.js";
import { initialParams } from "../programs/initial-params.js";
import type { Params } from "../programs/program.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  model = await openTinyModel(runtime);
});
afterAll(() => runtime.close());

const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["LABEL_0", "LABEL_1", "LABEL_2"] } };

/** An adapter with random values. */
async function random(attachment: Attachment): Promise<Adapter> {
  const params = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
  for (const [path, { data }] of params) fillUniform(data, keyOf(3, path), -1, 1);
  return { head, attachment, params };
}

const layers = (): Promise<Adapter> =>
  random(
    attach(
      model,
      head,
      bottleneck,
      bottleneck.config.parse({ mh_adapter: false, output_adapter: true, reduction_factor: 4, ln_before: true, non_linearity: "relu" }),
      "user",
    ),
  );

async function fusion(): Promise<Adapter> {
  const held = [
    { name: "a", adapter: await layers() },
    { name: "b", adapter: await layers() },
  ];
  return random(compose(model, head, fuse, fuse.config.parse({}), held).attachment);
}

describe.each([
  ["adapter layers", layers, ["adapter", "model_head"]],
  ["a fusion", fusion, ["a/adapter", "b/adapter", "a,b/model_adapter_fusion", "head/model_head"]],
] as const)("files of %s", (_, make, stems) => {
  let files: Readonly<Record<string, Uint8Array>>;
  let wanted: Params;
  beforeAll(async () => {
    files = await adapterFiles(model, await make());
    wanted = await paramsOf(Object.fromEntries(Object.entries(files).filter(([name]) => !name.endsWith(".bin"))));
  });
  const paramsOf = async (some: Readonly<Record<string, Uint8Array>>) => (await loadAdapter(model, memoryFiles("adapter", some))).params;

  it("hold the same tensors twice: as safetensors and as Python's default, .bin", async () => {
    const names = stems.flatMap((stem) => [`${stem}.safetensors`, stem.replace(/(\w+)$/, "pytorch_$1.bin")]);
    expect(
      Object.keys(files)
        .filter((name) => !name.endsWith(".json"))
        .sort(),
    ).toEqual(names.sort());
    const all = memoryFiles("adapter", files);
    for (const stem of stems) {
      const safe = await openSafetensors(all, `${stem}.safetensors`);
      const torch = await openTorch(all, stem.replace(/(\w+)$/, "pytorch_$1.bin"));
      expect([...torch.tensors.keys()].sort()).toEqual([...safe.tensors.keys()].sort());
      expect(safe.tensors.size).toBeGreaterThan(1);
      for (const name of safe.tensors.keys()) expect(await torch.readFloat32(name), name).toEqual(await safe.readFloat32(name));
    }
  });

  it("give the same adapter without the safetensors", async () => {
    const bare = Object.entries(files).filter(([name]) => !name.endsWith(".safetensors"));
    expect(await paramsOf(Object.fromEntries(bare))).toEqual(wanted);
  });

  it("are read from safetensors where both are there", async () => {
    const junk = Object.entries(files).map(([name, bytes]) => [name, name.endsWith(".bin") ? Uint8Array.of(1) : bytes] as const);
    expect(await paramsOf(Object.fromEntries(junk))).toEqual(wanted);
  });

  it("say which file of the two is missing or damaged", async () => {
    const none = Object.entries(files).filter(([name]) => name.endsWith(".json"));
    await expect(paramsOf(Object.fromEntries(none))).rejects.toThrow(/has no .*adapter\w*\.safetensors or pytorch_/);
    const cut = Object.entries(files).flatMap(([name, bytes]) =>
      name.endsWith(".safetensors") ? [] : [[name, name.endsWith(".bin") ? bytes.slice(0, -40) : bytes] as const],
    );
    await expect(paramsOf(Object.fromEntries(cut))).rejects.toThrow(/pytorch_\w+\.bin is damaged/);
  });
});
