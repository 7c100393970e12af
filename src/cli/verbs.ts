import { evaluateVerb } from "./evaluate.js";
import { predictVerb } from "./predict.js";
import { trainVerb } from "./train.js";
import type { Verb } from "./verb.js";

/** All verbs, in the order in which help lists them. */
export const verbs: readonly Verb[] = [trainVerb, evaluateVerb, predictVerb];
