/** Entity-level scores, in [0, 1]. */
export interface EntityScores {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/**
 * Micro-averaged precision, recall and F1 of whole entities: type, first and last word must all agree. Spans are read as seqeval's default
 * mode does (seqeval.metrics.sequence_labeling.get_entities): an I- without a B- before it, or after another type, starts an entity.
 */
export function entityScores(truth: readonly (readonly string[])[], predicted: readonly (readonly string[])[]): EntityScores {
  const sums: [right: number, wanted: number, found: number] = [0, 0, 0];
  for (const [i, tags] of truth.entries()) for (const [k, count] of entityCounts(tags, predicted[i] ?? []).entries()) sums[k]! += count;
  const [right, wanted, found] = sums;
  return { precision: found === 0 ? 0 : right / found, recall: wanted === 0 ? 0 : right / wanted, f1: entityF1(sums) };
}

/** A row's entities: those that are found and wanted, all that are wanted, and all that are found. */
export function entityCounts(
  truth: readonly string[],
  predicted: readonly string[],
): readonly [right: number, wanted: number, found: number] {
  const want = new Set(entities(truth));
  const got = entities(predicted);
  return [got.filter((entity) => want.has(entity)).length, want.size, got.length];
}

/** F1 of counts summed over rows. */
export function entityF1([right, wanted, found]: readonly [right: number, wanted: number, found: number]): number {
  return wanted + found === 0 ? 0 : (2 * right) / (wanted + found);
}

/** The entities of a row as `type:first-last`. */
export function entities(tags: readonly string[]): readonly string[] {
  const spans: string[] = [];
  let type: string | undefined;
  let first = 0;
  for (const [i, tag] of [...tags, "O"].entries()) {
    const dash = tag.indexOf("-");
    const mark = dash < 0 ? tag : tag.slice(0, dash);
    const kind = dash < 0 ? "" : tag.slice(dash + 1);
    const continues = mark === "I" && type === kind;
    if (type !== undefined && !continues) {
      spans.push(`${type}:${first}-${i - 1}`);
      type = undefined;
    }
    if ((mark === "B" || mark === "I") && !continues) {
      type = kind;
      first = i;
    }
  }
  return spans;
}
