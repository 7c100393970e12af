import { chatVerb } from "./chat.js";
import { combineVerb } from "./combine.js";
import { compareVerb } from "./compare.js";
import { dataCheckVerb } from "./data-check.js";
import { dataPreviewVerb } from "./data-preview.js";
import { doctorVerb } from "./doctor.js";
import { evaluateVerb } from "./evaluate.js";
import { exportVerb } from "./export.js";
import { generateVerb } from "./generate.js";
import { inspectVerb } from "./inspect.js";
import { mergeVerb } from "./merge.js";
import { predictVerb } from "./predict.js";
import { pullVerb } from "./pull.js";
import { quickstartVerb } from "./quickstart.js";
import { trainVerb } from "./train.js";
import { unmergeVerb } from "./unmerge.js";
import type { Verb } from "./verb.js";

/** All verbs, in the order in which help lists them. */
export const verbs: readonly Verb[] = [
  quickstartVerb,
  trainVerb,
  evaluateVerb,
  compareVerb,
  predictVerb,
  generateVerb,
  chatVerb,
  inspectVerb,
  mergeVerb,
  unmergeVerb,
  combineVerb,
  exportVerb,
  dataCheckVerb,
  dataPreviewVerb,
  pullVerb,
  doctorVerb,
];
