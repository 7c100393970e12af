import { normal, zeros } from "../core/initializer.js";
import { ModelError } from "../errors.js";
import { adapterActivation } from "../methods/bottleneck-config.js";
import { linear } from "../ops/linear.js";
import type { Head, ModelFamily } from "./family.js";

/** What a head of linear layers is made of. */
export interface LayeredHead {
  readonly layers: number;
  /** Between the layers; null for none. */
  readonly activation: string | null;
  /** Whether the last layer has a bias. */
  readonly bias: boolean;
  /** Whether the model's pooler comes first. */
  readonly pooler: boolean;
  /** Rate of the dropout before each layer; null for the model's own. */
  readonly dropout: number | null;
  /** Where the last layer gives tokens: whether each layer before it ends in a LayerNorm. Such heads have no dropout. */
  readonly tokens?: { readonly norm: boolean };
}

/** How layers start that the adapter's files do not hold; none do where files are complete. */
const start = normal(0.02);

/**
 * A head that AdapterHub builds, under `heads`: [dropout, linear, activation] per layer, the last one without activation; for tokens
 * [linear, activation, LayerNorm] per layer. Throws ModelError for one that the family cannot have.
 */
export function layeredHead(family: ModelFamily, head: LayeredHead): Head {
  return head.tokens === undefined ? outputHead(family, head) : tokenHead(family, head, head.tokens.norm);
}

/**
 * AdapterHub's BertStyleMaskedLMHead and CausalLMHead: the last matrix is the word embeddings, though files hold a copy, unless the model's config
 * says that the two are not tied.
 */
function tokenHead(family: ModelFamily, { layers, activation: name, bias }: LayeredHead, norm: boolean): Head {
  const act = name === null ? undefined : adapterActivation(name);
  const step = 1 + (act === undefined ? 0 : 1) + (norm ? 1 : 0);
  const last = (layers - 1) * step;
  return {
    modules: ["heads"],
    output: `heads.${last}.bias`,
    build(m, hidden, _, config) {
      const width = Number(hidden.shape[1]);
      let x = hidden;
      for (let index = 0; index < last; index += step) {
        const y = m.linear(`heads.${index}`, x, "head", width, { init: start });
        const z = act?.(y) ?? y;
        x = norm ? m.layerNorm(`heads.${index + step - 1}`, z, family.normEpsilon(config), true) : z;
      }
      const table = isTied(config) ? m.words() : m.words(`heads.${last}.weight`, start);
      const shift = bias ? m.weight(`heads.${last}.bias`, [Number(table.shape[0])], zeros) : undefined;
      return linear(m.unembedded(family.prefix, x), table, shift);
    },
  };
}

function isTied(config: { readonly tie_word_embeddings?: boolean }): boolean {
  return config.tie_word_embeddings !== false;
}

function outputHead(family: ModelFamily, head: LayeredHead): Head {
  const last = lastIndex(head);
  return {
    modules: ["heads"],
    output: `heads.${last}.weight`,
    build(m, hidden, outputs, config) {
      if (head.pooler && family.pool === undefined) {
        throw new ModelError(`the adapter's head reads a pooler, which ${family.model_types[0]} models do not have`);
      }
      const width = Number(hidden.shape[1]);
      const rate = head.dropout ?? family.headDropout(config);
      const act = head.activation === null ? undefined : adapterActivation(head.activation);
      let x = head.pooler ? family.pool!(m, hidden, config) : hidden;
      for (let index = 1; index < last; index += act === undefined ? 2 : 3) {
        const y = m.linear(`heads.${index}`, m.dropout(`heads.${index - 1}`, x, rate), "head", width, { init: start });
        x = act?.(y) ?? y;
      }
      const dropped = m.dropout(`heads.${last - 1}`, x, rate);
      return m.linear(`heads.${last}`, dropped, "head", outputs, { init: start, bias: head.bias });
    },
  };
}

/** Index of the last linear layer in torch's Sequential. */
function lastIndex({ layers, activation: name }: LayeredHead): number {
  return (layers - 1) * (name === null ? 2 : 3) + 1;
}
