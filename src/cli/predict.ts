import * as z from "zod";
import { readRows } from "../data/read-rows.js";
import { rowTable, withoutColumns } from "../data/rows.js";
import { DataError, UsageError } from "../errors.js";
import { checkFolderOf, writeWhole } from "../node/folder.js";
import { modelFlags } from "./model-flags.js";
import { openPredictor } from "./open-predictor.js";
import { verb } from "./verb.js";

const flagShape = {
  ...modelFlags,
  input: z.string().nullable().default(null).describe("rows to predict: a .jsonl, .csv or .parquet file"),
  output: z.string().nullable().default(null).describe("file to write, one JSON object a line; standard output by default"),
  logits: z.boolean().default(false).describe("add the raw outputs, in the order of label or token ids"),
};

/** `peft predict`: one JSON object a row, in the rows' order. */
export const predictVerb = verb({
  name: "predict",
  summary: "predict rows or texts, one JSON object a row",
  examples: [
    'peft predict --adapter my-adapter "where is my parcel?"',
    "peft predict --adapter my-adapter --input rows.jsonl --output predictions.jsonl",
  ],
  words: [["[text...]", "texts to predict"]],
  flags: flagShape,
  async run(output, options, given) {
    if ((options.input === null) === (given.length === 0))
      throw new UsageError("give either --input FILE or texts", { hint: 'peft predict --adapter my-adapter "where is my parcel?"' });
    const rows =
      options.input === null
        ? rowTable(
            given.map((text) => ({ text })),
            "arguments",
          )
        : await readRows(options.input, { map: options.map });
    if (options.output !== null) await checkFolderOf(options.output);
    const ready = await openPredictor(output, options);
    try {
      const open = withoutColumns(rows, ["label", "tags"]); // labels that the model may not know are not looked at
      const examples = ready.encode(open, options.max_length);
      const judges = ready.head.task.judgesLabels === true;
      const closed = judges ? -1 : examples.findIndex(({ labels }) => labels !== undefined);
      if (closed >= 0)
        throw new DataError(`${rows.where(closed)}: the text leaves nothing open to predict`, {
          hint: "put the model's mask token, such as [MASK], where a word is wanted",
        });
      const outputs = await ready.run(examples, options.logits);
      const lines = ready.head.task.predict(outputs, open, ready.head.target, options.logits);
      if (options.output === null) for (const line of lines) output.row(line);
      else {
        await writeWhole(options.output, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
        output.note(`${lines.length} rows written to ${options.output}`);
      }
      return 0;
    } finally {
      await ready.close();
    }
  },
});
