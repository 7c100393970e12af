import type { RowTable } from "../data/rows.js";
import { DataError, nearest } from "../errors.js";
import { argmax } from "../tasks/logits.js";
import { bootstrapMetrics, type Estimate, type IntervalOptions, type Judged } from "./intervals.js";

/** Rows that a group needs for its figures to count in the gaps. */
export const leastGroupRows = 10;

/** The metrics of the rows that share a value of the group column. */
export interface GroupFigures {
  readonly group: string;
  readonly rows: number;
  /** False for groups too small to count in the gaps. */
  readonly counted: boolean;
  readonly metrics: Readonly<Record<string, Estimate>>;
}

/** How far a model's figures differ among groups. */
export interface GroupReport {
  readonly column: string;
  readonly groups: readonly GroupFigures[];
  /** For each metric the largest difference between two groups that count. */
  readonly gaps: Readonly<Record<string, number | null>>;
  /** See {@link equalizedOdds}; null for tasks that do not put whole rows into classes. */
  readonly equalized_odds_difference: number | null;
}

/**
 * The value that each row has in the group column, as text. Throws DataError where the column is missing, all rows have the same value, or fewer
 * than two groups have 10 rows or more.
 */
export function groupsOf(table: RowTable, column: string): readonly string[] {
  const there = Object.keys(table.rows[0] ?? {});
  const bare = table.rows.findIndex((row) => row[column] === undefined || row[column] === null);
  if (bare >= 0) {
    const guess = nearest(column, there);
    throw new DataError(
      `${table.where(bare)}: no column "${column}" to group by; there are: ${there.map((name) => `"${name}"`).join(", ")}`,
      {
        hint: guess === undefined || guess === column ? "every row needs a group" : `did you mean "${guess}"?`,
      },
    );
  }
  const values = table.rows.map((row) => String(row[column]));
  if (new Set(values).size < 2) {
    throw new DataError(`${table.origin}: all rows have "${values[0]}" as their "${column}", so there are no groups to compare`, {
      hint: "choose a column with two values or more",
    });
  }
  countedGroups(column, values);
  return values;
}

/** The names of all groups, of those that are large enough to count, and which rows each has. Throws DataError unless two count. */
function countedGroups(
  column: string,
  groups: readonly string[],
): { readonly names: readonly string[]; readonly large: readonly string[]; readonly members: ReadonlyMap<string, readonly number[]> } {
  const names = [...new Set(groups)].sort();
  const members = new Map(names.map((name) => [name, groups.flatMap((each, i) => (each === name ? [i] : []))]));
  const large = names.filter((name) => members.get(name)!.length >= leastGroupRows);
  if (large.length >= 2) return { names, large, members };
  const sizes = names.map((name) => `${name} ${members.get(name)!.length}`);
  throw new DataError(`the groups of "${column}" are too small: ${sizes.slice(0, 12).join(", ")}${sizes.length > 12 ? ", …" : ""}`, {
    hint: `two groups need ${leastGroupRows} rows or more; choose a column with fewer values, or more rows`,
  });
}

/** Metrics of each group with bootstrap intervals, and the gaps between them. Throws DataError unless two groups have 10 rows or more. */
export function groupReport(judged: Judged, column: string, groups: readonly string[], options: IntervalOptions = {}): GroupReport {
  const { names, large, members } = countedGroups(column, groups);
  const figures = names.map((group): GroupFigures => {
    const rows = members.get(group)!;
    const part = { ...judged, examples: rows.map((i) => judged.examples[i]!), outputs: rows.map((i) => judged.outputs[i]!) };
    return { group, rows: rows.length, counted: large.includes(group), metrics: bootstrapMetrics(part, options).estimates };
  });
  const counted = figures.filter((each) => each.counted);
  const gap = (metric: string): number | null => {
    const values = counted.flatMap(({ metrics }) => metrics[metric]!.value ?? []);
    return values.length < 2 ? null : Math.max(...values) - Math.min(...values);
  };
  return {
    column,
    groups: figures,
    gaps: Object.fromEntries(Object.keys(figures[0]!.metrics).map((metric) => [metric, gap(metric)])),
    equalized_odds_difference: oddsOf(judged, groups, large),
  };
}

function oddsOf({ task, target, examples, outputs }: Judged, groups: readonly string[], large: readonly string[]): number | null {
  if (target.kind !== "classes" || !task.onePerText) return null;
  const rows = groups.flatMap((group, i) => (large.includes(group) ? [i] : []));
  return equalizedOdds(
    rows.map((i) => examples[i]!.labels![0]!),
    rows.map((i) => argmax(outputs[i]!)),
    rows.map((i) => groups[i]!),
  );
}

/**
 * The equalised-odds difference (Hardt et al. 2016, arXiv:1610.02413; Fairlearn's `equalized_odds_difference`): the largest difference between two
 * groups' true positive rates or false positive rates. Every class is taken as the positive one in turn, which for two classes gives Fairlearn's
 * figure, and for more the largest of all one-against-the-rest figures. A rate of a group without rows to compute it from is left out; null where no rate can be compared.
 */
export function equalizedOdds(truth: readonly number[], predicted: readonly number[], groups: readonly string[]): number | null {
  const names = [...new Set(groups)];
  const differences = [...new Set(truth)].flatMap((positive) =>
    [true, false].flatMap((isPositive) => {
      const rates = names.flatMap((name) => {
        const rows = truth.flatMap((label, i) => (groups[i] === name && (label === positive) === isPositive ? [i] : []));
        return rows.length === 0 ? [] : [rows.filter((i) => predicted[i] === positive).length / rows.length];
      });
      return rates.length < 2 ? [] : [Math.max(...rates) - Math.min(...rates)];
    }),
  );
  return differences.length === 0 ? null : Math.max(...differences);
}
