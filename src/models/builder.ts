import { type BatchInputs, pastName, presentName } from "../core/batch.js";
import { leaf, type ParamLeaf, type Value, type WeightLeaf } from "../core/graph.js";
import { type Initializer, ones, zeros } from "../core/initializer.js";
import { WeightError } from "../errors.js";
import { layoutOf } from "../methods/layout.js";
import type {
  AttentionSite,
  Child,
  EmbeddingSite,
  KeyValue,
  LinearRole,
  LinearSite,
  ParamOptions,
  ParamScope,
  Sites,
  SublayerSite,
  SublayerState,
  TableSite,
  TokenSite,
  WeightSite,
} from "../methods/method.js";
import { isSaved, savedModules } from "../methods/targets.js";
import { textMean } from "../ops/attention.js";
import { add, mul } from "../ops/elementwise.js";
import { concat, gather, reshape } from "../ops/movement.js";
import { layerNorm, rmsNorm } from "../ops/norm.js";
import type { StoredMatrix, WeightForm } from "../ops/weight-form.js";
import { PackedAttention } from "./attention.js";
import type { AttentionOptions, BuilderOptions, LinearOptions } from "./builder-options.js";
import { floatProduct, storedProduct } from "./products.js";

/**
 * Builds a model's graph and announces its sites. Run without attachments it is the survey; with them, each site calls the methods.
 * Model files write only paths and structure; which method does what where is no concern of theirs.
 */
export class ModelBuilder {
  readonly batch: BatchInputs;
  readonly #options: BuilderOptions;
  readonly #leaves = new Map<string, Value>();
  readonly #linears: LinearSite[] = [];
  readonly #tables: TableSite[] = [];
  readonly #outputTables = new Set<string>();
  readonly #sublayers: SublayerSite[] = [];
  readonly #attentions: AttentionSite[] = [];
  readonly #tokens: TokenSite[] = [];
  readonly #embeddings: EmbeddingSite[] = [];
  readonly #weights: WeightSite[] = [];
  readonly #published = new Map<string, Value>();
  readonly #present = new Map<string, Value>();
  readonly #penalties: Value[] = [];
  readonly #layerInputs: Value[] = [];
  readonly #missing: string[] = [];
  readonly #made = new Set<string>();
  readonly #attention: PackedAttention;

  constructor(options: BuilderOptions) {
    this.batch = options.batch;
    this.#options = options;
    this.#attention = new PackedAttention(options.batch, {
      keysAhead: layoutOf(options.attachments).positionOffset,
      ownKeysOnly: options.attachments.every(({ method }) => method.keyValue === undefined),
    });
  }

  /** What was announced. Throws WeightError that lists all weights which the checkpoint lacks and nothing else brings. */
  sites(): Sites {
    if (this.#missing.length > 0) {
      throw new WeightError(
        `the checkpoint lacks ${this.#missing.length} weight${this.#missing.length === 1 ? "" : "s"}:\n  ${this.#missing.join("\n  ")}`,
        {
          hint: "is this the right kind of model, and are all of its weight files there?",
        },
      );
    }
    return {
      linears: this.#linears,
      tables: this.#tables,
      outputTables: [...this.#outputTables],
      sublayers: this.#sublayers,
      attentions: this.#attentions,
      tokens: this.#tokens,
      embeddings: this.#embeddings,
      weights: this.#weights,
      headModules: [...this.#options.headModules, ...this.#made],
    };
  }

  /** Values that stand for parameters in the published file, by their names there. */
  published(): ReadonlyMap<string, Value> {
    return this.#published;
  }

  /** All layers' keys and values of a batch that continues texts, the new ones behind the cached, by the names under which they come out. */
  present(): ReadonlyMap<string, Value> {
    return this.#present;
  }

  /** Scalars that methods add to the loss. */
  penalties(): readonly Value[] {
    return this.#penalties;
  }

  /** Hidden states on their way into the layers, in order. */
  layerInputs(): readonly Value[] {
    return this.#layerInputs;
  }

  /** Announces hidden states as a layer's input, from which training may compute the layer a second time. */
  layerInput(h: Value): Value {
    this.#layerInputs.push(h);
    return h;
  }

  /** A weight of the model. One that the checkpoint lacks starts from `init` and is trained and saved with the adapter. */
  weight(path: string, shape: readonly number[], init?: Initializer): Value {
    const known = this.#leaves.get(path);
    if (known !== undefined) return known;
    const site = { path, shape };
    this.#weights.push(site);
    const present = this.#options.has(path);
    const module = moduleOf(path);
    const brought = this.brings(path) && !this.#keepsWords(path);
    if (!present && init === undefined && !brought) this.#missing.push(path);
    if (!present && init !== undefined && !isSaved(module, this.#options.headModules)) this.#made.add(module);
    const type = { dtype: "float32" as const, shape };
    const saved = isSaved(module, this.#savedModules()) && !this.#keepsWords(path);
    const trained = !present || saved || this.#trainsInPlace(site);
    const value =
      trained || brought
        ? leaf(
            {
              kind: "param",
              path,
              init: { kind: "base", ...(init === undefined ? {} : { otherwise: init }) },
              trained,
              lr_scale: this.#lrScale(site),
              decay: !/bias|norm/i.test(path),
            },
            type,
          )
        : leaf({ kind: "weight", path }, type);
    this.#leaves.set(path, value);
    return value;
  }

  /** Whether the adapter's files hold a weight that they do not train. */
  brings(path: string): boolean {
    return this.#options.brought?.includes(path) === true;
  }

  /** x·Wᵀ + b: x [T, in] → [T, out], with weights `path.weight` and `path.bias`. */
  linear(
    path: string,
    x: Value,
    role: LinearRole,
    outFeatures: number,
    { bias = true, init, transposed = false, tied, rescaled }: LinearOptions = {},
  ): Value {
    const inFeatures = Number(x.shape[1]);
    const traits = { ...(transposed ? { transposed } : {}), ...(tied ? { tied } : {}), ...(rescaled === undefined ? {} : { rescaled }) };
    const site: LinearSite = { path, role, inFeatures, outFeatures, bias, ...traits };
    this.#linears.push(site);
    const shape = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
    const own = tied === undefined || isSaved(path, this.#savedModules());
    const weight = own ? this.weight(`${path}.weight`, shape, tied === undefined ? init : copyOf(tied)) : this.#tiedWeight(tied, shape);
    const b = bias ? this.weight(`${path}.bias`, [outFeatures], init === undefined ? undefined : zeros) : undefined;
    const { form: ofLayers, headForm } = this.#options;
    const form = weight.source.kind !== "weight" ? undefined : role === "head" ? headForm : ofLayers;
    const [product, squaredNorms] =
      form === undefined ? floatProduct(weight, transposed) : storedProduct(form, this.#stored(form, weight), transposed);
    let y = product(x, b);
    for (const { method, config, plan } of this.#options.attachments) {
      const call = {
        x,
        y,
        matmul: (other: Value) => product(other),
        bias: b,
        squaredNorms: () => reshape(squaredNorms(), [outFeatures, 1]),
      };
      y = method.linear?.(site, call, this.#scope(path), plan, config) ?? y;
    }
    return y;
  }

  /** LayerNorm over the last axis with `path.weight` and `path.bias`; `fresh` says that a checkpoint may lack them. */
  layerNorm(path: string, x: Value, eps: number, fresh = false): Value {
    const shape = [Number(x.shape.at(-1))];
    const weight = this.weight(`${path}.weight`, shape, fresh ? ones : undefined);
    return layerNorm(x, weight, this.weight(`${path}.bias`, shape, fresh ? zeros : undefined), eps);
  }

  /** RMSNorm over the last axis with `path.weight`. */
  rmsNorm(path: string, x: Value, eps: number): Value {
    return rmsNorm(x, this.weight(`${path}.weight`, [Number(x.shape.at(-1))]), eps);
  }

  /** Embeddings of the batch's tokens from the table `path.weight` [rows, width], virtual tokens in front of each text → [T, width]. */
  tokens(path: string, rows: number, width: number): Value {
    const site: TokenSite = { path, rows, width };
    this.#tokens.push(site);
    const words = this.embedding(path, rows, width, this.batch.ids);
    const virtual = this.#options.attachments.flatMap(
      ({ method, config, plan }) => method.tokens?.(site, this.#scope(""), plan, config) ?? [],
    );
    return virtual.length === 0 ? words : gather(concat([words, ...virtual], 0), this.batch.joinIndex);
  }

  /** The table of word embeddings [V, D] from which `tokens` reads, for heads that compare with it; or a matrix of that shape at `own`. */
  words(own?: string, init?: Initializer): Value {
    const { path, rows, width } = this.#tokens[0]!;
    return own === undefined ? this.#tiedWeight(`${path}.weight`, [rows, width]) : this.weight(own, [rows, width], init);
  }

  /** A weight that serves another layer too. Where `modules_to_save` has it trained in full, that layer keeps the base's, as in PEFT. */
  #tiedWeight(path: string, shape: readonly number[]): Value {
    this.#outputTables.add(moduleOf(path));
    const apart = isSaved(moduleOf(path), this.#savedModules()) && !this.#trainsInPlace({ path, shape }) && !this.#keepsWords(path);
    return apart ? leaf({ kind: "weight", path }, { dtype: "float32", shape }) : this.weight(path, shape);
  }

  /** Whether a weight is the word embeddings beside virtual tokens: then it is the base's, even where a file has it trained in full, as in PEFT. */
  #keepsWords(path: string): boolean {
    const virtual = this.#options.attachments.some(({ method }) => method.tokens !== undefined);
    return virtual && this.#tokens.some((site) => path === `${site.path}.weight`);
  }

  #trainsInPlace(site: WeightSite): boolean {
    return this.#options.attachments.some(({ method, config, plan }) => method.trains?.(site, plan, config) === true);
  }

  /** The finished embeddings h [T, D] on their way into the first layer of the backbone `path` → [T, D]. */
  embedded(path: string, h: Value): Value {
    const site: EmbeddingSite = { path, width: Number(h.shape[1]) };
    this.#embeddings.push(site);
    return this.#options.attachments.reduce(
      (x, { method, config, plan }) => method.embedding?.(site, x, this.#scope(path), plan, config) ?? x,
      h,
    );
  }

  /** Hidden states h [L, D] on their way to the table of word embeddings that turns them into tokens → [L, D]; `path` as in `embedded`. */
  unembedded(path: string, h: Value): Value {
    const site: EmbeddingSite = { path, width: Number(h.shape[1]) };
    return this.#options.attachments.reduceRight(
      (x, { method, config, plan }) => method.unembedding?.(site, x, this.#scope(path), plan, config) ?? x,
      h,
    );
  }

  /** Rows of the table `path.weight` [rows, width] at int32 indices [T] → [T, width]. */
  embedding(path: string, rows: number, width: number, indices: Value): Value {
    const site: TableSite = { path, role: "embedding", inFeatures: rows, outFeatures: width };
    this.#tables.push(site);
    const table = this.weight(`${path}.weight`, [rows, width]);
    const lookUp = (other: Value): Value => gather(other, indices);
    return this.#options.attachments.reduce(
      (y, { method, config, plan }) => method.table?.(site, { y, table, lookUp }, this.#scope(path), plan, config) ?? y,
      lookUp(table),
    );
  }

  /**
   * Multi-head attention within each text. k, v are packed rows [T, kvHeads*K]; q is [T, heads*K] too, or one row of each text, its last
   * where attention is causal, [B, heads*K]. Returns q's shape.
   */
  attention(path: string, layer: number, q: Value, k: Value, v: Value, options: AttentionOptions): Value {
    const { heads, kvHeads = heads, dropout, causal = false, window = null } = options;
    const site: AttentionSite = { path, layer, heads: kvHeads, queryHeads: heads, headDim: Number(k.shape[1]) / kvHeads };
    this.#attentions.push(site);
    const change = (known: KeyValue): KeyValue =>
      this.#options.attachments.reduce(
        (kv, { method, config, plan }) => method.keyValue?.(site, kv, this.#scope(path), plan, config) ?? kv,
        known,
      );
    const drop = (p: Value): Value => this.dropout(`${path}.probabilities`, p, dropout);
    const { context, present } = this.#attention.attend(site, { q, k, v }, { causal, window }, change, drop);
    if (present !== undefined) {
      this.#present.set(presentName(pastName(layer, "key"))!, present.key);
      this.#present.set(presentName(pastName(layer, "value"))!, present.value);
    }
    return context;
  }

  /** A sub-layer's output h joins the residual, both [T, D]; `finish` is the norm after the sum, or identity. */
  sublayer(path: string, place: SublayerSite["place"], layer: number, h: Value, residual: Value, finish: (sum: Value) => Value): Value {
    const site: SublayerSite = { path, place, layer, width: Number(h.shape[1]) };
    this.#sublayers.push(site);
    const start: SublayerState = { output: h, residual, finish, textMean: (x) => textMean(x, this.batch), h, before: h, skip: h, up: h };
    const end = this.#options.attachments.reduce((state, { method: { sublayer }, config, plan }) => {
      if (sublayer?.has(site, plan, config) !== true) return state;
      return sublayer.apply(site, sublayer.enter(site, state, plan, config), this.#scope(path), plan, config);
    }, start);
    return end.join?.(end.h) ?? finish(add(h, residual));
  }

  /** The model's own dropout at the rate its config states; what really happens is the trainer's `dropout` option. */
  dropout(name: string, x: Value, configured: number): Value {
    return this.#drop(name, x, this.#options.dropout?.(configured) ?? 0);
  }

  /** A frozen weight as its form has it. */
  #stored({ name: form }: WeightForm, { source, shape: sizes }: Value): StoredMatrix {
    const { path } = source as WeightLeaf;
    const shape = [Number(sizes[0]), Number(sizes[1])] as const;
    return {
      shape,
      part: (name, type) => {
        const key = `${path}#${form}.${name}`;
        const value = this.#leaves.get(key) ?? leaf({ kind: "weight", path, part: { form, name, shape } }, type);
        this.#leaves.set(key, value);
        return value;
      },
    };
  }

  #savedModules(): readonly string[] {
    if (this.#options.attachments.length === 0) return [];
    return [...this.#options.headModules, ...this.#options.attachments.flatMap(({ config }) => savedModules(config))];
  }

  /** Parameters at `path`; `holder` is what the paths of a composition's children start with, `frozen` says that it does not train them. */
  #scope(path: string, holder = "", frozen = false): ParamScope {
    const whole = (name: string): string => `${holder}${path === "" ? name : `${path}.${name}`}`;
    return {
      param: (name, shape, init, { trained = true, ...options } = {}) =>
        this.#param(whole(name), shape, init, { trained: trained && !frozen, ...options }),
      dropout: (x, rate) => (this.#options.dropout === undefined || frozen ? x : this.#drop(`${holder}${path}.adapter`, x, rate)),
      shared: () => this.#scope("", holder, frozen),
      child: ({ name, trained }: Child) => this.#scope(path, `${holder}${name}:`, frozen || !trained),
      penalize: (penalty) => {
        if (!frozen) this.#penalties.push(penalty);
      },
      publish: (name, value) => {
        this.#published.set(whole(name), value);
        return value;
      },
    };
  }

  #param(
    path: string,
    shape: readonly number[],
    init: Initializer,
    { trained, decay = true, derived = false }: ParamOptions & { readonly trained: boolean },
  ): Value {
    const lr_scale = this.#lrScale({ path, shape });
    const source: ParamLeaf = { kind: "param", path, init, trained: trained && !derived, lr_scale, decay, derived };
    const value = this.#leaves.get(path) ?? leaf(source, { dtype: "float32", shape });
    this.#leaves.set(path, value);
    return value;
  }

  #lrScale(tensor: WeightSite): number {
    return this.#options.attachments.reduce((scale, { method, config }) => scale * (method.lrScale?.(tensor, config) ?? 1), 1);
  }

  #drop(name: string, x: Value, rate: number): Value {
    return rate === 0 ? x : mul(x, leaf({ kind: "mask", name, rate }, x.type));
  }
}

function moduleOf(path: string): string {
  return path.slice(0, path.lastIndexOf("."));
}

/** First values that are another weight of the base. */
function copyOf(path: string): Initializer {
  return { kind: "computed", compute: async (base) => [(await base.weight(path)).data], part: 0 };
}
