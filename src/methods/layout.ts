import { type Layout, plainLayout } from "../core/batch.js";
import type { Attachment } from "./method.js";

/** What the attached methods put in front of each text, all together. */
export function layoutOf(attachments: readonly Attachment[]): Layout {
  const layouts = attachments.map(({ method, config }) => method.layout?.(config) ?? plainLayout);
  return {
    virtualTokens: layouts.reduce((total, { virtualTokens }) => total + virtualTokens, 0),
    positionOffset: layouts.reduce((total, { positionOffset }) => total + positionOffset, 0),
  };
}

/** Whether an attached method reads all rows of a text in every layer, so that none of them is finished before the text is. */
export function readsWholeTexts(attachments: readonly Attachment[]): boolean {
  return attachments.some(({ method, config, children }) => method.wholeTexts?.(config, children) === true);
}
