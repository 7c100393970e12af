import { normal, zeros } from "../core/initializer.js";
import { activation } from "../ops/activation.js";
import { linear } from "../ops/linear.js";
import type { Head } from "./family.js";

/** Where the parts of a masked-language-model head stand in a family's checkpoints. */
export interface MaskedHeadPaths {
  /** Modules that are the head's own. */
  readonly modules: readonly string[];
  readonly dense: string;
  readonly norm: string;
  /** The last layer: a bias for each token of the vocabulary, and a matrix where that is not the word embeddings. */
  readonly decoder: string;
  /** The backbone, as the family's `prefix` has it. */
  readonly backbone: string;
}

/** What the head reads of a config. */
export interface MaskedHeadConfig {
  readonly activation: string;
  readonly eps: number;
  readonly initializer_range: number;
  readonly tie_word_embeddings: boolean;
}

/**
 * E·LN(act(W h + b)) + c with the word embeddings E: hidden states of masked tokens [L, D] → the vocabulary [L, V]. transformers'
 * BertOnlyMLMHead, RobertaLMHead and DistilBertForMaskedLM. What of W, b, LN and c a checkpoint lacks starts fresh.
 */
export function maskedHead<C>(paths: MaskedHeadPaths, read: (config: C) => MaskedHeadConfig): Head<C> {
  return {
    modules: paths.modules,
    output: `${paths.decoder}.bias`,
    matrix: `${paths.decoder}.weight`,
    brought: `${paths.dense}.weight`,
    layered: (config) => ({
      indices: { [paths.dense]: 0, [paths.norm]: 2, [paths.decoder]: 3 },
      layers: 2,
      activation: read(config).activation,
      pooler: false,
      tokens: { norm: true },
    }),
    build(m, hidden, _, config) {
      const c = read(config);
      const width = Number(hidden.shape[1]);
      const dense = m.linear(paths.dense, hidden, "head", width, { init: normal(c.initializer_range) });
      const h = m.unembedded(paths.backbone, m.layerNorm(paths.norm, activation(c.activation)(dense), c.eps, true));
      const matrix = `${paths.decoder}.weight`;
      const table = m.words(c.tie_word_embeddings && !m.brings(matrix) ? undefined : matrix);
      return linear(h, table, m.weight(`${paths.decoder}.bias`, [Number(table.shape[0])], zeros));
    },
  };
}
