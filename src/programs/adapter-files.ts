import { writeHubAdapter } from "../adapters/adapterhub-format.js";
import { headTypeOf, hubHeadPath, isHeadParam, writeHubHead } from "../adapters/adapterhub-head.js";
import type { HubModel } from "../adapters/adapterhub-json.js";
import { writePeftAdapter } from "../adapters/peft-format.js";
import { writeSetup } from "../adapters/setup-format.js";
import type { Tensor } from "../core/tensor.js";
import { isRecord } from "../io/json.js";
import { leaves } from "../methods/composition.js";
import { isPeft } from "../methods/index.js";
import { modulesOf, savedModules, separateModules } from "../methods/targets.js";
import { headOf, publishedGraph, survey, type TaskHead } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { headClass, modelClass } from "./model-files.js";
import { loadProgram, type Params, paramsOf } from "./program.js";

/** What an adapter is called in AdapterHub's files where nobody named it. */
const hubName = "default";

/** The adapter's files, by their paths in its folder: in Hugging Face PEFT's format or AdapterHub's, as its method has it. */
export async function adapterFiles(model: BaseModel, adapter: Adapter): Promise<Readonly<Record<string, Uint8Array>>> {
  const { head, attachment } = adapter;
  const { method } = attachment;
  const params = await publishedParams(model, adapter);
  if (isPeft(method)) {
    const sites = survey(model, head);
    const saved = [...sites.headModules, ...separateModules(savedModules(attachment.config), modulesOf(sites))];
    return writePeftAdapter(method, attachment, params, {
      taskType: head.task.peftTaskType,
      base: model.id,
      revision: model.revision,
      savedModules: head.task.peftTaskType === "SEQ_CLS" ? [...saved, "score"] : saved,
      prefix: model.family.prefix,
    });
  }
  const { prefix } = model.family;
  const hubModel = hubModelOf(model, head);
  const isHead = (path: string): boolean => !path.includes(":") && isHeadParam(path);
  const headParams = new Map([...params].filter(([path]) => isHead(path)));
  const own = new Map([...params].filter(([path]) => !isHead(path)));
  if ("library" in method.files) {
    const files = headParams.size === 0 ? {} : hubHeadFiles(model, head, headParams, hubModel, hubName, head.layers !== undefined);
    return { ...writeHubAdapter(attachment, own, hubName, hubModel, prefix), ...files };
  }
  const child = { name: "", trained: false, attachment };
  const name = attachment.method.name === "stack" ? leaves(child).at(-1)!.name : "head";
  const files = headParams.size === 0 ? undefined : { name, files: hubHeadFiles(model, head, headParams, hubModel, name, true) };
  return writeSetup(attachment, own, { model: hubModel, prefix, head: files });
}

/** A head's files; `built` writes it as one of AdapterHub's own, for classes that can load no other. */
function hubHeadFiles(
  model: BaseModel,
  head: TaskHead,
  params: Params,
  hubModel: HubModel,
  name: string,
  built: boolean,
): Readonly<Record<string, Uint8Array>> {
  const structure = headOf(model, head);
  const layered = structure.layered?.(model.config);
  const { target, layers } = head;
  const asBuilt = built || layered?.tokens !== undefined; // transformers' own class would not undo invertible adapters before its decoder
  const context = {
    model: asBuilt ? { ...hubModel, model_class: modelClass(model, "AdapterModel") } : hubModel,
    labels: target.kind === "classes" ? target.labels : undefined,
    outputs: head.task.outputs(target),
    headType: headTypeOf(head.task.name),
    name,
  };
  if (!asBuilt) return writeHubHead(params, { ...context, structure: undefined });
  if (layers !== undefined || layered === undefined) return writeHubHead(params, { ...context, structure: layers });
  const { indices, ...own } = layered;
  const renamed = [...params].map(([path, tensor]): readonly [string, Tensor<"float32">] => {
    const [module, index] = Object.entries(indices).find(([each]) => path.startsWith(`${each}.`)) ?? [];
    return module === undefined ? [path, tensor] : [`${hubHeadPath}.${index}.${path.slice(module.length + 1)}`, tensor];
  });
  const bias = params.has(`${Object.keys(indices).at(-1)}.bias`);
  return writeHubHead(new Map(renamed), {
    ...context,
    structure: { ...own, bias, dropout: null },
  });
}

function hubModelOf(model: BaseModel, head: TaskHead): HubModel {
  const type = isRecord(model.json) ? String(model.json.model_type) : model.family.model_types[0]!;
  return {
    hidden_size: survey(model, head).embeddings[0]!.width,
    model_type: type,
    model_name: model.id,
    model_class: modelClass(model, headClass(model, head.task)),
  };
}

/** The adapter's tensors as its files hold them: values that a method publishes stand in place of the parameters they are computed from. */
async function publishedParams(model: BaseModel, { head, attachment, params }: Adapter): Promise<Params> {
  const outputs = publishedGraph(model, head, [attachment]);
  if (Object.keys(outputs).length === 0) return params;
  const replaced = new Set(paramsOf(outputs).map(({ leaf }) => leaf.path));
  const program = await loadProgram(model, outputs);
  try {
    const values = await program.run({ batch: {}, params });
    const published = Object.keys(outputs).map((name) => [name, values[name] as Tensor<"float32">] as const);
    return new Map([...published, ...[...params].filter(([path]) => !replaced.has(path))]);
  } finally {
    await program.dispose();
  }
}
