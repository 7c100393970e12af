import { misfits } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openTensors } from "../io/open-tensors.js";
import { subfolder } from "../io/subfolder.js";
import { leaves } from "../methods/composition.js";
import { compositionOfType } from "../methods/index.js";
import type { Attachment, Child, Method } from "../methods/method.js";
import { bothFits, fitHubTensors, hubNames, hubTensorFiles, readHubAdapter, writeHubAdapter } from "./adapterhub-format.js";
import { type HubHead, isHeadParam, readHubHead } from "./adapterhub-head.js";
import { type HubModel, hubJson, hubVersion } from "./adapterhub-json.js";
import { type Fit, noHead, type PublishedAdapter, type PublishedChild, type WantedParam } from "./published.js";

/** The file that says how a folder's adapters are used together. */
export const setupFile = "adapter_setup.json";
const fusionConfigFile = "adapter_fusion_config.json";
const fusionWeightsFiles = ["model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin"];

/** Reads a composition: adapter_setup.json and a folder for each adapter, as AdapterHub's `save_adapter_setup` writes them. */
export async function readSetup(files: Files): Promise<PublishedAdapter> {
  const where = `${files.origin}/${setupFile}`;
  const json = await readJson(files, setupFile);
  if (!isRecord(json) || !isRecord(json.adapter_setup)) throw new ConfigError(`${where} has no "adapter_setup"`);
  const { name, adapter } = await readBlock(files, where, json.adapter_setup);
  const last = lastLeaf({ name, adapter });
  const given = typeof json.head_setup === "string" ? folderName(where, json.head_setup) : last.name;
  const own = await readHubHead(subfolder(files, given));
  return own.tensors === undefined ? adapter : withHead(adapter, own);
}

/** A composition whose head is read from a folder of its own; its adapters' own heads are not used. */
function withHead(adapter: PublishedAdapter, head: HubHead): PublishedAdapter {
  return {
    ...adapter,
    head: head.published,
    tensors: new Map([...adapter.tensors, ...(head.tensors?.tensors ?? [])]),
    fit: (wanted, place) =>
      bothFits(
        adapter.fit(
          wanted.filter(({ path }) => !isHeadOfAll(path)),
          place,
        ),
        head.fit(
          wanted.filter(({ path }) => isHeadOfAll(path)),
          place.prefix,
        ),
      ),
  };
}

function isHeadOfAll(path: string): boolean {
  return !path.includes(":") && isHeadParam(path);
}

/** An adapter's name, which is also that of its folder. Throws ConfigError for what would lead elsewhere, or into others' tensors' names. */
function folderName(where: string, name: unknown): string {
  if (typeof name === "string" && /^[^/\\:,]+$/.test(name) && !/^\.+$/.test(name)) return name;
  throw new ConfigError(`${where}: this is no adapter's name: ${JSON.stringify(name)}`, {
    hint: "a name is that of a folder beside adapter_setup.json",
  });
}

async function readBlock(files: Files, where: string, block: Readonly<Record<string, unknown>>): Promise<PublishedChild> {
  const { type, children: members, kwargs } = block;
  if (!Array.isArray(members)) throw new ConfigError(`${where}: a block of type "${String(type)}" has no children`);
  if (type === "single") {
    const name = folderName(where, members[0]);
    return { name, adapter: await readHubAdapter(subfolder(files, name), name) };
  }
  const method = compositionOfType(String(type));
  const children: PublishedChild[] = [];
  for (const member of members) {
    if (!isRecord(member)) throw new ConfigError(`${where}: a child of ${method.name} is ${JSON.stringify(member)}`);
    children.push(await readBlock(files, where, member));
  }
  const name = children.map((child) => lastLeaf(child).name).join(",");
  const fusion = "setup" in method.files && method.files.fusion === true ? await readFusion(files, name) : undefined;
  const config = method.config.safeParse(fusion?.config ?? (isRecord(kwargs) ? kwargs : {}));
  if (!config.success) {
    throw new ConfigError(`${where}: ${method.name} does not fit:\n  ${misfits(config.error).join("\n  ")}`);
  }
  const adapter: PublishedAdapter = {
    origin: files.origin,
    method,
    config: config.data,
    base: children[0]?.adapter.base ?? null,
    head: noHead,
    children,
    tensors: new Map([
      ...children.flatMap((child) => [...child.adapter.tensors].map(([key, tensor]) => [`${child.name}/${key}`, tensor] as const)),
      ...[...(fusion?.source.tensors ?? [])].map(([key, tensor]) => [`${name}/${key}`, tensor] as const),
    ]),
    fit(wanted, place) {
      const own = wanted.filter(({ path }) => !path.includes(":"));
      const fits = children.map((child, i) => fitChild(child, wanted, place.children[i]!));
      const ownFit =
        fusion === undefined
          ? { faults: own.map(({ path }) => `${path}: missing`), read: async () => new Map<string, Tensor<"float32">>() }
          : fitHubTensors(fusion.source, own, (path) => hubNames(path, name, place.prefix), isUnusedFusion);
      return [ownFit, ...fits].reduce(bothFits);
    },
  };
  return { name, adapter };
}

/** AdapterHub has fusions also in layers that all of the fused adapters leave out, and saves those along whose names start alike. */
function isUnusedFusion(name: string, wanted: ReadonlySet<string>): boolean {
  const layer = /^.*\badapter_fusion_layer\.[^.]+\./.exec(name)?.[0];
  return layer !== undefined && ![...wanted].some((each) => each.startsWith(layer));
}

function fitChild({ name, adapter }: PublishedChild, wanted: readonly WantedParam[], place: Parameters<PublishedAdapter["fit"]>[1]): Fit {
  const start = `${name}:`;
  const own = wanted.flatMap((param) => (param.path.startsWith(start) ? [{ ...param, path: param.path.slice(start.length) }] : []));
  const { faults, read } = adapter.fit(own, place);
  return {
    faults: faults.map((fault) => `${name}: ${fault}`),
    read: async () => new Map([...(await read())].map(([path, tensor]) => [`${start}${path}`, tensor])),
  };
}

async function readFusion(
  files: Files,
  name: string,
): Promise<{ readonly config: Readonly<Record<string, unknown>>; readonly source: Awaited<ReturnType<typeof openTensors>> }> {
  const folder = subfolder(files, name);
  const json = await readJson(folder, fusionConfigFile);
  if (!isRecord(json) || !isRecord(json.config)) throw new ConfigError(`${folder.origin}/${fusionConfigFile} has no "config"`);
  const { value_initialized: initialized, ...config } = json.config;
  return {
    config: { ...config, value_initialized: initialized === true || initialized === "true" },
    source: await openTensors(folder, fusionWeightsFiles),
  };
}

function lastLeaf(child: PublishedChild): PublishedChild {
  const last = child.adapter.children.at(-1);
  return last === undefined ? child : lastLeaf(last);
}

/** What a written composition says of its surroundings. */
export interface SetupContext {
  readonly model: HubModel;
  readonly prefix: string;
  /** Files of the head, and the name of the folder for them. */
  readonly head: { readonly name: string; readonly files: Readonly<Record<string, Uint8Array>> } | undefined;
}

/** A composition's files; those of its adapters stand in folders. Python's `load_adapter_setup` reads them. */
export function writeSetup(
  attachment: Attachment,
  params: ReadonlyMap<string, Tensor<"float32">>,
  { model, prefix, head }: SetupContext,
): Readonly<Record<string, Uint8Array>> {
  const folders = new Map<string, Readonly<Record<string, Uint8Array>>>();
  const setup = writeBlock({ name: "", trained: false, attachment }, params, { model, prefix }, folders);
  if (head !== undefined) folders.set(head.name, { ...folders.get(head.name), ...head.files });
  const files = [...folders].flatMap(([folder, own]) => Object.entries(own).map(([name, bytes]) => [`${folder}/${name}`, bytes] as const));
  return {
    [setupFile]: hubJson({ adapter_setup: setup, head_setup: head?.name ?? null, version: hubVersion }),
    ...Object.fromEntries(files),
  };
}

function writeBlock(
  child: Child,
  params: ReadonlyMap<string, Tensor<"float32">>,
  context: Omit<SetupContext, "head">,
  folders: Map<string, Readonly<Record<string, Uint8Array>>>,
): object {
  const { method, config, children } = child.attachment;
  if (children.length === 0) {
    folders.set(child.name, writeHubAdapter(child.attachment, params, child.name, context.model, context.prefix));
    return { type: "single", children: [child.name] };
  }
  const { setup, kwargs, fusion } = setupOf(method);
  const members = children.map((each) => writeBlock(each, within(params, each.name), context, folders));
  if (fusion === true) {
    const name = children.map((each) => leaves(each).at(-1)!.name).join(",");
    const own = new Map([...params].filter(([path]) => path.includes("adapter_fusion_layer.") && !path.includes(":")));
    const adapter_names = name.split(",");
    folders.set(name, {
      [fusionConfigFile]: hubJson({ adapter_names, config, ...context.model, name, version: hubVersion }),
      ...hubTensorFiles(fusionWeightsFiles, own, name, context.prefix),
    });
  }
  const extra = kwargs?.(config);
  return { type: setup, children: members, ...(extra === undefined || Object.keys(extra).length === 0 ? {} : { kwargs: extra }) };
}

function setupOf(method: Method): Extract<Method["files"], { readonly setup: string }> {
  if ("setup" in method.files) return method.files;
  throw new ConfigError(`${method.name} is no composition`);
}

/** The parameters of a child, without its name in front. */
function within(params: ReadonlyMap<string, Tensor<"float32">>, name: string): ReadonlyMap<string, Tensor<"float32">> {
  const start = `${name}:`;
  return new Map([...params].flatMap(([path, tensor]) => (path.startsWith(start) ? [[path.slice(start.length), tensor] as const] : [])));
}
