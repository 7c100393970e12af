import * as z from "zod";
import { activation } from "../ops/activation.js";

const flag = z.boolean();
const factor = z.number().positive();

/** The activation of a name in AdapterHub's spelling: transformers' names in any case, and "leakyrelu". */
export function adapterActivation(name: string): ReturnType<typeof activation> {
  const lower = name.toLowerCase();
  return activation(lower === "leakyrelu" ? "leaky_relu" : lower);
}

/** The fields of AdapterHub's BnConfig; the defaults are those of `seq_bn`. */
export const bottleneckConfig = z
  .strictObject({
    mh_adapter: flag.default(false).describe("an adapter after each attention"),
    output_adapter: flag.default(true).describe("an adapter after each feed-forward part"),
    reduction_factor: z
      .union([factor, z.record(z.string(), factor)])
      .default(16)
      .describe('the model\'s width over the adapter\'s: a number, or numbers by layer: {"0": 8, "default": 16}'),
    non_linearity: z.string().default("relu").describe("activation between the projections"),
    original_ln_before: flag.default(true).describe("add the residual and apply the model's norm before the adapter"),
    original_ln_after: flag.default(true).describe("add the residual and apply the model's norm after the adapter"),
    ln_before: flag.default(false).describe("a new LayerNorm on the adapter's input"),
    ln_after: flag.default(false).describe("a new LayerNorm on the adapter's output"),
    init_weights: z
      .enum(["bert", "mam_adapter", "houlsby"])
      .default("bert")
      .describe("how the projections start; mam_adapter starts as the base model"),
    init_weights_seed: z.number().int().nullable().default(null).describe("not used: the run's seed sets how adapters start"),
    is_parallel: flag.default(false).describe("read the residual stream beside the sub-layer instead of the sub-layer's output"),
    scaling: z
      .union([z.number(), z.enum(["learned", "channel"])])
      .default(1)
      .describe('factor on the adapter\'s output: a number, "learned" (one number) or "channel" (one for each channel)'),
    use_gating: flag.default(false).describe("a learned gate on the adapter's output, one number for each text"),
    residual_before_ln: z
      .union([flag, z.literal("post_add")])
      .default(true)
      .describe(
        'what the adapter\'s output is added to: its input before the norm, after it (false), or the sum before the norm ("post_add")',
      ),
    adapter_residual_before_ln: flag.default(false).describe("add that before ln_after's norm instead of after it"),
    inv_adapter: z.enum(["nice", "glow"]).nullable().default(null).describe("an invertible adapter on the embeddings, for languages: nice"),
    inv_adapter_reduction_factor: factor
      .nullable()
      .default(null)
      .describe("width of half the embeddings over that of the invertible adapter's layers"),
    cross_adapter: flag.default(false).describe("an adapter after cross-attention, which encoders and decoders alone do not have"),
    leave_out: z.array(z.number().int().min(0)).default([]).describe("layers without adapters, from 0"),
    dropout: z.number().min(0).lt(1).default(0).describe("dropout on the adapter's output while training"),
    stochastic_depth: z.number().min(0).lt(1).default(0).describe("not used in training here; must be 0"),
    phm_layer: flag.default(false).describe("projections as sums of Kronecker products (Compacter)"),
    phm_dim: z.number().int().positive().default(4).describe("number of those products"),
    phm_rank: z.number().int().positive().default(1).describe("rank of their second factors"),
    phm_bias: flag.default(true).describe("biases on those projections"),
    learn_phm: flag.default(true).describe("train the first factors too"),
    shared_phm_rule: flag.default(true).describe("the same first factors in all adapters"),
    factorized_phm_rule: flag.default(false).describe("first factors of rank 1"),
    shared_W_phm: flag.default(false).describe("the same second factors in all adapters"),
    factorized_phm_W: flag.default(true).describe("second factors of rank phm_rank"),
    phm_c_init: z.enum(["normal", "uniform"]).default("normal").describe("how first factors start"),
    phm_init_range: z.number().positive().default(0.0001).describe("standard deviation with which shared first factors start"),
    hypercomplex_nonlinearity: z
      .string()
      .default("glorot-uniform")
      .describe("not used: second factors start by Xavier's normal distribution, as in AdapterHub"),
  })
  .refine(
    (c) => c.residual_before_ln !== "post_add" || c.original_ln_before || c.is_parallel,
    'residual_before_ln "post_add" needs original_ln_before: the sum is not made otherwise',
  )
  .refine((c) => c.inv_adapter === null || c.inv_adapter_reduction_factor !== null, "inv_adapter needs inv_adapter_reduction_factor")
  .refine((c) => c.inv_adapter !== "glow", 'inv_adapter "glow" is not supported; in AdapterHub it mixes texts of a batch. Use "nice"');

/** The config of adapter layers: the fields under `config` in AdapterHub's adapter_config.json. */
export type BottleneckConfig = z.infer<typeof bottleneckConfig>;

const houlsby = { mh_adapter: true, original_ln_before: false, non_linearity: "swish" } as const;
const parallel = { is_parallel: true, reduction_factor: 2, original_ln_before: false, init_weights: "mam_adapter", scaling: 4 } as const;
const invertible = { inv_adapter: "nice", inv_adapter_reduction_factor: 2 } as const;
const compacter = { phm_layer: true, reduction_factor: 32, non_linearity: "gelu" } as const;

/** AdapterHub's named configs, by today's names and the older ones. */
export const bottleneckPresets = {
  seq_bn: {},
  pfeiffer: {},
  double_seq_bn: houlsby,
  houlsby,
  par_bn: parallel,
  parallel,
  scaled_par_bn: { ...parallel, scaling: "learned" },
  scaled_parallel: { ...parallel, scaling: "learned" },
  seq_bn_inv: invertible,
  "pfeiffer+inv": invertible,
  double_seq_bn_inv: { ...houlsby, ...invertible },
  "houlsby+inv": { ...houlsby, ...invertible },
  compacter: { ...compacter, mh_adapter: true, original_ln_before: false },
  "compacter++": compacter,
} satisfies Readonly<Record<string, Partial<BottleneckConfig>>>;
