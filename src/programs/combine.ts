import { ConfigError } from "../errors.js";
import { compositions } from "../methods/index.js";
import { type LoraConfig, type LoraPlan, lora } from "../methods/lora.js";
import { type CombinedLora, catLora, combineFaults, linearLora, rankFaults, type WeightedLora } from "../methods/lora-combine.js";
import type { Method } from "../methods/method.js";
import { isSaved } from "../methods/targets.js";
import { attach, forwardGraph, survey } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { compose, type NamedAdapter } from "./compose.js";
import { initialParams } from "./initial-params.js";
import type { Params } from "./program.js";

/** Adapters that are to become one. */
export interface CombineInput {
  readonly adapters: readonly NamedAdapter[];
  /** A number for each adapter, in their order. */
  readonly weights: readonly number[] | null;
  /** The adapter whose head the result has. */
  readonly head: NamedAdapter;
}

/** A way to make one adapter of several. */
export interface Combination {
  readonly name: string;
  /** Whose head the result has where nobody says. */
  readonly headOf: "first" | "last";
  /** Throws ConfigError that lists all that keeps these adapters from being combined so, or AttachError. */
  combine(model: BaseModel, input: CombineInput): Promise<Adapter>;
}

/** All ways to make one adapter of several: LoRA's matrices as PEFT's `add_weighted_adapter` combines them, and AdapterHub's compositions. */
export const combinations: readonly Combination[] = [
  loraCombination("linear", linearLora, rankFaults),
  loraCombination("cat", catLora),
  ...compositions.map(composition),
];

/** PEFT's further ways, for messages. */
const elsewhere = /^(svd|ties|ties_svd|dare_(ties|linear)(_svd)?|magnitude_prune(_svd)?)$/;

/** A combination by its name. Throws ConfigError that lists the names there are. */
export function combinationNamed(name: string): Combination {
  const found = combinations.find((each) => each.name === name);
  if (found !== undefined) return found;
  const names = combinations.map((each) => each.name).join(", ");
  throw new ConfigError(`combination "${name}" is not supported${elsewhere.test(name) ? " here, though PEFT has it" : ""}`, {
    hint: `supported: ${names}`,
  });
}

/** One LoRA of several. The config is the first one's, as in PEFT, but for what the result is: its rank, its layers, no further scaling. */
function loraCombination(
  name: string,
  mix: (loras: readonly WeightedLora[]) => CombinedLora,
  furtherFaults: (loras: readonly WeightedLora[]) => readonly string[] = () => [],
): Combination {
  return {
    name,
    headOf: "first",
    async combine(model, { adapters, weights, head: { name: headName, adapter: headed } }) {
      const { headModules } = survey(model, headed.head);
      const loras = adapters.flatMap((each, i) => weightedLora(each, weights?.[i] ?? 1));
      const faults = [
        ...adapters.flatMap((each) =>
          each.adapter.attachment.method === lora ? [] : [`${each.name}: ${each.adapter.attachment.method.name}; ${name} combines lora`],
        ),
        ...weightFaults(name, adapters, weights),
        ...combineFaults(loras),
        ...adapters.flatMap((each) => (each.name === headName ? [] : savedFaults(each, headModules))),
        ...furtherFaults(loras),
      ];
      throwFaults(name, faults);
      const { r, paths, params } = mix(loras);
      const config: LoraConfig = {
        ...loras[0]!.config,
        r,
        lora_alpha: r,
        use_rslora: false,
        init_lora_weights: true,
        rank_pattern: {},
        alpha_pattern: {},
        target_modules: [...paths],
        exclude_modules: null,
        layers_to_transform: null,
        layers_pattern: null,
        modules_to_save: (headed.attachment.config as LoraConfig).modules_to_save,
      };
      const attachment = attach(model, headed.head, lora, config, "file");
      return { head: headed.head, attachment, params: new Map([...saved(headed), ...params]) };
    },
  };
}

function weightedLora({ name, adapter: { attachment, params } }: NamedAdapter, weight: number): readonly WeightedLora[] {
  if (attachment.method !== lora) return [];
  return [{ name, weight, config: attachment.config as LoraConfig, plan: attachment.plan as LoraPlan, params }];
}

/** What an adapter has trained in full: its head, and modules_to_save. */
function saved({ params }: Adapter): Params {
  return new Map([...params].filter(([path]) => !/\.lora_\w+/.test(path)));
}

/** Modules that another adapter than the head's has trained in full cannot be kept: PEFT refuses them too. */
function savedFaults({ name, adapter }: NamedAdapter, headModules: readonly string[]): readonly string[] {
  const extra = [...saved(adapter).keys()].filter((path) => !isSaved(path, headModules));
  const modules = [...new Set(extra.map((path) => path.slice(0, path.lastIndexOf("."))))];
  return modules.map((module) => `${name}: ${module} is trained in full, and only the head's adapter can bring such modules`);
}

function weightFaults(name: string, adapters: readonly NamedAdapter[], weights: readonly number[] | null): readonly string[] {
  if (weights === null) return [`${name} needs a weight for each of the ${adapters.length} adapters`];
  const count = weights.length === adapters.length ? [] : [`${weights.length} weights for ${adapters.length} adapters`];
  return [...count, ...weights.filter((weight) => !Number.isFinite(weight)).map((weight) => `a weight is ${weight}`)];
}

/** One of AdapterHub's compositions; parameters of its own start as in training. */
function composition(method: Method): Combination {
  const { name } = method;
  return {
    name,
    headOf: name === "stack" ? "last" : "first",
    async combine(model, { adapters, weights, head: { adapter: headed } }) {
      const weighted = "weights" in method.config.shape;
      if (weights !== null && !weighted) throwFaults(name, [`${name} takes no weights`]);
      const config = method.config.parse(weighted ? { weights } : {});
      const { attachment, params } = compose(model, headed.head, method, config, adapters);
      const graph = forwardGraph(model, headed.head, [attachment]);
      const known = new Map([...headed.params, ...params]);
      return { head: headed.head, attachment, params: await initialParams(model, graph, 0, known) };
    },
  };
}

function throwFaults(name: string, faults: readonly string[]): void {
  if (faults.length === 0) return;
  throw new ConfigError(`these adapters cannot be combined by ${name}:\n  ${faults.join("\n  ")}`, {
    hint: "linear and cat take lora adapters and weights, linear of one rank; stack, average and fuse take adapter layers",
  });
}
