import { tableOf } from "../../test/tiny-model.fixture.js";
import { keyOf, uniformAt } from "../core/random.js";
import type { Example } from "../tasks/task.js";
import { textClassification } from "../tasks/text-classification.js";
import type { CellResult } from "./cell.js";
import type { ExperimentResult } from "./experiment.js";
import { groupReport } from "./fairness.js";
import { bootstrapMetrics } from "./intervals.js";
import type { Comparison } from "./report.js";
import { type Findings, summarize } from "./summary.js";

const labels = ["card", "film", "hats & <b>coats</b>"] as const;
const target = { kind: "classes", labels } as const;

/** Rows to judge on; their texts have what HTML must escape. */
export const madeUpRows = (count: number) =>
  tableOf(
    Array.from({ length: count }, (_, i) => ({
      text: `<script>alert(${i})</script> & "row"`,
      label: labels[i % 3],
      who: i % 2 === 0 ? "even" : "odd",
    })),
  );

/** A finished cell of a method that is right with a probability. */
export function madeUpCell(method: string, seed: number, size: number, right: number, count: number): CellResult {
  const key = keyOf(seed, method, size);
  const truth = Array.from({ length: count }, (_, i) => i % 3);
  const answers = truth.map((label, i) => (uniformAt(key, i) < right ? label : (label + 1) % 3));
  const examples = truth.map(
    (label): Example => ({ ids: new Int32Array(1), typeIds: new Int32Array(1), truncated: false, labels: [label] }),
  );
  const outputs = answers.map((answer) => Float32Array.from([0, 1, 2], (label) => (label === answer ? 3 : 0)));
  const judged = { task: textClassification, target, examples, outputs };
  const { estimates, replicates } = bootstrapMetrics(judged, { resamples: 100 });
  return {
    method,
    seed,
    size,
    learning_rate: 1e-3,
    steps: 10,
    trained_parameters: 100 * method.length ** 3,
    total_parameters: 22_000_000,
    adapter_bytes: 1000 * method.length,
    train_seconds: 3 * method.length,
    examples_per_second: 120,
    peak_memory_bytes: 5e8,
    latency_seconds: { p50: 0.004, p95: 0.007, calls: 40 },
    switch_seconds: { load: 0.02, first_call: 0.3, between: 0.0001 },
    energy: { joules: 60, measured: false, how: "estimated: 5.0 CPU seconds at 12 W a core", co2_grams: 0.008 },
    metrics: estimates,
    replicates: replicates.accuracy!,
    outcomes: answers.map((answer, i) => (answer === truth[i] ? 1 : 0)),
    answers: answers.map((answer) => [answer]),
    truth: truth.map((label) => [label]),
    groups:
      count < 40
        ? null
        : groupReport(
            judged,
            "who",
            truth.map((_, row) => (row % 2 === 0 ? "even" : "odd")),
            { resamples: 50 },
          ),
    seconds: 12,
  };
}

/** What cells show. */
export function found(cells: readonly CellResult[], count: number, rest: Partial<ExperimentResult> = {}): Findings {
  return summarize(
    { searches: [], cells, refused: [], dropped: [], interrupted: false, ...rest },
    textClassification,
    target,
    madeUpRows(count),
  );
}

/** A comparison of three methods with two seeds and two sizes. */
export function madeUpComparison(): Comparison {
  const shares = { lora: 0.9, "prefix-tuning": 0.88, head: 0.6 };
  const cells = Object.entries(shares).flatMap(([method, right]) =>
    [0, 1].flatMap((seed) => [madeUpCell(method, seed, 300, right, 150), madeUpCell(method, seed, 60, right - 0.2, 150)]),
  );
  const findings = found(cells, 150, {
    searches: [{ method: "lora", learning_rate: 1e-3, tried: [{ learning_rate: 1e-3, loss: 0.3 }], rows: 90, held_rows: 30, seconds: 4 }],
    refused: [{ method: "fuse", message: "it composes adapters, and none are given" }],
    dropped: [{ method: "lora", seed: 2, size: 60 }],
  });
  return {
    findings,
    cells,
    setup: {
      model: "tiny",
      task: "text-classification",
      data: "rows.jsonl",
      eval: null,
      eval_source: "held out",
      train_rows: 300,
      eval_rows: 150,
      seeds: 2,
      drop_order: "the last seeds' smallest sizes go first",
      grid_factor: 475,
      versions: { "peft.js": "0.1.0", node: "20" },
      machine: { processor: "one", cores: 2, memory_bytes: 8e9 },
      made: "2026-01-01",
    },
  };
}
