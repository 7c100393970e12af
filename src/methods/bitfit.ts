import * as z from "zod";
import { AttachError } from "../errors.js";
import type { PeftMethod } from "./method.js";
import { plainFormat } from "./plain-format.js";
import { targetFields } from "./targets.js";

const config = z.strictObject({
  train: z.enum(["biases", "norms"]).default("biases").describe("what is trained: biases, or for models without them the norms' weights"),
  biases: z
    .enum(["all", "query-and-up"])
    .default("all")
    .describe("all biases, or the paper's half: those of queries and of the first feed-forward layer"),
  modules_to_save: targetFields.modules_to_save,
});

/** BitFit's config. */
export type BitfitConfig = z.infer<typeof config>;

interface BitfitPlan {
  /** Paths of the weights that are trained. */
  readonly trained: ReadonlySet<string>;
}

/** BitFit: trains the biases that the model has, and nothing else (Ben Zaken et al. 2021, arXiv:2106.10199). */
export const bitfit: PeftMethod<BitfitConfig, BitfitPlan> = {
  name: "bitfit",
  config,
  learningRate: 3e-3,

  plan({ weights, linears }, c) {
    const half = new Set(linears.filter(({ role }) => role === "query" || role === "up").map(({ path }) => `${path}.bias`));
    const wanted = ({ path }: { readonly path: string }): boolean => {
      if (c.train === "norms") return /norm[^.]*\.weight$/i.test(path);
      return path.endsWith(".bias") && (c.biases === "all" || half.has(path));
    };
    const trained = weights.filter(wanted).map(({ path }) => path);
    if (trained.length === 0) {
      throw new AttachError(`this model has no ${c.train} to train`, {
        hint: c.train === "biases" ? "--set train=norms trains the weights of its norms; or choose lora or ia3" : "choose lora or ia3",
      });
    }
    return { trained: new Set(trained) };
  },

  trains: ({ path }, { trained }) => trained.has(path),

  files: plainFormat("BITFIT"),
};
