import { maxAbsDifference } from "../core/matrix.js";
import { type RowTable, rowTable, withoutColumns } from "../data/rows.js";
import { type Predictor, predictor } from "./pipeline.js";

const texts = [
  "Where is my parcel?",
  "The film was long, loud and, in the end, a pleasant surprise to everyone who had feared the worst.",
  "no",
  "Prices rose by 3.2 % in May, the ministry said on Tuesday; economists had expected less than half of that.",
  "She asked whether the meeting could be moved to Friday, since two of the three speakers were still on their way from Lisbon.",
  "¿Cuánto cuesta una habitación doble con vistas al mar?",
  "I forgot my password, and the reset mail never shows up.",
  "Das Wetter wird morgen schlechter, sagt man.",
];

/** Rows of every task on which models are compared where the user gives none. */
export const sampleRows: RowTable = rowTable(
  texts.map((text) => ({ text, tokens: text.split(" ") })),
  "sample texts",
);

/** The largest difference between two models' outputs on rows, labels aside. Both are disposed of. */
export async function outputDifference(
  first: Parameters<typeof predictor>,
  second: Parameters<typeof predictor>,
  rows: RowTable,
): Promise<number> {
  const outputs = async (...model: Parameters<typeof predictor>): ReturnType<Predictor["run"]> => {
    const ready = predictor(...model);
    try {
      return await ready.run(ready.encode(withoutColumns(rows, ready.head.task.columns.labels)), true);
    } finally {
      await ready.dispose();
    }
  };
  const [a, b] = [await outputs(...first), await outputs(...second)];
  return Math.max(...a.map((row, i) => maxAbsDifference(row, b[i]!)));
}
